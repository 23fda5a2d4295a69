"""Segmentation of all phases of a cine: the heart is found once, then its neighbourhood is segmented in every phase.

The images are preprocessed whole, as nnU-Net does it, so that intensities and pixels are those of a whole prediction;
the network sees a window around the heart. Outside it is background.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.inference.clean_up import cleaned_up
from nnunet_cardiac.inference.predict import StagePredictor
from nnunet_cardiac.planners.shrink import WHOLE_IMAGE
from nnunet_cardiac.progress import progress

MARGIN = 25.0
"""mm around the heart of the phases in which it is found: more than it moves over the cycle."""
Box = tuple[tuple[float, float], tuple[float, float]]
"""First and last row, first and last column, in pixels of the image; the last are not included."""
OUTSIDE = 30.0
"""Logit of the background outside the window, and that of everything else below 0: as sure as a network is."""


@dataclass(frozen=True)
class SegmentedCine:
    """
    Args:
        labels: (T, Z, Y, X), uint8
        disagreement: (T,), 1 - Dice of the heart between mirrored copies of the image, mean over their pairs; NaN
            without mirroring
        box: around the heart, first and last row and column of the image; None where all was looked at
    """

    labels: np.ndarray
    disagreement: np.ndarray
    box: Box | None


class SegmentedPhase(NamedTuple):
    """Labels of a phase, (Z, Y, X) uint8; its disagreement as in ``SegmentedCine``."""

    labels: np.ndarray
    disagreement: float


def segment_cine(
    cine: Cine,
    stages: Sequence[StagePredictor],
    clean_up: bool = False,
    whole: bool = False,
    kept: Callable[[int], SegmentedPhase | None] = lambda phase: None,
    keep: Callable[[int, SegmentedPhase], None] = lambda phase, segmented: None,
) -> SegmentedCine:
    """Segments every phase; the next is preprocessed while one is in the network.

    Args:
        cine: images
        stages: of a model, first stage first
        clean_up: see ``nnunet_cardiac.inference.clean_up``
        whole: do not look for the heart first
        kept: a phase as it was segmented before; None where it was not
        keep: is given each phase as soon as it is segmented

    Raises:
        UserError: the model wants more than one image of each case, or its labels overlap
    """
    last = stages[-1]
    if len(last.dataset_json["channel_names"]) != 1:
        raise UserError("The model wants several images of each case, a cine gives one: choose another with -m or -d.")
    if last.predictor.label_manager.has_regions:
        raise UserError(
            "The model's labels are regions that overlap: choose one with a label for each voxel, with -m or -d."
        )
    structures = Structures.named(last.dataset_json["labels"])
    n_phases = len(cine.voxels)
    if whole or not all(_takes_parts(stage) for stage in stages):
        box = None
    else:
        box = find_heart(cine, stages, structures)
    labels = np.zeros(cine.voxels.shape, np.uint8)
    disagreement = np.full(n_phases, np.nan)
    with ThreadPoolExecutor(1) as reading, progress(total=n_phases, desc="Segmenting", unit="phase") as bar:
        todo = []
        for phase in range(n_phases):
            before = kept(phase)
            if before is None:
                todo.append(phase)
            else:
                labels[phase], disagreement[phase] = before
                bar.update()
        ahead = [reading.submit(_preprocess, cine, phase, stages[0]) for phase in todo[:1]]
        for i, phase in enumerate(todo):
            image, properties, prepared = ahead.pop().result()
            if i + 1 < len(todo):
                ahead.append(reading.submit(_preprocess, cine, todo[i + 1], stages[0]))
            segmentation, disagreement[phase] = _segment(image, properties, prepared, stages, box)
            labels[phase] = cleaned_up(segmentation, structures) if clean_up else segmentation
            keep(phase, SegmentedPhase(labels[phase], disagreement[phase]))
            bar.update()
    return SegmentedCine(labels, disagreement, box)


def find_heart(cine: Cine, stages: Sequence[StagePredictor], structures: Structures) -> Box | None:
    """The box around the heart, from a phase at the cycle's beginning and one a third later.

    Returns:
        first and last row and column in the image, the last not included; None where no heart is found
    """
    stage = stages[0]
    lows, highs = [], []
    for phase in (0, len(cine.voxels) // 3):
        _, _, (data, shape) = _preprocess(cine, phase, stage)
        with stage.predictor.unmirrored():  # to know where it is, once is enough
            logits = stage.logits(data)
        found = cleaned_up(logits.argmax(0).cpu().numpy().astype(np.uint8), structures)
        inside = [np.flatnonzero(found.any((0, axis))) for axis in (2, 1)]
        if len(inside[0]):
            scale, offset = _grid(data, shape)
            lows.append([i[0] for i in inside] / scale + offset)
            highs.append([i[-1] + 1 for i in inside] / scale + offset)
    if not lows:
        return None
    margin = MARGIN / np.array(cine.spacing[1:])
    low, high = np.min(lows, 0) - margin, np.max(highs, 0) + margin
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _grid(data: torch.Tensor, properties: dict) -> tuple[np.ndarray, np.ndarray]:
    """Of a phase's grid in the model: pixels for each of the image's, and where it begins in the image (Y, X). nnU-Net
    crops away what is 0, in each phase as it is."""
    scale = np.array(data.shape[-2:]) / np.array(properties["shape_after_cropping_and_before_resampling"][-2:])
    return scale, np.array([low for low, _ in properties["bbox_used_for_cropping"][-2:]])


def _window(box: Box, data: torch.Tensor, properties: dict, patch: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a phase's grid in the model: those of the box, at least a patch, inside the grid."""
    scale, offset = _grid(data, properties)
    sides = []
    for axis in (0, 1):
        low, high = (round((edge - offset[axis]) * scale[axis]) for edge in box[axis])
        missing = max(0, patch[axis] - (high - low))
        low, high = low - missing // 2, high + missing - missing // 2
        n = data.shape[-2 + axis]
        shift = max(0, -low) - max(0, high - n)  # back into the grid, where it is large enough
        sides.append(slice(max(0, low + shift), min(n, high + shift)))
    return sides[0], sides[1]


