"""What every architecture costs, beside nnU-Net's U-Nets planned for the same data and memory, without any training.

Networks are as they are initialised, and training steps are the trainers' own on random images. A second stage is shown
the heart where the experts saw it, in training and in both ways to predict.
"""

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.cost.flops import example_slice, flops_per_slice
from nnunet_cardiac.cost.prediction import time_nnunet, time_prediction
from nnunet_cardiac.cost.training_step import beside_baseline, step_cost
from nnunet_cardiac.environment import ext_trainer, folder, load_plans, silence
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import load_stages
from nnunet_cardiac.model import CHECKPOINT, Model, previous_stages
from nnunet_cardiac.planners.network_planner import NetworkPlanner
from nnunet_cardiac.planners.plan_and_preprocess import (
    DatasetJson,
    augmentation_workers,
    find_planner,
    read_fingerprint,
)
from nnunet_cardiac.planners.shrink import shrink
from nnunet_cardiac.planners.sizes import Size
from nnunet_cardiac.progress import progress
from nnunet_cardiac.system import reuse_freed_memory
from nnunet_cardiac.texts import message, read_json, unforeseen

CPU_BATCH = 2
"""Images in a step, where there is no GPU."""


def cost_table(
    dataset: str,
    contenders: Sequence[Contender],
    gpu_memory_target: float = 8,
    device: str = "cpu",
    batch_size: int | None = None,
    size: Size | None = None,
    n_steps: int = 20,
    n_cases: int = 3,
) -> pd.DataFrame:
    """A row for each stage of each contender.

    Args:
        dataset: ``DatasetNNN_NAME``, preprocessed
        contenders: whose networks
        gpu_memory_target: GB to plan for
        device: "cuda", "cpu" or "mps", for training steps and prediction
        batch_size: of the training steps; None for the planned one on a GPU, for ``CPU_BATCH`` elsewhere
        size: shrink the plans to it; None for plans as they are
        n_steps: training steps that are timed
        n_cases: volumes to segment; 0 for none

    Returns:
        parameters, patch, batch, planned and measured memory and time of a training step, FLOPs of a slice, and the
        seconds to segment a volume with all stages so far, by nnU-Net's commands and by ours. FLOPs and time of a step
        are also told in times those of the first row, see ``beside_baseline``. NaN for a prediction that left a case
        out; why is printed to standard error

    Raises:
        UserError: data that are not planned or not preprocessed, a memory target that is too small, or a configuration
            that the plans do not have
    """
    preprocessed = folder("nnUNet_preprocessed") / dataset
    if not (preprocessed / "dataset_fingerprint.json").is_file():
        raise UserError(
            f"{preprocessed / 'dataset_fingerprint.json'} is not there: run nnunet_cardiac plan_and_preprocess "
            f"-d {int(dataset[7:10])} first."
        )
    if batch_size is None and device != "cuda":
        batch_size = CPU_BATCH
    read_fingerprint(preprocessed / "dataset_fingerprint.json")
    ending = read_json(preprocessed / "dataset.json", DatasetJson, "convert the data set again")["file_ending"]
    labelled = sorted(file.name.removesuffix(ending) for file in (preprocessed / "gt_segmentations").glob(f"*{ending}"))
    if not labelled:
        raise UserError(
            f"{preprocessed / 'gt_segmentations'} holds no file that ends in {ending}, as dataset.json says."
        )
    cases = tuple(labelled[: max(1, n_cases)])
    settings = _Settings(
        dataset, gpu_memory_target, device, batch_size, size, n_steps, cases, time_prediction=n_cases > 0
    )
    rows: list[dict] = []
    with (
        tempfile.TemporaryDirectory() as results,
        _environment(nnUNet_results=results, nnUNet_extTrainer=ext_trainer()),
    ):
        baseline = None
        for contender in progress(contenders, desc="Measuring", unit="contender"):
            for trainer, row in _contender_rows(contender, settings, baseline):
                baseline = baseline or trainer
                rows.append(row)
                del trainer  # its memory is for the next
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Settings:
    dataset: str
    gpu_memory_target: float
    device: str
    batch_size: int | None
    size: Size | None
    n_steps: int
    cases: tuple[str, ...]
    time_prediction: bool


def _contender_rows(
    contender: Contender, settings: _Settings, baseline: nnUNetTrainer | None
) -> Iterator[tuple[nnUNetTrainer, dict]]:
    """Trainer and row of each stage that leads to the contender's configuration; without a baseline the first is it."""
    # made anew, under a name of their own: those of the data set stay as they are
    plans_name = f"{contender.plans}ForCost{os.getpid()}"
    plans_file = folder("nnUNet_preprocessed") / settings.dataset / f"{plans_name}.json"
    try:
        _plan(contender, plans_name, plans_file, settings)
        plans = load_plans(settings.dataset, plans_name, contender.configuration)
        last = Model(settings.dataset, contender.trainer, plans_name, contender.configuration)
        stages = last.stages(previous_stages(plans))
        for n, model in enumerate(stages, 1):
            held_bytes = torch.cuda.memory_allocated() if settings.device == "cuda" else 0
            trainer = _as_if_trained(model, settings)
            baseline = baseline or trainer
            row = _row(contender, trainer, settings, held_bytes)
            flops, time = beside_baseline(trainer, baseline, settings.n_steps)
            row |= {"step: FLOPs, times row 1": flops, "time, times row 1": time, "time over FLOPs": time / flops}
            yield trainer, row | _prediction(stages[:n], trainer, settings)
    finally:
        plans_file.unlink(missing_ok=True)


