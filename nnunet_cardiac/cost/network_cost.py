"""What a trained model costs: the benchmark's numbers."""

import tempfile
from pathlib import Path

import torch

from nnunet_cardiac.cost.flops import example_slice, flops_per_slice
from nnunet_cardiac.cost.prediction import time_prediction
from nnunet_cardiac.environment import preprocessed_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import load_stages
from nnunet_cardiac.model import CHECKPOINT, Model
from nnunet_cardiac.system import hardware, versions


def network_cost(model: Model, fold: int, device: str, n_cases: int) -> dict:
    """Size, work and speed of a trained model, all its stages together.

    Args:
        model, fold: a finished training, of every stage
        device: "cuda", "cpu" or "mps"
        n_cases: validation cases of the fold, at most, that prediction is timed on

    Returns:
        ``parameters``; ``flops_per_slice``, see there, and ``flops_of``, which slice that is;
        ``prediction_seconds_per_case``, from reading to writing, with mirroring, and over how many
        ``prediction_cases``; on a GPU ``prediction_peak_memory_GB``; ``hardware``; ``versions``

    Raises:
        UserError: no case can be segmented, or a stage is not trained
    """
    stages = load_stages(model, [fold], CHECKPOINT, torch.device(device), use_mirroring=True, tile_step_size=0.5)
    cases = preprocessed_splits(model.dataset)[fold]["val"][:n_cases]
    example = example_slice(model.dataset, stages[0], cases[0])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as place:
        prediction = time_prediction(model, fold, cases, device, Path(place))
    if not prediction.segmented:
        raise UserError(f"No case was left to time the prediction on: {' '.join(prediction.problems)}")
    return {
        "parameters": sum(p.numel() for stage in stages for p in stage.network.parameters()),
        "flops_per_slice": sum(flops_per_slice(stage, example) for stage in stages),
        "flops_of": f"{example.case}, {' x '.join(map(str, example.labels.shape))} pixels",
        "prediction_seconds_per_case": prediction.seconds / len(prediction.segmented),
        "prediction_cases": len(prediction.segmented),
        "prediction_peak_memory_GB": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
        "hardware": hardware(torch.device(device)),
        "versions": versions(),
    }
