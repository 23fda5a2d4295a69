"""Conversion of ACDC, and what all converters owe."""

import gzip
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_cardiac.cli import main
from nnunet_cardiac.dataset_conversion import acdc
from nnunet_cardiac.dataset_conversion.conversion import Case, patient_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import PARTIAL
from nnunet_cardiac.texts import read_cases

DATASET = "Dataset027_ACDC"


@pytest.fixture
def source(phantom_acdc, tmp_path):
    return shutil.copytree(phantom_acdc, tmp_path / "ACDC")


def patient_file(source, ending, patient="patient002"):
    return sorted((source / "training" / patient).glob(f"*{ending}"))[0]


def rewrite(path, change):
    """Replaces a NIfTI file by ``change(array, affine)``."""
    image = nib.load(path)
    array, affine = change(np.array(image.dataobj), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path)


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_result(source, raw):
    before = snapshot(source)
    result = acdc.convert(source, n_folds=2)
    assert (result.converted, result.kept, result.problems) == (10, 0, [])
    assert result.patients == {"train": 4, "test": 1}
    dataset = raw / DATASET
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    assert description["numTraining"] == 8
    for images, labels, n in (("imagesTr", "labelsTr", 8), ("imagesTs", "labelsTs", 2)):
        names = {p.name.replace("_0000", "") for p in (dataset / images).iterdir()}
        assert names == {p.name for p in (dataset / labels).iterdir()} and len(names) == n
    original = nib.load(patient_file(source, "frame01.nii.gz"))
    written = nib.load(dataset / "imagesTr" / "patient002_ED_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(original.dataobj))
    assert np.allclose(written.affine, original.affine)
    assert snapshot(source) == before, "source files were touched"


def test_nnunet_accepts_it(source, raw, tmp_path, monkeypatch, capsys):
    acdc.convert(source, n_folds=2)
    monkeypatch.chdir(tmp_path)
    verify_dataset_integrity(str(raw / DATASET), 1)
    assert "verify_dataset_integrity Done" in capsys.readouterr().out


def test_left_ventricle_alone(source, raw, capsys):
    main(["convert", "acdc", "-i", str(source), "--folds", "2", "--labels", "LV", "MYO"])
    main(["convert", "acdc", "-i", str(source), "--folds", "2"])
    some, all_labels = raw / "Dataset028_ACDC_LV_MYO", raw / DATASET
    assert json.loads((some / "dataset.json").read_text())["labels"] == {"background": 0, "LV": 1, "MYO": 2}
    for file in sorted((all_labels / "labelsTr").iterdir()):
        full, part = (np.asanyarray(nib.load(folder / "labelsTr" / file.name).dataobj) for folder in (all_labels, some))
        assert np.array_equal(part, np.select([full == 3, full == 2], [1, 2], 0)) and part.max() == 2
    for name in ("splits_final.json", "cases.csv"):
        assert (some / name).read_text() == (all_labels / name).read_text()
    for labels in (["LV", "LA"], ["LV", "LV"], ["background"]):
        with pytest.raises(SystemExit) as error:
            main(["convert", "acdc", "-i", str(source), "--labels", *labels])
        assert "--labels are some of RV, MYO, LV, each once" in str(error.value.code)


def test_cases_csv(source, raw):
    acdc.convert(source, n_folds=2)
    rows = {row["case"]: row for row in read_cases(raw / DATASET)}
    assert rows["patient002_ES"]["phase"] == "ES" and rows["patient002_ES"]["group"] == "MINF"
    assert rows["patient101_ED"]["split"] == "test" and rows["patient001_ED"]["split"] == "train"
    assert rows["patient001_ED"]["source"] == "patient001_frame01.nii.gz"


def test_patients_stay_together_and_every_case_is_validated_once(source, raw):
    acdc.convert(source, n_folds=2)
    splits = json.loads((raw / DATASET / "splits_final.json").read_text())
    assert len(splits) == 2
    for split in splits:
        patients = [{case.split("_")[0] for case in split[part]} for part in ("train", "val")]
        assert not patients[0] & patients[1]
    assert sorted(splits[0]["val"] + splits[1]["val"]) == sorted(splits[0]["train"] + splits[0]["val"])


def test_folds_are_stratified_by_group():
    cases = [
        Case(f"p{i:03d}_{phase}", f"p{i:03d}", phase, f"group{i % 5}", "Siemens", "train", None, None)
        for i in range(100)
        for phase in ("ED", "ES")
    ]
    for split in patient_splits(cases, 5):
        groups = [int(case[1:4]) % 5 for case in split["val"]]
        assert [groups.count(g) for g in range(5)] == [8] * 5  # 4 patients of 20, two phases each


def test_second_run_changes_nothing(source, raw):
    acdc.convert(source, n_folds=2)
    before = snapshot(raw)
    result = acdc.convert(source, n_folds=2)
    assert (result.converted, result.kept) == (0, 10)
    assert snapshot(raw) == before


def test_newer_source_is_converted_again(source, raw):
    acdc.convert(source, n_folds=2)
    os.utime(patient_file(source, "frame01.nii.gz"), (4e9, 4e9))
    assert acdc.convert(source, n_folds=2).converted == 1


def test_a_correction_of_the_frame_is_converted(source, raw):
    """Info.cfg names another frame, whose files are older than the conversion."""
    info = source / "training" / "patient002" / "Info.cfg"
    (es,) = (line for line in info.read_text().splitlines() if line.startswith("ES:"))
    wrong = patient_file(source, "frame01.nii.gz")
    for ending in ("", "_gt"):
        shutil.copy2(
            wrong.with_name(f"patient002_frame01{ending}.nii.gz"), wrong.with_name(f"patient002_frame02{ending}.nii.gz")
        )
    right = info.read_text()
    info.write_text(right.replace(es, "ES: 2"))
    acdc.convert(source, n_folds=2)
    info.write_text(right)
    assert acdc.convert(source, n_folds=2).converted == 1
    original = nib.load(patient_file(source, f"frame{int(es[3:]):02d}.nii.gz"))
    written = nib.load(raw / DATASET / "imagesTr" / "patient002_ES_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(original.dataobj))


def test_a_corrected_copy_with_the_times_of_the_first_is_converted(source, raw, tmp_path):
    acdc.convert(source, n_folds=2)
    copy = shutil.copytree(source, tmp_path / "corrected")
    assert acdc.convert(copy, n_folds=2).converted == 10
    file = patient_file(copy, "frame01_gt.nii.gz")
    times = file.stat()
    rewrite(file, lambda array, affine: (np.where(array == 1, 0, array), affine))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert acdc.convert(copy, n_folds=2).converted == 1
    assert acdc.convert(copy, n_folds=2).kept == 10


def test_a_label_that_is_withdrawn_is_not_kept(source, raw):
    acdc.convert(source, n_folds=2)
    for label in (source / "testing" / "patient101").glob("*_gt.nii.gz"):
        label.unlink()
    acdc.convert(source, n_folds=2)
    assert not (raw / DATASET / "labelsTs").exists() and len(list((raw / DATASET / "imagesTs").iterdir())) == 2


def test_a_data_set_of_others_is_left_alone(source, raw):
    dataset = raw / DATASET
    (dataset / "imagesTr").mkdir(parents=True)
    for name in ("dataset.json", "splits_final.json", "imagesTr/patient001_frame01_0000.nii.gz"):
        (dataset / name).write_text("theirs")
    before = snapshot(raw)
    with pytest.raises(UserError, match="has a dataset.json but no cases.csv: .* choose another ID with -d"):
        acdc.convert(source, n_folds=2)
    assert snapshot(raw) == before


def test_what_is_no_case_any_more_is_named_and_deleted(source, raw):
    acdc.convert(source, n_folds=2)
    dataset = raw / DATASET
    (dataset / "imagesTr" / "mine_0000.nii.gz").write_text("of the user")
    shutil.rmtree(source / "training" / "patient003")
    truncate(source)  # patient002, ED
    (source / "testing" / "patient101").rename(source / "training" / "patient101")
    result = acdc.convert(source, n_folds=2)
    gone, foreign = result.warnings
    assert "were deleted: imagesTr/patient002_ED_0000.nii.gz, imagesTr/patient003_ED_0000.nii.gz, " in gone
    assert "imagesTr/mine_0000.nii.gz; move them away" in foreign
    cases = {row["case"] for row in read_cases(dataset)}
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == len(cases) == 7
    assert {p.name for p in (dataset / "labelsTr").iterdir()} == {f"{case}.nii.gz" for case in cases}
    images = {f"{case}_0000.nii.gz" for case in cases}
    assert {p.name for p in (dataset / "imagesTr").iterdir()} == images | {"mine_0000.nii.gz"}
    assert not (dataset / "imagesTs").exists()


def test_an_interrupted_run_is_completed(source, raw):
    acdc.convert(source, n_folds=2)
    complete = {p: content for p, (_, content) in snapshot(raw).items()}
    dataset = raw / DATASET
    for name in ("cases.csv", "dataset.json", "labelsTr/patient002_ED.nii.gz", "imagesTr/patient003_ES_0000.nii.gz"):
        (dataset / name).unlink()
    (dataset / "imagesTr" / f"{PARTIAL}of_a_killed_one").mkdir()
    (dataset / "imagesTr" / f"{PARTIAL}of_a_killed_one" / "patient003_ES_0000.nii.gz").write_bytes(b"half")
    assert acdc.convert(source, n_folds=2).converted == 2
    assert {p: content for p, (_, content) in snapshot(raw).items()} == complete


@pytest.mark.parametrize("nested", ["database", "ACDC/database"])
def test_layout_is_found_below(source, raw, tmp_path, nested):
    parent = tmp_path / "download"
    (parent / nested).parent.mkdir(parents=True)
    source.rename(parent / nested)
    assert acdc.convert(parent, n_folds=2).converted == 10


def test_uncompressed_and_nested_files(source, raw):
    packed = patient_file(source, "frame01.nii.gz")
    plain = packed.with_suffix("")
    plain.mkdir()
    (plain / plain.name).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert acdc.convert(source, n_folds=2).problems == []


def test_phases_come_from_info_and_swapped_ones_are_noticed(source, raw):
    info = source / "training" / "patient002" / "Info.cfg"
    lines = dict(line.split(": ") for line in info.read_text().splitlines())
    lines["ED"], lines["ES"] = lines["ES"], lines["ED"]
    info.write_text("".join(f"{key}: {value}\n" for key, value in lines.items() if key in ("ED", "ES")))
    result = acdc.convert(source, n_folds=2)
    assert result.problems == []
    assert len(result.warnings) == 1 and "patient002" in result.warnings[0] and "larger at ES" in result.warnings[0]
    rows = {row["case"]: row for row in read_cases(raw / DATASET)}
    assert rows["patient002_ES"]["source"] == "patient002_frame01.nii.gz"
    assert rows["patient002_ES"]["group"] == "unknown"
    again = acdc.convert(source, n_folds=2)  # whoever was interrupted hears of it too
    assert again.kept == 10 and again.warnings == result.warnings


def qform_of_another_place(image):
    image.header.set_qform(image.affine @ np.diag([-1, -1, 1, 1]), code=1)


def no_form(image):
    image.header.set_qform(None, code=0)
    image.header.set_sform(None, code=0)


def other_units(image):
    image.header.set_xyzt_units("meter")


def other_steps(image):
    image.header["pixdim"][1:4] = 1


@pytest.mark.parametrize("change", [qform_of_another_place, no_form, other_units, other_steps])
def test_image_and_label_are_of_one_geometry_for_every_program(source, raw, change):
    """Headers have places for more than one; SimpleITK, and so nnU-Net, may look elsewhere than nibabel."""
    file = patient_file(source, "frame01.nii.gz")
    image = nib.load(file)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    change(image)
    affine = image.header.get_best_affine()
    header = image.header.copy()
    image.to_filename(file.with_name("plain.nii"))  # which writes a header that agrees with itself
    plain = file.with_name("plain.nii")
    content = plain.read_bytes()
    file.write_bytes(gzip.compress(header.binaryblock + content[len(header.binaryblock) :]))
    plain.unlink()
    rewrite(patient_file(source, "frame01_gt.nii.gz"), lambda array, _: (array, affine))
    assert acdc.convert(source, n_folds=2).problems == []
    verify_dataset_integrity(str(raw / DATASET))
    written, label = (
        SimpleITK.ReadImage(str(raw / DATASET / name))
        for name in ("imagesTr/patient002_ED_0000.nii.gz", "labelsTr/patient002_ED.nii.gz")
    )
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, of)(), getattr(label, of)(), atol=1e-4)
    steps = np.linalg.norm(nib.load(file).affine[:3, :3], axis=0)
    np.testing.assert_allclose(written.GetSpacing(), steps, rtol=1e-4)


