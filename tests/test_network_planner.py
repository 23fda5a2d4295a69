"""What all planners owe: plans that fit into memory, in 2D and in 3D, and a sentence where none does."""

import json
import re
import shutil
from contextlib import contextmanager

import pytest
from batchgenerators.utilities.file_and_folder_operations import load_json
from conftest import DATASET
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.planners import network_planner as architecture
from nnunet_cardiac.planners.plan_and_preprocess import our_planners
from nnunet_cardiac.training.memory import PLANNED_MEMORY, PlannedNetwork

pytestmark = pytest.mark.usefixtures("augmentation_workers")
OURS = our_planners()


@pytest.fixture
def plan(planned):
    """Plans of a planner; batches are not limited by the few data."""

    def plan(name, **kwargs):
        planner = OURS[name](DATASET, plans_name="nnUNetTestPlans", **kwargs)
        planner.max_dataset_covered = 1e6
        return planner.plan_experiment()

    yield plan
    (planned / "nnUNetTestPlans.json").unlink(missing_ok=True)


SLOW = ("HALSRNetPlanner", "CroCNetPlanner")
FEW = [name for name in OURS if name != "MonaiPlanner"]
"""Planners of a few networks; the other one is in test_foreign_planner.py."""


@pytest.mark.parametrize(
    "name, target",
    [
        pytest.param("CroCNetPlanner", 2, marks=pytest.mark.slow),
        pytest.param("DADUPlanner", 4, marks=pytest.mark.slow),
        *(pytest.param(name, 11, marks=pytest.mark.slow if name in SLOW else ()) for name in FEW),
    ],
)
def test_every_configuration_fits_into_the_target_and_fills_it(plan, name, target):
    manager = PlansManager(plan(name, gpu_memory_target_in_gb=target))
    assert {"2d", "3d_fullres"} <= set(manager.available_configurations)
    for configuration in manager.available_configurations:
        planned = manager.get_configuration(configuration).configuration[PLANNED_MEMORY]
        assert 0.75 * target < planned <= target, configuration


def test_a_second_stage_counts_its_crop_and_not_its_patch(plan):
    plans = plan("CroCNetPlanner")["configurations"]["2d_cascade"]
    planner = OURS["CroCNetPlanner"](DATASET, plans_name="nnUNetTestPlans")
    network = PlannedNetwork(
        "nnunet_cardiac.networks.CroCNetRefiner", plans["architecture"]["arch_kwargs"], ["conv_op", "norm_op", "nonlin"]
    )
    at_patch = planner.memory(network, 4, plans["patch_size"]).of_sample
    at_twice = planner.memory(network, 4, [2 * side for side in plans["patch_size"]]).of_sample
    larger_crop = network.arguments | {"crop_size": [2 * side for side in network.arguments["crop_size"]]}
    of_larger_crop = planner.memory(network._replace(arguments=larger_crop), 4, plans["patch_size"]).of_sample
    assert at_twice < 1.2 * at_patch and of_larger_crop > 3 * at_patch


@pytest.mark.parametrize("name", [pytest.param("CroCNetPlanner", marks=pytest.mark.slow), "DADUPlanner"])
def test_a_target_that_is_too_small_says_the_least_that_works(plan, name):
    target, refused = 0.05, []
    for _ in range(4):  # one sentence for each network that has its own least
        try:
            plans = plan(name, gpu_memory_target_in_gb=target)
            break
        except UserError as e:
            refused.append(str(e))
            least = float(re.search(r"use at least -gpu_memory_target ([0-9.]+)\.$", str(e))[1])
            assert least > target
            target = least
    assert refused and plans["configurations"]["2d"][PLANNED_MEMORY] <= target
    with pytest.raises(UserError):
        plan(name, gpu_memory_target_in_gb=target - 0.02)


