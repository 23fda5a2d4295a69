"""Images that show more or less around the heart than those of the training."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_cardiac.trainers.nnUNetTrainerFieldOfView import nnUNetTrainerFieldOfView
from nnunet_cardiac.training.augmentation import FieldOfView


def z_score(image: torch.Tensor) -> torch.Tensor:
    return (image - image.mean()) / image.std(correction=0)


@pytest.mark.parametrize("size", [(40, 30), (6, 40, 30)])
def test_intensities_are_those_of_an_image_that_was_cut(size):
    """Cutting the raw image and standardising it is the same as standardising the whole, then its window."""
    raw = torch.rand(1, *size, dtype=torch.double) * torch.linspace(1, 500, size[-1])
    transform = FieldOfView()
    window = transform.get_parameters(image=raw)["window"]
    cut = z_score(raw[window])
    assert cut.shape != raw.shape and cut.shape[:-2] == raw.shape[:-2], "cut in the plane alone"
    torch.testing.assert_close(transform._apply_to_image(z_score(raw), window=window)[window], cut)


def test_channels_are_standardised_each_and_flat_windows_are_left():
    raw = torch.stack([torch.rand(20, 20), 100 * torch.rand(20, 20) + 7, torch.zeros(20, 20)])
    found = FieldOfView(smallest=1)(image=raw)["image"]
    for channel in (0, 1):
        torch.testing.assert_close(found[channel], z_score(raw[channel]))
    assert torch.equal(found[2], raw[2])


def test_windows_are_of_all_sizes_and_places():
    windows = [FieldOfView(0.35).get_parameters(image=torch.zeros(1, 100, 100))["window"][-1] for _ in range(500)]
    sides = [w.stop - w.start for w in windows]
    assert min(sides) >= 35 and max(sides) <= 100 and np.ptp(sides) > 55
    assert min(w.start for w in windows) == 0 and max(w.stop for w in windows) == 100


@pytest.mark.parametrize("size", [(32, 32), (4, 32, 32)])
def test_the_recipe_varies_half_of_the_samples_and_keeps_the_rest_of_nnunets(size):
    arguments = (size, (0, 0), None, (0, 1), len(size) == 3)
    ours, nnunets = (
        trainer.get_training_transforms(*arguments) for trainer in (nnUNetTrainerFieldOfView, nnUNetTrainer)
    )
    added = [t for t in ours.transforms if isinstance(getattr(t, "transform", None), FieldOfView)]
    assert len(added) == 1 and added[0].apply_probability == 0.5
    kinds = [[type(t) for t in transforms if t not in added] for transforms in (ours.transforms, nnunets.transforms)]
    assert kinds[0] == kinds[1]
    place = ours.transforms.index(added[0])
    assert any(isinstance(t, SpatialTransform) for t in ours.transforms[:place])
    assert not any(isinstance(t, SpatialTransform) for t in ours.transforms[place:])
