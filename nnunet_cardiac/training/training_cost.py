"""What a training took, and on what it ran."""

import torch

from nnunet_cardiac.system import hardware, peak_process_memory, versions
from nnunet_cardiac.training.trainer import RecipeTrainer

COST_FILE = "training_cost.json"
"""In the folder of each fold."""


def gpu_energy(device: torch.device) -> float | None:
    """kWh that a GPU has taken since its driver was loaded, whoever used it; None where nothing tells.

    NVIDIA's driver counts it on data-centre GPUs; the package ``nvidia-ml-py``, where it is installed, asks it.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 3.6e9  # from mJ
    except (pynvml.NVMLError, AttributeError):  # older PyTorch does not tell which GPU it is
        return None


def training_cost(trainer, energy_before: float | None = None) -> dict:
    """Time, memory and circumstances of a training that has just ended.

    Args:
        trainer: nnU-Net's or one of ours
        energy_before: ``gpu_energy`` when the training began; None where that is unknown, as when it was resumed

    Returns:
        - what was planned: ``plans``, ``configuration``, ``network``, ``features_per_stage``, ``spacing``,
          ``patch_size``, ``batch_size``
        - ``chosen_on``: what chose the best epoch, whose weights these are; None for those of the last
        - ``seconds`` of all epochs with their online validation, those before an interruption included
        - ``steps`` of the optimiser, fewer than planned where a recipe stops early
        - ``peak_memory_GB``, of the GPU where there is one, else of this process
        - ``energy_kWh`` that the GPU took meanwhile, or None
        - ``hardware``, ``versions``
    """
    if trainer.num_iterations_per_epoch is None:  # it was trained before, and only its record is missing
        trainer.get_tr_and_val_datasets()
    on_gpu = trainer.device.type == "cuda"
    energy = gpu_energy(trainer.device)
    plans = trainer.configuration_manager
    features = plans.network_arch_init_kwargs.get("features_per_stage", ())
    starts, ends = (trainer.logger.get_value(f"epoch_{end}_timestamps", step=None) for end in ("start", "end"))
    return {
        "seconds": round(sum(ends) - sum(starts[: len(ends)]), 3),
        "steps": trainer.current_epoch * trainer.num_iterations_per_epoch,
        "plans": trainer.plans_manager.plans_name,
        "configuration": trainer.configuration_name,
        "network": plans.network_arch_class_name.rsplit(".", 1)[-1],
        "features_per_stage": [features] if isinstance(features, int) else list(features),
        "spacing": [round(float(mm), 3) for mm in plans.spacing],
        "patch_size": list(map(int, plans.patch_size)),
        "batch_size": plans.batch_size,
        "chosen_on": chosen_on(trainer),
        "peak_memory_GB": torch.cuda.max_memory_allocated(trainer.device) / 1e9 if on_gpu else peak_process_memory(),
        "peak_memory_of": "GPU" if on_gpu else "process",
        "energy_kWh": None if energy is None or energy_before is None else energy - energy_before,
        "hardware": hardware(trainer.device),
        "versions": versions(),
    }


def chosen_on(trainer) -> str | None:
    """What chooses the best epoch, whose weights a training ends with; None where it ends with those of the last."""
    if not isinstance(trainer, RecipeTrainer) or not trainer.keep_best:
        return None
    return "training patients" if trainer.inner_validation else "held-out cases"
