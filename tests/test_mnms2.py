"""Conversion of M&Ms-2: both views, both splits, and what can be wrong with a download."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import predict_with_nnunet, run_nnunet, shrink_further
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_cardiac.cli import main
from nnunet_cardiac.dataset_conversion import mnms2
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.phantom.mnms2 import write_subjects
from nnunet_cardiac.texts import read_cases

SUBJECTS = (1, 2, 160, 161, 201)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnms2")
    write_subjects(folder, SUBJECTS)
    return folder


@pytest.fixture
def source(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "MnM2")


def load(file):
    return np.asanyarray(nib.load(file).dataobj)


@pytest.mark.parametrize("view, dataset_id, slices", [("LA", 32, 1), ("SA", 33, 4)])
def test_a_view(source, raw, view, dataset_id, slices):
    result = mnms2.convert(source, n_folds=2, view=view)
    assert (result.converted, result.repaired, result.warnings, result.problems) == (10, 0, [], [])
    dataset = raw / f"Dataset{dataset_id:03d}_MnM2_{view}"
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "LV": 1, "MYO": 2, "RV": 3} and description["numTraining"] == 10
    for case in ("001_ED", "201_ES"):
        subject, phase = case.split("_")
        original = source / "dataset" / subject / f"{subject}_{view}_{phase}"
        image, labels = (dataset / f"{part}/{case}{c}.nii.gz" for part, c in (("imagesTr", "_0000"), ("labelsTr", "")))
        assert load(image).shape[2] == slices
        assert np.array_equal(load(image), load(f"{original}.nii.gz"))
        assert np.array_equal(load(labels), load(f"{original}_gt.nii.gz")) and set(np.unique(load(labels))) == {
            0,
            1,
            2,
            3,
        }


def test_what_is_known_of_the_subjects(source, raw):
    mnms2.convert(source, n_folds=2)
    rows = {row["case"]: row for row in read_cases(raw / "Dataset032_MnM2_LA")}
    assert (rows["002_ES"]["group"], rows["002_ES"]["vendor"]) == ("LV", "GE")
    assert (rows["001_ED"]["group"], rows["001_ED"]["vendor"]) == ("NOR", "Philips")
    assert rows["201_ED"]["vendor"] == "Siemens" and {row["split"] for row in rows.values()} == {"train"}


def test_the_challenges_split(source, raw):
    for label in (source / "dataset" / "201").glob("*_gt.nii.gz"):
        label.unlink()  # a test set may lack labels
    result = mnms2.convert(source, n_folds=2, split="challenge")
    dataset = raw / "Dataset034_MnM2_LA_challenge"
    assert result.problems == [] and result.converted == 10
    assert {p.name for p in (dataset / "imagesTs").iterdir()} == {"201_ED_0000.nii.gz", "201_ES_0000.nii.gz"}
    splits = json.loads((dataset / "splits_final.json").read_text())
    assert {case[:3] for case in splits[0]["train"] + splits[0]["val"]} == {"001", "002", "160", "161"}


@pytest.mark.parametrize("view", ["LA", "SA"])
def test_nnunet_accepts_it(source, raw, tmp_path, monkeypatch, view, capsys):
    main(["convert", "mnms2", "-i", str(source), "--folds", "2", "--view", view])
    monkeypatch.chdir(tmp_path)
    verify_dataset_integrity(str(next(raw.iterdir())), 1)
    assert "verify_dataset_integrity Done" in capsys.readouterr().out


def faults():
    """Each spoils something of subject 2; what is printed of it; how many cases are left of 10."""

    def file(source, ending):
        return source / "dataset" / "002" / f"002_{ending}.nii.gz"

    def table(source):
        return source / "dataset" / "dataset_information.csv"

    def change(source, ending, how):
        image = nib.load(file(source, ending))
        nib.save(nib.Nifti1Image(*how(np.array(image.dataobj), image.affine.copy())), file(source, ending))

    def no_image(source):
        file(source, "LA_ES").unlink()

    def no_label(source):
        file(source, "LA_ES_gt").unlink()

    def other_shape(source):
        change(source, "LA_ED_gt", lambda a, affine: (a[:-1], affine))

    def cut_off(source):
        file(source, "LA_ED").write_bytes(file(source, "LA_ED").read_bytes()[:-300])

    def no_nifti(source):
        file(source, "LA_ED").write_text("<html>")

    def nan(source):
        change(source, "LA_ED", lambda a, affine: (np.where(a == a.max(), np.nan, a).astype(np.float32), affine))

    def fourth_label(source):
        change(source, "LA_ED_gt", lambda a, affine: (np.where(a == 3, 4, a).astype(np.uint8), affine))

    def swapped(source):
        for ending in ("", "_gt"):
            ed, es = file(source, f"LA_ED{ending}"), file(source, f"LA_ES{ending}")
            other = ed.with_name("other")
            ed.rename(other), es.rename(ed), other.rename(es)

    def twice(source):
        shutil.copytree(source / "dataset" / "002", source / "dataset" / "2")

    def no_column(source):
        table(source).write_text(table(source).read_text().replace("VENDOR", "MAKER"))

    def no_subject(source):
        table(source).write_text("".join(ln for ln in table(source).read_text().splitlines(True) if ln[:2] != "2,"))

    def unknown_vendor(source):
        table(source).write_text(table(source).read_text().replace("2,LV,GE MEDICAL SYSTEMS", "2,LV,Acme"))

    def odd_number(source):
        table(source).write_text(f"{table(source).read_text()}²,LV,Siemens\n", encoding="utf-8")

    def endless_number(source):
        table(source).write_text(f"{table(source).read_text()}{'1' * 5000},LV,Siemens\n")

    def no_table(source):
        table(source).unlink()

    def skewed(source):
        for ending in ("LA_ED", "LA_ED_gt"):
            change(source, ending, lambda a, affine: (a, affine @ [[1, 0.02, 0, 0], *np.eye(4)[1:]]))

    def shifted(source):
        change(source, "LA_ED_gt", lambda a, affine: (a, affine + np.outer([1, 1, 1, 0], [0, 0, 0, 0.4])))

    def far(source):
        change(source, "LA_ED_gt", lambda a, affine: (a, affine * 1.1))

    def thin(source):
        for ending in ("LA_ED", "LA_ED_gt"):
            change(source, ending, lambda a, affine: (a, affine @ np.diag([1, 1, 0.1, 1])))

    return [
        (no_image, "subject 2 has no LA image at ES", 9),
        (no_label, "subject 2 has no LA label at ES", 9),
        (other_shape, "voxels, its image", 9),
        (cut_off, "cannot be read as NIfTI", 9),
        (no_nifti, "cannot be read as NIfTI", 9),
        (nan, "NaN, infinite or beyond", 9),
        (fourth_label, "unknown labels [4]", 9),
        (swapped, "larger at ES", 10),
        (twice, "is subject 2 once more", 10),
        (no_column, "has no column VENDOR", 10),
        (no_subject, "does not know subject 2", 10),
        (unknown_vendor, "subject 2 has the unknown vendor 'Acme'", 10),
        (odd_number, "'²' is no subject's number", 10),
        (endless_number, "111' is no subject's number", 10),
        (no_table, "There is no dataset_information.csv", 10),
        (skewed, "turned to the nearest", 10),
        (shifted, "differs a little from its image's", 10),
        (far, "another geometry", 9),
        (thin, "its one slice is 1 mm thick", 10),
    ]


@pytest.mark.parametrize("spoil, message, left", faults(), ids=lambda v: getattr(v, "__name__", None))
def test_a_fault_is_named_and_the_rest_converted(source, raw, capsys, spoil, message, left):
    spoil(source)
    try:
        main(["convert", "mnms2", "-i", str(source), "--folds", "2"])
        failed = False
    except SystemExit as e:
        failed = e.code == 1
    output = capsys.readouterr()
    said = [line for line in output.err.splitlines() if line.startswith(("left out: ", "warning: "))]
    assert len(said) == 1 and message in said[0]
    assert f"{left} cases converted" in output.out
    assert failed == said[0].startswith("left out")
    assert ("(1 repaired)" in output.out) == (spoil.__name__ in ("skewed", "shifted", "thin"))
    assert len(read_cases(raw / "Dataset032_MnM2_LA")) == left


def test_repaired_axes_are_orthonormal_and_voxels_are_kept(source, raw):
    dict((f.__name__, f) for f, *_ in faults())["skewed"](source)
    mnms2.convert(source, n_folds=2)
    written = nib.load(raw / "Dataset032_MnM2_LA" / "imagesTr" / "002_ED_0000.nii.gz")
    original = nib.load(source / "dataset" / "002" / "002_LA_ED.nii.gz")
    directions = written.affine[:3, :3] / np.linalg.norm(written.affine[:3, :3], axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(written.affine, original.affine, atol=0.1)
    assert np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(original.dataobj))
    import SimpleITK

    SimpleITK.ReadImage(str(written.get_filename()))


def test_one_slice_keeps_its_axis(source, raw):
    dict((f.__name__, f) for f, *_ in faults())["thin"](source)
    mnms2.convert(source, n_folds=2)
    for part, channel in (("imagesTr", "_0000"), ("labelsTr", "")):
        image = nib.load(raw / "Dataset032_MnM2_LA" / part / f"002_ED{channel}.nii.gz")
        assert image.header.get_zooms() == pytest.approx((4.2, 4.2, 10))


@pytest.mark.parametrize("above", ["", "MnM2", "download"])
def test_layout_is_found_below(source, raw, tmp_path, above):
    place = {"": source / "dataset", "MnM2": tmp_path, "download": source}[above]
    assert mnms2.convert(place, n_folds=2).converted == 10


def test_nothing_to_convert(source, raw, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        mnms2.convert(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No folder 'NNN' with NNN_LA_ED.nii.gz"):
        mnms2.convert(tmp_path / "empty")
    for image in source.rglob("*_LA_*"):
        image.unlink()
    with pytest.raises(UserError, match="No subject in .* can be used: .* has no LA image at ED"):
        mnms2.convert(source)


ONE_PASS = """
from nnunet_cardiac.trainers.nnUNetTrainerCroCNet import nnUNetTrainerCroCNet


