"""Training of everything that a configuration needs: the folds of the stages before it, then its own.

The training itself is nnU-Net's: the same trainer objects, run as ``nnUNetv2_train`` runs them, with the same folders.
"""

import math
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from os.path import isdir, isfile, join
from pathlib import Path

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch._dynamo import OptimizedModule
from tqdm import tqdm

from nnunet_cardiac.environment import preprocessed_splits, read_splits
from nnunet_cardiac.errors import DamagedError, UserError, sentence
from nnunet_cardiac.files import is_json, set_aside, write_json
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import CHECKPOINT, Model, previous_stages
from nnunet_cardiac.progress import progress
from nnunet_cardiac.system import omp_threads, reuse_freed_memory
from nnunet_cardiac.texts import printable, read_json, reason, unforeseen
from nnunet_cardiac.training.on_cpu import faster_on_cpu
from nnunet_cardiac.training.options import TrainingOptions
from nnunet_cardiac.training.trainer import RecipeTrainer, seed_everything
from nnunet_cardiac.training.training_cost import COST_FILE, chosen_on, gpu_energy, training_cost
from nnunet_cardiac.training.trust import check_plans, difference_of_plans, load_checkpoint, stage_names

BUDGET_EPOCHS = 20
"""Epochs, at most, that a training with a budget is divided into: points of its learning curve, and of resuming."""
BUDGET_STEPS_PER_EPOCH = 40
"""Steps, at least, of such an epoch: its end costs as much as some steps."""

SNAPSHOT_SHARES = (20, 40, 60, 80)
"""Percent of a training after which DADU's Table 2 looks at the Dice; nnU-Net keeps the end."""


def train(model: Model, folds: Sequence[int | str] | None, options: TrainingOptions, as_found: bool = False) -> None:
    """Trains what is missing, in order: all folds of every previous stage, then ``folds`` of the model.

    Finished folds are skipped, unfinished ones continue from their last checkpoint.

    Args:
        model: what to train
        folds: of the model's last stage; None for all in ``splits_final.json``
        options: how
        as_found: take finished folds of the model with whatever options they were trained, as those of previous stages
            always are

    Raises:
        UserError: unknown fold, data that are not preprocessed, a network that cannot be compiled, or a fold that was
            begun with other options or plans
    """
    preprocessed = join(nnUNet_preprocessed, model.dataset)
    plans_file = Path(preprocessed, f"{model.plans}.json")
    plans, dataset_json = read_json(plans_file), read_json(Path(preprocessed, "dataset.json"))
    check_plans(plans, dataset_json, stage_names(model, plans, plans_file), f"{plans_file} and dataset.json beside it")
    if plans.get("plans_name") != model.plans:
        raise UserError(
            f"{plans_file} has another plans_name in it, by which nnU-Net would name the results: make it "
            f"{model.plans}, as the file is called."
        )
    manager = PlansManager(plans)
    splits = _splits(preprocessed, manager, model.configuration)
    all_folds = list(range(len(splits)))
    for fold in folds or ():
        if fold != "all" and fold not in all_folds:
            raise UserError(f"There is no fold {fold}: {model.dataset} has folds {all_folds[0]} to {all_folds[-1]}.")

    *before, last = model.stages(previous_stages(manager.plans))
    jobs: list[tuple[Model, int | str]] = [(stage, fold) for stage in before for fold in all_folds]
    jobs += [(last, fold) for fold in folds or all_folds]
    for stage in (*before, last):
        _check_plans_are_those_of_the_model(stage, manager.plans, dataset_json)
    for fold in () if as_found else folds or all_folds:
        if (last.fold_folder(fold) / CHECKPOINT).is_file():
            _check_begun_alike(last.fold_folder(fold), options, options.seed or 0)
    for i, (stage, fold) in enumerate(jobs, 1):
        what = printable(f"[{i}/{len(jobs)}] {stage.trainer} {stage.plans} {stage.configuration}, fold {fold}")
        if not is_finished(stage, fold, manager):
            with locked(stage.fold_folder(fold), "train another fold with -f"):
                if not is_finished(stage, fold, manager):  # by another process, which was waited for
                    print(f"{what}: training", flush=True)
                    if options.num_gpus > 1:
                        _train_distributed(stage, fold, options)
                        continue
                    trainer = get_trainer(stage, fold, torch.device(options.device), options.seed)
                    if options.initial_lr is not None:
                        trainer.initial_lr = options.initial_lr
                    train_fold(trainer, options)
                    continue
        print(f"{what}: finished already")