def test_a_second_run_that_is_killed_leaves_no_finished_data_set(source, raw, monkeypatch):
    acdc.convert(source, n_folds=2)
    os.utime(patient_file(source, "frame01.nii.gz"))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnunet_cardiac.dataset_conversion.conversion._describe", killed)
    with pytest.raises(KeyboardInterrupt):
        acdc.convert(source, n_folds=2)
    assert not (raw / DATASET / "dataset.json").exists()
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    assert acdc.convert(source, n_folds=2).kept == 10 and (raw / DATASET / "dataset.json").exists()


def test_a_number_that_nnunet_does_not_know_or_a_file_of_that_name(source, raw):
    with pytest.raises(UserError, match="have three digits: choose another than 1027"):
        acdc.convert(source, dataset_id=1027, n_folds=2)
    (raw / f"{DATASET}.zip").touch()
    assert acdc.convert(source, n_folds=2).converted == 10


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_in_utf8_is_told(source, raw):
    name = os.fsdecode(b"patient\xff2")
    folder = (source / "training" / "patient002").rename(source / "training" / name)
    for file in list(folder.glob("patient002*")):
        file.rename(folder / file.name.replace("patient002", name))
    result = acdc.convert(source, n_folds=2)
    assert result.converted == 8 and all("not in UTF-8" in problem for problem in result.problems)


