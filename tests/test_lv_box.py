"""The regression of the left ventricle's box: numbers, drawing, loss."""

import pytest
import torch
from conftest import unet_arguments
from torch import nn

from nnunet_cardiac.networks import LVBoxRegressor
from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT
from nnunet_cardiac.networks.lv_box import START, BoxOutputs, box_of, draw_box
from nnunet_cardiac.training.box import BoxLoss, box_iou

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16), **kwargs):
    arguments = unet_arguments(conv_op, norm_op, features)
    del arguments["n_conv_per_stage_decoder"]
    return LVBoxRegressor(**({"input_channels": 1, "box_label": 3, "box_labels": [2, 3]} | arguments | kwargs))


def random_boxes(size, n=20):
    """Label maps with a random box each, of one pixel to all of the image; the last has none."""
    labels = torch.zeros(n, *size, dtype=torch.long)
    for sample in labels[:-1]:
        corners = [sorted(torch.randint(0, s + 1, (2,)).tolist()) for s in size]
        slices = tuple(slice(min(a, s - 1), max(b, a + 1)) for (a, b), s in zip(corners, size, strict=True))
        sample[slices] = 3
    return labels


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_a_perfect_regressor_covers_exactly_the_labels_box(conv_op, norm_op, size):
    labels = random_boxes(size)
    box, present = box_of(labels == 3)
    presence = torch.where(present, 20.0, -20.0)
    logits = build(conv_op, norm_op).logits(box, presence, size)
    assert torch.equal(logits.argmax(1), labels)
    assert present.tolist() == [True] * 19 + [False]


def test_the_box_is_that_of_cavity_and_myocardium_whatever_their_shape():
    labels = torch.zeros(1, 20, 30)
    labels[0, 5, 7], labels[0, 14, 3], labels[0, 9, 21] = 1, 2, 3
    box, _ = box_of(sum(labels == v for v in (2, 3)) > 0)
    torch.testing.assert_close(box, torch.tensor([[12 / 20, 12.5 / 30, 6 / 20, 19 / 30]]))


def test_logits_are_distances_and_moderate():
    box = torch.tensor([[0.5, 0.5, 0.25, 0.5]])
    distance = draw_box(box, (40, 80))[0]
    assert distance[20, 40] == 4.5 and distance[15, 40] == 0.5 and distance[14, 40] == -0.5
    assert distance[20, 0] == -19.5
    logits = build().logits(box, torch.tensor([30.0]), (40, 80))
    assert logits.shape == (1, 4, 40, 80) and not logits[:, 0].any()
    assert (logits[:, 1:3] == OUTSIDE_LOGIT).all() and logits.abs().max() <= -OUTSIDE_LOGIT


def test_no_left_ventricle_no_pixel():
    logits = build().logits(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([-0.1]), (16, 16))
    assert not logits.argmax(1).any()


