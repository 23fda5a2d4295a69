"""The trainers' habits: passes, seeds, checkpoints, the check before stage 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from conftest import DATASET
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.trainers.nnUNetTrainerCroCNet import nnUNetTrainerCroCNet
from nnunet_cardiac.training.dice import SigmoidDiceLoss
from nnunet_cardiac.training.run import limit_steps

PLANS = "nnUNetCroCNetPlans"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder of the test's own."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return tmp_path / "results" / DATASET


def make(configuration="2d", fold=0, trainer="nnUNetTrainerCroCNet", plans=PLANS, continue_training=False):
    return get_trainer_from_args(
        DATASET, configuration, fold, trainer, plans, continue_training, device=torch.device("cpu")
    )


def weights(trainer):
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_recipe_of_the_paper(planned, results):
    trainer = make()
    trainer.initialize()
    assert trainer.num_epochs == 500
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    rates = []
    for epoch in (0, 99, 100, 199, 200, 499):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])
    assert isinstance(trainer.loss, SigmoidDiceLoss) and trainer.loss.do_bg
    rotation, *_ = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert np.degrees(rotation) == pytest.approx((-30, 30))


def test_stage_2_has_no_background_in_its_loss(trained):
    trainer = make("2d_cascade")
    trainer.initialize()
    assert not trainer.loss.do_bg


def test_an_epoch_is_a_pass_over_the_training_slices(planned, results):
    trainer = make()
    trainer.initialize()
    training, validation = trainer.get_tr_and_val_datasets()
    slices = sum(training.load_case(case)[0].shape[1] for case in training.identifiers)
    batch = trainer.configuration_manager.batch_size
    assert trainer.num_iterations_per_epoch == -(-slices // batch)
    assert trainer.num_val_iterations_per_epoch >= 1


@pytest.mark.parametrize("scale_schedule, last_rate", [(True, 1e-6), (False, 1e-4)])
def test_budget(planned, results, scale_schedule, last_rate):
    trainer = make()
    limit_steps(trainer, 200, scale_schedule)
    if scale_schedule:
        trainer.initialize()
    trainer.get_tr_and_val_datasets()
    assert trainer.num_epochs * trainer.num_iterations_per_epoch == 200
    trainer.lr_scheduler.step(trainer.num_epochs - 1)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(last_rate)


@pytest.mark.parametrize("budget", [1, 50, 60, 119, 999, 2000, 2019])
def test_a_budget_is_never_exceeded_and_all_but_used(planned, results, budget):
    trainer = make()
    limit_steps(trainer, budget)
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    assert budget - 20 < steps <= budget


@pytest.mark.parametrize("plans, configuration", [(PLANS, "2d"), ("nnUNetPlans", "2d")])
def test_any_plans_train_with_our_trainer(planned, results, plans, configuration):
    trainer = make(configuration, plans=plans)
    limit_steps(trainer, 1)
    trainer.run_training()


@pytest.mark.parametrize(
    "trainer_name, configuration", [("nnUNetTrainer", "2d"), ("nnUNetTrainerNoDeepSupervision", "2d_cascade")]
)
def test_our_plans_train_with_stock_trainers(planned, trained, results, monkeypatch, trainer_name, configuration):
    trainer = make(configuration, trainer=trainer_name)
    if configuration == "2d_cascade":
        # nnU-Net looks for stage 1 under the name of stage 2's trainer
        trainer.folder_with_segs_from_previous_stage = str(
            trained / f"nnUNetTrainerCroCNet__{PLANS}__2d" / "predicted_next_stage" / configuration
        )
    limit_steps(trainer, 2)
    trainer.run_training()
    assert isinstance(getattr(trainer.loss, "loss", trainer.loss), DC_and_CE_loss)


def test_deep_supervision_is_refused_for_the_refiner(planned, results):
    with pytest.raises(ValueError, match="CroCNetRefiner has no deep supervision"):
        make("2d_cascade", trainer="nnUNetTrainer").initialize()


@pytest.mark.parametrize("configuration", ["2d", "2d_cascade", "2d_cascade_single", "2d_cascade_uncoupled"])
def test_resumed_training_ends_where_an_uninterrupted_one_does(planned, trained, results, configuration):
    previous = trained / f"nnUNetTrainerCroCNet__{PLANS}__2d" / "predicted_next_stage" / configuration

    def start(continue_training=False):
        trainer = make(configuration, continue_training=continue_training)
        trainer.folder_with_segs_from_previous_stage = str(previous) if trainer.is_cascaded else None
        limit_steps(trainer, 6)
        trainer.num_epochs, trainer.num_iterations_per_epoch = 3, 2
        return trainer

    whole = start()
    whole.run_training()
    shutil.rmtree(whole.output_folder)

    killed = start()
    stop_after = 2

    def on_epoch_end(on_epoch_end=killed.on_epoch_end):
        on_epoch_end()
        if killed.current_epoch == stop_after:
            raise KeyboardInterrupt

    killed.on_epoch_end = on_epoch_end
    with pytest.raises(KeyboardInterrupt):
        killed.run_training()

    resumed = start(continue_training=True)
    resumed.load_checkpoint(os.path.join(resumed.output_folder, "checkpoint_latest.pth"))
    assert resumed.current_epoch == stop_after
    resumed.run_training()
    assert_same(weights(resumed), weights(whole))
    states = [trainer.optimizer.state_dict()["state"] for trainer in (resumed, whole)]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert_same(one, other)
    assert resumed._best_ema == whole._best_ema
    assert resumed.logger.get_value("train_losses", step=None) == whole.logger.get_value("train_losses", step=None)


def test_a_checkpoint_is_replaced_in_one_step(planned, results, monkeypatch):
    trainer = make()
    trainer.initialize()
    file = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    before = file.read_bytes()

    def killed_in_the_middle(checkpoint, filename):
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == before


def test_stage_2_before_stage_1_names_the_folds(planned, results):
    trainer = make("2d_cascade")
    trainer.initialize()
    with pytest.raises(UserError, match="first train 2d, folds 0, 1, with -tr nnUNetTrainerCroCNet"):
        trainer.get_tr_and_val_datasets()


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:60])])
def test_stage_2_notices_one_prediction_that_is_missing_or_cut_off(trained, results, tmp_path, damage):
    source = trained / f"nnUNetTrainerCroCNet__{PLANS}__2d" / "predicted_next_stage" / "2d_cascade"
    trainer = make("2d_cascade")
    trainer.initialize()
    copy = shutil.copytree(source, tmp_path / "previous")
    trainer.folder_with_segs_from_previous_stage = str(copy)
    trainer.get_tr_and_val_datasets()
    splits = load_json(os.path.join(os.environ["nnUNet_preprocessed"], DATASET, "splits_final.json"))
    damage(copy / f"{splits[1]['val'][0]}.b2nd")
    with pytest.raises(UserError, match="1 of 8 cases have none .*: first train 2d, fold 1,"):
        trainer.get_tr_and_val_datasets()


def test_predictions_of_fold_all_do_not_replace_out_of_fold_ones(planned, results):
    trainer = make(fold="all")
    limit_steps(trainer, 1)
    trainer.run_training()
    trainer.perform_actual_validation()
    assert not list(results.rglob("predicted_next_stage"))
    assert json.loads((Path(trainer.output_folder_base) / "plans.json").read_text())["configurations"]["2d"][
        "next_stage"
    ]


def test_augmentation_leaves_masks_as_masks(trained):
    trainer = make("2d_cascade")
    trainer.initialize()
    trainer.get_tr_and_val_datasets()
    loader, _ = trainer.get_dataloaders()
    for _ in range(4):
        batch = next(loader)
        masks = batch["data"][:, 1:]
        assert batch["data"].shape[1] == 4 and set(masks.unique().tolist()) <= {0.0, 1.0}
        assert masks.sum(1).max() <= 1
        assert set(batch["target"].unique().tolist()) <= {0, 1, 2, 3}


def test_the_trainers_folder_imports_nothing_heavy_by_bare_name():
    """nnU-Net imports every module of the folder by its bare name: they must not depend on each other."""
    folder = Path(sys.modules[nnUNetTrainerCroCNet.__module__].__file__).parent
    for file in folder.glob("nnUNetTrainer*.py"):
        code = f"import sys; sys.path.insert(0, {str(folder)!r}); import {file.stem}; print({file.stem}.{file.stem})"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