def _takes_parts(stage: StagePredictor) -> bool:
    """Whether a stage can be given a part of the image: not one that must see all of it, to find the heart."""
    wants_all = bool(stage.configuration.configuration.get(WHOLE_IMAGE))
    crops = getattr(stage.network, "crop", None) is not None
    resizes = getattr(stage.network, "resize", None) is not None
    turned = list(stage.plans.transpose_forward) != [0, 1, 2]  # rows and columns would be others
    return not resizes and not turned and (crops or not wants_all)


def _preprocess(cine: Cine, phase: int, stage: StagePredictor) -> tuple[np.ndarray, dict, tuple[torch.Tensor, dict]]:
    image = cine.voxels[phase][None]
    properties = {"spacing": list(cine.spacing)}
    return image, properties, stage.preprocess(image, properties, None)


def _segment(
    image: np.ndarray,
    properties: dict,
    prepared: tuple[torch.Tensor, dict],
    stages: Sequence[StagePredictor],
    box: Box | None,
) -> tuple[np.ndarray, float]:
    """Labels (Z, Y, X) of one phase, and how far mirrored copies disagree in the last stage."""
    data, shape = prepared
    for stage, following in zip(stages[:-1], stages[1:], strict=True):
        previous, _ = stage.segment(_logits(stage, data, shape, box), shape)
        data, shape = following.preprocess(image, properties, previous)
    last = stages[-1]
    last.predictor.copies = {}
    logits = _logits(last, data, shape, box)
    copies, last.predictor.copies = list(last.predictor.copies.values()), None
    segmentation, _ = last.segment(logits, shape)
    return segmentation, _disagreement(copies)


def _logits(stage: StagePredictor, data: torch.Tensor, properties: dict, box: Box | None) -> torch.Tensor:
    """Logits (K, Z, Y, X) of the whole grid, of which the network has seen a window."""
    if box is None:
        return stage.logits(data)
    rows, columns = _window(box, data, properties, stage.configuration.patch_size[-2:])
    inside = stage.logits(data[:, :, rows, columns].contiguous())
    logits = torch.full((inside.shape[0], *data.shape[1:]), -OUTSIDE, dtype=inside.dtype, device=inside.device)
    logits[0] = OUTSIDE
    logits[:, :, rows, columns] = inside
    return logits


def _disagreement(copies: Sequence[torch.Tensor]) -> float:
    """1 - Dice of the foreground, mean over all pairs; two empty ones agree."""
    if len(copies) < 2:
        return float("nan")
    hearts = [copy > 0 for copy in copies]
    pairs = []
    for a, b in combinations(hearts, 2):
        total = int(a.sum() + b.sum())
        pairs.append(1 - 2 * int((a & b).sum()) / total if total else 0.0)
    return float(np.mean(pairs))
