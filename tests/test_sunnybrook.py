"""Conversion of Sunnybrook: contours to masks, both layouts, and what can be wrong with a download."""

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from pydicom.uid import JPEGLosslessSV1

from nnunet_cardiac.cli import main
from nnunet_cardiac.dataset_conversion import sunnybrook
from nnunet_cardiac.dataset_conversion.sunnybrook import fill_polygon, polygon_area, read_contour
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.phantom.sunnybrook import N_FRAMES, write_dicom, write_patients
from nnunet_cardiac.texts import read_cases

PATIENTS = ("SC-HF-I-1", "SC-HF-NI-2", "SC-HYP-3", "SC-N-4")
CONTOURS = "TrainingDataContours/{}/contours-manual/IRCCI-expert"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sunnybrook")
    write_patients(folder, [1, 2, 3, 4])
    return folder


@pytest.fixture
def source(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "Sunnybrook")


def image_files(source, patient="SC-HF-I-1"):
    return sorted((source / "challenge_training" / patient).glob("*.dcm"))


def contour_files(source, kind="i", patient="SC-HF-I-1"):
    return sorted((source / CONTOURS.format(patient)).glob(f"*{kind}contour*"))


def load(file):
    return np.asanyarray(nib.load(file).dataobj)[..., 0].T


def squares(*corners):
    return [np.array([[x, y], [x, Y], [X, Y], [X, y]], float) for x, y, X, Y in corners]


# contours


def test_a_polygon_along_pixel_borders_is_those_pixels():
    (square,) = squares((2, 3, 7, 5))
    mask = fill_polygon(square, (10, 12))
    assert mask[3:5, 2:7].all() and mask.sum() == 10


def test_pixels_on_the_border_are_taken_by_their_share_until_the_area_is_met():
    (square,) = squares((2, 3, 4.7, 5))  # a column of which 0.7 is inside: 5.4 pixels, of which 4 are whole
    mask = fill_polygon(square, (10, 12))
    assert mask[3:5, 2:4].all() and mask[3:5, 4].sum() == 1 and mask.sum() == 5


def test_the_last_pixel_can_be_inside():
    (square,) = squares((0, 0, 6, 4))
    assert fill_polygon(square, (4, 6)).all()


@st.composite
def polygons(draw):
    """Outlines around a centre, such as hearts have: star-shaped, never thin."""
    n = draw(st.integers(8, 60))
    radius = draw(st.floats(4, 25))
    centre = np.array([draw(st.floats(30, 50)), draw(st.floats(30, 40))])
    radii = radius * np.array(draw(st.lists(st.floats(0.7, 1.1), min_size=n, max_size=n)))
    angles = np.arange(n) * 2 * np.pi / n
    return centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(polygons())
def test_area_and_centroid_survive(points):
    """Within half a pixel of area, and 0.4 pixels of the centroid, from 40 pixels of area on."""
    mask = fill_polygon(points, (70, 80))
    assert abs(mask.sum() - polygon_area(points)) <= 0.5
    x, y = points.T
    X, Y = np.roll(points, -1, 0).T
    cross = x * Y - X * y
    centroid = np.array([((x + X) * cross).sum(), ((y + Y) * cross).sum()]) / (3 * cross.sum())
    rows, columns = np.nonzero(mask)
    assert np.abs(np.array([columns.mean() + 0.5, rows.mean() + 0.5]) - centroid).max() < 0.4


@pytest.mark.parametrize(
    "text, error",
    [
        ("1 2\n3 4\n", "2 points: a contour needs three or more"), ("", "0 points"), ("1 2\n3 4\n5 x\n", "not a list"),
        ("1 2\n3 4\n5\n", "not a list of points"), ("1 2\n3 4\n5 nan\n", "all finite"),
    ],
)  # fmt: skip
def test_files_that_are_no_contour(tmp_path, text, error):
    file = tmp_path / "contour.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=error):
        read_contour(file)


def test_polygons_that_enclose_nothing_or_leave_the_image():
    with pytest.raises(UserError, match="not even one pixel"):
        fill_polygon(np.array([[2.0, 2], [5, 2], [8, 2]]), (10, 10))
    with pytest.raises(UserError, match="out of an image of 12 x 10 pixels"):
        fill_polygon(squares((2, 3, 13, 5))[0], (10, 12))


# data sets


