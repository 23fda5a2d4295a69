"""What a crop shows of the heart."""

import numpy as np
import pytest
from torch import nn

from nnunet_cardiac.evaluation.crop import _evaluate_case
from nnunet_cardiac.networks.heart_crop import HeartCrop

NAMES = {1: "LV", 2: "MYO"}


@pytest.fixture
def crop():
    return HeartCrop(nn.Identity(), (16, 16), (2, 2), (1, 1)).eval()


def image(*rectangles, size=(64, 64)):
    labels = np.zeros(size, np.int8)
    for label, rows, columns in rectangles:
        labels[rows, columns] = label
    return labels


def by_structure(rows):
    return {row["structure"]: row for row in rows}


def test_pixels_inside_and_box(crop):
    truth = image((2, slice(20, 32), slice(20, 32)), (1, slice(24, 28), slice(24, 28)))
    rows = by_structure(_evaluate_case("a", [(truth, truth)], crop, [1, 2], NAMES))
    assert rows["LV"] | {"structure": "MYO", "pixels": 128, "inside": 128} == rows["MYO"]
    assert rows["LV"] == {
        "case": "a", "structure": "LV", "pixels": 16, "inside": 16, "iou": 1.0, "images": 1, "heart": 1, "cropped": 1,
        "area": 16**2 / 64**2,
    }  # fmt: skip


def test_a_heart_that_was_seen_elsewhere_is_outside(crop):
    truth = image((1, slice(40, 50), slice(40, 50)))
    half_seen = image((1, slice(40, 50), slice(45, 50)))
    elsewhere = image((2, slice(2, 6), slice(2, 6)))
    (row,) = _evaluate_case("a", [(truth, half_seen), (truth, elsewhere)], crop, [1], {1: "LV"})
    # the window around columns 45 to 50, with a margin of 2, is 16 wide: columns 39 to 55
    assert row["pixels"] == 200 and row["inside"] == 100
    assert row["iou"] == pytest.approx((0.5 + 0) / 2)


def test_only_the_largest_component_is_followed(crop):
    truth = image((1, slice(40, 50), slice(40, 50)))
    seen = image((1, slice(40, 50), slice(40, 50)), (1, slice(0, 3), slice(0, 3)))
    (row,) = _evaluate_case("a", [(truth, seen)], crop, [1], {1: "LV"})
    assert row["iou"] == 1 and row["inside"] == 100


def test_an_image_without_a_box_is_seen_whole_and_has_none(crop):
    truth, nothing = image((1, slice(40, 50), slice(40, 50))), image()
    (row,) = _evaluate_case("a", [(truth, nothing)], crop, [1], {1: "LV"})
    assert row["inside"] == row["pixels"] == 100
    assert row["iou"] == 0 and row["cropped"] == 0 and np.isnan(row["area"])


def test_an_image_without_a_heart_does_not_count_in_the_box(crop):
    truth = image((1, slice(40, 50), slice(40, 50)))
    (row,) = _evaluate_case("a", [(truth, truth), (image(), truth), (image(), image())], crop, [1], {1: "LV"})
    assert row["iou"] == 1 and row["images"] == 3 and row["heart"] == 1 and row["cropped"] == 2


def test_the_box_is_that_of_the_labels_that_it_is_meant_for(crop):
    truth = image((1, slice(20, 24), slice(20, 24)), (2, slice(40, 44), slice(40, 44)))
    seen = image((1, slice(20, 24), slice(20, 24)))
    rows = by_structure(_evaluate_case("a", [(truth, seen)], crop, [1], NAMES))
    assert rows["LV"]["iou"] == 1 and rows["MYO"]["inside"] == 0 and rows["MYO"]["pixels"] == 16


def test_an_image_smaller_than_the_crop(crop):
    truth = image((1, slice(2, 8), slice(2, 8)), size=(12, 64))
    (row,) = _evaluate_case("a", [(truth, truth)], crop, [1], {1: "LV"})
    assert row["inside"] == 36 and row["area"] == pytest.approx(16 / 64)
