"""Images resized inside the network, as two of the papers resize them before."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from conftest import DATASET, shrink_further, unet_arguments
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional

from nnunet_cardiac.networks import DADU, SpatialAttentionUNet
from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT
from nnunet_cardiac.networks.image_resize import ImageResize, image_box
from nnunet_cardiac.nifti import read_nifti
from nnunet_cardiac.planners.dadu_planner import DADUPlanner
from nnunet_cardiac.planners.spatial_attention_unet_planner import SpatialAttentionUNetPlanner
from nnunet_cardiac.training.augmentation import image_frame_kept, rotations_and_flips
from nnunet_cardiac.training.train import limit_steps

SIZE = (32, 32)
NETWORKS = [DADU, SpatialAttentionUNet]


def build(network, features, **arguments):
    return network(
        input_channels=1, **unet_arguments(nn.Conv2d, nn.BatchNorm2d, features) | {"image_size": SIZE} | arguments
    )


def padded(image, size, first):
    """The image at ``first`` in a sample of ``size`` that is 0 elsewhere."""
    sample = torch.zeros(1, 1, *size)
    sample[0, 0, first[0] : first[0] + image.shape[0], first[1] : first[1] + image.shape[1]] = image
    return sample


def test_every_image_has_the_size_whatever_is_padded_around_it():
    resize = ImageResize(SIZE)
    image = torch.rand(20, 30) + 0.1
    expected = functional.interpolate(image[None, None], SIZE, mode="bilinear")
    seen = []

    def network(x):
        seen.append(x)
        return torch.cat((x, -x), 1)

    for first in ((0, 0), (4, 7), (12, 10)):
        resize(padded(image, (40, 48), first), network)
    assert all(x.shape == (1, 1, *SIZE) for x in seen)
    for x in seen:
        torch.testing.assert_close(x, expected)


def test_logits_come_back_where_the_image_was():
    image = torch.zeros(20, 30) + 0.1
    image[5:15, 10:20] = 1
    x = padded(image, (40, 48), (4, 7))
    logits = ImageResize(SIZE)(x, lambda y: torch.cat((0.5 - y, y - 0.5), 1))
    assert logits.shape == (1, 2, 40, 48)
    found = (logits[0, 1] > logits[0, 0]).nonzero()
    assert found.amin(0).tolist() == pytest.approx([9, 17], abs=1) and found.amax(0).tolist() == pytest.approx(
        [18, 26], abs=1
    )
    outside = x[0, 0] == 0
    assert (logits[0, 1][outside] == OUTSIDE_LOGIT).all() and (logits[0, 0][outside] == -OUTSIDE_LOGIT).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_images_of_all_sizes_in_one_batch_learn(network):
    x = torch.cat([padded(torch.rand(h, w) + 0.1, (48, 40), (3, 2)) for h, w in ((40, 30), (20, 36))])
    model = build(network, (4, 8, 16))
    assert model.divisible_by == [1, 1]
    logits = model(x)
    assert logits.shape == (2, 4, 48, 40)
    logits.square().mean().backward()
    assert all(p.grad.isfinite().all() for name, p in model.named_parameters() if p.grad is not None)
    alone = model.eval()(x[:1])
    torch.testing.assert_close(model(x)[:1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_deep_supervision_has_the_sizes_that_nnunet_expects(network):
    model = build(network, (4, 8, 16, 16), deep_supervision=True)
    outputs = model(padded(torch.rand(20, 36) + 0.1, (48, 40), (3, 2)))
    assert [y.shape[2:] for y in outputs] == [(48, 40), (24, 20), (12, 10)]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_size_that_does_not_fit_is_refused(network):
    with pytest.raises(ValueError, match="30 x 32 does not fit 3 stages"):
        build(network, (4, 8, 16), image_size=(30, 32))


@pytest.mark.parametrize(
    "planner, trainer",
    [(DADUPlanner, "nnUNetTrainerDADU"), (SpatialAttentionUNetPlanner, "nnUNetTrainerSpatialAttentionUNet")],
)
@pytest.mark.usefixtures("augmentation_workers")
def test_nnunet_trains_and_predicts_with_the_papers_plans(planned, tmp_path, monkeypatch, planner, trainer):
    """Every image has 256 x 256 pixels for the network, and its own size for nnU-Net."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    plans = planner(DATASET, plans_name="nnUNetResizedPlans", paper=True)
    plans.generate_data_identifier = lambda configuration: f"nnUNetPlans_{configuration}"
    plans.plan_experiment()
    shrink_further(planned / "nnUNetResizedPlans.json")
    shrink_further(planned / "nnUNetResizedPlans.json")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    training = get_trainer_from_args(DATASET, "2d", 0, trainer, "nnUNetResizedPlans", device=torch.device("cpu"))
    limit_steps(training, 1)
    training.initialize()
    seen = set()
    training.network.encoder.register_forward_pre_hook(lambda module, inputs: seen.add(tuple(inputs[0].shape[2:])))
    training.run_training()
    training.perform_actual_validation()
    assert seen == {(256, 256)}
    truth = planned / "gt_segmentations"
    predictions = sorted(tmp_path.glob("*/*/fold_0/validation/*.nii.gz"))
    assert len(predictions) == 4
    for file in predictions:
        assert read_nifti(file)[0].shape == read_nifti(truth / file.name)[0].shape
    (planned / "nnUNetResizedPlans.json").unlink()


