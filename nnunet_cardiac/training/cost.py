"""What a training took, and on what it ran."""

import platform
import sys
from importlib.metadata import version

import torch

COST_FILE = "training_cost.json"
"""In the folder of each fold."""
PACKAGES = ("nnunet-cardiac", "nnunetv2", "torch", "numpy", "dynamic-network-architectures", "batchgeneratorsv2")


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


def peak_process_memory() -> float | None:
    """GB that this process has held at most; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def hardware(device: torch.device) -> str:
    """The GPU, or the processor and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo") as f:
            names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
