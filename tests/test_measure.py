import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import max_wall_thickness, patient_indices
from nnunet_cardiac.evaluation.measure import measure
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures

LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
STRUCTURES = Structures({"RV": (1,), "MYO": (2,), "LV": (3,)})
SPACING = (8.0, 1.25, 1.25)


def heart(cavity: float, wall: float = 8, rv: int = 10) -> np.ndarray:
    """Six slices of a cavity of radius ``cavity`` in a wall of ``wall`` pixels; ``rv`` pixels of right ventricle."""
    y, x = np.indices((64, 64))
    radius = np.hypot(y - 32, x - 32)
    labels = np.zeros((6, 64, 64), np.int16)
    labels[1:5, radius < cavity + wall] = 2
    labels[1:5, radius < cavity] = 3
    labels[1:5, 0, :rv] = 1
    return labels


def segmentation(labels: np.ndarray) -> Segmentation:
    return Segmentation(labels, SPACING)


def test_indices_of_a_heart_of_known_size():
    ed, es = heart(cavity=14), heart(cavity=9, rv=6)
    indices = patient_indices(segmentation(ed), segmentation(es), STRUCTURES)
    assert indices.pop("LV_max_wall_thickness_mm") == pytest.approx(8 * 1.25, abs=1.25)  # a pixel more on a diagonal
    voxel = 8 * 1.25**2 / 1000
    edv, esv, myocardium = ((part.sum() * voxel) for part in (ed == 3, es == 3, ed == 2))
    assert indices == pytest.approx(
        {
            "LV_EDV_mL": edv, "LV_ESV_mL": esv, "LV_SV_mL": edv - esv, "LV_EF_percent": 100 * (edv - esv) / edv,
            "RV_EDV_mL": 40 * voxel, "RV_ESV_mL": 24 * voxel, "RV_SV_mL": 16 * voxel, "RV_EF_percent": 40,
            "LV_mass_g": 1.05 * myocardium,
        },
        abs=1e-6,
    )  # fmt: skip
    assert edv == pytest.approx(np.pi * (14 * 1.25) ** 2 * 32 / 1000, rel=0.02)  # a cylinder of 4 slices


def test_wall_is_measured_where_it_is_thickest_in_the_slice_and_not_to_islands():
    labels = heart(cavity=10, wall=6)
    labels[2, 10:17, 32] = 2  # seven pixels more, outwards
    labels[3, 60, 60] = 2
    thickness = max_wall_thickness(labels == 2, labels == 3, SPACING, 0)
    assert thickness == pytest.approx(13 * 1.25, abs=1.25)
    assert np.isnan(max_wall_thickness(labels == 2, labels == 9, SPACING, 0))


def test_empty_ventricle_has_no_ejection_fraction():
    nothing = np.zeros((6, 64, 64), np.int16)
    indices = patient_indices(segmentation(nothing), segmentation(nothing), STRUCTURES)
    assert indices["LV_EDV_mL"] == 0 and np.isnan(indices["LV_EF_percent"])