@pytest.mark.slow
def test_compiled_once_for_images_of_all_sizes():
    torch._dynamo.reset()
    counters.clear()
    model = build(DADU, (4, 8, 16))
    compiled = torch.compile(model, backend="eager")
    graphs = []
    for h, w in ((40, 30), (20, 36), (48, 40)):
        compiled(padded(torch.rand(h, w) + 0.1, (48, 40), (0, 0))).square().mean().backward()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[2] > 0 and len(counters["graph_break"]) <= 1


def test_a_sample_without_anything_is_an_image_too():
    logits = ImageResize(SIZE)(torch.zeros(1, 1, 40, 48), lambda y: torch.cat((y, y + 1), 1))
    torch.testing.assert_close(logits[:, 1], torch.ones(1, 40, 48))


def stock_augmentation():
    return nnUNetTrainer.get_training_transforms((48, 40), (-np.pi, np.pi), None, (0, 1), False)


def rotation_alone():
    return ComposeTransforms(rotations_and_flips((48, 40), (-np.pi, np.pi), (0, 1), False, None))


def rotation_with_a_mask():
    return ComposeTransforms(rotations_and_flips((48, 40), (-np.pi, np.pi), (0, 1), False, [True]))


@pytest.mark.parametrize("augmentation", [stock_augmentation, rotation_alone, rotation_with_a_mask])
def test_augmentation_keeps_the_frame_in_which_the_image_is_resized(augmentation):
    """Rotated corners, zooms, noise on the padding: the network resizes as it does in prediction."""
    image = padded(torch.rand(20, 36) + 0.1, (64, 64), (22, 14))[0]
    labels = torch.where(image == 0, -1, 1).to(torch.int16)  # as nnU-Net pads them
    kept, changed = image_frame_kept(augmentation()), 0
    for _ in range(30):
        sample = kept(image=image.clone(), segmentation=labels.clone())
        box = image_box(sample["image"])
        assert [side.stop - side.start for side in box[1:]] == [20, 36]
        assert abs(box[1].start + box[1].stop - 48) <= 2 and abs(box[2].start + box[2].stop - 40) <= 2
        changed += not torch.equal(sample["image"][box], image[image_box(image)])
        outside = torch.ones(48, 40, dtype=torch.bool)
        outside[box[1:]] = False
        assert not (sample["segmentation"][0][outside] > 0).any()
    assert changed > 20


def test_without_that_it_does_not():
    """What the test above would see, were there nothing for it."""
    image = padded(torch.rand(20, 36) + 0.1, (64, 64), (22, 14))[0]
    augmentation, sizes = rotation_alone(), set()
    for _ in range(10):
        box = image_box(
            augmentation(image=image.clone(), segmentation=torch.ones(1, 64, 64, dtype=torch.int16))["image"]
        )
        sizes.add(tuple(side.stop - side.start for side in box[1:]))
    assert len(sizes) > 3


@pytest.mark.parametrize("first, side", [((24, 24), 16), ((0, 0), 1), ((47, 39), 1)])
def test_small_images_survive_at_low_resolutions(first, side):
    resize = ImageResize((64, 64))
    x = padded(torch.ones(side, side), (48, 48), first)
    boxes = resize.boxes(x)
    for share in (1, 2, 16):
        logits = resize.restored(torch.ones(1, 2, 64 // share, 64 // share), boxes, (48, 48))
        assert logits.shape[2:] == (48 // share, 48 // share) and (logits[:, 1] == 1).any()
