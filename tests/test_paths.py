"""Folders with blanks, quotes and letters of all scripts, of 250 characters, behind a link, on another disk."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
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


def test_names_are_neither_formulas_nor_commands(tmp_path, capsys):
    """Matplotlib sets what stands between dollars, a terminal obeys what follows ESC."""
    names = {"background": 0, r"a$\foo$": 1, "b\x1b[31m": 2}
    (tmp_path / "labels").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
    for case in ("p\x1b[2J_ED", "p\x1b[2J_ES"):
        image = nib.Nifti1Image(np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 3, np.eye(4))
        nib.save(image, tmp_path / "labels" / f"{case}.nii.gz")
    folders = ["-i", str(tmp_path / "labels"), "-g", str(tmp_path / "labels")]
    main(["evaluate", *folders, "-o", str(tmp_path / "out"), "-np", "1"])
    main(["measure", *folders, "-o", str(tmp_path / "measured"), "--labels", "LV=1", "MYO=2"])
    said = capsys.readouterr()
    assert r"a$\foo$" in said.out and "\x1b" not in said.out + said.err
    assert list((tmp_path / "out").glob("*.png"))


def test_output_that_knows_few_letters_is_no_fault(tmp_path):
    """As that of Windows to a file."""
    code = "from nnunet_cardiac.cli import main; main(['evaluate', '-i', '\u5fc3', '-g', '\u5fc3', '-o', 'x'])"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert process.returncode == 1 and b"\\u5fc3 is not a folder" in process.stderr and b"Trace" not in process.stderr


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


def test_a_name_that_is_too_long_is_said(heart, tmp_path):
    for arguments in (["-i", str(heart), "-o", str(tmp_path / ("x" * 300))], ["-i", "x" * 300, "-o", str(tmp_path)]):
        with pytest.raises(SystemExit) as exit_status:
            main(["predict", *arguments, "-device", "cpu"])
        assert "File name too long" in exit_status.value.code


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of others have names in Unicode alone")
def test_a_name_that_is_not_in_utf8_is_told_and_the_others_are_done(trained_nnunet, tmp_path, capsys):
    """SimpleITK would end the process."""
    voxels = np.zeros((20, 18, 4), np.uint8)
    voxels[5:12, 5:12, 1:3] = 3
    images = [nib.Nifti1Image(voxels, np.diag([8, 8, 10, 1]))] * 2
    odd = os.fsdecode(b"b\xff")
    for folder, names in (("in", ("a_0000", f"{odd}_0000")), ("labels", ("a", odd))):
        (tmp_path / folder).mkdir()
        for image, name in zip(images, names, strict=True):
            nib.save(image, tmp_path / folder / f"{name}.nii.gz")
    runs = (
        ["predict", *NNUNET, "-i", "in", "-o", "out", "-device", "cpu", "--disable_tta"],
        ["evaluate", "-i", "labels", "-g", "labels", "-o", "evaluated", "--labels", "LV=3", "-np", "1"],
    )
    with contextlib.chdir(tmp_path):
        for arguments in runs:
            with pytest.raises(SystemExit) as exit_status:
                main(arguments)
            assert exit_status.value.code == 1
            assert "is a path that is not in UTF-8: rename it" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").glob("*.nii.gz")] == ["a.nii.gz"]
    assert pd.read_csv(tmp_path / "evaluated" / "metrics.csv")["case"].tolist() == ["a"]


def test_models(trained_nnunet, source, target, monkeypatch):
    file = target / ("it's a \u5fc3" + "x" * 230 + ".zip")
    monkeypatch.setenv("NNUNET_CARDIAC_MODELS", str(source / "models"))
    main(["models", "export", *NNUNET, "-o", str(file), "--name", "tiny"])
    main(["models", "install", str(file)])
    monkeypatch.setenv("nnUNet_results", str(target / "results"))
    main(["models", "to_nnunet", "tiny"])
    assert (source / "models" / "tiny" / "model.json").is_file()
    assert len(list((target / "results").rglob("checkpoint_final.pth"))) == 1