class nnUNetTrainerOnePass(nnUNetTrainerCroCNet):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
"""


@pytest.mark.slow
def test_crocnet_learns_the_long_axis_through_stock_commands(source, raw, tmp_path, monkeypatch):
    """Both stages and prediction, on one-slice images; but for one pass over them the recipe is ours."""
    for name in ("preprocessed", "results", "trainers"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    (tmp_path / "trainers" / "nnUNetTrainerOnePass.py").write_text(ONE_PASS)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))
    main(["convert", "mnms2", "-i", str(source), "--folds", "2"])
    main(["plan_and_preprocess", "-d", "32", "-pl", "CroCNetPlanner", "--small", "--verify_dataset_integrity"])
    dataset, images = "Dataset032_MnM2_LA", raw / "Dataset032_MnM2_LA" / "imagesTr"
    shrink_further(tmp_path / "preprocessed" / dataset / "nnUNetCroCNetPlans.json")
    names = ("-tr", "nnUNetTrainerOnePass", "-p", "nnUNetCroCNetPlans")
    for configuration, fold in (("2d", "0"), ("2d", "1"), ("2d_cascade", "0")):
        run_nnunet("nnUNetv2_train", "32", configuration, fold, *names, "-device", "cpu")
    stages = [("-d", "32", *names, "-c", configuration) for configuration in ("2d", "2d_cascade")]
    predict_with_nnunet(images, tmp_path / "stage_1", stages[0], "-f", "0")
    predict_with_nnunet(
        images, tmp_path / "stage_2", stages[1], "-f", "0", "-prev_stage_predictions", tmp_path / "stage_1"
    )
    cases = [file.name for file in (raw / dataset / "labelsTr").iterdir()]
    assert len(cases) == 10
    for case in cases:
        assert load(tmp_path / "stage_2" / case).shape == load(raw / dataset / "labelsTr" / case).shape