def test_a_3d_crop_that_does_not_fit_is_left_out_and_said(plan, capsys, monkeypatch):
    planner = OURS["CroCNetPlanner"]
    batch = planner.batch

    def refuse_3d_crops(self, patch_size, architecture, *arguments):
        if len(patch_size) == 3 and "crop_size" in architecture["arch_kwargs"]:
            self._refuse(PlannedNetwork("networks.CroCNetRefiner", {}, []), patch_size, 9e9)
        return batch(self, patch_size, architecture, *arguments)

    monkeypatch.setattr(planner, "batch", refuse_3d_crops)
    plans = plan("CroCNetPlanner")
    assert "3d_fullres" in plans["configurations"] and "3d_cascade_fullres" not in plans["configurations"]
    assert "The 3D cascade is left out. 8 GB is too small for CroCNetRefiner in 3D" in capsys.readouterr().out


def test_a_network_without_values_is_planned_by_nnunets_estimate(plan, capsys, monkeypatch):
    counted = plan("SpatialAttentionUNetPlanner")["configurations"]["2d"]

    def fails(*arguments):
        raise RuntimeError("no values")

    monkeypatch.setattr(architecture, "training_memory", fails)
    with pytest.raises(UserError, match="can neither be counted nor estimated: it needs a method compute_conv_feature"):
        plan("SpatialAttentionUNetPlanner")
    network = OURS["SpatialAttentionUNetPlanner"].network
    monkeypatch.setattr(network, "compute_conv_feature_map_size", lambda self, size: 5e6, raising=False)
    estimated = plan("SpatialAttentionUNetPlanner")["configurations"]["2d"]
    assert "is nnU-Net's estimate: it cannot run on tensors without values (no values)" in capsys.readouterr().out
    assert estimated["batch_size"] == round(85e6 * 12 / 5e6) and PLANNED_MEMORY not in estimated
    assert estimated["patch_size"] == counted["patch_size"]


@contextmanager
def one_slice(planned):
    """The data set's fingerprint as if all images had one slice."""
    file = planned / "dataset_fingerprint.json"
    before = file.read_text()
    fingerprint = load_json(str(file))
    fingerprint["shapes_after_crop"] = [[1, *shape[1:]] for shape in fingerprint["shapes_after_crop"]]
    file.write_text(json.dumps(fingerprint))
    yield
    file.write_text(before)


def test_one_slice_asked_for_in_3d(planned, capsys):
    arguments = ["plan_and_preprocess", "-d", "27", "-pl", "DADUPlanner", "-overwrite_plans_name", "nnUNetTestPlans"]
    with one_slice(planned), pytest.raises(SystemExit) as error:
        main([*arguments, "-c", "3d_fullres"])
    (planned / "nnUNetTestPlans.json").unlink()
    assert "has no configuration '3d_fullres'" in str(error.value.code) and "images of one slice" in str(
        error.value.code
    )


def test_what_was_planned_is_printed(planned, capsys):
    main(["plan_and_preprocess", "-d", "27", "-pl", "DADUPlanner", "-overwrite_plans_name", "nnUNetTestPlans"])
    (planned / "nnUNetTestPlans.json").unlink()
    out = capsys.readouterr().out
    assert re.search(r"^2d: patch \d+ x \d+, batch \d+, a training step takes \d+\.\d GB$", out, re.M)
    assert re.search(r"^3d_fullres: patch \d+ x \d+ x \d+, batch 2", out, re.M)


@pytest.mark.parametrize(("size", "width", "stages", "batch"), [("small", 8, 4, 8), ("half", 16, 5, 4)])
def test_plans_are_shrunk_to_a_named_size(planned, size, width, stages, batch):
    """Of nnU-Net's planner too: its U-Net begins with 32 channels."""
    name = f"nnUNet{size}Plans"
    main(
        [
            "plan_and_preprocess",
            "-d",
            "27",
            "-pl",
            "ExperimentPlanner",
            "-overwrite_plans_name",
            name,
            f"--{size}",
            "48",
        ]
    )
    plans = load_json(str(planned / f"{name}.json"))["configurations"]["2d"]
    (planned / f"{name}.json").unlink()
    shutil.rmtree(planned / f"{name}_2d")
    features = plans["architecture"]["arch_kwargs"]["features_per_stage"]
    assert features == [width * 2**stage for stage in range(len(features))] and 2 < len(features) <= stages
    assert plans["patch_size"] == [48, 48] and plans["batch_size"] == batch


def test_sizes_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(["plan_and_preprocess", "-d", "27", "--small", "--half"])
    assert "not allowed with argument" in capsys.readouterr().err
