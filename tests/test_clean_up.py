"""Cleaning up: every fault that the anatomy's count knows goes, and a plausible heart stays as it is."""

import numpy as np
import pytest
from test_anatomy import FAULTS, LV, MYO, RV, STRUCTURES, count, plausible

from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.inference.clean_up import cleaned_up


def test_a_plausible_heart_stays_as_it_is():
    volume = np.stack([plausible()] * 3)
    cleaned = cleaned_up(volume, STRUCTURES)
    np.testing.assert_array_equal(cleaned, volume)
    assert cleaned is not volume and cleaned.dtype == volume.dtype


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_goes_and_little_else_changes(fault):
    labels, _ = FAULTS[fault]
    volume = np.stack([plausible(), labels, plausible()])
    before = volume.copy()
    cleaned = cleaned_up(volume, STRUCTURES)
    np.testing.assert_array_equal(volume, before)
    assert count(*cleaned)["implausible_slices"] == 0
    assert np.count_nonzero(cleaned != plausible()) <= np.count_nonzero(volume != plausible())
    np.testing.assert_array_equal(cleaned_up(cleaned, STRUCTURES), cleaned)


@pytest.mark.parametrize("slices", [(2,), (1, 2), (3, 4)])
def test_a_cavity_keeps_its_name_from_slice_to_slice(slices):
    """A network that sees one slice at a time may call the left ventricle the right one, and find no wall there."""
    volume = np.stack([plausible()] * 5)
    for z in slices:
        volume[z] = np.where(plausible() == LV, RV, np.where(plausible() == MYO, 0, plausible()))
    cleaned = cleaned_up(volume, STRUCTURES)
    np.testing.assert_array_equal(cleaned == LV, np.stack([plausible() == LV] * 5))
    np.testing.assert_array_equal(cleaned == RV, np.stack([plausible() == RV] * 5))
    assert count(*cleaned)["implausible_slices"] == 0


@pytest.mark.parametrize("z", range(5))
def test_a_slice_with_both_cavities_called_left_spoils_no_other(z):
    volume = np.stack([plausible()] * 5)
    volume[z][volume[z] == RV] = LV
    cleaned = cleaned_up(volume, STRUCTURES)
    others = [i for i in range(5) if i != z]
    np.testing.assert_array_equal(cleaned[others] == LV, (np.stack([plausible()] * 5) == LV)[others])


def test_a_right_ventricle_beside_the_cavity_of_another_slice_keeps_its_name():
    """Slices are shifted and tilted against each other: less than the whole of it may lie over the left ventricle."""
    volume = np.stack([plausible()] * 2)
    rows, columns = np.nonzero(plausible() == RV)
    covered = columns >= np.quantile(columns, 0.45)  # more than half
    volume[0, rows[covered], columns[covered]] = LV
    assert np.count_nonzero(cleaned_up(volume, STRUCTURES)[1] == RV) == rows.size


def test_an_island_in_another_slice_is_no_part_of_the_heart():
    far = np.zeros_like(plausible())
    far[1:4, 45:48] = RV
    cleaned = cleaned_up(np.stack([plausible(), np.zeros_like(far), far]), STRUCTURES)
    assert cleaned[0].any() and not cleaned[1:].any()


def test_the_wall_that_is_kept_is_the_one_around_the_cavity():
    """Although there is more of it elsewhere."""
    labels = plausible()
    labels[30:39, 28:49] = MYO
    cleaned = cleaned_up(labels[None], STRUCTURES)[0]
    np.testing.assert_array_equal(cleaned, plausible())


def test_a_ring_without_a_cavity_has_one():
    labels = np.where(plausible() == LV, 0, plausible())
    cleaned = cleaned_up(labels[None], STRUCTURES)[0]
    np.testing.assert_array_equal(cleaned, plausible())


def test_a_cavity_at_the_edge_of_the_image_gets_its_wall_there():
    labels = plausible()[:, 20:]
    cleaned = cleaned_up(labels[None], STRUCTURES)[0]
    assert count(labels)["LV_touches_background_slices"] and not count(cleaned)["implausible_slices"]


def test_slices_along_another_axis():
    labels = FAULTS["an open myocardium"][0]
    volume = np.stack([plausible(), labels])
    np.testing.assert_array_equal(
        cleaned_up(np.moveaxis(volume, 0, 2), STRUCTURES, slice_axis=2),
        np.moveaxis(cleaned_up(volume, STRUCTURES), 0, 2),
    )


def test_labels_that_no_name_explains_lose_their_islands_alone():
    labels, _ = FAULTS["two islands of the right ventricle"]
    structures = Structures({"1": (RV,), "2": (MYO,), "3": (LV,)})
    np.testing.assert_array_equal(cleaned_up(labels[None], structures)[0], plausible())
    opened, _ = FAULTS["an open myocardium"]
    np.testing.assert_array_equal(cleaned_up(opened[None], structures)[0], opened)


def test_regions_are_part_of_the_heart():
    """Labels that several regions share are not looked at one by one; the island goes all the same."""
    labels, _ = FAULTS["an island of the cavity"]
    structures = Structures({"heart": (RV, MYO, LV), "left": (MYO, LV)})
    np.testing.assert_array_equal(cleaned_up(labels[None], structures)[0], plausible())


def test_nothing_and_noise_end():
    assert not cleaned_up(np.zeros((2, 9, 9), np.uint8), STRUCTURES).any()
    noise = np.random.default_rng(0).integers(0, 4, (3, 40, 40), np.uint8)
    cleaned = cleaned_up(noise, STRUCTURES)
    assert set(np.unique(cleaned)) <= {0, RV, MYO, LV}
    assert count(*cleaned)["implausible_slices"] < count(*noise)["implausible_slices"] == 3
