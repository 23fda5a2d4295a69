"""A model's name, folder and stages."""

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model, previous_stages

LAST = Model("Dataset027_ACDC", "nnUNetTrainerCroCNet", "nnUNetCroCNetPlans", "2d_cascade")
PLANS = {
    "configurations": {
        "2d": {"next_stage": ["2d_cascade"]},
        "2d_cascade": {"inherits_from": "2d", "previous_stage": "2d"},
        "2d_cascade_single": {"inherits_from": "2d_cascade"},
        "2d_third": {"inherits_from": "2d_cascade", "previous_stage": "2d_cascade_single"},
        "2d_alone": {"inherits_from": "2d_cascade", "previous_stage": None},
    }
}


def test_name_and_back():
    assert LAST.name == "nnUNetTrainerCroCNet__nnUNetCroCNetPlans__2d_cascade"
    assert Model.named("Dataset027_ACDC", LAST.name) == LAST
    with pytest.raises(ValueError, match="TRAINER__PLANS__CONFIGURATION.*got 'nnUNetTrainer__2d'"):
        Model.named("Dataset027_ACDC", "nnUNetTrainer__2d")


def test_folders_are_nnunets(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert LAST.folder == tmp_path / "Dataset027_ACDC" / LAST.name
    assert LAST.fold_folder(3) == LAST.folder / "fold_3" and LAST.fold_folder("all") == LAST.folder / "fold_all"
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(UserError, match="nnUNet_results is not set"):
        LAST.folder  # noqa: B018


def test_stages_lead_to_the_model():
    previous = previous_stages(PLANS)
    assert [model.configuration for model in LAST.stages(previous)] == ["2d", "2d_cascade"]
    third = Model(LAST.dataset, LAST.trainer, LAST.plans, "2d_third")
    assert [model.configuration for model in third.stages(previous)] == ["2d", "2d_cascade_single", "2d_third"]
    assert {(model.dataset, model.trainer, model.plans) for model in third.stages(previous)} == {
        (LAST.dataset, LAST.trainer, LAST.plans)
    }
    alone = Model(LAST.dataset, LAST.trainer, LAST.plans, "2d_alone")
    assert alone.stages(previous) == [alone]


def test_previous_stages_are_those_that_nnunet_reads_from_the_plans(planned):
    for file in planned.glob("*Plans.json"):
        manager = PlansManager(str(file))
        expected = {n: manager.get_configuration(n).previous_stage_name for n in manager.available_configurations}
        assert previous_stages(manager.plans) == expected
