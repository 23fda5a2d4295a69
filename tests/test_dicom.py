"""DICOM objects that unpack to too much, tell of too many pixels, or do not end."""

import random

import pydicom
import pytest
from mutations import dicom_bomb, dicom_depth
from pydicom.uid import DeflatedExplicitVRLittleEndian

from nnunet_cardiac.cine.dicom import read_frames, read_pixels
from nnunet_cardiac.dicom import read_dicom
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
