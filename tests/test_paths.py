"""Folders with blanks, quotes and letters of all scripts, of 250 characters, behind a link, on another disk."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import NNUNET

from nnunet_cardiac.cli import main
from nnunet_cardiac.phantom.acdc import write_patients

AWKWARD = Path("a  b", 'it\'s "quoted" & $HOME', "\u00dcbung \u5fc3\u81d3 \U0001fac0", "x" * 200)
DISKS = [Path(p) for p in ("/dev/shm", "/tmp") if os.access(p, os.W_OK)]


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder for what is read."""
    (tmp_path / AWKWARD).mkdir(parents=True)
    return tmp_path / AWKWARD


@pytest.fixture
def target(tmp_path):
    """A folder for what is written: a link to one on another disk than temporary files, where there is one."""
    temporary = os.stat(tempfile.gettempdir()).st_dev
    disk = next((disk for disk in DISKS if os.stat(disk).st_dev != temporary), tmp_path)
    elsewhere = Path(tempfile.mkdtemp(dir=disk))
    (elsewhere / AWKWARD).mkdir(parents=True)
    (tmp_path / "a link").symlink_to(elsewhere / AWKWARD)
    yield tmp_path / "a link"
    shutil.rmtree(elsewhere)


def test_convert(source, target, monkeypatch):
    write_patients(source / "training", [1, 2], shape=(20, 18), spacing=12.0, n_slices=3)
    monkeypatch.setenv("nnUNet_raw", str(target / "raw"))
    dataset = target / "raw" / "Dataset027_ACDC"
    dataset.mkdir(parents=True)
    (source / "images").mkdir()
    (dataset / "imagesTr").symlink_to(source / "images")  # a part of the data set is on another disk than the rest
    main(["convert", "acdc", "-i", str(source), "--folds", "2", "-np", "1"])
    assert len(list((dataset / "imagesTr").glob("*.nii.gz"))) == len(list((dataset / "labelsTr").glob("*.nii.gz"))) == 4
    assert not list(dataset.rglob(".partial")) and (dataset / "dataset.json").is_file()


def test_evaluate(source, target):
    case = "a \"b\" & 'c' \u00fc \u5fc3" + "x" * 180
    for side in ("mine", "experts"):
        (source / side).mkdir()
        nib.save(nib.Nifti1Image(np.eye(3, dtype=np.uint8)[..., None], np.eye(4)), source / side / f"{case}.nii.gz")
    main(["evaluate", "-i", str(source / "mine"), "-g", str(source / "experts"), "-o", str(target / "out")])
    assert case.replace('"', '""') in (target / "out" / "metrics.csv").read_text()


@pytest.fixture
def heart(source) -> Path:
    voxels = np.random.default_rng(0).integers(0, 500, (20, 18, 4, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([8, 8, 10, 1])), source / "it's a \u5fc3.nii.gz")
    return source / "it's a \u5fc3.nii.gz"


def test_predict(trained_nnunet, source, target):
    case = "a \"b\" & 'c' \u00fc \u5fc3" + "x" * 180
    nib.save(nib.Nifti1Image(np.ones((20, 18, 4), np.int16), np.diag([8, 8, 10, 1])), source / f"{case}.nii.gz")
    main(["predict", *NNUNET, "-i", str(source), "-o", str(target / "out"), "-device", "cpu", "--disable_tta"])
    assert (target / "out" / f"{case}.nii.gz").is_file() and not (target / "out" / ".partial").exists()


def test_cine(trained_nnunet, heart, target):
    main(["cine", *NNUNET, "-i", str(heart), "-o", str(target / "out"), "-device", "cpu", "--disable_tta"])
    assert json.loads((target / "out" / "indices.json").read_text())["n_phases"] == 5


def test_models(trained_nnunet, source, target, monkeypatch):
    file = target / ("it's a \u5fc3" + "x" * 230 + ".zip")
    monkeypatch.setenv("NNUNET_CARDIAC_MODELS", str(source / "models"))
    main(["models", "export", *NNUNET, "-o", str(file), "--name", "tiny"])
    main(["models", "install", str(file)])
    monkeypatch.setenv("nnUNet_results", str(target / "results"))
    main(["models", "to_nnunet", "tiny"])
    assert (source / "models" / "tiny" / "model.json").is_file()
    assert len(list((target / "results").rglob("checkpoint_final.pth"))) == 1
