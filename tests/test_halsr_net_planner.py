import shutil
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import heart_and_image_sizes
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks import HALSRNet, LVBoxRegressor
from nnunet_cardiac.planners.cascade_planner import CROP_MARGIN
from nnunet_cardiac.planners.halsr_net_planner import HALSRNetPlanner
from nnunet_cardiac.planners.shrink import shrink
from nnunet_cardiac.planners.sizes import SIZES

DATASET = "Dataset027_ACDC"
CLASSES = {"2d": HALSRNet, "2d_roi": LVBoxRegressor, "2d_cascade": HALSRNet}


pytestmark = pytest.mark.usefixtures("augmentation_workers")


@pytest.fixture(scope="module")
def plan(planned):
    def plan(**kwargs):
        plans = HALSRNetPlanner(DATASET, plans_name="nnUNetTestPlans", **kwargs).plan_experiment()
        (planned / "nnUNetTestPlans.json").unlink()
        return plans

    return plan


@pytest.fixture(scope="module")
def plans(plan):
    return plan()


@pytest.fixture(scope="module")
def paper_plans(plan):
    return plan(paper=True)


def network(plans, name):
    configuration = PlansManager(plans).get_configuration(name)
    channels = 1 + 3 * (configuration.previous_stage_name is not None)
    return get_network_from_plans(
        configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import, channels, 4, deep_supervision=False,
    )  # fmt: skip


def test_the_box_leads_to_segmentation_inside_it(plans):
    manager = PlansManager(plans)
    assert set(manager.available_configurations) == {*CLASSES, "3d_fullres", "3d_roi", "3d_cascade_fullres"}
    assert manager.get_configuration("2d_roi").next_stage_names == ["2d_cascade"]
    assert manager.get_configuration("2d_cascade").previous_stage_name == "2d_roi"
    assert manager.get_configuration("2d").next_stage_names is None
    for name, expected in CLASSES.items():
        assert isinstance(network(plans, name), expected)
        base = "2d" if name.startswith("2d") else "3d_fullres"
        assert manager.get_configuration(name).data_identifier == f"nnUNetPlans_{base}"


def test_the_box_encloses_cavity_and_myocardium(plans):
    arguments = PlansManager(plans).get_configuration("2d_roi").network_arch_init_kwargs
    assert arguments["box_label"] == 3 and sorted(arguments["box_labels"]) == [2, 3]


@pytest.mark.parametrize(
    "labels, expected", [({"MYO": 1, "LV": 2}, [1, 2]), ({"RV": 1, "LV": 2}, [2]), ({"left": 1, "right": 2}, [1, 2])]
)
def test_names_of_labels(planned, labels, expected):
    planner = HALSRNetPlanner(DATASET, plans_name="nnUNetTestPlans")
    planner.dataset_json = {"labels": {"background": 0, **labels, "ignore": 3}}
    assert sorted(planner.box_labels()) == expected


def test_crop_holds_the_left_ventricle_and_patches_the_largest_image(plans, dataset):
    inside = PlansManager(plans).get_configuration("2d_cascade")
    ventricles, largest = heart_and_image_sizes(dataset, inside.spacing, 2)
    assert (ventricles + 2 * CROP_MARGIN <= inside.network_arch_init_kwargs["crop_size"]).all(1).mean() >= 0.95
    for name in ("2d_roi", "2d_cascade"):
        assert (np.array(PlansManager(plans).get_configuration(name).patch_size) >= largest).all()


def flops(module, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops()


@pytest.mark.slow
def test_cost_of_the_phases_on_an_acdc_sized_image(paper_plans):
    """The box costs at most a tenth of segmenting the whole image, the inside of the box at most half."""
    size = (256, 256)
    whole = flops(network(paper_plans, "2d").eval(), torch.randn(1, 1, *size))
    assert flops(network(paper_plans, "2d_roi").eval(), torch.randn(1, 1, *size)) < whole / 10
    inside = network(paper_plans, "2d_cascade").eval().crop.network
    assert flops(inside, torch.randn(1, 1, 112, 112)) < whole / 2


def test_paper_sizes(paper_plans):
    manager = PlansManager(paper_plans)
    for name in CLASSES:
        assert manager.get_configuration(name).batch_size == 32
    whole = manager.get_configuration("2d")
    assert whole.patch_size == [256, 256]
    for name in ("2d", "2d_cascade"):
        arguments = manager.get_configuration(name).network_arch_init_kwargs
        assert arguments["features_per_stage"] == [64, 128, 256, 512, 512]
        assert arguments["dropout_per_stage"] == [0.25, 0.3, 0.35, 0.35, 0.5]
        assert sum(p.numel() for p in network(paper_plans, name).parameters()) == pytest.approx(21.8e6, rel=0.01)


def test_a_shrunk_box_regressor_sees_the_whole_image(plans):
    small = shrink(deepcopy(plans), SIZES["small"])
    assert small["configurations"]["2d_roi"]["patch_size"] == plans["configurations"]["2d_roi"]["patch_size"]


def test_a_data_set_without_a_left_ventricle(planned, dataset, tmp_path, monkeypatch):
    planner = HALSRNetPlanner(DATASET, plans_name="nnUNetTestPlans")
    empty = shutil.copytree(dataset / "labelsTr", tmp_path / "labels")
    for file in empty.iterdir():
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.minimum(np.asanyarray(image.dataobj), 1).astype(np.uint8), image.affine), file)
    for case, files in planner.dataset.items():
        files["label"] = str(empty / f"{case}.nii.gz")
    with pytest.raises(UserError, match="has any of MYO, LV: there is no heart to crop to"):
        planner.plan_experiment()
