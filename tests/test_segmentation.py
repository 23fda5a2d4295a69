import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import (
    FILE_ENDINGS,
    Segmentation,
    Structures,
    find_segmentations,
    find_structures,
    read_segmentation,
)


def write(file: Path, *values: int) -> None:
    """An image with these values, of 2 x 4 x 4 voxels."""
    labels = np.zeros((2, 4, 4), np.int16)
    labels.flat[: len(values)] = values
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(file))


def test_names_come_from_the_dataset_json_above(tmp_path):
    (tmp_path / "labels").mkdir()
    labels = {"background": 0, "heart": [1, 2], "LV": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nrrd"}))
    structures = find_structures([tmp_path / "labels"])
    assert structures == Structures({"heart": (1, 2), "LV": (2,)}, ignore=3, file_ending=".nrrd")


def test_labels_that_are_given_come_first_and_need_no_dataset_json(tmp_path):
    given = find_structures([tmp_path], labels={"LV": (2,), "heart": [1, 2], "ignore": 9})
    assert given == Structures({"LV": (2,), "heart": (1, 2)}, ignore=9, file_ending=None, complete=False)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"RV": 1}, "file_ending": ".nrrd"}))
    assert find_structures([tmp_path], labels={"LV": 2}).values == {"LV": (2,)}
    assert find_structures([tmp_path], labels={"LV": 2}).file_ending == ".nrrd"


def test_nothing_names_the_labels(tmp_path):
    assert find_structures([tmp_path]) is None
    with pytest.raises(UserError, match="is not a folder"):
        find_structures([tmp_path / "nowhere"])


def test_values_are_collected_from_all_files_that_can_be_read(tmp_path):
    for folder, values in (("a", (1, 3)), ("b", (2, 3, 10))):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.nii.gz", *values)
    (tmp_path / "a" / "broken.nii.gz").write_bytes(b"no image")
    structures = Structures.by_value([tmp_path / "a", tmp_path / "b"])
    assert structures.values == {"1": (1,), "2": (2,), "3": (3,), "10": (10,)}
    structures.check_labels(read_segmentation(tmp_path / "a" / "x.nii.gz").labels, tmp_path)


def test_values_that_are_no_labels(tmp_path):
    write(tmp_path / "x.nii.gz", 0)
    with pytest.raises(UserError, match="holds a label"):
        Structures.by_value([tmp_path])
    sitk.WriteImage(
        sitk.GetImageFromArray((np.arange(400) % 200).astype(np.uint8).reshape(4, 10, 10)),
        str(tmp_path / "image.nii.gz"),
    )
    with pytest.raises(UserError, match="image.nii.gz is not a segmentation, it seems"):
        Structures.by_value([tmp_path])


def test_unknown_labels_are_a_fault_only_where_all_should_be_named(tmp_path):
    labels = np.array([[[0, 1, 7]]])
    with pytest.raises(UserError, match=r"unknown labels \[7\]; known are \[0, 1\]"):
        Structures({"LV": (1,)}).check_labels(labels, tmp_path)
    Structures({"LV": (1,)}, complete=False).check_labels(labels, tmp_path)
    Structures({"LV": (1,)}, ignore=7).check_labels(labels, tmp_path)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_the_file_ending_is_guessed(ending, tmp_path):
    for case in ("a", "b.c"):
        (tmp_path / f"{case}{ending}").touch()
    for other in ("metrics.csv", "metrics.png", "dataset.json", "a.npz"):
        (tmp_path / other).touch()
    assert set(find_segmentations(tmp_path)) == {"a", "b.c"}
    assert set(find_segmentations(tmp_path, ".elsewhere")) == {"a", "b.c"}


def test_the_file_ending_that_is_known_comes_first(tmp_path):
    for name in ("a.nii.gz", "b.nrrd"):
        (tmp_path / name).touch()
    assert find_segmentations(tmp_path, ".nrrd") == {"b": tmp_path / "b.nrrd"}
    with pytest.raises(UserError, match=r"holds files that end in \.nii\.gz and in \.nrrd: leave one kind there"):
        find_segmentations(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no segmentation that ends in \.nii\.gz\."):
        find_segmentations(tmp_path / "empty", ".nii.gz")


@pytest.mark.parametrize("ending", [ending for ending in FILE_ENDINGS if not ending.startswith(".gipl")])
def test_every_kind_of_file_is_read(ending, tmp_path):
    write(tmp_path / f"x{ending}", 1, 2)
    ((_, file),) = find_segmentations(tmp_path).items()
    assert read_segmentation(file).labels.sum() == 3


@pytest.mark.parametrize(
    "shape, spacing, axis",
    [((9, 8, 1), (1.5, 1.5, 1), 2), ((9, 8, 4), (1.5, 1.5, 10), 2), ((4, 9, 8), (2, 2, 2), 0)],
)
def test_one_slice_lies_across_its_axis_however_thin_it_is(shape, spacing, axis):
    assert Segmentation(np.zeros(shape, np.int16), spacing).slice_axis == axis
