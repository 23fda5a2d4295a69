"""The crop is taken from the previous stage's masks as they were, however a recipe augments them."""

import numpy as np
import pytest
import torch
from conftest import DATASET
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_cardiac.networks.heart_crop import foreground

N = 3
"""Anatomies of the phantom."""


@pytest.fixture(scope="module")
def whole_hearts(planned, tmp_path_factory):
    """What a previous stage predicts of every case: a disk of each anatomy, in every slice, small enough that nnU-Net
    would remove it."""
    dataset = infer_dataset_class(str(planned / "nnUNetPlans_2d"))(str(planned / "nnUNetPlans_2d"))
    folder = tmp_path_factory.mktemp("previous_stage")
    for case in dataset.identifiers:
        masks = np.zeros(dataset.load_case(case)[1].shape[1:], np.int8)
        middle = masks.shape[1] // 2
        for i in range(N):
            masks[:, middle : middle + 3, middle + 4 * i : middle + 4 * i + 3] = i + 1
        dataset.save_seg(masks, str(folder / case))
    return folder


def inputs(trainer_name, plans, configuration, whole_hearts, monkeypatch, tmp_path, n=40):
    """Training inputs of a cascaded stage."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    trainer = get_trainer_from_args(DATASET, configuration, 0, trainer_name, plans, device=torch.device("cpu"))
    trainer.initialize()
    trainer.folder_with_segs_from_previous_stage = str(whole_hearts)
    batches, _ = trainer.get_dataloaders()
    return torch.cat([next(batches)["data"] for _ in range(n)])


@pytest.mark.parametrize(
    "trainer, plans",
    [
        ("nnUNetTrainerHALSRNet", "nnUNetHALSRNetPlans"),
        ("nnUNetTrainerCroCNet", "nnUNetCroCNetPlans"),
        ("nnUNetTrainerCrop", "nnUNetCroCNetPlans"),
    ],
)
def test_no_augmentation_takes_the_heart_from_the_crop(planned, trainer, plans, whole_hearts, monkeypatch, tmp_path):
    x = inputs(trainer, plans, "2d_cascade", whole_hearts, monkeypatch, tmp_path)
    assert foreground(x[:, 1:], N).flatten(1).any(1).all()


def test_nnunet_would_take_it(planned, whole_hearts, monkeypatch, tmp_path):
    """What the test above would see, were there nothing against it."""
    stock = "nnUNetTrainerNoDeepSupervision"
    x = inputs(stock, "nnUNetCroCNetPlans", "2d_cascade", whole_hearts, monkeypatch, tmp_path)
    masks = x[:, 1:] > 0.5
    assert not masks.flatten(2).any(2).all()


def test_masks_that_are_inputs_are_augmented_and_their_union_is_kept(planned, whole_hearts, monkeypatch, tmp_path):
    x = inputs("nnUNetTrainerCrop", "nnUNetCroCNetPlans", "2d_cascade", whole_hearts, monkeypatch, tmp_path)
    masks, union = x[:, 1 : 1 + N] > 0.5, x[:, 1 + N :] > 0.5
    assert union.shape[1] == 1
    augmented = (masks.any(1, keepdim=True) != union).flatten(1).any(1)
    assert 0.1 < augmented.float().mean() < 0.9


@pytest.mark.parametrize("plans, network", [("nnUNetCroCNetPlans", "CroCNet"), ("nnUNetHALSRNetPlans", "HALSR-Net")])
def test_networks_crop_by_the_union_where_they_get_it(network_case, plans, network):
    model = network_case(plans, "2d_cascade").build().eval()
    seen = []
    model.crop.window = lambda heart: (
        seen.append(torch.from_numpy(heart)) or tuple((0, size) for size in model.crop.crop_size)
    )
    size = network_case(plans, "2d_cascade").patch_size
    image, masks, union = torch.randn(1, 1, *size), torch.zeros(1, N, *size), torch.zeros(1, 1, *size)
    masks[:, 0, :4, :4] = 1
    union[:, :, 5:9, 5:9] = 1
    with torch.no_grad():
        model(torch.cat((image, masks), 1))
        model(torch.cat((image, masks, union), 1))
    assert torch.equal(seen[0], masks[0].amax(0) > 0) and torch.equal(seen[1], union[0, 0] > 0)
