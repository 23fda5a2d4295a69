"""Conversion of LVQuan19: MATLAB v5 and v7.3, and what can be wrong with a file."""

import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_cardiac.cli import main
from nnunet_cardiac.dataset_conversion import lvquan19
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.phantom.lvquan19 import N_FRAMES, write_patients
from nnunet_cardiac.texts import read_cases


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lvquan19")
    write_patients(folder / "TrainingData", [1, 2])
    write_patients(folder / "TrainingData", [3], v73=True)
    return folder


@pytest.fixture
def source(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "LVQuan19")


def edit(source, change, name="patient2.mat"):
    file = source / "TrainingData" / name
    content = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
    change(content)
    scipy.io.savemat(file, content)


def test_result(source, raw):
    result = lvquan19.convert(source, n_folds=3)
    assert (result.converted, result.problems, result.warnings) == (3 * N_FRAMES, [], [])
    dataset = raw / "Dataset019_LVQuan19"
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {"background": 0, "LV": 1, "MYO": 2}
    content = scipy.io.loadmat(source / "TrainingData" / "patient1.mat")
    image = nib.load(dataset / "imagesTr" / "patient1_frame05_0000.nii.gz")
    labels = np.asanyarray(nib.load(dataset / "labelsTr" / "patient1_frame05.nii.gz").dataobj)
    assert image.shape == labels.shape == (80, 80, 1)
    assert image.header.get_zooms() == pytest.approx((3.2, 3.2, 10))
    endo, epi = content["endo"][..., 4].T, content["epi"][..., 4].T
    assert np.array_equal(labels[..., 0] == 1, endo > 0)
    assert np.array_equal(labels[..., 0] == 2, (epi > 0) & (endo == 0))
    assert (labels == 1).any() and (labels == 2).any()
    np.testing.assert_allclose(image.get_fdata()[..., 0], content["image"][..., 4].T, rtol=1e-5)


def test_nnunet_accepts_it_and_finds_the_slice_axis(source, raw, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    (tmp_path / "preprocessed").mkdir()
    main(["convert", "lvquan19", "-i", str(source), "--folds", "3"])
    verify_dataset_integrity(str(raw / "Dataset019_LVQuan19"), 1)
    main(["plan_and_preprocess", "-d", "19", "-pl", "HALSRNetPlanner", "--small"])
    plans = json.loads((tmp_path / "preprocessed" / "Dataset019_LVQuan19" / "nnUNetHALSRNetPlans.json").read_text())
    assert plans["configurations"]["2d"]["spacing"] == pytest.approx([3.2, 3.2])
    assert plans["configurations"]["2d_roi"]["architecture"]["arch_kwargs"]["box_labels"] == [1, 2]


def test_an_ending_in_capitals_is_one_too(source, raw):
    file = source / "TrainingData" / "patient2.mat"
    file.rename(file.with_name("patient2.MAT"))
    assert "patient2" in {row["patient"] for row in read_cases(lvquan19.convert(source, n_folds=2).folder)}


def test_both_versions_of_the_format_say_the_same(tmp_path, raw):
    for v73 in (False, True):
        write_patients(tmp_path / str(v73), [1], v73=v73)
    old, new = (lvquan19.read_mat(tmp_path / str(v73) / "patient1.mat") for v73 in (False, True))
    for name in ("image", "endo", "epi", "pix_spa", "lv_phase"):
        assert old[name].shape == new[name].shape and np.array_equal(old[name], new[name])


def test_frames_of_a_patient_stay_together(source, raw):
    lvquan19.convert(source, n_folds=3)
    dataset = raw / "Dataset019_LVQuan19"
    for split in json.loads((dataset / "splits_final.json").read_text()):
        train, val = ({case.split("_")[0] for case in split[part]} for part in ("train", "val"))
        assert not train & val and len(split["val"]) == N_FRAMES
    phases = [row["phase"] for row in read_cases(dataset) if row["patient"] == "patient3"]
    assert set(phases) == {"systole", "diastole"} and phases[2] == "systole" and phases[14] == "diastole"


def test_a_second_run_changes_nothing(source, raw):
    lvquan19.convert(source, n_folds=3)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in raw.rglob("*") if p.is_file()}
    assert (lvquan19.convert(source, n_folds=3)).kept == 3 * N_FRAMES
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in raw.rglob("*") if p.is_file()} == before


def test_frames_without_annotation_are_no_cases(source, raw):
    def clear(content):
        content["endo"][..., :3] = content["epi"][..., :3] = 0

    edit(source, clear)
    assert lvquan19.convert(source, n_folds=3).converted == 3 * N_FRAMES - 3