def remove_label(source):
    patient_file(source, "_gt.nii.gz").unlink()


def truncate(source):
    file = patient_file(source, "frame01.nii.gz")
    file.write_bytes(file.read_bytes()[:-400])


def not_nifti(source):
    patient_file(source, "frame01.nii.gz").write_bytes(b"<html>404</html>")


def fourth_label(source):
    def change(array, affine):
        array[0, 0, 0] = 4
        return array, affine

    rewrite(patient_file(source, "frame01_gt.nii.gz"), change)


def other_size(source):
    rewrite(patient_file(source, "frame01_gt.nii.gz"), lambda array, affine: (array[:-1], affine))


def other_geometry(source):
    rewrite(patient_file(source, "frame01_gt.nii.gz"), lambda array, affine: (array, affine * 1.1))


def not_a_number(source):
    def change(array, affine):
        array = array.astype(np.float32)
        array[1, 2, 0] = np.nan
        return array, affine

    rewrite(patient_file(source, "frame01.nii.gz"), change)


def no_info(source):
    (source / "training" / "patient002" / "Info.cfg").unlink()


def no_phase(source):
    (source / "training" / "patient002" / "Info.cfg").write_text("ED: 1\n")


def odd_phase(digits):
    def fault(source):
        (source / "training" / "patient002" / "Info.cfg").write_text(f"ED: {digits}\nES: 7\n", encoding="utf-8")

    fault.__name__ = f"phase of {len(digits)} digits"
    return fault