def _train_distributed(model: Model, fold: int | str, options: TrainingOptions) -> None:
    """As ``nnUNetv2_train -num_gpus`` does it."""
    trained = (model.fold_folder(fold) / CHECKPOINT).is_file()
    if not trained and (model.fold_folder(fold) / "checkpoint_latest.pth").is_file():
        _check_begun_alike(model.fold_folder(fold), options, 0)
    _set_unreadable_checkpoints_aside(str(model.fold_folder(fold)))
    run_training(
        model.dataset, model.configuration, fold, model.trainer, model.plans, num_gpus=options.num_gpus,
        continue_training=not trained, only_run_validation=trained, export_validation_probabilities=options.npz,
        device=torch.device(options.device),
    )  # fmt: skip


def _splits(preprocessed: str, manager: PlansManager, configuration: str) -> list[dict]:
    """The data set's folds; where it came without, those that nnU-Net would make in its first training.

    Raises:
        UserError: the data are not preprocessed
    """
    identifier = manager.get_configuration(configuration).data_identifier
    if not isdir(join(preprocessed, identifier)):
        raise UserError(
            f"{join(preprocessed, identifier)} does not exist: run nnunet_cardiac plan_and_preprocess with "
            f"-c {configuration}."
        )
    file = join(preprocessed, "splits_final.json")
    if not isfile(file):
        dataset_class = infer_dataset_class(join(preprocessed, identifier))
        cases = sorted(dataset_class.get_identifiers(join(preprocessed, identifier)))
        write_json(generate_crossval_split(cases, seed=12345, n_splits=5), Path(file))
    splits = read_splits(Path(file))
    if not all(split["train"] and split["val"] for split in splits):
        raise UserError(f"{file} has a fold without cases to train or to validate on: convert or plan again.")
    folder = join(preprocessed, identifier)
    there = set(infer_dataset_class(folder).get_identifiers(folder))
    if missing := {case for split in splits for part in ("train", "val") for case in split[part]} - there:
        raise UserError(
            f"{file} names {min(missing)!r:.80}, which is not in {folder}: preprocess it, or mend the folds."
        )
    return splits


def is_finished(model: Model, fold: int | str, manager: PlansManager) -> bool:
    """Whether a fold has its final checkpoint, its validation, and its predictions for the next stages.

    Args:
        model, fold: what is trained
        manager: the model's plans
    """
    place = model.fold_folder(fold)
    if not (place / CHECKPOINT).is_file() or not is_json(place / "validation" / "summary.json"):
        return False
    if fold == "all":
        return True
    val = preprocessed_splits(model.dataset)[int(fold)]["val"]
    return all(
        any((model.folder / "predicted_next_stage" / stage / (case + ending)).is_file() for ending in (".b2nd", ".npz"))
        for stage in manager.get_configuration(model.configuration).next_stage_names or ()
        for case in val
    )


