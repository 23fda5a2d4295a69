"""The model that comes with the package."""

import json

import nibabel as nib
import numpy as np
import pytest

from nnunet_cardiac import examples
from nnunet_cardiac.cli import main
from nnunet_cardiac.evaluation.segmentation import read_segmentation
from nnunet_cardiac.models.store import BOX, MODEL_IN_THE_BOX, find_model
from nnunet_cardiac.nifti import read_nifti


@pytest.fixture(scope="module")
def model():
    return find_model(MODEL_IN_THE_BOX)


def test_it_is_small_and_carries_its_licence(model):
    assert sum(file.stat().st_size for file in (BOX / MODEL_IN_THE_BOX).rglob("*") if file.is_file()) < 10e6
    assert "CC BY-NC-SA 4.0" in model.licence and "Bernard" in model.citation
    for word in ("CC BY-NC-SA 4.0", "Bernard", "not for clinical use", "Known failures"):
        assert word in model.card
    assert model.training_images is not None and model.clean_up
    pixels = " to ".join(f"{mm:.2f}" for mm in model.training_images.pixel)
    assert f"pixels of {pixels} mm" in " ".join(model.card.split())
    licence = (BOX / MODEL_IN_THE_BOX / "LICENCE").read_text()
    assert "CC BY-NC-SA 4.0" in licence and "https://creativecommons.org/licenses/by-nc-sa/4.0/" in licence


def test_it_segments_a_real_heart_where_none_is_named(tmp_path, capsys):
    """As the experts drew it, on another scanner than those that it was trained on."""
    examples.write_volumes(tmp_path / "images", tmp_path / "labels")
    main(["predict", "-i", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-device", "cpu"])
    assert f"With {MODEL_IN_THE_BOX}, the model that comes with the package" in capsys.readouterr().out
    for phase in ("ED", "ES"):
        found = read_segmentation(tmp_path / "out" / f"SC-HF-I-4_{phase}.nii.gz")
        expert = read_segmentation(tmp_path / "labels" / f"SC-HF-I-4_{phase}.nii.gz")
        a, b = (labels.labels == examples.LV for labels in (found, expert))
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.92


def test_slices_are_where_the_network_cuts_whatever_the_spacing(tmp_path, capsys):
    """One slice no thicker than a pixel, one of a file of two dimensions, and slices closer than pixels."""
    voxels, cine = read_nifti(examples.FOLDER / examples.CINE)
    (tmp_path / "in").mkdir()
    middle = voxels[:, :, 6:7, examples.ED]
    for name, image, distance in (
        ("thick", middle, 10), ("thin", middle, 1), ("flat", middle[..., 0], 1), ("close", middle.repeat(3, 2), 1),
    ):  # fmt: skip
        made = nib.Nifti1Image(image, np.diag([1.29, 1.29, distance, 1]))
        assert made.header["dim"][0] == image.ndim
        nib.save(made, tmp_path / "in" / f"{name}.nii.gz")
    main(["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-device", "cpu", "--disable_tta"])
    said = capsys.readouterr().err
    assert all(f"{name}: one slice, where the model has seen stacks" in said for name in ("thick", "thin", "flat"))
    assert "implausible" not in said
    found = {name: read_nifti(tmp_path / "out" / f"{name}.nii.gz")[0] for name in ("thick", "thin", "flat", "close")}
    assert found["flat"].shape == middle.shape[:2]
    expected = (found["thick"] == examples.LV).sum()
    assert expected > 100
    for name, labels in found.items():
        per_slice = (labels == examples.LV).sum() / (3 if name == "close" else 1)
        assert per_slice == pytest.approx(expected, rel=0.05), name


def test_a_cine_ends_in_a_report(tmp_path):
    """Of every fourth phase of the example, for time."""
    voxels, cine = read_nifti(examples.FOLDER / examples.CINE)
    few = nib.Nifti1Image(voxels[..., [19, 3, 6, 10, 15]], cine.affine)
    nib.save(few, tmp_path / "few.nii.gz")
    main(["cine", "-i", str(tmp_path / "few.nii.gz"), "-o", str(tmp_path / "out"), "-device", "cpu"])
    record = json.loads((tmp_path / "out" / "indices.json").read_text())
    assert (record["ed_phase"], record["es_phase"]) == (1, 3)
    assert record["indices"]["LV_EF_percent"] == pytest.approx(21.8, abs=5)  # the experts'
    assert np.isfinite(record["indices"]["RV_EDV_mL"])