FAULTS = {
    remove_label: ("patient002 has no label at ED", 8),
    truncate: ("cannot be read as NIfTI", 9),
    not_nifti: ("cannot be read as NIfTI", 9),
    fourth_label: ("unknown labels [4]; known are [0, 1, 2, 3]", 9),
    other_size: ("its image", 9),
    other_geometry: ("another geometry", 9),
    not_a_number: ("1 voxels that are NaN, infinite or beyond", 9),
    no_info: ("Info.cfg is missing", 8),
    no_phase: ("has no line 'ES: FRAME'", 8),
    **{odd_phase(digits): ("has no line 'ED: FRAME'", 8) for digits in ("²", "1" * 300, "1" * 5000)},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_named_and_the_rest_is_converted(source, raw, capsys, fault):
    message, converted = FAULTS[fault]
    fault(source)
    with pytest.raises(SystemExit) as exit_status:
        main(["convert", "acdc", "-i", str(source), "--folds", "2"])
    assert exit_status.value.code == 1
    output = capsys.readouterr()
    reasons = [line for line in output.err.splitlines() if line.startswith("left out: ")]
    assert len(reasons) == 1 and message in reasons[0] and "patient002" in reasons[0]
    assert f"{converted} cases converted" in output.out
    rows = read_cases(raw / DATASET)
    patients = len({row["patient"] for row in rows})
    assert f"left out. {patients - 1} patients to train on, 1 to test on." in output.out
    cases = {row["case"] for row in rows}
    assert len(cases) == converted and "patient003_ED" in cases


def test_testing_patients_may_lack_labels(source, raw):
    for label in (source / "testing" / "patient101").glob("*_gt.nii.gz"):
        label.unlink()
    result = acdc.convert(source, n_folds=2)
    assert result.problems == [] and result.converted == 10
    assert (raw / DATASET / "imagesTs").is_dir() and not (raw / DATASET / "labelsTs").exists()


def test_unusual_spacing_is_warned_of(source, raw):
    def change(array, affine):
        return array, affine @ np.diag([10, 10, 1, 1])

    for ending in ("frame01.nii.gz", "frame01_gt.nii.gz"):
        rewrite(patient_file(source, ending), change)
    assert any("unusual voxel spacing" in warning for warning in acdc.convert(source, n_folds=2).warnings)


def test_nothing_to_convert(tmp_path, raw, source, monkeypatch):
    with pytest.raises(UserError, match="is not a folder"):
        acdc.convert(tmp_path / "nowhere")
    with pytest.raises(UserError, match="No folder 'training/patientNNN'"):
        acdc.convert(raw)
    with pytest.raises(UserError, match="9 folds cannot be made of 4"):
        acdc.convert(source, n_folds=9)
    (raw / "Dataset027_Other").mkdir()
    with pytest.raises(UserError, match="already belongs to Dataset027_Other"):
        acdc.convert(source)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match="nnUNet_raw is not set"):
        acdc.convert(source)
