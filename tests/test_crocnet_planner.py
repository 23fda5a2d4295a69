import json

import numpy as np
import pytest
from batchgenerators.utilities.file_and_folder_operations import load_json
from conftest import heart_and_image_sizes
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.networks import CroCNetRefiner, E2AUNet
from nnunet_cardiac.planners.cascade_planner import CROP_MARGIN
from nnunet_cardiac.planners.crocnet_planner import CroCNetPlanner

DATASET = "Dataset027_ACDC"
STAGE_2 = {
    "2d_cascade": "specialists",
    "2d_cascade_self_coupled": "self_coupled",
    "2d_cascade_uncoupled": "uncoupled",
    "2d_cascade_single": "single",
}


pytestmark = pytest.mark.usefixtures("augmentation_workers")


@pytest.fixture(scope="module")
def plans(planned):
    """Plans as CroCNetPlanner makes them, under a name of their own."""
    planner = CroCNetPlanner(DATASET, plans_name="nnUNetTestPlans")
    yield planner.plan_experiment()
    (planned / "nnUNetTestPlans.json").unlink()


@pytest.fixture(scope="module")
def paper_plans(planned):
    planner = CroCNetPlanner(DATASET, plans_name="nnUNetPaperPlans", paper=True)
    yield planner.plan_experiment()
    (planned / "nnUNetPaperPlans.json").unlink()


def network(plans, configuration):
    manager = PlansManager(plans).get_configuration(configuration)
    channels = 1 + 3 * (manager.previous_stage_name is not None)
    return get_network_from_plans(
        manager.network_arch_class_name, manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import, channels, 4, deep_supervision=False,
    )  # fmt: skip


def test_stages_point_at_each_other(plans):
    manager = PlansManager(plans)
    assert manager.available_configurations == ["2d", *STAGE_2, "3d_fullres", "3d_cascade_fullres"]
    assert manager.get_configuration("2d").next_stage_names == list(STAGE_2)
    for name in STAGE_2:
        configuration = manager.get_configuration(name)
        assert configuration.previous_stage_name == "2d" and configuration.next_stage_names is None
        assert configuration.data_identifier == manager.get_configuration("2d").data_identifier


def test_plans_name_the_networks(plans):
    assert plans["configurations"]["2d"]["architecture"]["network_class_name"] == "nnunet_cardiac.networks.E2AUNet"
    assert isinstance(network(plans, "2d"), E2AUNet)
    for name, variant in STAGE_2.items():
        refiner = network(plans, name)
        assert isinstance(refiner, CroCNetRefiner)
        assert plans["configurations"][name]["architecture"]["arch_kwargs"]["variant"] == variant


def test_stage_2_has_half_the_width_of_stage_1(plans):
    def first_features(name):
        return plans["configurations"][name]["architecture"]["arch_kwargs"]["features_per_stage"][0]

    assert first_features("2d_cascade") == first_features("2d") / 2 == 16


def test_crop_holds_the_hearts_and_the_patch_the_largest_image(plans, dataset):
    configuration = PlansManager(plans).get_configuration("2d_cascade")
    crop_size = configuration.network_arch_init_kwargs["crop_size"]
    hearts, largest = heart_and_image_sizes(dataset, configuration.spacing, 1)
    assert (hearts + 2 * CROP_MARGIN <= crop_size).all(1).mean() >= 0.95
    assert (np.array(configuration.patch_size) >= largest).all()
    divisor = np.prod(configuration.network_arch_init_kwargs["strides"], axis=0)
    assert not (np.array(crop_size) % divisor).any()


def test_paper_sizes(paper_plans):
    manager = PlansManager(paper_plans)
    stage_1, stage_2 = manager.get_configuration("2d"), manager.get_configuration("2d_cascade")
    assert (stage_1.patch_size, stage_1.batch_size, stage_2.batch_size) == ([256, 256], 8, 8)
    assert stage_1.network_arch_init_kwargs["features_per_stage"] == [32, 64, 128, 256, 512]
    assert stage_2.network_arch_init_kwargs["features_per_stage"] == [16, 32, 64, 128, 256]
    assert sum(p.numel() for p in network(paper_plans, "2d_cascade").parameters()) == pytest.approx(5.25e6, rel=0.01)


def test_hand_made_configurations_survive_planning_again(planned):
    planner = CroCNetPlanner(DATASET, plans_name="nnUNetMinePlans")
    file = planned / "nnUNetMinePlans.json"
    planner.plan_experiment()
    plans = json.loads(file.read_text())
    plans["configurations"]["mine"] = {"inherits_from": "2d", "batch_size": 3}
    file.write_text(json.dumps(plans))
    CroCNetPlanner(DATASET, plans_name="nnUNetMinePlans").plan_experiment()
    assert PlansManager(load_json(str(file))).get_configuration("mine").batch_size == 3
    file.unlink()
