import time

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT, HeartCrop, heart_box


class Copy(nn.Module):
    """Stands for a network: returns its first channel."""

    def forward(self, x):
        self.seen = x
        return x[:, :1]


def crop(size=(32, 32), margin=(5, 5), training=False, divisible_by=(8, 8)):
    return HeartCrop(Copy(), size, margin, divisible_by).train(training)


def foreground(*boxes, size=(100, 90)):
    mask = np.zeros(size, bool)
    for box in boxes:
        mask[tuple(slice(*edge) for edge in box)] = True
    return mask


def run(module, mask, image=None):
    image = torch.randn(len(mask), 1, *mask.shape[1:]) if image is None else image
    return module(image, torch.from_numpy(mask))


def test_box_is_of_the_largest_component():
    large, small = [(20, 40), (30, 45)], [(70, 75), (70, 75)]
    assert heart_box(foreground(large, small)) == large
    assert heart_box(foreground()) is None


def test_component_is_largest_by_pixels_not_by_box():
    mask = foreground([(5, 20), (5, 20)])
    for i in range(50):
        mask[40 + i, 30 + i] = True  # a long diagonal: a large box, few pixels, all connected
    assert heart_box(mask) == [(5, 20), (5, 20)]
    mask[5:20, 5:20] = False
    assert heart_box(mask) == [(40, 90), (30, 80)]


def test_box_in_3d():
    mask = np.zeros((10, 20, 20), bool)
    mask[2:5, 3:9, 10:14] = True
    assert heart_box(mask) == [(2, 5), (3, 9), (10, 14)]


@pytest.mark.parametrize("training", [True, False])
def test_window_holds_box_and_margin(training):
    ((y, height), (x, width)) = crop(training=training).window(foreground([(40, 60), (50, 66)]))
    assert (height, width) == (32, 32)
    assert y <= 35 and y + height >= 65 and x <= 45 and x + width >= 71


def test_margin_is_clamped_at_the_border():
    assert crop().window(foreground([(0, 20), (70, 90)])) == ((0, 32), (58, 32))


def test_window_grows_in_evaluation_only():
    mask = foreground([(20, 70), (50, 60)])
    assert crop(training=False).window(mask) == ((13, 64), (39, 32))  # 50 + 2 * 5, to a multiple of 8
    assert [size for _, size in crop(training=True).window(mask)] == [32, 32]


@pytest.mark.parametrize("size", [(100, 90), (32, 70), (20, 24)])
def test_without_foreground_the_whole_input_is_segmented_in_tiles(size):
    module, image = crop(), torch.randn(1, 1, *size)
    assert torch.equal(run(module, foreground(size=size)[None], image), image)
    assert module.network.seen.shape[2:] == (32, 32)


def test_tiles_are_few_and_inside():
    tiles = crop().tiles(np.ones((100, 90), bool))
    assert len(tiles) == 4 * 3
    assert all(0 <= y <= 68 and 0 <= x <= 58 for (y, _), (x, _) in tiles)


def test_padding_gets_no_tiles():
    module, image = crop(), torch.zeros(1, 1, 100, 90)
    image[..., 20:80, 30:60] = torch.randn(60, 30)
    seen = np.asarray(image[0, 0] != 0)
    assert module.tiles(seen) == (((20, 32), (29, 32)), ((48, 32), (29, 32)))
    assert torch.equal(run(module, foreground()[None], image)[..., 20:80, 30:60], image[..., 20:80, 30:60])
    assert module.tiles(np.zeros((100, 90), bool))  # an image of zeros is an image


def test_without_foreground_training_windows_are_inside_and_differ():
    empty = torch.zeros(20, 100, 90, dtype=torch.bool)
    windows = set(crop(training=True).windows(empty))
    assert len(windows) > 5
    assert all(0 <= y <= 68 and 0 <= x <= 58 for (y, _), (x, _) in windows)


def test_logits_come_back_to_where_they_were_cut():
    image = torch.randn(1, 1, 100, 90)
    logits = run(crop(), foreground([(40, 60), (50, 66)])[None], image)
    inside = logits != OUTSIDE_LOGIT
    assert inside.sum() == 32 * 32
    assert torch.equal(logits[inside], image[inside])


def test_image_smaller_than_the_window():
    image = torch.randn(2, 1, 20, 24)
    logits = run(crop(training=True), np.stack([foreground([(3, 9), (4, 8)], size=(20, 24))] * 2), image)
    assert torch.equal(logits, image)


def test_pixels_outside_the_window_do_not_matter():
    mask = foreground([(40, 60), (50, 66)])[None]
    image = torch.randn(1, 1, 100, 90)
    logits = run(crop(), mask, image)
    changed = torch.where(logits == OUTSIDE_LOGIT, 1e6, image)
    assert torch.equal(run(crop(), mask, changed), logits)


def test_a_sample_does_not_depend_on_its_batch():
    masks = np.stack([foreground([(40, 60), (50, 66)]), foreground([(10, 80), (20, 66)]), foreground()])
    image = torch.randn(3, 1, 100, 90)
    together = run(crop(), masks, image)
    for i in range(3):
        assert torch.equal(run(crop(), masks[i : i + 1], image[i : i + 1])[0], together[i])


def test_3d():
    mask = np.zeros((1, 12, 40, 40), bool)
    mask[0, 4:6, 10:20, 12:22] = True
    module = HeartCrop(Copy(), (8, 24, 24), (1, 4, 4), (4, 8, 8)).eval()
    logits = run(module, mask)
    assert module.network.seen.shape[2:] == (8, 24, 24)
    assert (logits != OUTSIDE_LOGIT).sum() == 8 * 24 * 24


def test_indivisible_crop_is_refused():
    with pytest.raises(ValueError, match=r"\(30, 32\) must be divisible by \(8, 8\)"):
        crop(size=(30, 32))


def test_crop_is_cheap_next_to_convolutions():
    """Under 5 % of a stage-2 step is measured elsewhere; here: a batch of real size takes milliseconds."""
    module = crop(size=(112, 112), margin=(15, 15), training=True)
    masks = np.stack([foreground([(100, 160), (90, 150)], size=(288, 264))] * 8)
    image = torch.randn(8, 4, 288, 264)
    run(module, masks, image)
    start = time.process_time()
    for _ in range(5):
        run(module, masks, image)
    assert (time.process_time() - start) / 5 < 0.2