def _plan(contender: Contender, plans_name: str, plans_file: Path, settings: _Settings) -> None:
    planner_class = find_planner(contender.planner)
    uncounted = {"counts_memory": False} if settings.size and issubclass(planner_class, NetworkPlanner) else {}
    try:
        with silence(), augmentation_workers():
            plans = planner_class(
                settings.dataset, gpu_memory_target_in_gb=settings.gpu_memory_target, plans_name=plans_name, **uncounted
            ).plan_experiment()
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError) as e:
        files = f"dataset_fingerprint.json, dataset.json and splits_final.json of {plans_file.parent}"
        raise UserError(f"{files} do not fit each other, or are damaged ({unforeseen(e)}): plan again.") from e
    if settings.size:
        plans = shrink(plans, settings.size)
    for configuration in plans["configurations"].values():
        # nnU-Net's planners name the images by the plans; these are those of the plans that they are made for
        if configuration.get("data_identifier", "").startswith(plans_name):
            identifier = configuration["data_identifier"]
            configuration["data_identifier"] = contender.plans + identifier.removeprefix(plans_name)
    save_json(plans, str(plans_file), sort_keys=False)
    if contender.configuration in plans["configurations"]:
        identifier = PlansManager(plans).get_configuration(contender.configuration).data_identifier
        if not (plans_file.parent / identifier).is_dir():
            raise UserError(
                f"{plans_file.parent / identifier} does not exist: run nnunet_cardiac plan_and_preprocess "
                f"-d {int(settings.dataset[7:10])} -pl {contender.planner} -c {contender.configuration} first."
            )


def _as_if_trained(model: Model, settings: _Settings) -> nnUNetTrainer:
    """The trainer of one stage, with its network as initialised, saved as if it had been trained."""
    torch.manual_seed(0)
    reuse_freed_memory(torch.device(settings.device))
    with silence():
        trainer = get_trainer_from_args(
            model.dataset, model.configuration, 0, model.trainer, model.plans, device=torch.device(settings.device)
        )
        configuration = trainer.configuration_manager.configuration
        configuration["batch_size"] = settings.batch_size or configuration["batch_size"]
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        save_json(trainer.plans_manager.plans, str(model.folder / "plans.json"))
        save_json(trainer.dataset_json, str(model.folder / "dataset.json"))
        trainer.save_checkpoint(str(model.fold_folder(0) / CHECKPOINT))
    return trainer


def _row(contender: Contender, trainer: nnUNetTrainer, settings: _Settings, held_bytes: int) -> dict:
    manager = trainer.configuration_manager
    step = step_cost(trainer, settings.n_steps, held_bytes)
    return {
        "contender": contender.name,
        "configuration": trainer.configuration_name,
        "M parameters": sum(p.numel() for p in trainer.network.parameters()) / 1e6,
        "patch": " x ".join(map(str, manager.patch_size)),
        "batch": manager.batch_size,
        "planned GB": step.planned_bytes / 1e9,
        "measured GB": step.measured_bytes / 1e9,
        "s per step": step.seconds,
        "images per s": manager.batch_size / step.seconds,
    }


def _prediction(stages: Sequence[Model], trainer: nnUNetTrainer, settings: _Settings) -> dict:
    """FLOPs of a slice in the last stage, and seconds per volume for all of them, nnU-Net's way and ours."""
    last = stages[-1]
    with silence():
        loaded = load_stages(
            last, [0], CHECKPOINT, torch.device(settings.device), use_mirroring=True, tile_step_size=0.5
        )[-1]
    row = {"GFLOPs per slice": flops_per_slice(loaded, example_slice(last.dataset, loaded, settings.cases[0])) / 1e9}
    if not settings.time_prediction:
        return row
    truth = folder("nnUNet_preprocessed") / last.dataset / "gt_segmentations"
    reader = trainer.plans_manager.image_reader_writer_class()

    def experts(case: str, segmentation: np.ndarray) -> np.ndarray:
        return reader.read_seg(str(truth / f"{case}{trainer.dataset_json['file_ending']}"))[0][0]

    with tempfile.TemporaryDirectory() as place, silence():
        stock = sum(
            time_nnunet(
                model, 0, settings.cases, settings.device, Path(place) / model.name, previous=truth if n else None
            )
            for n, model in enumerate(stages)
        )
        ours = time_prediction(last, 0, settings.cases, settings.device, Path(place), hand_over=experts)
    for problem in ours.problems:
        print(message(f"{last.name}: {problem}"), file=sys.stderr)
    seconds = math.nan if ours.problems else ours.seconds
    n = len(settings.cases)
    return row | {"s per volume, nnU-Net": stock / n, "s per volume": seconds / n, "times faster": stock / seconds}


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables for as long as the context lasts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
