"""The trainers' habits: recipes, passes, seeds, checkpoints, the check before stage 2."""

import json
import math
import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from conftest import DATASET, PLANNERS
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.architectures import ARCHITECTURES
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import NoDeepSupervision
from nnunet_cardiac.trainers.nnUNetTrainerCroCNet import nnUNetTrainerCroCNet
from nnunet_cardiac.trainers.nnUNetTrainerDADU import nnUNetTrainerDADU
from nnunet_cardiac.training.box import BoxLoss
from nnunet_cardiac.training.deep_supervision import BalancedDeepSupervisionLoss
from nnunet_cardiac.training.dice import SigmoidDiceLoss
from nnunet_cardiac.training.train import limit_steps

PLANS = "nnUNetCroCNetPlans"
DADU = {"trainer": "nnUNetTrainerDADU", "plans": "nnUNetDADUPlans"}
HALSR = {"trainer": "nnUNetTrainerHALSRNet", "plans": "nnUNetHALSRNetPlans"}
SPATIAL = {"trainer": "nnUNetTrainerSpatialAttentionUNet", "plans": "nnUNetSpatialAttentionUNetPlans"}
NNUNETS = ("nnUNetTrainer", "nnUNetTrainerNoDeepSupervision")
RECIPES = {a.trainer: a.plans for a in ARCHITECTURES.values() if a.trainer not in NNUNETS}
"""Our trainers, each with the plans of its own architecture."""


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


@pytest.fixture(scope="module")
def previous_stage(planned, tmp_path_factory) -> Path:
    """What a previous stage predicts of every case, as if it were perfect."""
    dataset = infer_dataset_class(str(planned / "nnUNetPlans_2d"))(str(planned / "nnUNetPlans_2d"))
    folder = tmp_path_factory.mktemp("previous_stage")
    for case in dataset.identifiers:
        _, labels, *_ = dataset.load_case(case)
        dataset.save_seg(np.asarray(labels[0]), str(folder / case))
    return folder


def kinds_of_stages(planned, plans) -> list[str]:
    """A 2D configuration for each network of the plans, and for each that follows another stage."""
    manager, kinds = PlansManager(str(planned / f"{plans}.json")), {}
    for name in manager.available_configurations:
        stage = manager.get_configuration(name)
        if name.startswith("2d"):
            kinds.setdefault((stage.network_arch_class_name, stage.previous_stage_name), name)
    return list(kinds.values())


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


def test_recipe_of_dadu(planned, results):
    trainer = make(**DADU)
    trainer.initialize()
    assert trainer.num_epochs == 100 and trainer.keep_best == "dice"
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    for epoch in (0, 50, 99):
        trainer.lr_scheduler.step(epoch)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    assert isinstance(trainer.loss, BalancedDeepSupervisionLoss) and trainer.loss.loss.do_bg
    assert trainer.loss.log_variances is trainer.network.loss_log_variances
    trainer.get_tr_and_val_datasets()
    loader, _ = trainer.get_dataloaders()
    batch = next(loader)
    assert [target.shape[2:] for target in batch["target"]] == [batch["data"].shape[2:]]


def test_held_out_cases_choose_nothing_with_an_inner_validation(planned, results):
    def parts(trainer) -> list[set[str]]:
        return [{name.split(",")[0] for name in data.identifiers} for data in trainer.get_tr_and_val_datasets()]

    chooses = make(**DADU)
    outer = training, held_out = chooses.do_split()
    assert parts(chooses) == [set(training), set(held_out)]
    chooses.inner_validation = True
    trained, choosing = parts(chooses)
    assert trained | choosing == set(training) and trained and choosing
    patients = [{case.rsplit("_", 1)[0] for case in part} for part in (trained, choosing)]
    assert not patients[0] & patients[1]
    assert chooses.do_split() == outer  # of the final validation
    never = make(trainer="nnUNetTrainerCroCNet", plans="nnUNetCroCNetPlans")
    never.inner_validation = True
    assert parts(never) == [set(training), set(held_out)]


