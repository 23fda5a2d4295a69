import numpy as np
import pytest

from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures

RV, MYO, LV = 1, 2, 3
STRUCTURES = Structures({"RV": (RV,), "MYO": (MYO,), "LV": (LV,)})


def plausible() -> np.ndarray:
    """A slice as it should be: a ring of myocardium around the cavity, the right ventricle beside it."""
    y, x = np.indices((40, 50))
    radius = np.hypot(y - 20, x - 20)
    labels = np.zeros((40, 50), np.int16)
    labels[(x > 28) & (x < 42) & (abs(y - 20) < 9)] = RV
    labels[radius < 11] = MYO
    labels[radius < 7] = LV
    return labels


def count(*slices: np.ndarray) -> dict[str, int]:
    volume = Segmentation(np.stack(slices), (10.0, 1.5, 1.5))
    return implausible_anatomy(volume, STRUCTURES)


def changed(where, label) -> np.ndarray:
    labels = plausible()
    labels[where] = label
    return labels


FAULTS = {
    "a hole in the cavity": (changed((20, 20), 0), {"LV_holes": 1, "LV_MYO_gaps": 0}),
    "a hole in the right ventricle": (changed((20, 36), 0), {"RV_holes": 1}),
    "a hole in the myocardium": (changed((11, 20), 0), {"MYO_holes": 1, "LV_MYO_gaps": 0}),
    "a gap between them": (changed((slice(12, 14), 20), 0), {"LV_MYO_gaps": 1, "MYO_holes": 0, "LV_holes": 0}),
    "an island of the cavity": (changed((2, 2), LV), {"LV_extra_components": 1, "LV_touches_background_slices": 1}),
    "two islands of the right ventricle": (changed(([2, 5], [2, 2]), RV), {"RV_extra_components": 2}),
    "an open myocardium": (changed((slice(8, 14), 20), 0), {"LV_touches_background_slices": 1, "MYO_holes": 0}),
    "the ventricles in touch": (changed((20, slice(26, 31)), RV), {"LV_touches_RV_slices": 1}),
}


def test_a_plausible_heart_has_no_fault():
    counts = count(plausible(), np.zeros_like(plausible()), plausible())
    assert counts.pop("slices") == 2
    assert set(counts.values()) == {0}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted(fault):
    labels, expected = FAULTS[fault]
    counts = count(plausible(), labels)
    assert {name: counts[name] for name in expected} == expected
    assert (counts["implausible_slices"], counts["slices"]) == (1, 2)
    twice = count(labels, labels)
    assert all(twice[name] == 2 * n for name, n in expected.items()) and twice["implausible_slices"] == 2


def test_slices_lie_across_the_largest_spacing():
    labels, _ = FAULTS["a hole in the cavity"]
    volume = Segmentation(np.stack([labels] * 3, axis=2), (1.5, 1.5, 10.0))
    assert implausible_anatomy(volume, STRUCTURES)["LV_holes"] == 3


def test_other_structures_are_judged_by_what_is_known_of_them():
    """What fills a ring may be another structure, where nothing tells a myocardium: only an empty hole is a fault."""
    structures = Structures({"scar": (RV,), "edema": (MYO,)})
    clean = {"scar_extra_components": 0, "scar_holes": 0, "edema_extra_components": 0, "edema_holes": 0}
    for labels, n_holes in ((plausible(), 0), (np.where(plausible() == LV, 0, plausible()), 1)):
        counts = implausible_anatomy(Segmentation(labels[None], (1, 1, 1)), structures)
        assert counts == clean | {"edema_holes": n_holes, "implausible_slices": n_holes, "slices": 1}