@pytest.mark.parametrize("linked", [False, True])
def test_every_contour_of_the_cavity_is_a_case(raw, tmp_path, linked):
    source = tmp_path / "source"
    write_patients(source, [1, 2], linked=linked)
    result = sunnybrook.convert(source, n_folds=2)
    contours = sorted(source.rglob("*icontour*"))
    assert (result.converted, result.problems, result.warnings) == (len(contours), [], [])
    dataset = raw / "Dataset009_Sunnybrook"
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {"background": 0, "LV": 1}
    cases = read_cases(dataset)
    assert {(c["patient"], c["group"]) for c in cases} == {("SC-HF-I-1", "HF-I"), ("SC-HF-NI-2", "HF-NI")}
    for contour in contours:
        patient = next(p for p in PATIENTS if p in contour.parts)
        number = int(contour.name.split("-")[2])
        mask = load(dataset / "labelsTr" / f"{patient}_{number:04d}.nii.gz")
        area = polygon_area(read_contour(contour))
        assert abs(mask.sum() - area) <= max(0.5, 0.02 * area)
        image = nib.load(dataset / "imagesTr" / f"{patient}_{number:04d}_0000.nii.gz")
        assert image.header.get_zooms() == pytest.approx((4.2, 4.2, 10))
        dicom = next(source.rglob(f"*{int(patient[-1]) + 100:04d}-{number:04d}.dcm"), None) or (
            source / "dicoms" / f"SCD{int(patient[-1]):07d}" / f"{number:04d}.dcm"
        )
        assert np.array_equal(np.asanyarray(image.dataobj)[..., 0].T, pydicom.dcmread(dicom).pixel_array)


def test_the_larger_cavity_at_a_position_is_diastole(source, raw):
    sunnybrook.convert(source, n_folds=2)
    phases = {c["case"]: c["phase"] for c in read_cases(raw / "Dataset009_Sunnybrook")}
    frames = {case: (int(case[-4:]) - 1) % N_FRAMES for case in phases}
    assert set(phases.values()) == {"diastole", "systole"}
    assert all((phases[case] == "diastole") == (frame == 0) for case, frame in frames.items())


def test_patients_stay_in_one_fold_and_pathologies_are_spread(raw, tmp_path):
    write_patients(tmp_path / "source", range(1, 9), n_slices=2)
    sunnybrook.convert(tmp_path / "source", n_folds=2)
    for fold in json.loads((raw / "Dataset009_Sunnybrook" / "splits_final.json").read_text()):
        parts = [{case.rsplit("_", 1)[0] for case in fold[part]} for part in ("train", "val")]
        assert not parts[0] & parts[1]
        for part in parts:
            assert {p.rsplit("-", 1)[0] for p in part} == {"SC-HF-I", "SC-HF-NI", "SC-HYP", "SC-N"}


def test_myocardium_needs_both_contours(source, raw):
    result = sunnybrook.convert(source, n_folds=2, labels=["lv", "myo"])
    assert result.converted == sum(len(contour_files(source, "o", p)) for p in PATIENTS)
    labels = load(raw / "Dataset010_Sunnybrook_LV_MYO" / "labelsTr" / "SC-HF-I-1_0005.nii.gz")
    name = "IM-0001-0005-{}contour-manual.txt"
    inner, outer = (
        polygon_area(read_contour(source / CONTOURS.format("SC-HF-I-1") / name.format(kind))) for kind in "io"
    )
    assert (labels == 1).sum() == pytest.approx(inner, abs=0.5)
    assert (labels == 2).sum() == pytest.approx(outer - inner, abs=1)


