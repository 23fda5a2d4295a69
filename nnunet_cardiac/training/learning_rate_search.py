"""A search for the learning rate, inside the training part of a fold: short runs, the same for every network."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from os.path import isfile, join
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import maybe_mkdir_p

from nnunet_cardiac.model import Model
from nnunet_cardiac.texts import read_json
from nnunet_cardiac.training.options import TrainingOptions
from nnunet_cardiac.training.train import get_trainer, train_fold


def search_learning_rate(
    model: Model,
    fold: int,
    split: tuple[Sequence[str], Sequence[str]],
    factors: Sequence[float],
    steps: int,
    place: Path,
    options: TrainingOptions,
) -> dict[float, float]:
    """Trains briefly with each rate, and validates on whole images, not mirrored. Finished runs are not repeated.

    Args:
        model: what to train; of a cascade this stage alone, those before it are there
        fold: whose recipe and seeds are used, and whose previous stage
        split: cases to train on and to validate on, all of the fold's training part
        factors: multiples of the recipe's own rate
        steps: of the optimiser, in each run; the recipe's schedule is scaled to them
        place: folder for the runs
        options: of the training that follows, whose budget and learning rate do not count

    Returns:
        by rate the mean Dice of structures and cases, 0 where a run came to nothing
    """
    # the split is an inner one: what chooses an epoch, of every rate alike, is what the rates are compared on
    run = replace(
        options, budget=steps, scale_schedule=True, initial_lr=None, inner_validation=False, snapshots=False, npz=False
    )
    dice = {}
    for factor in factors:
        trainer = get_trainer(model, fold, torch.device(options.device), options.seed)
        _move(trainer, place / f"factor_{factor:g}")
        trainer.do_split = lambda: tuple(map(list, split))
        trainer.configuration_manager.configuration.pop("next_stage", None)
        trainer.initial_lr *= factor
        _validate_without_mirroring(trainer)
        dice[float(f"{trainer.initial_lr:.6g}")] = _train(trainer, run)
    return dice


def _train(trainer, options: TrainingOptions) -> float:
    """The Dice of a run, which is finished if it is not; 0 if it came to nothing."""
    summary = join(trainer.output_folder, "validation", "summary.json")
    if not isfile(summary):
        try:
            train_fold(trainer, options)
        except RuntimeError as e:
            if "inf in predicted" not in str(e):  # nnU-Net's words for logits that have grown without bounds
                raise
            return 0.0
    value = read_json(Path(summary))["foreground_mean"]["Dice"]
    return 0.0 if math.isnan(value) else value


def _validate_without_mirroring(trainer) -> None:
    """Four times as fast in 2D; with mirroring, validations took most of a search's time."""
    validate = trainer.perform_actual_validation

    def perform_actual_validation(save_probabilities: bool = False) -> None:
        trainer.inference_allowed_mirroring_axes = None
        validate(save_probabilities)

    trainer.perform_actual_validation = perform_actual_validation


def _move(trainer, place: Path) -> None:
    """Sends what a trainer writes to another folder, where nobody takes it for a training of the fold."""
    os.remove(trainer.log_file)
    trainer.output_folder_base = str(place)
    trainer.output_folder = join(place, f"fold_{trainer.fold}")
    trainer.log_file = join(trainer.output_folder, os.path.basename(trainer.log_file))
    maybe_mkdir_p(trainer.output_folder)
    trainer.logger = type(trainer.logger)(trainer.output_folder, True)
