"""The 3D configurations from plans to segmentations: our commands, and nnU-Net's own."""

import json

import nibabel as nib
import numpy as np
import pytest
from conftest import CASCADE, DATASET, predict_with_nnunet
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.benchmark.contenders import BUILT_IN, choose
from nnunet_cardiac.cli import main

STAGE_1, BOTH = ((*CASCADE[:-1], configuration) for configuration in ("3d_fullres", "3d_cascade_fullres"))


@pytest.fixture(scope="module")
def trained_in_3d(planned, nnunet_folders, once) -> None:
    """Both stages of CroCNet in 3D, for a few steps."""

    def train() -> None:
        main(["train", *BOTH, "-f", "0", "-device", "cpu", "--budget", "2"])

    folders = [f"{CASCADE[3]}__{CASCADE[5]}__{model[-1]}" for model in (STAGE_1, BOTH)]
    once(nnunet_folders / "nnUNet_results" / DATASET, folders, train)


def read(path):
    return np.asanyarray(nib.load(path).dataobj)


@pytest.mark.slow
def test_both_stages_predict_as_two_calls_of_nnunetv2_predict(trained_in_3d, dataset, tmp_path):
    images = dataset / "imagesTs"
    main(["predict", "-i", str(images), "-o", str(tmp_path / "ours"), *BOTH, "-f", "0", "-device", "cpu"])
    predict_with_nnunet(images, tmp_path / "first", STAGE_1, "-f", "0")
    predict_with_nnunet(images, tmp_path / "both", BOTH, "-f", "0", "-prev_stage_predictions", tmp_path / "first")
    files = sorted((tmp_path / "both").glob("*.nii.gz"))
    assert len(files) == 2
    for file in files:
        assert (read(file) == read(tmp_path / "ours" / file.name)).mean() > 0.999


def test_the_crop_is_a_box_of_the_volume(planned):
    manager = PlansManager(json.loads((planned / "nnUNetCroCNetPlans.json").read_text()))
    configuration = manager.get_configuration("3d_cascade_fullres")
    arguments = configuration.network_arch_init_kwargs
    assert len(arguments["crop_size"]) == len(configuration.patch_size) == 3
    assert all(crop <= side for crop, side in zip(arguments["crop_size"], configuration.patch_size, strict=True))
    through_plane, rows, columns = arguments["crop_margin"]
    assert rows == columns == 15
    spacing = configuration.spacing
    assert through_plane == max(1, round(15 * spacing[2] / spacing[0]))


def test_3d_takes_part_in_a_benchmark_on_demand():
    assert not [c.name for c in choose(None) if c.configuration.startswith("3d")]
    (crocnet,) = choose(["crocnet_3d"])
    assert crocnet.configuration == "3d_cascade_fullres"
    in_3d = {c.planner for c in BUILT_IN.values() if c.configuration.startswith("3d")}
    assert in_3d == {c.planner for c in BUILT_IN.values()} - {"MonaiPlanner"}  # the papers compare with them in 2D