def test_unknown_myocardium_is_ignored(source, raw, tmp_path, monkeypatch):
    result = sunnybrook.convert(source, n_folds=2, labels=["LV", "MYO"], keep_unknown=True)
    dataset = raw / "Dataset011_Sunnybrook_LV_MYO_unknown"
    assert result.converted == sum(len(contour_files(source, "i", p)) for p in PATIENTS)
    labels = json.loads((dataset / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "LV": 1, "MYO": 2, "ignore": 3}
    assert set(np.unique(load(dataset / "labelsTr" / "SC-HF-I-1_0007.nii.gz"))) == {1, 3}
    assert set(np.unique(load(dataset / "labelsTr" / "SC-HF-I-1_0005.nii.gz"))) == {0, 1, 2}
    monkeypatch.chdir(tmp_path)
    verify_dataset_integrity(str(dataset), 1)


def test_the_command(source, raw, capsys):
    main(["convert", "sunnybrook", "-i", str(source), "--folds", "2", "--labels", "lv"])
    before = {f: f.stat().st_mtime_ns for f in (raw / "Dataset009_Sunnybrook").rglob("*") if f.is_file()}
    main(["convert", "sunnybrook", "-i", str(source), "--folds", "2", "--labels", "lv"])
    assert "0 cases converted" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_a_newer_outer_contour_is_converted_again(source, raw):
    sunnybrook.convert(source, n_folds=2, labels=["lv", "myo"])
    os.utime(contour_files(source, "o")[0], (4e9, 4e9))
    assert sunnybrook.convert(source, n_folds=2, labels=["lv", "myo"]).converted == 1


def test_endings_in_capitals_are_read_too(source, raw):
    expected = sunnybrook.convert(source, n_folds=2).converted
    for file in image_files(source):
        file.rename(file.with_suffix(".DCM"))
    again = sunnybrook.convert(source, n_folds=2)
    assert again.converted + again.kept == expected


def test_names_of_folders_are_read_as_people_write_them(source, raw):
    (source / "challenge_training" / "SC-HF-I-1").rename(source / "challenge_training" / "sc-hf-i-01")
    dicom = source / "challenge_training" / "SC-N-4" / "DICOM"
    dicom.mkdir()
    for file in image_files(source, "SC-N-4"):
        file.rename(dicom / file.name)
    assert sunnybrook.convert(source, n_folds=2).problems == []


# what can be wrong


def faults():
    """Each spoils something of patient SC-HF-I-1; what is printed of it; how many cases are lost."""

    def without_image(source):
        image_files(source)[4].unlink()

    def without_contours(source):
        shutil.rmtree(source / "TrainingDataContours" / "SC-HF-I-1")

    def without_images(source):
        shutil.rmtree(source / "challenge_training" / "SC-HF-I-1")

    def two_points(source):
        contour_files(source)[0].write_text("20 20\n30 30\n")

    def outside(source):
        contour_files(source)[0].write_text("20 20\n30 90\n40 20\n")

    def without_inner(source):
        contour_files(source)[0].unlink()

    def another_series(source):
        pixels = np.zeros((64, 64))
        for i in (5, 6):
            write_dicom(image_files(source)[0].with_name(f"localiser{i}.dcm"), pixels, "1.2.3", i, 4.2, (0, 0, 0))

    def truncated(source):
        file = image_files(source)[4]
        file.write_bytes(file.read_bytes()[:-3000])

    def not_dicom(source):
        image_files(source)[4].write_text("a web page that says no")

    def without_spacing(source):
        dicom = pydicom.dcmread(image_files(source)[4])
        dicom.PixelSpacing = [4.2, 0]
        dicom.save_as(image_files(source)[4])

    def compressed(source):
        dicom = pydicom.dcmread(image_files(source)[4])
        dicom.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dicom.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        dicom["PixelData"].VR = "OB"
        dicom.save_as(image_files(source)[4])

    def same_number(source):
        shutil.copy(image_files(source)[4], image_files(source)[4].with_name("copy.dcm"))

    def strange_name(source):
        for root in ("challenge_training", "TrainingDataContours"):
            (source / root / "SC-HF-I-1").rename(source / root / "SC-ATHLETE-1")

    def strange_contour_twice(source):
        shutil.copytree(source / CONTOURS.format("SC-HF-I-1"), source / "old" / "SC-HF-I-01")

    return [
        (without_image, "no DICOM file of SC-HF-I-1 has instance number 5", 1),
        (without_contours, "SC-HF-I-1: 12 DICOM files and no contour", 4),
        (without_images, "SC-HF-I-1: 4 frames with contours, but no folder of SC-HF-I-1 has DICOM files", 4),
        (two_points, "2 points", 1),
        (outside, "out of an image of 64 x 64 pixels", 1),
        (without_inner, "has no inner contour beside it", 1),
        (another_series, "SC-HF-I-1: 2 DICOM files of 1 other series are left out", 0),
        (truncated, "cannot be read as DICOM", 1),
        (not_dicom, "cannot be read as DICOM", 1),
        (without_spacing, "cannot be read as DICOM (spacing 0.0 x 4.2 x 10.0 mm", 1),
        (compressed, "cannot be read as DICOM", 1),
        (same_number, "both have instance number 5", 1),
        (strange_name, "4 contours of no patient|6 contours of no patient", 4),
        (strange_contour_twice, "is a second contour of what", 0),
    ]


@pytest.mark.parametrize("spoil, message, lost", faults(), ids=lambda v: getattr(v, "__name__", None))
def test_a_fault_is_named_and_the_rest_converted(source, raw, spoil, message, lost):
    n = sum(len(contour_files(source, "i", p)) for p in PATIENTS)
    spoil(source)
    result = sunnybrook.convert(source, n_folds=2)
    assert result.converted == n - lost
    said = "\n".join(result.problems + result.warnings)
    assert any(part in said for part in message.split("|")), said


def test_an_outer_contour_inside_the_inner_one(source, raw):
    inner, outer = contour_files(source)[0], contour_files(source, "o")[0]
    text = inner.read_text()
    inner.write_text(outer.read_text())
    outer.write_text(text)
    result = sunnybrook.convert(source, n_folds=2, labels=["lv", "myo"])
    assert "is not around the inner one" in result.problems[0] and result.converted == 7


def test_a_link_table_with_other_columns(raw, tmp_path):
    write_patients(tmp_path / "source", [1, 2], linked=True)
    (tmp_path / "source" / "link.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no columns patient_id and original_id"):
        sunnybrook.convert(tmp_path / "source", n_folds=2)


def test_wrong_arguments(source, raw, tmp_path):
    with pytest.raises(UserError, match="--labels is LV, or LV MYO; got rv"):
        sunnybrook.convert(source, labels=["rv"])
    with pytest.raises(UserError, match="--keep_unknown is for --labels LV MYO"):
        sunnybrook.convert(source, keep_unknown=True)
    with pytest.raises(UserError, match="not a folder"):
        sunnybrook.convert(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No frame in .* has both an image and a contour"):
        sunnybrook.convert(tmp_path / "empty")