def get_trainer(model: Model, fold: int | str, device: torch.device, seed: int | None = None):
    """The trainer that ``nnUNetv2_train --c`` would make, with threads for the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else multiprocessing.cpu_count()
    cores = min(cores, omp_threads() or cores)
    torch.set_num_threads(cores if device.type == "cpu" else 1)
    reuse_freed_memory(device)
    trainer = get_trainer_from_args(
        model.dataset, model.configuration, fold, model.trainer, model.plans, continue_training=True, device=device
    )
    if seed is not None and isinstance(trainer, RecipeTrainer):
        trainer.seed = seed
    seed_everything(_seed(trainer, seed), fold, -1)
    return trainer


def _seed(trainer, given: int | None) -> int:
    return trainer.seed if isinstance(trainer, RecipeTrainer) else given or 0  # nnU-Net's own are seeded here


def train_fold(trainer, options: TrainingOptions) -> None:
    """What ``nnUNetv2_train --c`` does with its trainer; what the training took is kept beside its checkpoints.

    Args:
        trainer: of nnU-Net's, not initialised yet, with the learning rate that it is to have
        options: how it trains
    """
    if isinstance(trainer, RecipeTrainer):
        trainer.inner_validation = options.inner_validation
    if options.snapshots:
        keep_snapshots(trainer)
    with faster_on_cpu(trainer, options.compile_on_cpu, options.bfloat16):
        if options.budget is not None:
            limit_steps(trainer, options.budget, options.scale_schedule)
        _train_fold(trainer, options)


def _train_fold(trainer, options: TrainingOptions) -> None:
    _set_unreadable_checkpoints_aside(trainer.output_folder)
    try:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as e:
        if sentence(e):  # of memory: nothing against the checkpoint
            raise
        raise UserError(
            f"{trainer.output_folder}: its checkpoint_latest.pth is not of this network and trainer ({unforeseen(e)}): "
            "move it away to begin anew."
        ) from e
    cost_file, energy = Path(trainer.output_folder) / COST_FILE, None
    if not isfile(join(trainer.output_folder, CHECKPOINT)):
        seed = _seed(trainer, options.seed)
        settings = {
            "budget": options.budget, "scaled_schedule": options.budget is not None and options.scale_schedule,
            "initial_lr": trainer.initial_lr, "is_own_rate": options.initial_lr is None, "bfloat16": options.bfloat16,
            "chosen_on": chosen_on(trainer), "seed": seed,
        }  # fmt: skip
        if trainer.current_epoch:
            _check_begun_alike(cost_file.parent, options, seed)
        write_json(settings, cost_file)  # what a kill at the very end must not lose
        seed_everything(seed, trainer.fold, trainer.current_epoch - 1)
        energy = None if trainer.current_epoch else gpu_energy(trainer.device)
        try:
            with _progress_bar(trainer):
                trainer.run_training()
        except Exception as e:
            _check_cases(trainer, e)
            raise
    if cost_file.is_file() and "steps" not in (settings := read_json(cost_file)):
        settings |= {"compiled": isinstance(trainer.network, OptimizedModule)}
        write_json(training_cost(trainer, energy) | settings, cost_file)
    trainer.perform_actual_validation(options.npz)


def _check_plans_are_those_of_the_model(model: Model, plans: dict, dataset_json: dict) -> None:
    """
    Raises:
        UserError: folds were trained with plans of the same name that describe another network, or for other labels;
            the next fold would replace both in the model's folder
    """
    if not any(model.folder.glob("fold_*/checkpoint_*.pth")):
        return
    try:
        differs = difference_of_plans(read_json(model.folder / "plans.json"), plans, [model.configuration])
        if read_json(model.folder / "dataset.json").get("labels") != dataset_json["labels"]:
            differs = "labels"
    except (UserError, KeyError, TypeError, RuntimeError):  # a copy that was cut off is written anew
        return
    if differs:
        raise UserError(
            f"{model.folder} was trained with other plans of that name ({printable(differs)}): plan as before, give "
            "the new plans a name of their own (plan_and_preprocess -overwrite_plans_name), or move the folder away."
        )


def _check_begun_alike(place: Path, options: TrainingOptions, seed: int) -> None:
    """
    Args:
        place: of a fold that is to go on, or is finished; what its record lacks is the options' default
        options, seed: now

    Raises:
        UserError: the training was begun with other options, so that its record would not be true
    """
    if not (place / COST_FILE).is_file():  # nnU-Net's own command keeps none
        return
    before = read_json(place / COST_FILE)
    budget, rate, chosen_on = (before.get(key) for key in ("budget", "initial_lr", "chosen_on"))
    was_given = not before.get("is_own_rate", True) or rate == options.initial_lr
    compared = {
        "--budget": (budget, options.budget),
        "--unscaled_schedule": (
            budget is not None and not before.get("scaled_schedule", True),
            options.budget is not None and not options.scale_schedule,
        ),
        "--initial_lr": (rate if was_given else None, options.initial_lr),
        "--seed": (before.get("seed", 0), seed),
        "--bfloat16": (before.get("bfloat16", False), options.bfloat16),
        "--inner_validation": (chosen_on == "training patients", options.inner_validation and chosen_on is not None),
    }
    for option, (was, now) in compared.items():
        if was != now:
            raise UserError(
                f"{place} was begun {_told(option, was)}, not {_told(option, now)}: give the options that it was begun "
                "with, or move it away to train anew."
            )


def _told(option: str, value: float | None) -> str:
    """An option as it was given; None and False for one that was not, True for a flag."""
    if value is None or value is False:
        return f"without {option}"
    return f"with {option}" if value is True else f"with {option} {value}"


def _check_cases(trainer, error: Exception) -> None:
    """
    Raises:
        UserError: a case of the fold cannot be used, which was the reason for ``error``
    """
    names = trainer.dataset_json.get("modality", trainer.dataset_json.get("channel_names"))
    for cases in trainer.do_split():
        dataset = trainer.dataset_class(
            trainer.preprocessed_dataset_folder, list(cases),
            folder_with_segs_from_previous_stage=trainer.folder_with_segs_from_previous_stage,
        )  # fmt: skip
        for case in cases:
            try:
                data, seg, _, _ = dataset.load_case(case)
                if (n := len(np.asarray(data))) != len(names):
                    raise ValueError(f"channels: {n}, in dataset.json: {len(names)}")
                if unknown := set(np.unique(np.asarray(seg)).tolist()) - {-1, *trainer.label_manager.all_labels}:
                    raise ValueError(f"it has labels {sorted(unknown)[:5]}, which dataset.json has not")
            except Exception as e:  # blosc2, pickle and NumPy raise all kinds
                raise UserError(
                    f"{case} in {trainer.preprocessed_dataset_folder} cannot be used ({unforeseen(e)}): preprocess it "
                    "again with nnunet_cardiac plan_and_preprocess --clean."
                ) from error


@contextmanager
def _progress_bar(trainer):
    """Shows epochs done and to do, with the last online Dice, on standard error."""
    with progress(total=trainer.num_epochs, initial=trainer.current_epoch, desc="Training", unit="epoch") as bar:
        logger = _BarLogger(bar)
        trainer.logger.loggers.append(logger)
        try:
            yield
        finally:
            trainer.logger.loggers.remove(logger)


class _BarLogger:
    """A progress bar as one of nnU-Net's loggers, which its ``MetaLogger`` calls.

    Args:
        bar: moved at the end of each epoch
    """

    def __init__(self, bar: tqdm):
        self.bar = bar

    def log(self, key: str, value: float, step: int) -> None:
        if key == "mean_fg_dice":
            self.bar.set_postfix(dice=f"{value:.3f}", refresh=False)
        elif key == "epoch_end_timestamps":
            self.bar.update()

    def log_summary(self, key: str, value: float) -> None:
        """Not shown."""

    def update_config(self, config: dict) -> None:
        """Not shown."""


def limit_steps(trainer, budget: int, scale_schedule: bool = True) -> None:
    """Limits a trainer that is not initialised yet to ``budget`` optimiser steps in all, in epochs of equal length."""
    epochs = max(1, min(BUDGET_EPOCHS, budget // BUDGET_STEPS_PER_EPOCH))
    trainer.num_iterations_per_epoch = budget // epochs
    trainer.num_val_iterations_per_epoch = math.ceil(trainer.num_iterations_per_epoch / 10)
    trainer.save_every = 1
    if not scale_schedule:
        trainer.initialize()  # the schedule is made for the epochs that the recipe has
    trainer.num_epochs = epochs


def snapshot_file(share: int) -> str:
    """Name of the checkpoint after ``share`` percent of a training, beside nnU-Net's own."""
    return f"checkpoint_{share}_percent.pth"