@pytest.fixture
def folders(tmp_path):
    """Three patients; the measured cavity is one pixel too wide at ED, everywhere."""
    for folder, more in (("measured", 1), ("expert", 0)):
        (tmp_path / folder).mkdir()
        for patient, radius in (("a", 12), ("b", 14), ("c", 17)):
            for phase, cavity in (("ED", radius + more), ("ES", radius - 4)):
                image = sitk.GetImageFromArray(heart(cavity).astype(np.uint8))
                image.SetSpacing(SPACING[::-1])
                sitk.WriteImage(image, str(tmp_path / folder / f"{patient}_{phase}.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return tmp_path


def test_command_writes_indices_and_agreement(folders, capsys):
    main(["measure", "-i", str(folders / "measured"), "-g", str(folders / "expert"), "-o", str(folders / "out")])
    assert "3 patients measured, 0 left out" in capsys.readouterr().out
    indices = pd.read_csv(folders / "out" / "indices.csv", index_col="patient")
    assert list(indices.index) == ["a", "b", "c"]
    assert all(name.rsplit("_", 1)[1] in ("mL", "percent", "g", "mm") for name in indices)
    agreement = pd.read_csv(folders / "out" / "agreement.csv", index_col="index")
    assert (agreement["n"] == 3).all()
    assert agreement.loc["LV_EDV_mL", "bias"] > 0 and agreement.loc["LV_ESV_mL", "bias"] == 0
    assert agreement.loc["LV_EDV_mL", "correlation"] > 0.99
    assert (folders / "out" / "bland_altman.png").stat().st_size > 10_000


def test_what_cannot_be_measured_is_named_and_the_rest_is_done(folders, capsys):
    (folders / "measured" / "a_ES.nii.gz").unlink()
    (folders / "measured" / "b_ED.nii.gz").rename(folders / "measured" / "unphased.nii.gz")
    with pytest.raises(SystemExit) as exit_status:
        main(["measure", "-i", str(folders / "measured"), "-g", str(folders / "expert"), "-o", str(folders / "out")])
    assert exit_status.value.code == 1
    output = capsys.readouterr()
    assert "a: no segmentation at ES" in output.err and "b: no segmentation at ED" in output.err
    assert "unphased.nii.gz: patient and phase (ED, ES) are neither in cases.csv nor in the name" in output.err
    assert "1 patient measured, 3 left out" in output.out


def test_ground_truth_that_is_missing_is_named(folders):
    (folders / "expert" / "c_ED.nii.gz").unlink()
    result = measure(folders / "measured", folders / "expert")
    assert len(result.indices) == 3 and len(result.reference) == 2
    assert ["c: no segmentation at ED" in p for p in result.problems] == [True]


def test_every_patient_without_ground_truth_is_named(folders):
    for name in ("b_ED", "b_ES", "c_ED"):
        (folders / "expert" / f"{name}.nii.gz").unlink()
    problems = measure(folders / "measured", folders / "expert").problems
    assert [p.split(":")[0] for p in problems] == ["c", "b"]
    for name in ("a_ED", "a_ES"):
        (folders / "expert" / f"{name}.nii.gz").unlink()
    with pytest.raises(UserError, match="No patient of .* has ground truth"):
        measure(folders / "measured", folders / "expert")


def test_a_patient_without_ground_truth_is_named_beside_one_whose_name_ends_alike(folders):
    for folder in ("measured", "expert"):
        for phase in ("ED", "ES"):
            (folders / folder / f"b_{phase}.nii.gz").rename(folders / folder / f"xa_{phase}.nii.gz")
    for name in ("a_ED", "a_ES", "xa_ED"):
        (folders / "expert" / f"{name}.nii.gz").unlink()
    assert [p.split(":")[0] for p in measure(folders / "measured", folders / "expert").problems] == ["xa", "a"]


@pytest.mark.parametrize("rows", ["case,phase\na_ED,ED\n", "case,patient,phase\na_ED,a,\n"])
def test_a_table_that_lacks_patient_or_phase_leaves_it_to_the_name(folders, rows):
    (folders / "cases.csv").write_text(rows)
    assert len(measure(folders / "measured", folders / "expert").indices) == 3


def test_two_cases_of_one_patient_and_phase_are_named(folders):
    rows = [f"{name}_{phase},{'a' if name == 'b' else name},{phase}" for name in "abc" for phase in ("ED", "ES")]
    (folders / "cases.csv").write_text("\n".join(["case,patient,phase", *rows]))
    result = measure(folders / "measured")
    assert list(result.indices.index) == ["a", "c"]
    assert [("b_E" in p and "once more" in p) for p in result.problems] == [True, True]


def test_labels_without_a_ventricle_cannot_be_measured(folders):
    (folders / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1}}))
    with pytest.raises(UserError, match=r"None of the labels in .* \(tumour\) is called LV or RV: .* --labels"):
        measure(folders / "measured")


def test_labels_are_named_on_the_command_line(folders, capsys):
    described = measure(folders / "measured").indices
    (folders / "dataset.json").unlink()
    arguments = ["measure", "-i", str(folders / "measured"), "-o", str(folders / "out")]
    with pytest.raises(SystemExit, match="tells which of the labels 1, 2, 3 is which ventricle: say it with --labels"):
        main(arguments)
    main([*arguments, "--labels", "LV=3", "myo=2", "rv=1"])
    pd.testing.assert_frame_equal(
        pd.read_csv(folders / "out" / "indices.csv", index_col="patient"), described, check_dtype=False, rtol=1e-5
    )
    main([*arguments, "--labels", "LV=3"])  # the others are not looked at
    assert set(pd.read_csv(folders / "out" / "indices.csv", index_col="patient")) == {
        name for name in described if name.startswith("LV_E") or name == "LV_SV_mL"
    }
    main([*arguments, "--labels", "LV=3", "RV=4"])
    assert "warning: RV has no volume at ED in any file" in capsys.readouterr().err