@pytest.mark.parametrize("given", [{"num_iterations_per_epoch": 3}, {"num_val_iterations_per_epoch": 2}])
def test_a_length_of_an_epoch_that_a_subclass_sets_stays(planned, results, given):
    trainer = make(**DADU)
    for name, n in given.items():
        setattr(trainer, name, n)
    trainer.get_tr_and_val_datasets()
    lengths = {name: getattr(trainer, name) for name in ("num_iterations_per_epoch", "num_val_iterations_per_epoch")}
    assert lengths | given == lengths and None not in lengths.values()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values())
def test_it_is_declared_which_recipes_choose_their_epoch(planned, architecture):
    trainer = make(trainer=architecture.trainer, plans="nnUNetPlans")
    assert bool(getattr(trainer, "keep_best", None)) == architecture.recipe_chooses_epoch


def test_dadu_learns_the_weights_of_its_losses(planned, results):
    trainer = make(**DADU)
    limit_steps(trainer, 4)
    trainer.run_training()
    weights = trainer.network.loss_log_variances
    assert len(weights) and weights.abs().min() > 0 and weights.grad.abs().min() > 0
    kept = torch.load(os.path.join(trainer.output_folder, "checkpoint_final.pth"), weights_only=False)
    assert torch.equal(kept["network_weights"]["loss_log_variances"], weights)
    logged = kept["logging"]["loss_weights"]
    assert len(logged) == trainer.num_epochs and len(logged[-1]) == len(weights)
    np.testing.assert_allclose(logged[-1], torch.exp(-weights.detach()), atol=1e-3)


def test_stock_recipes_leave_the_weights_of_the_losses_alone(planned, results):
    trainer = make(trainer="nnUNetTrainer", plans="nnUNetDADUPlans")
    limit_steps(trainer, 2)
    trainer.run_training()
    assert isinstance(trainer.loss.loss, DC_and_CE_loss)
    weights = trainer.network.loss_log_variances
    assert not weights.any() and weights.grad is None


@pytest.mark.parametrize("configuration", ["2d", "2d_roi", "2d_cascade"])
def test_recipe_of_halsr_net(planned, results, configuration):
    trainer = make(configuration, **HALSR)
    trainer.initialize()
    assert trainer.num_epochs == 300 and trainer.keep_best == "loss"
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert trainer.optimizer.param_groups[0]["lr"] == (1e-3 if configuration == "2d_roi" else 1e-4)
    if configuration == "2d_roi":
        assert isinstance(trainer.loss, BoxLoss) and sorted(trainer.loss.box_labels) == [2, 3]
    else:
        assert isinstance(trainer.loss.loss, DC_and_BCE_loss) and trainer.loss.loss.dc.smooth == 1
        logits, labels = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 1, 8, 8))
        p, g = torch.sigmoid(logits), torch.cat([labels == c for c in range(4)], 1).float()
        axes = (0, 2, 3)
        dice = (2 * (p * g).sum(axes) + 1) / (p.sum(axes) + g.sum(axes) + 1)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, g)
        torch.testing.assert_close(trainer.loss(logits, labels), bce - dice.mean())


def with_losses(trainer, losses):
    """The trainer, with these as its validation losses."""

    def on_validation_epoch_end(outputs, on_validation_epoch_end=trainer.on_validation_epoch_end):
        on_validation_epoch_end(outputs)
        trainer.logger.local_logger.my_fantastic_logging["val_losses"][trainer.current_epoch] = losses[
            trainer.current_epoch
        ]

    trainer.on_validation_epoch_end = on_validation_epoch_end
    return trainer


LOSSES = [0.9, 0.8, 0.7] + [0.75] * 20
"""The best is epoch 2; the rate falls after 5 more without improvement; the training ends after 10."""


