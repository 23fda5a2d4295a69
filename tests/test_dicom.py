"""What every reader of DICOM files shares; objects that unpack to too much, tell of too many pixels, or do not end."""

import random

import numpy as np
import pydicom
import pytest
from mutations import dicom_bomb, dicom_depth
from pydicom.uid import DeflatedExplicitVRLittleEndian

from nnunet_cardiac.cine.dicom import read_frames, read_pixels
from nnunet_cardiac.dicom import dicom_affine, read_dicom, unit_vectors
from nnunet_cardiac.phantom.dicom import write_study


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study", "siemens", n_slices=1, n_phases=2, shape=(24, 20), spacing=10.0, others=False)
    return tmp_path / "study"


def problems_of(study, change) -> list[str]:
    """What is said of a study of two files, one of which ``change`` is done to; the other is read."""
    damaged, good = sorted(study.iterdir())
    change(damaged)
    frames, _, problems = read_frames(study)
    pixels, more = read_pixels(frames)
    assert good in {source.file for source in pixels}
    assert all(damaged.name in problem and "\n" not in problem for problem in problems + more)
    return problems + more


def test_a_bomb_is_not_unpacked(study, monkeypatch):
    monkeypatch.setattr("nnunet_cardiac.dicom.LARGEST_INFLATED", 30_000_000)
    (problem,) = problems_of(study, lambda file: dicom_bomb(file, random.Random(0)))
    assert "it unpacks to more than 0.03 GB" in problem


def test_what_is_deflated_is_read(study):
    file, _ = sorted(study.iterdir())
    dicom = pydicom.dcmread(file)
    dicom.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dicom.save_as(file)
    assert read_dicom(file).pixel_array.shape == (24, 20)


def test_sequences_that_do_not_end(study):
    problems_of(study, lambda file: dicom_depth(file, random.Random(1)))


@pytest.mark.parametrize(
    "values, because",
    [
        ({"Rows": 65535, "Columns": 65535}, r"4.3e+09 pixels"),
        ({"NumberOfFrames": 2**31 - 1}, r"1e+12 pixels"),
        ({"Rows": 25}, "cannot be decoded"),
        ({"PixelData": b"\0" * 10}, "cannot be decoded"),
        ({"BitsAllocated": 12}, "cannot be decoded"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "cannot be decoded"),
    ],
)
def test_pixels_that_are_not_there(study, values, because):
    def change(file):
        dicom = pydicom.dcmread(file)
        for keyword, value in values.items():
            setattr(dicom, keyword, value)
        dicom.save_as(file)

    assert because in problems_of(study, change)[0]


def test_geometry_is_the_images_own():
    directions = unit_vectors([0, 1, 0, 0, 0, -1])
    affine = dicom_affine(directions, [10, 20, 30], [1.5, 1.25], 8)  # rows, columns
    # along a row of the image the patient's back comes nearer: DICOM's y, nibabel's -y; down a column the feet
    np.testing.assert_allclose(affine[:3, 0], [0, -1.25, 0], atol=1e-12)
    np.testing.assert_allclose(affine[:3, 1], [0, 0, -1.5], atol=1e-12)
    np.testing.assert_allclose(affine[:3, 2], [8, 0, 0], atol=1e-12)  # DICOM's -x, nibabel's x
    np.testing.assert_allclose(affine[:3, 3], [-10, -20, 30])


def test_directions_that_were_rounded_are_at_right_angles():
    directions = unit_vectors([0.001, 1, 0, 0, 0.002, -1])
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(directions, [[0, 1, 0], [0, 0, -1]], atol=0.003)


@pytest.mark.parametrize("orientation", [[0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_what_are_not_two_directions(orientation):
    with pytest.raises(ValueError):
        unit_vectors(orientation)
