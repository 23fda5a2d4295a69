import pytest
from conftest import DATASET
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess
from nnunet_cardiac.planners.spatial_attention_unet_planner import SYSTEMS, SpatialAttentionUNetPlanner

pytestmark = pytest.mark.usefixtures("augmentation_workers")


@pytest.fixture(scope="module")
def plan(planned):
    def plan(**kwargs):
        plans = SpatialAttentionUNetPlanner(DATASET, plans_name="nnUNetTestPlans", **kwargs).plan_experiment()
        (planned / "nnUNetTestPlans.json").unlink()
        return plans

    return plan


def test_systems_differ_in_nothing_but_their_switches(plan):
    manager = PlansManager(plan())
    assert manager.available_configurations == [*SYSTEMS, "3d_fullres"]
    full = manager.get_configuration("2d").configuration
    for name, switches in SYSTEMS.items():
        configuration = manager.get_configuration(name).configuration
        arguments = configuration["architecture"]["arch_kwargs"]
        assert {switch: arguments[switch] for switch in switches} == switches
        arguments |= dict.fromkeys(switches, True)
        configuration.pop("inherits_from", None)
        assert configuration == full


def test_paper_sizes(plan):
    configuration = PlansManager(plan(paper=True)).get_configuration("2d_unet")
    assert configuration.batch_size == 16
    assert configuration.network_arch_init_kwargs["image_size"] == [256, 256]
    assert configuration.normalization_schemes == ["RescaleTo01Normalization"]
    planned = PlansManager(plan()).get_configuration("2d_unet")
    assert planned.normalization_schemes == ["ZScoreNormalization"]
    # images of other intensities must not be mixed up with nnU-Net's
    assert planned.data_identifier == "nnUNetPlans_2d" != configuration.data_identifier


def test_intensities_of_the_paper_are_between_0_and_1(planned):
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    plans = plan_and_preprocess(
        DATASET, "SpatialAttentionUNetPlanner", ["2d"], paper=True, plans_name="nnUNetTestPlans", n_processes=1
    )
    data = planned / f"{plans}_2d"
    images = infer_dataset_class(str(data))(str(data))
    image = images.load_case(images.identifiers[0])[0][:]
    assert image.min() == 0 and image.max() == pytest.approx(1)
