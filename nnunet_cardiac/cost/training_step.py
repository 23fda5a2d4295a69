"""Memory and time of a training step, of fresh networks on random images."""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.networks.network import bare
from nnunet_cardiac.progress import progress
from nnunet_cardiac.training.memory import CUDNN_BYTES, LiveStorage, PlannedNetwork, training_memory


@dataclass(frozen=True)
class StepCost:
    """Of one step: seconds, and the bytes that were planned and that it takes at its peak."""

    seconds: float
    planned_bytes: int
    measured_bytes: int


def step_cost(trainer: nnUNetTrainer, n_steps: int, held_bytes: int = 0) -> StepCost:
    """Runs the trainer's own steps; a few come first, to warm up.

    Args:
        trainer: initialised
        n_steps: that are timed; the median counts
        held_bytes: of the GPU's memory, what others hold in this process
    """
    batch = ready_for_steps(trainer)
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = [_seconds(trainer, batch) for _ in _steps(n_steps)]
    planned = planned_memory(trainer)
    if on_gpu:
        measured = torch.cuda.max_memory_allocated() - held_bytes
    else:
        measured, planned = measured_memory(trainer, batch), planned - CUDNN_BYTES
    return StepCost(statistics.median(seconds[-n_steps:]), planned, measured)


def beside_baseline(trainer: nnUNetTrainer, baseline: nnUNetTrainer, n_steps: int) -> tuple[float, float]:
    """FLOPs and time of a training step, each in times the baseline's.

    A network whose time is more than its FLOPs pays for what FLOPs do not tell: memory that is read and written, small
    products. Both take their steps in turn, so that a machine that is slow for a while is slow for both.

    Args:
        trainer, baseline: initialised; with the same recipe, if networks are to be compared
        n_steps: that are timed, of each; the median of their ratios counts
    """
    if trainer is baseline:
        return 1, 1
    pairs = [(t, ready_for_steps(t)) for t in (trainer, baseline)]
    flops, of_baseline = (_step_flops(*pair) for pair in pairs)
    ratios = []
    for _ in _steps(n_steps):
        seconds, of_its = (_seconds(*pair) for pair in pairs)
        ratios.append(seconds / of_its)
    return flops / of_baseline, statistics.median(ratios[-n_steps:])


def ready_for_steps(trainer: nnUNetTrainer) -> dict:
    """Sets the network to train; returns a batch for it."""
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return random_batch(trainer)


def _steps(n_steps: int) -> Iterable[int]:
    """With some in front, to warm up."""
    return progress(range(n_steps + max(3, n_steps // 4)), desc="Steps", unit="step", leave=False)


def _seconds(trainer: nnUNetTrainer, batch: dict) -> float:
    start = time.perf_counter()
    trainer.train_step(batch)  # returns the loss on the CPU, so it waits for the GPU
    return time.perf_counter() - start


def _step_flops(trainer: nnUNetTrainer, batch: dict) -> int:
    device, data, target = trainer.device, batch["data"], batch["target"]
    target = [t.to(device) for t in target] if isinstance(target, list) else target.to(device)
    with FlopCounterMode(display=False) as counter:
        with torch.autocast(device.type, enabled=device.type == "cuda"):  # in the memory that is planned for
            output = bare(trainer.network)(data.to(device))  # compiled, nothing would be counted
            loss = trainer.loss(output, target)
        loss.backward()
    trainer.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def planned_memory(trainer: nnUNetTrainer) -> int:
    """Bytes that our planners expect a training step of the trainer's patch and batch to take on a GPU."""
    manager = trainer.configuration_manager
    network = PlannedNetwork.of(manager)
    heads = trainer.label_manager.num_segmentation_heads
    moments = 1 if isinstance(trainer.optimizer, torch.optim.SGD) else 2
    memory = training_memory(network, trainer.num_input_channels, heads, manager.patch_size, moments)
    return memory.of(manager.batch_size)


def measured_memory(trainer: nnUNetTrainer, batch: dict) -> int:
    """Bytes of all tensors that are alive at the peak of a training step, with the trainer's own loss and optimiser.

    In half precision, bfloat16 on the CPU; the trainer must have made a step before.
    """
    with LiveStorage() as memory:
        memory.add(*trainer.network.parameters(), *trainer.network.buffers())
        for state in trainer.optimizer.state.values():
            memory.add(*(value for value in state.values() if isinstance(value, torch.Tensor)))
        trainer.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = trainer.loss(trainer.network(batch["data"].clone()), batch["target"])
        loss.backward()
    return memory.peak


def random_batch(trainer: nnUNetTrainer) -> dict:
    """Noise and random labels; where a previous stage's heart is asked for, a box in the middle of the patch."""
    manager = trainer.configuration_manager
    n, patch = manager.batch_size, manager.patch_size
    n_classes = len(trainer.label_manager.all_labels)
    scales = trainer._get_deep_supervision_scales() or [[1] * len(patch)]
    sizes = [np.round(np.multiply(patch, scale)).astype(int).tolist() for scale in scales]
    target = [torch.randint(n_classes, (n, 1, *size), dtype=torch.int16) for size in sizes]
    data = torch.randn(n, trainer.num_input_channels, *patch)
    if trainer.is_cascaded:
        first_mask = trainer.num_input_channels - (trainer.label_manager.num_segmentation_heads - 1)
        data[:, first_mask:] = 0
        middle = tuple(slice(side * 3 // 8, side * 5 // 8 + 1) for side in patch)
        for sample in data:
            sample[first_mask][middle] = 1
    return {"data": data, "target": target if trainer.enable_deep_supervision else target[0]}
