"""Segmentation of all phases of a cine: the heart is found once, then its neighbourhood is segmented in every phase.

The images are preprocessed whole, as nnU-Net does it, so that intensities and pixels are those of a whole prediction;
the network sees a window around the heart. Outside it is background.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.inference.clean_up import clean_up as cleaned_up
from nnunet_cardiac.inference.predict import StagePredictor
from nnunet_cardiac.planners.shrink import WHOLE_IMAGE
from nnunet_cardiac.progress import progress

MARGIN = 25.0
"""mm around the heart of the phases in which it is found: more than it moves over the cycle."""
OUTSIDE = 30.0
"""Logit of the background outside the window, and that of everything else below 0: as sure as a network is."""


@dataclass(frozen=True)
class SegmentedCine:
    """
    Args:
        labels: (T, Z, Y, X), uint8
        disagreement: (T,), 1 - Dice of the heart between mirrored copies of the image, mean over their pairs; NaN
            without mirroring
        window: rows and columns of the model's grid that were looked at; None for all
    """

    labels: np.ndarray
    disagreement: np.ndarray
    window: tuple[slice, slice] | None


def segment_cine(
    cine: Cine,
    stages: Sequence[StagePredictor],
    clean_up: bool = False,
    whole: bool = False,
    kept: Callable[[int], np.ndarray | None] = lambda phase: None,
    keep: Callable[[int, np.ndarray, float], None] = lambda phase, labels, disagreement: None,
) -> SegmentedCine:
    """Segments every phase; the next is preprocessed while one is in the network.

    Args:
        cine: images
        stages: of a model, first stage first
        clean_up: see ``nnunet_cardiac.inference.clean_up``
        whole: do not look for the heart first
        kept: a phase's labels and disagreement from before, (Z, Y, X) and a number after it in one flat array; None
            where there are none
        keep: is given each phase's labels and disagreement as soon as they are there

    Raises:
        UserError: the model wants more than one image of each case
    """
    last = stages[-1]
    if len(last.dataset_json["channel_names"]) != 1:
        raise UserError("The model wants several images of each case; a cine gives one.")
    structures = Structures.named(last.dataset_json["labels"])
    n_phases = len(cine.voxels)
    if whole or not all(_takes_parts(stage) for stage in stages):
        window = None
    else:
        window = find_heart(cine, stages, structures)
    labels = np.zeros(cine.voxels.shape, np.uint8)
    disagreement = np.full(n_phases, np.nan)
    with ThreadPoolExecutor(1) as reading, progress(total=n_phases, desc="Segmenting", unit="phase") as bar:
        todo = []
        for phase in range(n_phases):
            before = kept(phase)
            if before is None:
                todo.append(phase)
            else:
                labels[phase], disagreement[phase] = before[:-1].reshape(labels[phase].shape), before[-1]
                bar.update()
        ahead = [reading.submit(_preprocess, cine, phase, stages[0]) for phase in todo[:1]]
        for i, phase in enumerate(todo):
            image, properties, prepared = ahead.pop().result()
            if i + 1 < len(todo):
                ahead.append(reading.submit(_preprocess, cine, todo[i + 1], stages[0]))
            segmentation, disagreement[phase] = _segment(image, properties, prepared, stages, window)
            labels[phase] = cleaned_up(segmentation, structures) if clean_up else segmentation
            keep(phase, labels[phase], disagreement[phase])
            bar.update()
    return SegmentedCine(labels, disagreement, window)


def find_heart(cine: Cine, stages: Sequence[StagePredictor], structures: Structures) -> tuple[slice, slice] | None:
    """The window around the heart in the first stage's grid, from a phase at the cycle's beginning and one a third
    later; at least as large as a patch, and None where no heart is found."""
    first = stages[0]
    mask = np.zeros(1, bool)
    for phase in (0, len(cine.voxels) // 3):
        _, _, (data, _) = _preprocess(cine, phase, first)
        found = first.logits(data).argmax(0).numpy().astype(np.uint8)
        if not first.predictor.label_manager.has_regions:  # whose islands are left out
            found = cleaned_up(found, structures)
        mask = mask | found.any(0)
    if not mask.any():
        return None
    spacing = first.configuration.spacing[-2:]
    patch = first.configuration.patch_size[-2:]
    sides = []
    for axis in (0, 1):
        inside = np.flatnonzero(mask.any(1 - axis))
        margin = round(MARGIN / spacing[axis])
        low, high = int(inside[0]) - margin, int(inside[-1]) + 1 + margin
        missing = max(0, patch[axis] - (high - low))
        low, high = low - missing // 2, high + missing - missing // 2
        n = mask.shape[axis]
        shift = max(0, -low) - max(0, high - n)  # back into the image, where it is large enough
        low, high = max(0, low + shift), min(n, high + shift)
        sides.append(slice(low, high))
    return sides[0], sides[1]


def _takes_parts(stage: StagePredictor) -> bool:
    """Whether a stage can be given a part of the image: not one that must see all of it, to find the heart."""
    wants_all = bool(stage.configuration.configuration.get(WHOLE_IMAGE))
    crops = getattr(stage.network, "crop", None) is not None
    resizes = getattr(stage.network, "resize", None) is not None
    return not resizes and (crops or not wants_all)


def _preprocess(cine: Cine, phase: int, stage: StagePredictor) -> tuple[np.ndarray, dict, tuple[torch.Tensor, dict]]:
    image = cine.voxels[phase][None]
    properties = {"spacing": list(cine.spacing)}
    return image, properties, stage.preprocess(image, properties, None)


def _segment(
    image: np.ndarray,
    properties: dict,
    prepared: tuple[torch.Tensor, dict],
    stages: Sequence[StagePredictor],
    window: tuple[slice, slice] | None,
) -> tuple[np.ndarray, float]:
    """Labels (Z, Y, X) of one phase, and how far mirrored copies disagree in the last stage."""
    data, shape = prepared
    for stage, following in zip(stages[:-1], stages[1:], strict=True):
        previous, _ = stage.segment(_logits(stage, data, window), shape)
        data, shape = following.preprocess(image, properties, previous)
    last = stages[-1]
    last.predictor.copies = {}
    logits = _logits(last, data, window)
    copies, last.predictor.copies = list(last.predictor.copies.values()), None
    segmentation, _ = last.segment(logits, shape)
    return segmentation, _disagreement(copies)


def _logits(stage: StagePredictor, data: torch.Tensor, window: tuple[slice, slice] | None) -> torch.Tensor:
    """Logits (K, Z, Y, X) of the whole grid, of which the network has seen the window."""
    if window is None:
        return stage.logits(data)
    inside = stage.logits(data[:, :, window[0], window[1]].contiguous())
    logits = torch.full((inside.shape[0], *data.shape[1:]), -OUTSIDE, dtype=inside.dtype, device=inside.device)
    logits[0] = OUTSIDE
    logits[:, :, window[0], window[1]] = inside
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
