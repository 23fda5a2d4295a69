"""Planning: what is wrong with a data set is said in a sentence."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import DATASET

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess

LABEL = f"{DATASET}/labelsTr/patient002_ED.nii.gz"


@pytest.fixture
def raw_dataset(dataset, raw, tmp_path, monkeypatch):
    """A test's own copy of the phantom's data set."""
    (tmp_path / "preprocessed").mkdir()
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return shutil.copytree(dataset, raw / DATASET)


def error_of(*arguments):
    with pytest.raises(SystemExit) as exit_status:
        main(["plan_and_preprocess", *arguments])
    return str(exit_status.value.code)


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"numTraining": 9},
            rf"{DATASET} is not as nnU-Net wants it (AssertionError: Did not find the expected number",
        ),
        ({"labels": {"background": 0, "RV": 1, "MYO": 2}}, "RuntimeError: Some segmentation images contained unexp"),
        ({"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 4}}, "AssertionError: Labels must be in consecutive"),
    ],
)
def test_a_broken_data_set_is_told_by_the_verification(raw_dataset, change, said):
    file = raw_dataset / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert said in error_of("-d", "27", "--verify_dataset_integrity")


def test_plans_that_are_kept_are_those_of_the_planner(planned):
    """Else a benchmark would train the network of another planner under this one's name."""
    of = json.loads((planned / "nnUNetDADUPlans.json").read_text())["experiment_planner_used"]
    assert of == "DADUPlanner"
    with pytest.raises(UserError, match="nnUNetDADUPlans.json was made by DADUPlanner, not CroCNetPlanner"):
        plan_and_preprocess(planned.name, "CroCNetPlanner", ["2d"], plans_name="nnUNetDADUPlans", keep_plans=True)


def test_whole_images_that_are_resized_have_no_regions(raw_dataset):
    """What is outside of them is the first label, which must be the background."""
    file = raw_dataset / "dataset.json"
    regions = {"labels": {"background": 0, "heart": [1, 2, 3], "LV": 3}, "regions_class_order": [1, 3]}
    file.write_text(json.dumps(json.loads(file.read_text()) | regions))
    assert "--paper needs one label for each pixel" in error_of("-d", "27", "-pl", "DADUPlanner", "--paper")


def test_the_verification_names_a_case(raw_dataset):
    label = nib.load(raw_dataset.parent / LABEL)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[..., :1], label.affine), raw_dataset.parent / LABEL)
    error = error_of("-d", "27", "--verify_dataset_integrity")
    assert f"{LABEL} cannot be used (the image is" in error


def test_a_name_that_is_none_of_nnunets(raw_dataset):
    raw_dataset.rename(raw_dataset.with_name("DatasetFoo"))
    assert "DatasetFoo is not named as nnU-Net's data sets are: call the folder DatasetNNN_NAME" in error_of(
        "-d", "DatasetFoo"
    )


@pytest.mark.filterwarnings("ignore:divide by zero")  # scikit-image's
def test_a_spacing_at_which_nothing_is_left_is_named(raw_dataset):
    file = raw_dataset / "imagesTr" / "patient003_ED_0000.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([1e-30, 1e-30, 1e-30, 1])), file)
    assert f"{file.name} or" in (error := error_of("-d", "27")) and "cannot be used (its spacing is" in error


def test_planning_needs_the_number_of_cases(raw_dataset):
    file = raw_dataset / "dataset.json"
    described = json.loads(file.read_text())
    for n, said in (
        (None, "null in numTraining where a whole number was"),
        (0, "or cases: convert the data set again"),
    ):
        file.write_text(json.dumps(described | {"numTraining": n}))
        assert said in error_of("-d", "27")


def test_a_first_image_that_would_change_the_reader_of_all(raw_dataset):
    first = min((raw_dataset / "imagesTr").iterdir())
    image = nib.load(first)
    sheared = image.affine + [[0, 9, 0, 0], *np.zeros((3, 4))]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), sheared), first)
    assert f"{first.name} or" in (error := error_of("-d", "27")) and "cannot be used" in error, error


def test_plans_of_other_sizes_are_not_replaced_in_silence(raw_dataset, capsys):
    plan = ("plan_and_preprocess", "-d", "27", "-pl", "ExperimentPlanner", "-c", "2d")
    said = []
    for size in (("--small",), ("--small",), ("--half",)):
        main([*plan, *size])
        said.append("nnUNetPlans was planned otherwise before (2d: " in capsys.readouterr().out)
    assert said == [False, False, True]
