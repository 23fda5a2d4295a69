"""Metrics against an implementation of their definitions that shares nothing with ours or MONAI's."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_cardiac.evaluation.metrics import DISTANCES, OVERLAPS, structure_metrics

SPACINGS = [(10.0, 1.5, 1.5), (5.0, 0.7, 1.9), (1.0, 1.0, 1.0)]


def surface(mask: np.ndarray, spacing) -> np.ndarray:
    """Positions in mm of the voxels that have a neighbour outside the mask or outside the image."""
    points = []
    for voxel in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = voxel.copy()
            neighbour[axis] += step
            if not (0 <= neighbour[axis] < mask.shape[axis]) or not mask[tuple(neighbour)]:
                points.append(voxel * np.array(spacing))
                break
    return np.array(points)


def by_definition(a: np.ndarray, b: np.ndarray, spacing) -> dict[str, float]:
    voxels_a, voxels_b = (set(map(tuple, np.argwhere(m).tolist())) for m in (a, b))
    flat = a.shape.index(1) if 1 in a.shape else None  # of one slice, the contours
    lines = [np.take(m, 0, flat) for m in (a, b)] if flat is not None else [a, b]
    distances = cdist(*(surface(m, [s for axis, s in enumerate(spacing) if axis != flat]) for m in lines))
    to_b, to_a = distances.min(1), distances.min(0)
    return {
        "dice": 2 * len(voxels_a & voxels_b) / (len(voxels_a) + len(voxels_b)),
        "jaccard": len(voxels_a & voxels_b) / len(voxels_a | voxels_b),
        "precision": len(voxels_a & voxels_b) / len(voxels_a),
        "recall": len(voxels_a & voxels_b) / len(voxels_b),
        "accuracy": 1 - len(voxels_a ^ voxels_b) / a.size,
        "hausdorff_mm": max(to_b.max(), to_a.max()),
        "hausdorff95_mm": max(np.percentile(to_b, 95), np.percentile(to_a, 95)),
        "assd_mm": (to_b.sum() + to_a.sum()) / (len(to_b) + len(to_a)),
    }


def pairs():
    random = np.random.default_rng(1)
    for density in (0.02, 0.3, 0.9):
        yield f"random {density}", random.random((5, 9, 8)) < density, random.random((5, 9, 8)) < density
    grid = np.indices((6, 16, 14))
    ball = sum((g - c) ** 2 / r**2 for g, c, r in zip(grid, (3, 8, 7), (2, 5, 4), strict=True)) < 1
    yield "overlapping balls", ball, np.roll(ball, (1, 2, -1), (0, 1, 2))
    yield "equal", ball, ball
    one, other = np.zeros((2, 4, 12, 11), bool)
    one[0, 0, 0], other[3, 11, 10] = True, True
    yield "single voxels in opposite corners", one, other
    full = np.ones((4, 6, 5), bool)
    line = np.zeros_like(full)
    line[2, 3] = True
    yield "everything and a line", full, line
    yield "a plane and a line", full & (np.arange(4) == 1)[:, None, None], line
    yield "one slice", random.random((1, 12, 10)) < 0.4, random.random((1, 12, 10)) < 0.4
    yield "one slice along x", random.random((9, 8, 1)) < 0.7, random.random((9, 8, 1)) < 0.9
    shell = ball & ~np.roll(ball, 1, 1)
    yield "a shell and what it holds", shell, ball


PAIRS = {name: masks for name, *masks in pairs()}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_the_definitions(name, spacing):
    a, b = PAIRS[name]
    ours, expected = structure_metrics(a, b, spacing, 100.0), by_definition(a, b, spacing)
    for metric, value in expected.items():
        tolerance = 1e-3 if metric in DISTANCES else 1e-6
        assert ours[metric] == pytest.approx(value, abs=tolerance), metric
    assert ours["f1"] == ours["dice"]
    assert ours["state"] == "scored"


def test_absent_structures_are_counted_by_the_stated_rule():
    nothing, something = np.zeros((2, 4, 5), bool), np.zeros((2, 4, 5), bool)
    something[0, 1:3] = True
    states = {}
    for prediction, truth in itertools.product((nothing, something), repeat=2):
        result = structure_metrics(prediction, truth, (10, 1, 1), diagonal=42.0)
        states[result["state"]] = result
    assert states.keys() == {"scored", "absent", "missed", "spurious"}
    assert all(math.isnan(states["absent"][m]) for m in (*OVERLAPS, *DISTANCES))
    for state, error in (("missed", -0.1), ("spurious", 0.1)):
        assert all(states[state][m] == 0 for m in OVERLAPS)
        assert all(states[state][m] == 42 for m in DISTANCES)
        assert states[state]["accuracy"] == pytest.approx(1 - 10 / 40)
        assert states[state]["volume_error_mL"] == pytest.approx(error)  # 10 voxels of 10 mm^3


def test_ignored_voxels_do_not_count():
    truth = np.zeros((1, 6, 6), bool)
    truth[0, :3] = True
    prediction, ignore = truth.copy(), np.zeros_like(truth)
    prediction[0, 3:5] = True
    ignore[0, 3:5] = True
    assert structure_metrics(prediction, truth, (1, 1, 1), 9.0)["dice"] < 1
    result = structure_metrics(prediction, truth, (1, 1, 1), 9.0, ignore)
    assert result["dice"] == 1 and result["hausdorff_mm"] == 0 and result["accuracy"] == 1
