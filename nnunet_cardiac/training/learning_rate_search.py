"""A search for the learning rate, inside the training part of a fold: short runs, the same for every network."""

import math
import os
from collections.abc import Sequence
from os.path import isfile, join
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import maybe_mkdir_p

from nnunet_cardiac.model import Model
from nnunet_cardiac.texts import read_json
from nnunet_cardiac.training.on_cpu import faster_on_cpu
from nnunet_cardiac.training.train import get_trainer, limit_steps, train_fold


def search_learning_rate(
    model: Model,
    fold: int,
    split: tuple[Sequence[str], Sequence[str]],
    factors: Sequence[float],
    steps: int,
    place: Path,
    device: str = "cuda",
    seed: int = 0,
    compile_on_cpu: bool = False,
    bfloat16: bool = False,
) -> dict[float, float]:
    """Trains briefly with each rate, and validates on whole images. Runs that are finished are not repeated.

    Args:
        model: what to train; of a cascade this stage alone, those before it are there
        fold: whose recipe and seeds are used, and whose previous stage
        split: cases to train on and to validate on, all of the fold's training part
        factors: multiples of the recipe's own rate
        steps: of the optimiser, in each run; the recipe's schedule is scaled to them
        place: folder for the runs
        device, seed, compile_on_cpu, bfloat16: as in ``train``

    Returns:
        by rate the mean Dice of structures and cases, 0 where a run came to nothing
    """
    dice = {}
    for factor in factors:
        trainer = get_trainer(model, fold, torch.device(device), seed)
        _move(trainer, place / f"factor_{factor:g}")
        trainer.do_split = lambda: tuple(map(list, split))
        trainer.configuration_manager.configuration.pop("next_stage", None)
        trainer.initial_lr *= factor
        dice[float(f"{trainer.initial_lr:.6g}")] = _train(trainer, steps, compile_on_cpu, bfloat16, seed)
    return dice


def _train(trainer, steps: int, compile_on_cpu: bool, bfloat16: bool, seed: int) -> float:
    """The Dice of a run, which is finished if it is not; 0 if it came to nothing."""
    summary = join(trainer.output_folder, "validation", "summary.json")
    if not isfile(summary):
        limit_steps(trainer, steps)
        settings = {"budget": steps, "scaled_schedule": True, "initial_lr": trainer.initial_lr}
        try:
            with faster_on_cpu(trainer, compile_on_cpu, bfloat16):
                train_fold(trainer, False, settings, seed)
        except RuntimeError as e:
            if "inf in predicted" not in str(e):  # nnU-Net's words for logits that have grown without bounds
                raise
            return 0.0
    value = read_json(Path(summary))["foreground_mean"]["Dice"]
    return 0.0 if math.isnan(value) else value


def _move(trainer, place: Path) -> None:
    """Sends what a trainer writes to another folder, where nobody takes it for a training of the fold."""
    os.remove(trainer.log_file)
    trainer.output_folder_base = str(place)
    trainer.output_folder = join(place, f"fold_{trainer.fold}")
    trainer.log_file = join(trainer.output_folder, os.path.basename(trainer.log_file))
    maybe_mkdir_p(trainer.output_folder)
    trainer.logger = type(trainer.logger)(trainer.output_folder, True)
