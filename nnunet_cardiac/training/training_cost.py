"""What a training took, and on what it ran."""

import torch

from nnunet_cardiac.system import hardware, peak_process_memory, versions

COST_FILE = "training_cost.json"
"""In the folder of each fold."""


def training_cost(trainer) -> dict:
    """Time, memory and circumstances of a training that has just ended.

    Returns:
        ``seconds`` of all epochs with their online validation, those before an interruption included; ``steps`` of the
        optimiser; ``peak_memory_GB``, of the GPU where there is one, else of this process; ``hardware``; ``versions``
    """
    on_gpu = trainer.device.type == "cuda"
    starts, ends = (trainer.logger.get_value(f"epoch_{end}_timestamps", step=None) for end in ("start", "end"))
    return {
        "seconds": round(sum(ends) - sum(starts[: len(ends)]), 1),
        "steps": trainer.num_epochs * trainer.num_iterations_per_epoch,
        "batch_size": trainer.configuration_manager.batch_size,
        "peak_memory_GB": torch.cuda.max_memory_allocated(trainer.device) / 1e9 if on_gpu else peak_process_memory(),
        "peak_memory_of": "GPU" if on_gpu else "process",
        "hardware": hardware(trainer.device),
        "versions": versions(),
    }