def test_boxes_that_leave_the_image_or_have_no_size():
    network = build()
    leaving = network.logits(torch.tensor([[0.0, 0.9, 0.5, 0.5]]), torch.tensor([5.0]), (16, 16)).argmax(1)[0]
    assert (leaving[:4, 10:] == 3).all() and leaving.count_nonzero() == 4 * 6
    empty = network.logits(torch.tensor([[0.5, 0.5, 0.0, 0.3]]), torch.tensor([5.0]), (16, 16))
    assert not empty.argmax(1).any() and empty.isfinite().all()


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_what_the_loss_needs(conv_op, norm_op, size):
    network = build(conv_op, norm_op)
    x = torch.randn(2, 1, *size)
    logits = network(x)
    network.gives_loss_outputs = True
    outputs = network(x)
    torch.testing.assert_close(outputs.logits, logits)
    assert outputs.places.shape == (2, 1, *(s // 8 for s in size))
    assert outputs.box.shape == (2, 2 * len(size)) and outputs.presence.shape == (2,)
    assert (outputs.box[:, len(size) :] > 0).all()


def with_maps(places, distances):
    """A regressor of images of 64 x 64 pixels, whose maps are given: logits, and cells to the sides of the box."""
    network = build(features=(4, 8)).eval()
    network.place.register_forward_hook(lambda *_: places)
    network.sides.register_forward_hook(lambda *_: (distances / START).log())
    return network


def test_the_box_is_a_mean_over_places_of_what_each_says():
    places = torch.full((2, 1, 8, 8), -20.0)
    places[0, :, 1, 2] = 20
    places[1, :, 4, 2] = places[1, :, 4, 6] = 20
    distances = torch.ones(2, 4, 8, 8)
    distances[0, :, 1, 2] = torch.tensor([0.5, 1.0, 2.5, 3.0])  # up, left, down, right
    box, presence, _ = with_maps(places, distances).regress(torch.randn(2, 1, 64, 64))
    y, x = (1 - 0.5 + 0.5, 1.5 + 2.5), (2.5 - 1, 2.5 + 3)
    torch.testing.assert_close(box[0] * 8, torch.tensor([sum(y) / 2, sum(x) / 2, y[1] - y[0], x[1] - x[0]]))
    torch.testing.assert_close(box[1] * 8, torch.tensor([4.5, 4.5, 2.0, 2.0]))
    assert (presence == 20).all()


def test_a_likelier_place_outvotes_another():
    places = torch.full((1, 1, 8, 8), -20.0)
    places[0, 0, 1, 1], places[0, 0, 6, 6] = 9, 3
    box, *_ = with_maps(places, torch.ones(1, 4, 8, 8)).regress(torch.randn(1, 1, 64, 64))
    torch.testing.assert_close(box[0, :2] * 8, torch.tensor([1.5, 1.5]), atol=0.02, rtol=0)


def test_places_are_an_eighth_of_the_image_and_see_all_of_it():
    network = build(features=(4, 8, 16, 32)).eval()
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    _, _, places = network.regress(image)
    assert places.shape == (1, 1, 32, 32)
    places[0, 0, 16, 16].backward()
    assert all(image.grad[0, 0, y, x].any() for y in (slice(8), slice(-8, None)) for x in (slice(8), slice(-8, None)))


def test_it_learns_where_a_square_is():
    torch.manual_seed(0)
    network = build(features=(8, 16, 32))
    network.gives_loss_outputs = True
    loss = BoxLoss([2, 3])
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)

    def batch(n=8):
        labels = torch.zeros(n, 1, 64, 64)
        for sample in labels[: n - n // 8]:
            y, x, size = (int(v) for v in torch.randint(12, 32, (3,)))
            sample[0, y : y + size, x : x + size] = 3
        return (labels > 0) + 0.2 * torch.randn(n, 1, 64, 64), labels

    for _ in range(100):
        image, labels = batch()
        optimizer.zero_grad()
        loss(network(image), [labels]).backward()
        optimizer.step()
    network.eval()
    image, labels = batch(64)
    found = network(image).logits.argmax(1)
    wanted, present = box_of(labels[:, 0] == 3)
    boxes, drawn = box_of(found == 3)
    assert (drawn == present).float().mean() > 0.9
    assert box_iou(boxes, wanted)[present & drawn].mean() > 0.7


def test_intersection_over_union():
    one = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    for other, expected in (
        ([0.5, 0.5, 0.4, 0.4], 1), ([0.5, 0.7, 0.4, 0.4], 1 / 3), ([0.1, 0.1, 0.2, 0.2], 0), ([0.5, 0.5, 0, 0], 0),
    ):  # fmt: skip
        torch.testing.assert_close(box_iou(one, torch.tensor([other])), torch.tensor([float(expected)]))


def test_the_loss_is_zero_for_the_box_and_ignores_absent_ones():
    labels = random_boxes((16, 20))[:, None]
    places = 200.0 * (labels == 3) - 100
    box, present = box_of(labels[:, 0] == 3)
    presence = torch.where(present, 100.0, -100.0)
    loss = BoxLoss([3])
    assert loss(BoxOutputs(None, box, presence, places), [labels]) < 1e-6
    elsewhere = box.clone()
    elsewhere[-1] = 0.123  # where there is none, it does not matter which
    assert loss(BoxOutputs(None, elsewhere, presence, places), [labels]) < 1e-6
    assert loss(BoxOutputs(None, elsewhere.flip(0), presence, places), [labels]) > 0.1
    none = torch.zeros(2, 1, 8, 8)
    box, presence = torch.zeros(2, 4, requires_grad=True), torch.zeros(2, requires_grad=True)
    loss(BoxOutputs(None, box, presence, -100 * torch.ones(2, 1, 4, 4)), [none]).backward()
    assert not box.grad.any() and (presence.grad > 0).all()


def test_an_absence_that_was_not_annotated_is_none():
    ignored = torch.full((1, 1, 8, 8), 4)
    box, presence = torch.zeros(1, 4, requires_grad=True), torch.zeros(1, requires_grad=True)
    places = torch.zeros(1, 1, 2, 2, requires_grad=True)
    BoxLoss([3], ignore_label=4)(BoxOutputs(None, box, presence, places), [ignored]).backward()
    assert not box.grad.any() and not presence.grad.any() and not places.grad.any()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="LVBoxRegressor has no deep supervision"):
        build(deep_supervision=True)
    with pytest.raises(ValueError, match="box_label 4 and box_labels"):
        build(box_label=4)
    with pytest.raises(ValueError, match="multiples of 8 x 8"):
        build()(torch.randn(1, 1, 30, 32))


def test_half_precision():
    network = build().eval()
    x = torch.randn(2, 1, 256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    assert half.isfinite().all()
    assert (half.argmax(1) == network(x).argmax(1)).float().mean() > 0.97