def test_recipe_of_the_spatial_attention_unet(planned, results):
    trainer = make(**SPATIAL)
    trainer.initialize()
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.9 and not trainer.optimizer.param_groups[0]["nesterov"]
    for epoch in (0, 99):
        trainer.lr_scheduler.step(epoch)
        assert trainer.optimizer.param_groups[0]["lr"] == 1e-2
    labels = torch.randint(0, 4, (3, 1, 16, 16))
    right = 50.0 * torch.nn.functional.one_hot(labels[:, 0], 4).movedim(-1, 1)
    assert trainer.loss(right, labels) == pytest.approx(-1, abs=1e-4)
    assert trainer.loss(right.roll(1, 1), labels) == pytest.approx(0, abs=1e-4)
    logits = torch.randn(3, 4, 16, 16)
    p, y = logits.softmax(1)[:, 1:], (right / 50)[:, 1:]  # only the foreground counts
    axes = (0, 2, 3) if trainer.configuration_manager.batch_dice else (2, 3)
    dice = 2 * (p * y).sum(axes) / (p + y).sum(axes)
    assert trainer.loss(logits, labels) == pytest.approx(-dice.mean().item(), abs=1e-4)
    datasets = trainer.get_tr_and_val_datasets()
    batches = math.ceil(len(datasets[0].identifiers) / trainer.configuration_manager.batch_size)
    assert trainer.num_iterations_per_epoch == math.ceil(3500 / 805 * batches)


