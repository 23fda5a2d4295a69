import pytest
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.networks import DADU
from nnunet_cardiac.planners.dadu_planner import DADUPlanner

DATASET = "Dataset027_ACDC"
VARIANTS = {"2d": "full", "2d_no_edges": "no_edges", "2d_no_attention": "no_attention"}


pytestmark = pytest.mark.usefixtures("augmentation_workers")


@pytest.fixture(scope="module")
def plan(planned):
    def plan(**kwargs):
        plans = DADUPlanner(DATASET, plans_name="nnUNetTestPlans", **kwargs).plan_experiment()
        (planned / "nnUNetTestPlans.json").unlink()
        return plans

    return plan


@pytest.fixture(scope="module")
def plans(plan):
    return plan()


def network(plans, configuration):
    manager = PlansManager(plans).get_configuration(configuration)
    return get_network_from_plans(
        manager.network_arch_class_name, manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import, 1, 4, deep_supervision=False,
    )  # fmt: skip


def test_ablations_differ_in_nothing_but_the_variant(plans):
    manager = PlansManager(plans)
    assert manager.available_configurations == [*VARIANTS, "3d_fullres"]
    full = manager.get_configuration("2d").configuration
    for name, variant in VARIANTS.items():
        assert isinstance(network(plans, name), DADU)
        configuration = manager.get_configuration(name).configuration
        arguments = configuration["architecture"]["arch_kwargs"]
        assert arguments["variant"] == variant
        arguments["variant"] = "full"
        configuration.pop("inherits_from", None)
        assert configuration == full


def test_images_are_shared_with_nnunets_plans(plans):
    for name in VARIANTS:
        assert PlansManager(plans).get_configuration(name).data_identifier == "nnUNetPlans_2d"


def test_paper_sizes(plan):
    plans = plan(paper=True)
    configuration = PlansManager(plans).get_configuration("2d")
    assert configuration.batch_size == 10
    assert configuration.network_arch_init_kwargs["image_size"] == [256, 256]
    largest = DADUPlanner(DATASET).largest_image(plans, "2d")
    assert all(p >= side and p % 16 == 0 for p, side in zip(configuration.patch_size, largest, strict=True))
    assert configuration.network_arch_init_kwargs["features_per_stage"] == [32, 64, 128, 256, 512]
    assert configuration.network_arch_init_kwargs["norm_op"] == "torch.nn.BatchNorm2d"
