"""Anatomically implausible segmentations of the short axis, counted slice by slice.

Criteria after Painchaud et al., *Cardiac segmentation with strong anatomical guarantees*, IEEE TMI 39(11), 2020: holes
in a structure, more than one component of a structure, a left-ventricular cavity that touches the background or the
right ventricle, a gap between myocardium and cavity. Their limits on shape (circularity and the like) are left out:
they were fitted to one data set. In long-axis views the cavity rightly touches the background at the valve; compare
with the counts of the ground truth.
"""

from typing import Literal

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes

from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures


def implausible_anatomy(
    segmentation: Segmentation, structures: Structures, slice_axis: int | None = None
) -> dict[str, int]:
    """Counts over the slices of one segmentation.

    Args:
        segmentation: short axis
        structures: that its labels stand for
        slice_axis: across the slices; None for the segmentation's own

    Returns:
        for every structure ``NAME_holes`` (the myocardium's are those that do not touch the cavity) and
        ``NAME_extra_components`` (those beyond the first, in each slice); where the labels tell cavity and myocardium
        ``LV_touches_background_slices``, ``LV_touches_RV_slices`` and ``LV_MYO_gaps``; ``implausible_slices`` (with any
        of these) and ``slices`` (with any structure)
    """
    counts: dict[str, int] = {}
    volume = np.moveaxis(segmentation.labels, segmentation.slice_axis if slice_axis is None else slice_axis, 0)
    known = [value for values in structures.values.values() for value in values]
    occupied = [labels for labels in volume if np.isin(labels, known).any()]
    totals = {"implausible_slices": 0, "slices": len(occupied)}
    for labels in occupied or [np.zeros((1, 1), np.int16)]:
        found = _slice_counts(_crop(labels), structures)
        totals["implausible_slices"] += any(found.values())
        for name, count in found.items():
            counts[name] = counts.get(name, 0) + count
    return counts | totals


def _crop(labels: np.ndarray) -> np.ndarray:
    """The box of the foreground, with a frame of background around it."""
    ys, xs = np.nonzero(labels)
    box = labels[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] if len(ys) else labels
    return np.pad(box, 1)


def _slice_counts(labels: np.ndarray, structures: Structures) -> dict[str, int]:
    roles = structures.roles
    masks = {name: structures.mask(labels, name) for name in structures.values}
    counts = {}
    for name, mask in masks.items():
        counts[f"{name}_extra_components"] = max(0, len(_components(mask, 8)) - 1)
        if name != roles.get("MYO"):
            holes = _holes(mask)
            if not roles:  # nothing tells a myocardium, whose ring another structure fills
                holes = [hole for hole in holes if (labels[hole] == 0).any()]
            counts[f"{name}_holes"] = len(holes)
    if "MYO" not in roles:
        return counts
    myocardium = masks[roles["MYO"]]
    cavity = masks[roles["LV"]] if "LV" in roles else np.zeros_like(myocardium)
    near_cavity, near_myocardium = binary_dilation(cavity), binary_dilation(myocardium)
    enclosed = _holes(myocardium | cavity)
    counts[f"{roles['MYO']}_holes"] = sum(not (hole & near_cavity).any() for hole in enclosed)
    if "LV" not in roles:
        return counts
    counts["LV_MYO_gaps"] = sum((hole & near_cavity).any() and (hole & near_myocardium).any() for hole in enclosed)
    beside_cavity = near_cavity & ~cavity & ~np.logical_or.reduce([np.zeros_like(cavity), *enclosed])
    counts["LV_touches_background_slices"] = int((beside_cavity & (labels == 0)).any())
    if "RV" in roles:
        counts["LV_touches_RV_slices"] = int((near_cavity & masks[roles["RV"]]).any())
    return {name: int(count) for name, count in counts.items()}


def _components(mask: np.ndarray, connectivity: Literal[4, 8]) -> list[np.ndarray]:
    numbered, n = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=connectivity, return_N=True)
    return [numbered == i for i in range(1, n + 1)]


def _holes(mask: np.ndarray) -> list[np.ndarray]:
    """What the mask encloses, one component after the other; diagonal neighbours enclose."""
    return _components(binary_fill_holes(mask) & ~mask, 4)