def test_every_image_is_turned_and_flipped_and_nothing_else(planned, results):
    trainer = make(**SPATIAL)
    rotation, dummy_2d, initial, mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert np.degrees(rotation) == pytest.approx((-180, 180)) and mirror_axes == (0, 1)
    patch = trainer.configuration_manager.patch_size
    transforms = trainer.get_training_transforms(patch, rotation, None, mirror_axes, dummy_2d)
    side = max(initial)
    y, x = torch.meshgrid(*[torch.arange(side) - side / 2] * 2, indexing="ij")
    seen = [
        transforms(image=torch.stack((y + x / 2, y**2 + x**2)).float(), segmentation=torch.zeros(1, side, side))[
            "image"
        ]
        for _ in range(8)
    ]
    directions = set()
    for image in seen:  # distances from the centre stay, directions do not
        middle = tuple(slice(p // 2 - 8, p // 2 + 8) for p in patch)
        gradient = torch.stack(torch.gradient(image[0][middle])).flatten(1).median(1).values
        assert gradient.norm() == pytest.approx(1.25**0.5, rel=0.03)
        assert image[1].min() < 2
        directions.add(round(float(torch.atan2(*gradient)), 2))
    assert len(directions) == len(seen)


def interrupt(trainer, after: int) -> None:
    """Runs the training, and stops it as a kill would behind so many epochs."""

    def on_epoch_end(on_epoch_end=trainer.on_epoch_end):
        on_epoch_end()
        if trainer.current_epoch == after:
            raise KeyboardInterrupt

    trainer.on_epoch_end = on_epoch_end
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()


def resume(trainer):
    """Goes on where an interrupted training left off."""
    trainer.load_checkpoint(os.path.join(trainer.output_folder, "checkpoint_latest.pth"))
    trainer.run_training()
    return trainer


def assert_ended_alike(one, other):
    assert one.current_epoch == other.current_epoch
    assert_same(weights(one), weights(other))
    states = [trainer.optimizer.state_dict()["state"] for trainer in (one, other)]
    for of_one, of_other in zip(states[0].values(), states[1].values(), strict=True):
        assert_same(of_one, of_other)
    rates = [[group["lr"] for group in trainer.optimizer.param_groups] for trainer in (one, other)]
    assert rates[0] == rates[1]
    assert one._best_ema == other._best_ema
    assert one.logger.get_value("train_losses", step=None) == other.logger.get_value("train_losses", step=None)


def start_box(continue_training=False):
    """HALSR-Net's box, with given validation losses and one step an epoch, and the rates that it trains with."""
    trainer = with_losses(make("2d_roi", **HALSR, continue_training=continue_training), LOSSES)
    limit_steps(trainer, 2)
    trainer.num_epochs, trainer.num_iterations_per_epoch = 300, 1
    rates = []

    def on_train_epoch_end(outputs, on_train_epoch_end=trainer.on_train_epoch_end):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        on_train_epoch_end(outputs)

    trainer.on_train_epoch_end = on_train_epoch_end
    return trainer, rates


def test_plateau_and_early_stopping_survive_a_kill(planned, results):
    """The kill comes before the rate falls, which it does because of the losses before the kill.

    What the schedule makes of other losses, and of other kills, is in test_plateau.py.
    """
    whole, rates = start_box()
    whole.run_training()
    assert rates == pytest.approx([1e-3] * 8 + [1e-4] * 5)
    assert whole.current_epoch == 13
    final = os.path.join(whole.output_folder, "checkpoint_final.pth")
    assert torch.load(final, weights_only=False)["current_epoch"] == 13
    whole.perform_actual_validation()
    assert len(list(results.glob("*2d_roi/predicted_next_stage/2d_cascade/*.b2nd"))) == 4
    shutil.rmtree(whole.output_folder)

    killed, _ = start_box()
    interrupt(killed, after=7)
    resumed, rates_after = start_box(continue_training=True)
    resume(resumed)
    assert rates_after == pytest.approx(rates[7:])
    assert_ended_alike(resumed, whole)


def test_a_training_that_was_killed_behind_its_last_epoch_is_not_trained_on(planned, results):
    """Stopped early, but killed before the final checkpoint: resumed, it ends at once, with the best weights."""
    trainer, _ = start_box()

    def on_train_end():
        raise KeyboardInterrupt

    trainer.on_train_end = on_train_end
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    resumed, rates = start_box(continue_training=True)
    resume(resumed)
    assert resumed.current_epoch == 13 and not rates
    best = torch.load(resumed.best_checkpoint, weights_only=False)
    assert best["current_epoch"] == 3
    assert_same(weights(resumed), best["network_weights"])


def test_stage_2_has_no_background_in_its_loss(planned, results):
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


def foreign_plans() -> list[tuple[str, str]]:
    """Every trainer of ours with nnU-Net's plans and with those of another architecture; every plans come up."""
    baseline, *ours = PLANNERS.values()
    following = dict(zip(ours, [*ours[1:], ours[0]], strict=True))
    return [(trainer, other) for trainer, own in RECIPES.items() for other in (baseline, following[own])]


@pytest.mark.parametrize("trainer, plans", foreign_plans())
def test_our_trainers_learn_with_the_plans_of_others(planned, results, trainer, plans):
    trainer = make(trainer=trainer, plans=plans)
    limit_steps(trainer, 1)
    trainer.initialize()
    before = weights(trainer)
    trainer.run_training()
    assert np.isfinite(trainer.finished("train_losses")).all() and len(trainer.finished("train_losses")) == 1
    first, *_ = (name for name in before if name.endswith("weight"))  # the last that the gradient comes to
    assert not torch.equal(before[first], weights(trainer)[first])


def test_what_cannot_be_trained_is_said_in_a_sentence(planned, results, monkeypatch):
    def reason(**changes):
        trainer = make(**DADU)
        configuration = trainer.configuration_manager.configuration
        configuration.update({key: value for key, value in changes.items() if key in configuration})
        configuration["architecture"]["arch_kwargs"] |= {k: v for k, v in changes.items() if k not in configuration}
        with pytest.raises(UserError) as error:
            trainer.initialize()
        return str(error.value)

    start = "nnUNetTrainerDADU cannot train 2d of nnUNetDADUPlans: "
    assert reason(patch_size=[60, 56]).startswith(start + "An input of 60 x 56 does not fit 4 stages")
    assert reason(variant="no_decoder").startswith(start + "variant must be one of full, no_edges, no_attention")
    for configuration in (
        "2d",
        "2d_roi",
    ):  # the box is regressed at half the resolution: 8 does not divide 60, nor 16 72
        trainer = make(configuration, **HALSR)
        trainer.configuration_manager.configuration["patch_size"] = [60, 72] if configuration == "2d" else [72, 64]
        with pytest.raises(UserError, match="An input of .* the sides must be multiples of (8 x 8|16 x 16)"):
            trainer.initialize()
    with pytest.raises(UserError, match="nnUNetTrainerDADU cannot train 2d_cascade of nnUNetCroCNetPlans: .* no deep"):
        make("2d_cascade", trainer="nnUNetTrainerDADU").initialize()


@pytest.mark.parametrize("plans", RECIPES.values())
def test_nnunets_recipe_trains_and_validates_our_networks(network_case, results, plans):
    has_none = isinstance(network_case(plans, "2d").build().decoder, NoDeepSupervision)
    name = "nnUNetTrainerNoDeepSupervision" if has_none else "nnUNetTrainer"
    trainer = make(trainer=name, plans=plans)
    limit_steps(trainer, 2)
    trainer.run_training()
    assert type(trainer.network).__module__.startswith("nnunet_cardiac.networks")
    assert isinstance(trainer.loss if has_none else trainer.loss.loss, DC_and_CE_loss)
    assert np.isfinite(trainer.logger.get_value("train_losses", step=None)).all()
    trainer.perform_actual_validation()  # nnU-Net's predictor, on whole images
    validation = results / f"{name}__{plans}__2d" / "fold_0" / "validation"
    assert len(list(validation.glob("*.nii.gz"))) == 4 and (validation / "summary.json").is_file()


def test_nnunets_recipe_trains_a_second_stage(planned, results, previous_stage):
    trainer = make("2d_cascade", trainer="nnUNetTrainerCrop")
    # nnU-Net looks for stage 1 under the name of stage 2's trainer
    trainer.folder_with_segs_from_previous_stage = str(previous_stage)
    limit_steps(trainer, 2)
    trainer.run_training()
    assert isinstance(trainer.loss, DC_and_CE_loss)
    assert np.isfinite(trainer.logger.get_value("train_losses", step=None)).all()
    trainer.perform_actual_validation()  # after it, nnU-Net switches deep supervision on, wanted or not
    assert (Path(trainer.output_folder) / "validation" / "summary.json").is_file()


def test_deep_supervision_is_refused_for_the_refiner(planned, results):
    with pytest.raises(ValueError, match="CroCNetRefiner has no deep supervision"):
        make("2d_cascade", trainer="nnUNetTrainer").initialize()


SLOWEST = "nnUNetTrainerHALSRNet"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == SLOWEST else ()) for name in RECIPES]
)
def test_resumed_training_ends_where_an_uninterrupted_one_does(planned, results, previous_stage, name):
    """With every kind of stage that the recipe trains."""
    for configuration in kinds_of_stages(planned, RECIPES[name]):

        def start(continue_training=False, configuration=configuration):
            trainer = make(configuration, trainer=name, plans=RECIPES[name], continue_training=continue_training)
            trainer.folder_with_segs_from_previous_stage = str(previous_stage) if trainer.is_cascaded else None
            limit_steps(trainer, 6)
            trainer.num_epochs, trainer.num_iterations_per_epoch = 3, 2
            return trainer

        whole = start()
        whole.run_training()
        shutil.rmtree(whole.output_folder)
        interrupt(start(), after=2)
        resumed = start(continue_training=True)
        resume(resumed)
        assert resumed.current_epoch == 3
        assert_ended_alike(resumed, whole)


