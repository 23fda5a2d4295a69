"""Segmentations without what no heart has: islands, holes, gaps in the wall.

What counts as implausible, and how it is counted, is in ``nnunet_cardiac.evaluation.anatomy``.
"""

from collections.abc import Callable
from itertools import pairwise

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes

from nnunet_cardiac.evaluation.segmentation import Structures

PASSES = 10
"""At most: what closes a wall can cut another structure in two. A segmentation of a heart needs one or two."""
SAME_CAVITY, FOUND, GROWTH = 0.7, 1 / 3, 1.5
"""Of a part of the right ventricle: from this share on inside the left one's cavity of the slice before, it is that. In
ACDC's 120 segmentations by experts that never happens to more than a stray pixel. Of the cavity of the slice before:
where this share of it is found, nothing is missing. How many times as large the next slice's cavity may be."""


def cleaned_up(labels: np.ndarray, structures: Structures, slice_axis: int = 0) -> np.ndarray:
    """A copy of a segmentation, made plausible.

    What is called right ventricle, but continues the left one's cavity from slice to slice, is called so. Of the heart
    and of each structure the largest component is kept, in the volume and then in each slice. In each slice holes are
    filled. Where the cavity of the left ventricle touches the background or the right ventricle,
    the neighbouring pixels become myocardium.

    Args:
        labels: of a volume, short axis
        structures: those with one value each are looked at one by one; what the myocardium and the cavities are, their
            names tell
        slice_axis: across the slices

    Returns:
        labels of the same shape and type
    """
    values = {name: value[0] for name, value in structures.values.items() if len(value) == 1}
    roles = {role: values[name] for role, name in structures.roles.items() if name in values}
    cleaned = np.moveaxis(labels, slice_axis, 0).copy()
    if "LV" in roles and "RV" in roles:
        _rename_cavities(cleaned, roles["LV"], roles["RV"])
    for _ in range(PASSES):
        before = cleaned.copy()
        _keep(cleaned > 0, _largest, cleaned)
        for value in values.values():
            _keep(cleaned == value, _largest, cleaned)
        for plane in cleaned:
            if plane.any():
                _clean_slice(plane, list(values.values()), roles)
        if np.array_equal(before, cleaned):
            break
    return np.moveaxis(cleaned, 0, slice_axis)


def _rename_cavities(volume: np.ndarray, lv: int, rv: int) -> None:
    """From the two neighbouring slices whose left ventricles agree most, towards base and apex, as far as there is one;
    a slice whose left ventricle is suddenly larger, as if both were called so, tells nothing of the next."""
    if len(volume) < 2:
        return
    agreement = [_dice(a == lv, b == lv) for a, b in pairwise(volume)]
    start = int(np.argmax(agreement))
    for planes in (volume[start:], volume[start::-1]):
        cavity = planes[0] == lv
        for plane in planes[1:]:
            if np.count_nonzero(cavity & (plane == lv)) < FOUND * np.count_nonzero(cavity):
                numbered = cc3d.connected_components(np.ascontiguousarray(plane == rv), connectivity=4)
                size = np.bincount(numbered.ravel())
                same = np.bincount(numbered[cavity], minlength=size.size) > SAME_CAVITY * size
                same[0] = False
                plane[same[numbered]] = lv
            own = plane == lv
            if np.count_nonzero(own) <= GROWTH * np.count_nonzero(cavity):
                cavity = own


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / max(np.count_nonzero(a) + np.count_nonzero(b), 1)


def _clean_slice(plane: np.ndarray, values: list[int], roles: dict[str, int]) -> None:
    lv, myo = roles.get("LV"), roles.get("MYO")
    for value in values:
        if value != myo:
            _keep(plane == value, _largest, plane)
            if roles:  # else nothing tells a myocardium, whose ring another structure fills
                plane[binary_fill_holes(plane == value)] = value
    if myo is None:
        return
    if lv is None:
        _keep(plane == myo, _largest, plane)
        return
    near_cavity = binary_dilation(plane == lv)
    _keep(plane == myo, lambda mask: _nearest(mask, near_cavity), plane)
    _close_wall(plane, lv, myo)


def _close_wall(plane: np.ndarray, lv: int, myo: int) -> None:
    """Fills what myocardium and cavity enclose, with myocardium where it is not beside the cavity, else, and where
    there is no cavity, with cavity; then puts myocardium wherever the cavity has another neighbour."""
    heart = (plane == myo) | (plane == lv)
    enclosed = binary_fill_holes(heart) & ~heart
    near_cavity = binary_dilation(plane == lv)
    numbered = cc3d.connected_components(np.ascontiguousarray(enclosed), connectivity=4)
    for i in range(1, int(numbered.max(initial=0)) + 1):
        hole = numbered == i
        plane[hole] = lv if (hole & near_cavity).any() or not near_cavity.any() else myo
    edge = np.ones_like(heart)
    edge[1:-1, 1:-1] = False
    plane[edge & (plane == lv)] = myo
    plane[binary_dilation(plane == lv) & (plane != lv)] = myo


def _keep(mask: np.ndarray, choose: Callable[[np.ndarray], np.ndarray], labels: np.ndarray) -> None:
    """Of the structure ``mask``, what is not chosen becomes background."""
    labels[mask & ~choose(mask)] = 0


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest component; diagonal neighbours belong together."""
    if not mask.any():
        return mask
    numbered = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26 if mask.ndim == 3 else 8)
    return numbered == np.bincount(numbered[mask]).argmax()


def _nearest(mask: np.ndarray, near_cavity: np.ndarray) -> np.ndarray:
    """The component with most pixels beside the cavity; the largest where none has any."""
    numbered = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=8)
    contact = np.bincount(numbered[near_cavity], minlength=2)[1:]
    return numbered == contact.argmax() + 1 if contact.any() else _largest(mask)