def test_endo_outside_epi_is_counted_and_kept(source, raw):
    def shift(content):
        content["endo"][0, :7, 4] = 1

    edit(source, shift)
    result = lvquan19.convert(source, n_folds=3)
    assert result.converted == 3 * N_FRAMES
    (warning,) = result.warnings
    assert "patient2.mat, frame 5: 7 pixels of endo are outside epi" in warning


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda c: c.pop("endo"), "has no endo; it has epi, image, lv_phase, pix_spa"),
        (lambda c: c.update(epi=c["epi"][:-1]), r"epi is \(79, 80, 20\), image \(80, 80, 20\)"),
        (lambda c: c.update(pix_spa=np.array([[0.0]])), "pix_spa is .* not a spacing"),
        (lambda c: c.update(endo=0 * c["endo"], epi=0 * c["epi"]), "has no annotated frame"),
    ],
)
def test_a_faulty_file_is_named_and_the_others_converted(source, raw, change, reason):
    edit(source, change)
    result = lvquan19.convert(source, n_folds=2)
    assert result.converted == 2 * N_FRAMES
    with pytest.raises(UserError, match=reason):
        raise UserError(result.problems[0])
    assert "patient2.mat" in result.problems[0]


def test_what_is_no_number_is_not_loaded(source, raw, monkeypatch):
    """A struct has the size 1 x 1, whatever is in it."""
    edit(source, lambda content: content.update(more={"zeros": np.zeros(9)}))
    assert set(lvquan19.read_mat(source / "TrainingData" / "patient2.mat")) == set(lvquan19.KNOWN)
    edit(source, lambda content: content.update(lv_phase={"zeros": np.zeros(9)}), "patient1.mat")
    monkeypatch.setattr(scipy.io, "loadmat", lambda *arguments, **options: pytest.fail("it is loaded"))
    with pytest.raises(UserError, match="patient1.mat cannot be read .*lv_phase holds no numbers"):
        lvquan19.read_mat(source / "TrainingData" / "patient1.mat")


@pytest.mark.parametrize("name", ["patient2.mat", "patient3.mat"])
def test_a_file_that_was_cut_off(source, raw, name):
    file = source / "TrainingData" / name
    file.write_bytes(file.read_bytes()[:3000])
    result = lvquan19.convert(source, n_folds=2)
    assert result.converted == 2 * N_FRAMES
    assert f"{name} cannot be read as a MATLAB file" in result.problems[0]


def test_frames_from_100_on(tmp_path, raw):
    content = {name: np.zeros((8, 8, 101), np.uint8) for name in ("image", "endo", "epi")} | {"pix_spa": 1.0}
    content["image"][:] = np.arange(101)
    content["epi"][2:6, 2:6, [0, 100]] = 1
    for name in ("a", "b"):
        scipy.io.savemat(tmp_path / f"{name}.mat", content)
    assert lvquan19.convert(tmp_path, n_folds=2).converted == 4
    for frame in (1, 101):
        image = nib.load(raw / "Dataset019_LVQuan19" / "imagesTr" / f"a_frame{frame:02d}_0000.nii.gz")
        assert (image.get_fdata() == frame - 1).all()


def test_nan_in_a_frame(source, raw):
    def nan(content):
        content["image"][3, 3, 7] = np.nan

    edit(source, nan)
    result = lvquan19.convert(source, n_folds=3)
    assert result.converted == 3 * N_FRAMES - 1
    assert "patient2.mat, frame 8: the image has NaN" in result.problems[0]


def test_no_such_folder_or_no_file(tmp_path, raw):
    with pytest.raises(UserError, match="is not a folder"):
        lvquan19.convert(tmp_path / "nowhere")
    with pytest.raises(UserError, match="There is no .mat file"):
        lvquan19.convert(raw)


@pytest.mark.parametrize("what", ["huge", "group", "soft link", "text", "cut"])
def test_damaged_files_are_named_and_the_others_converted(source, raw, what):
    """Of version 7.3; a data set can claim values that are not stored, and a link can lead nowhere."""
    file = source / "TrainingData" / "patient3.mat"
    if what == "cut":
        file.write_bytes(file.read_bytes()[:3000])
    else:
        with h5py.File(file, "r+") as content:
            del content["endo"]
            if what == "huge":
                content.create_dataset("endo", (10**5, 10**5, 10**5), "u1", chunks=(64, 64, 64))
            elif what == "group":
                content.create_group("endo")
            else:
                content["endo"] = h5py.SoftLink("/nowhere") if what == "soft link" else "text"
    result = lvquan19.convert(source, n_folds=2)
    assert result.converted == 40 and len(result.problems) == 1 and "patient3.mat" in result.problems[0]