@pytest.mark.parametrize("timed, trainer", [(True, nnUNetTrainer), (False, nnUNetTrainerDADU)])
def test_no_augmentation_depends_on_the_speed_of_the_machine(timed, trainer):
    """Where nnU-Net's does, and ours must not, or a resumed training ends elsewhere by rounding."""
    transforms = trainer.get_training_transforms((64, 64), (-3.0, 3.0), None, (0, 1), False)
    blurs = [t.transform for t in transforms.transforms if hasattr(getattr(t, "transform", None), "blur_sigma")]
    assert blurs and all(blur.benchmark == timed for blur in blurs)


@pytest.mark.parametrize("killed_before_best_was_saved", [False, True])
def test_the_best_epoch_is_what_a_training_ends_with(planned, results, monkeypatch, killed_before_best_was_saved):
    """The second of three epochs is the best; a kill may come between its two checkpoints."""

    def start(continue_training=False):
        trainer = make(**DADU, continue_training=continue_training)
        limit_steps(trainer, 6)
        trainer.num_epochs, trainer.num_iterations_per_epoch = 3, 1

        def on_validation_epoch_end(outputs, on_validation_epoch_end=trainer.on_validation_epoch_end):
            on_validation_epoch_end(outputs)
            log = trainer.logger.local_logger.my_fantastic_logging
            log["ema_fg_dice"][trainer.current_epoch] = (0.1, 0.8, 0.2)[trainer.current_epoch]

        trainer.on_validation_epoch_end = on_validation_epoch_end
        return trainer

    trainer, after = start(), []
    if killed_before_best_was_saved:

        def save_checkpoint(filename, save_checkpoint=trainer.save_checkpoint):
            if filename.endswith("best.pth") and trainer.current_epoch == 1:
                after.append(weights(trainer))
                raise KeyboardInterrupt
            save_checkpoint(filename)

        trainer.save_checkpoint = save_checkpoint
        with pytest.raises(KeyboardInterrupt):
            trainer.run_training()
        trainer = start(continue_training=True)
        trainer.load_checkpoint(os.path.join(trainer.output_folder, "checkpoint_latest.pth"))
    else:

        def on_epoch_end(on_epoch_end=trainer.on_epoch_end):
            if trainer.current_epoch == 1:
                after.append(weights(trainer))
            on_epoch_end()

        trainer.on_epoch_end = on_epoch_end
    trainer.run_training()
    assert_same(weights(trainer), after[0])
    final = torch.load(os.path.join(trainer.output_folder, "checkpoint_final.pth"), weights_only=False)
    assert_same(final["network_weights"], after[0])
    assert final["current_epoch"] == 3 and trainer._best_ema == 0.8


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
def test_stage_2_notices_one_prediction_that_is_missing_or_cut_off(planned, results, previous_stage, tmp_path, damage):
    trainer = make("2d_cascade")
    trainer.initialize()
    copy = shutil.copytree(previous_stage, tmp_path / "previous")
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


def test_augmentation_leaves_masks_as_masks(planned, results, previous_stage):
    trainer = make("2d_cascade")
    trainer.folder_with_segs_from_previous_stage = str(previous_stage)
    trainer.initialize()
    trainer.get_tr_and_val_datasets()
    loader, _ = trainer.get_dataloaders()
    for _ in range(4):
        batch = next(loader)
        masks = batch["data"][:, 1:]
        assert batch["data"].shape[1] == 4 and set(masks.unique().tolist()) <= {0.0, 1.0}
        assert masks.sum(1).max() <= 1
        assert set(batch["target"].unique().tolist()) <= {0, 1, 2, 3}


def test_the_trainers_folder_imports_nothing_by_bare_name(monkeypatch):
    """nnU-Net imports every module of the folder by its bare name: they must not depend on each other."""
    folder = Path(sys.modules[nnUNetTrainerCroCNet.__module__].__file__).parent
    files = sorted(folder.glob("nnUNetTrainer*.py"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()])
    for file in files:
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
    for file in files:
        assert runpy.run_path(str(file))[file.stem].__name__ == file.stem
