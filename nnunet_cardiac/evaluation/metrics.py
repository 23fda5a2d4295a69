"""Agreement of one predicted structure with the ground truth, in 3D and in mm.

Surfaces and distances are MONAI's.

What is counted where a structure is absent:

- ``absent`` in both: nothing to measure, every metric is NaN; the case is counted, and left out of means.
- ``missed``, in the ground truth only: Dice, Jaccard, precision, recall and F1 are 0, distances the image's diagonal.
- ``spurious``, in the prediction only: the same.

So no failure improves a mean by dropping out of it.
"""

import math
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

OVERLAPS = ("dice", "jaccard", "precision", "recall", "f1")
DISTANCES = ("hausdorff_mm", "hausdorff95_mm", "assd_mm")


def structure_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: tuple[float, ...],
    diagonal: float,
    ignore: np.ndarray | None = None,
) -> dict[str, float | str]:
    """All metrics of one structure.

    Args:
        prediction, truth: bool, (Z, Y, X)
        spacing: mm
        diagonal: mm, the distance that counts where one of both is empty
        ignore: bool, voxels that do not count

    Returns:
        ``state`` (scored, absent, missed or spurious; see the module), ``dice``, ``jaccard``, ``hausdorff_mm``,
        ``hausdorff95_mm`` (the larger of both directions' 95th percentiles), ``assd_mm`` (mean over the points of both
        surfaces), ``precision``, ``recall`` (sensitivity), ``f1`` (of voxels: Dice by another name), ``accuracy`` (of
        all voxels of the image), ``volume_mL``, ``reference_volume_mL``, ``volume_error_mL`` (prediction - truth)
    """
    if ignore is not None:
        prediction, truth = prediction & ~ignore, truth & ~ignore
    tp, fp, fn = (np.count_nonzero(m) for m in (prediction & truth, prediction & ~truth, truth & ~prediction))
    tn = truth.size - (0 if ignore is None else np.count_nonzero(ignore)) - tp - fp - fn
    volume, reference = ((tp + wrong) * float(np.prod(spacing)) / 1000 for wrong in (fp, fn))
    volumes = {"volume_mL": volume, "reference_volume_mL": reference, "volume_error_mL": volume - reference}
    accuracy = {"accuracy": (tp + tn) / (tp + fp + fn + tn)}
    if not (tp + fp) or not (tp + fn):
        absent = not (tp + fp + fn)
        state = "absent" if absent else "missed" if not (tp + fp) else "spurious"
        overlaps = dict.fromkeys(OVERLAPS, math.nan if absent else 0.0)
        distances = dict.fromkeys(DISTANCES, math.nan if absent else diagonal)
        return {"state": state, **overlaps, **distances, **accuracy, **volumes}
    return {
        "state": "scored",
        "dice": 2 * tp / (2 * tp + fp + fn),
        "jaccard": tp / (tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        **surface_distances(prediction, truth, spacing),
        **accuracy,
        **volumes,
    }


def surface_distances(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """Distances in mm between the surfaces of two masks that are not empty; arguments as in ``structure_metrics``.

    In an image of one slice the surface is the contour.
    """
    if 1 in truth.shape:
        flat = truth.shape.index(1)
        prediction, truth = prediction.squeeze(flat), truth.squeeze(flat)
        spacing = spacing[:flat] + spacing[flat + 1 :]
    masks = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, truth)]
    pair: dict[str, Any] = {"y_pred": masks[0], "y": masks[1], "include_background": True, "spacing": spacing}
    return {
        "hausdorff_mm": compute_hausdorff_distance(**pair).item(),
        "hausdorff95_mm": compute_hausdorff_distance(**pair, percentile=95).item(),
        "assd_mm": compute_average_surface_distance(**pair, symmetric=True).item(),
    }
