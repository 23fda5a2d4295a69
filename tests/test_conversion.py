"""What all converters share: kills, full disks, speed of a second run."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_cardiac.dataset_conversion import acdc, mnms2
from nnunet_cardiac.dataset_conversion.conversion import repair_affine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.phantom.mnms2 import write_subjects

KILLS = 20


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnms2")
    write_subjects(folder, range(1, 9))
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def convert_in_own_session(source, raw):
    """What the command does, in a process group that can be killed as a whole."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # else that of ``CONTEXT``, which imports everything anew
    os.environ["nnUNet_raw"] = str(raw)
    mnms2.convert(source, n_folds=2)


# not forked from this process: it would share the lock of tqdm's bars, and could be killed while it holds it
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["nnunet_cardiac.dataset_conversion.mnms2"])


def start(source, raw):
    """Comes back when the conversion has begun to write."""
    raw.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=convert_in_own_session, args=(source, raw))
    process.start()
    while process.is_alive() and not any(raw.iterdir()):
        time.sleep(0.005)
    return process


def test_killed_anywhere_and_run_again_it_ends_as_if_undisturbed(source, tmp_path, monkeypatch):
    start(source, tmp_path / "undisturbed").join()
    expected = contents(tmp_path / "undisturbed")
    assert len(expected) == 16 * 2 + 3
    rng = np.random.default_rng(0)
    caught = 0
    for i in range(KILLS):
        raw = tmp_path / f"raw{i}"
        process = start(source, raw)
        n_files = rng.integers(32)
        while process.is_alive() and len(list(raw.glob("*/*Tr/*.nii.gz"))) < n_files:
            time.sleep(rng.uniform(0, 0.002))
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had ended
        process.join()
        for file in raw.glob("Dataset*/*Tr/*.nii.gz"):  # nothing half-written looks finished
            assert file.read_bytes() == expected[file.relative_to(raw)]
        finished = (raw / "Dataset032_MnM2_LA" / "dataset.json").exists()
        caught += not finished and any(raw.rglob("*.nii.gz"))
        monkeypatch.setenv("nnUNet_raw", str(raw))
        mnms2.convert(source, n_folds=2)
        assert contents(raw) == expected
    assert caught, "no kill came in the middle"


def convert_with_little_space(source, raw, queue):
    """No file may grow beyond some bytes, as on a disk that fills up."""
    os.environ["nnUNet_raw"] = str(raw)
    sys.stderr = open(os.devnull, "w")  # pytest's is a file too, and the progress bar would outgrow it
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        queue.put(mnms2.convert(source, n_folds=2).problems)
    except UserError as e:
        queue.put(str(e))


def test_a_full_target_is_said_and_nothing_half_written_stays(source, tmp_path):
    queue = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=convert_with_little_space, args=(source, tmp_path, queue))
    process.start()
    process.join()
    assert process.exitcode == 0
    problems = queue.get()
    assert problems and all("is the disk full?" in problem for problem in problems)
    images, labels = (
        {p.name.replace("_0000", "") for p in tmp_path.glob(f"Dataset*/{part}/*")} for part in ("imagesTr", "labelsTr")
    )
    assert images == labels and len(images) == 16 - len(problems)


def test_a_target_that_cannot_be_written(source, tmp_path, monkeypatch):
    (tmp_path / "Dataset032_MnM2_LA").write_text("a file in the way")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.raises(UserError, match="cannot be written .*: check its folder, or choose another ID with -d"):
        mnms2.convert(source, n_folds=2)


def test_tables_that_cannot_be_written_are_said_in_a_sentence(source, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    (tmp_path / "Dataset032_MnM2_LA" / "cases.csv").mkdir(parents=True)
    with pytest.raises(UserError, match="cases.csv cannot be written"):
        mnms2.convert(source, n_folds=2)
    assert not (tmp_path / "Dataset032_MnM2_LA" / "dataset.json").exists()


def test_a_duplicated_patient_is_named(phantom_acdc, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    source = shutil.copytree(phantom_acdc, tmp_path / "ACDC")
    shutil.copytree(source / "training" / "patient002", source / "testing" / "patient002")
    result = acdc.convert(source, n_folds=2)
    assert result.converted == 10 and len(result.problems) == 2
    assert all("patient002_E" in problem and "once more" in problem for problem in result.problems)


def test_axes_are_repaired_or_refused():
    right = np.diag([-1.5, 1.5, 8.0, 1.0])
    assert repair_affine(right, "image") == (pytest.approx(right), [])
    skewed = right.copy()
    skewed[0, 1] = 0.03
    repaired, repairs = repair_affine(skewed, "image")
    assert len(repairs) == 1
    spacing = np.linalg.norm(repaired[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, np.linalg.norm(skewed[:3, :3], axis=0))
    directions = repaired[:3, :3] / spacing
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert np.linalg.det(repaired[:3, :3]) < 0, "not mirrored"
    for bad in (np.diag([0.0, 1, 1, 1]), np.diag([np.nan, 1, 1, 1])):
        with pytest.raises(UserError, match="no usable geometry"):
            repair_affine(bad, "image")
    flat = np.eye(4)
    flat[:3, 2] = 1, 0, 0.1
    with pytest.raises(UserError, match="far from right angles"):
        repair_affine(flat, "image")


def test_a_written_affine_is_what_simpleitk_reads(tmp_path):
    import SimpleITK

    affine, _ = repair_affine(np.array([[-1.5, 0.02, 0, 3], [0, 1.5, 0, 4], [0, 0.1, 8, 5], [0, 0, 0, 1.0]]), "image")
    header = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).header
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine, header), tmp_path / "a.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(image.GetSpacing(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), [-3, -4, 5], rtol=1e-5)


def test_the_fifth_data_set_of_the_documentation(source, tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text()
    code = {}
    exec(text.split("```python\n")[1].split("```")[0], code)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    (tmp_path / "raw").mkdir()
    for subject in ("001", "002"):
        for phase in ("ED", "ES"):
            for ending, name in (("", ""), ("_gt", "_label")):
                original = source / "dataset" / subject / f"{subject}_SA_{phase}{ending}.nii.gz"
                target = tmp_path / "mine" / subject / f"{phase}{name}.nii.gz"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(original.read_bytes())
    (tmp_path / "mine" / "002" / "ES_label.nii.gz").unlink()
    code["LABELS"]["RV"] = 3
    result = code["convert"](tmp_path / "mine", n_folds=2)
    assert result.converted == 3 and "no label at ES" in result.problems[0]
    assert (tmp_path / "raw" / "Dataset040_Mine" / "dataset.json").is_file()