def keep_snapshots(trainer) -> None:
    """Has a trainer keep its networks after each of ``SNAPSHOT_SHARES`` of its epochs; one that stops earlier keeps its
    last for those that it did not reach."""
    end_epoch, end_training = trainer.on_epoch_end, trainer.on_train_end

    def keep(shares: Iterable[int]) -> None:
        for share in shares:
            trainer.save_checkpoint(join(trainer.output_folder, snapshot_file(share)))

    def after(share: int) -> int:
        return math.ceil(share / 100 * trainer.num_epochs)

    def keep_and_end_epoch() -> None:  # in this order: a training that is killed in between does the epoch again
        keep(share for share in SNAPSHOT_SHARES if trainer.current_epoch + 1 == after(share))
        end_epoch()

    def keep_and_end_training() -> None:
        keep(share for share in SNAPSHOT_SHARES if trainer.current_epoch < after(share))
        end_training()

    trainer.on_epoch_end, trainer.on_train_end = keep_and_end_epoch, keep_and_end_training


def _set_unreadable_checkpoints_aside(folder: str) -> None:
    """A checkpoint that was cut off by a kill must not stop the training from continuing at the one before.

    Raises:
        UserError: one cannot be read now, which says nothing against it, or would run code
    """
    for name in (CHECKPOINT, "checkpoint_latest.pth", "checkpoint_best.pth"):
        file = join(folder, name)
        if isfile(file):
            try:
                checkpoint = load_checkpoint(file)
                epoch, log = checkpoint.get("current_epoch"), checkpoint.get("logging")
                if (
                    not isinstance(epoch, int)
                    or epoch < 0
                    or not isinstance(log, dict)
                    or not all(isinstance(values, list) and len(values) >= epoch for values in log.values())
                ):
                    raise DamagedError(f"{file} does not tell what was done: it is no checkpoint.")
            except DamagedError as e:
                set_aside(Path(file), reason(e.__cause__ or e))
