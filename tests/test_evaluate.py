import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.evaluate import evaluate, summarise, write_evaluation


@pytest.fixture
def folders(dataset, tmp_path) -> tuple[Path, Path]:
    """Predictions and ground truth: the phantom's labels; in the predictions, one right ventricle is missing."""
    predictions, truth = tmp_path / "predictions", tmp_path / "truth" / "labelsTr"
    shutil.copytree(dataset / "labelsTr", predictions)
    shutil.copytree(dataset / "labelsTr", truth)
    for name in ("dataset.json", "cases.csv"):
        shutil.copy(dataset / name, truth.parent)
    change(predictions / "patient001_ED.nii.gz", lambda labels: np.where(labels == 1, 0, labels))
    return predictions, truth


def change(file: Path, how, spacing=None) -> None:
    image = sitk.ReadImage(str(file))
    changed = sitk.GetImageFromArray(how(sitk.GetArrayFromImage(image)).astype(np.uint8))
    changed.CopyInformation(image)
    if spacing:
        changed.SetSpacing(spacing)
    sitk.WriteImage(changed, str(file))


def test_command_writes_tables_and_picture(folders, tmp_path, capsys):
    predictions, truth = folders
    main(["evaluate", "-i", str(predictions), "-g", str(truth), "-o", str(tmp_path / "out"), "-np", "1"])
    printed = capsys.readouterr().out
    assert "8 cases evaluated, 0 left out" in printed and "phase ES" in printed
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index(["case", "structure"])
    assert len(metrics) == 8 * 3
    missed = metrics.loc["patient001_ED", "RV"]
    assert missed["state"] == "missed" and missed["dice"] == 0 and missed["hausdorff_mm"] > 50
    assert missed["phase"] == "ED" and missed["patient"] == "patient001"
    assert (metrics.drop(("patient001_ED", "RV"))["dice"] == 1).all()
    assert (metrics.drop(("patient001_ED", "RV"))["assd_mm"] == 0).all()
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index(["subset", "structure"])
    assert summary.loc[("all", "RV"), "missed"] == 1 and summary.loc[("all", "RV"), "scored"] == 7
    assert summary.loc[("all", "RV"), "dice_mean"] == pytest.approx(7 / 8)
    assert summary.loc[("phase ED", "RV"), "dice_mean"] == pytest.approx(3 / 4)
    assert summary.loc[("phase ES", "RV"), "dice_mean"] == 1
    assert {name for name, _ in summary.index if name.startswith("group")}
    assert set(pd.read_csv(tmp_path / "out" / "anatomy.csv")["source"]) == {"prediction", "ground truth"}
    assert (tmp_path / "out" / "metrics.png").stat().st_size > 10_000


def test_picture_does_not_depend_on_what_others_have_plotted(folders, tmp_path):
    result = evaluate(*folders, n_processes=1)
    write_evaluation(result, tmp_path / "before")
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red"}):
        write_evaluation(result, tmp_path / "after")
    assert (tmp_path / "before" / "metrics.png").read_bytes() == (tmp_path / "after" / "metrics.png").read_bytes()


@pytest.mark.slow
def test_processes_give_the_same_as_one(folders):
    cases = ["patient001_ED", "patient002_ES"]
    one, two = (evaluate(*folders, cases=cases, n_processes=n) for n in (1, 2))
    assert one.metrics["case"].nunique() == 2
    pd.testing.assert_frame_equal(one.metrics, two.metrics)
    pd.testing.assert_frame_equal(one.anatomy, two.anatomy)


FAULTS = {
    "no prediction": lambda p, t: (p / "patient002_ED.nii.gz").unlink(),
    "no ground truth": lambda p, t: (t / "patient002_ED.nii.gz").unlink(),
    "differ in size": lambda p, t: change_shape(p / "patient002_ED.nii.gz"),
    "differ in spacing": lambda p, t: change(p / "patient002_ED.nii.gz", np.asarray, (1, 1, 1)),
    "unknown labels [7]": lambda p, t: change(p / "patient002_ED.nii.gz", lambda x: np.where(x == 1, 7, x)),
    "cannot be read": lambda p, t: (p / "patient002_ED.nii.gz").write_bytes(b"no image"),
    "is not a segmentation": lambda p, t: write_probabilities(p / "patient002_ED.nii.gz"),
}


def change_shape(file: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(file))[2:], str(file))


def write_probabilities(file: Path) -> None:
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkFloat32) * 0.3, str(file))


@pytest.mark.parametrize("sentence", FAULTS)
def test_faults_are_named_and_the_rest_is_done(sentence, folders):
    FAULTS[sentence](*folders)
    result = evaluate(*folders, n_processes=1)
    assert len(result.problems) == 1
    assert sentence in result.problems[0] and "patient002_ED" in result.problems[0]
    assert result.metrics["case"].nunique() == 7 and "patient002_ED" not in set(result.metrics["case"])


def test_a_fault_shows_in_the_exit_status(folders, tmp_path, capsys):
    (folders[0] / "patient002_ED.nii.gz").unlink()
    with pytest.raises(SystemExit) as exit_status:
        main(["evaluate", "-i", str(folders[0]), "-g", str(folders[1]), "-o", str(tmp_path / "out"), "-np", "1"])
    assert exit_status.value.code == 1
    assert "left out: patient002_ED: no prediction" in capsys.readouterr().err
    assert (tmp_path / "out" / "summary.csv").is_file()


def test_nothing_to_evaluate_is_one_sentence(folders, tmp_path):
    predictions, truth = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no segmentation"):
        evaluate(tmp_path / "empty", truth)
    with pytest.raises(UserError, match="is not a folder"):
        evaluate(predictions, tmp_path / "nowhere")
    with pytest.raises(UserError, match="No case .* could be evaluated; the first reason: x: no ground truth"):
        evaluate(predictions, truth, cases=["x"])
    with pytest.raises(UserError, match="does not tell the labels' names .*: check -djfile"):
        evaluate(predictions, truth, tmp_path / "nowhere.json")


def test_two_folders_without_a_dataset_json_are_evaluated_by_label_value(folders, tmp_path, capsys):
    """Also where the files are of different kinds."""
    predictions, truth = folders
    named = evaluate(predictions, truth, n_processes=1).metrics
    (truth.parent / "dataset.json").unlink()
    for file in predictions.iterdir():
        sitk.WriteImage(sitk.ReadImage(str(file)), str(predictions / file.name.replace(".nii.gz", ".nrrd")))
        file.unlink()
    main(["evaluate", "-i", str(predictions), "-g", str(truth), "-o", str(tmp_path / "out"), "-np", "1"])
    printed = capsys.readouterr()
    assert [line for line in printed.err.splitlines() if line.startswith("warning:")] == [
        f"warning: No dataset.json in or above {truth} or {predictions}: structures are named by their label values, "
        "1, 2, 3. Name them with --labels or -djfile."
    ]
    assert "8 cases evaluated, 0 left out" in printed.out
    by_value = pd.read_csv(tmp_path / "out" / "metrics.csv", dtype={"structure": str})
    assert set(by_value["structure"]) == {"1", "2", "3"}
    named["structure"] = named["structure"].map({"RV": "1", "MYO": "2", "LV": "3"})
    columns = ["case", "structure", "state", "dice", "hausdorff95_mm"]
    pd.testing.assert_frame_equal(by_value[columns], named[columns].reset_index(drop=True), check_dtype=False)


def test_labels_are_named_on_the_command_line(folders, tmp_path, capsys):
    """In place of the dataset.json; what is not named is not looked at."""
    predictions, truth = folders
    arguments = ["-i", str(predictions), "-g", str(truth), "-o", str(tmp_path / "out"), "-np", "1"]
    main(["evaluate", *arguments, "--labels", "rv=1", "muscle and cavity=2,3", "scar=9"])
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index(["case", "structure"])
    assert set(metrics.index.get_level_values("structure")) == {"RV", "muscle and cavity", "scar"}
    assert metrics.loc[("patient001_ED", "RV"), "state"] == "missed"
    assert (metrics.xs("muscle and cavity", level="structure")["dice"] == 1).all()
    assert "warning: No file holds scar, 9: check --labels." in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--labels names LV twice"):
        main(["evaluate", *arguments, "--labels", "LV=1", "LV=2"])


def test_regions_and_ignore_label(folders):
    predictions, truth = folders
    file = truth.parent / "dataset.json"
    description = json.loads(file.read_text())
    description["labels"] = {"background": 0, "heart": [1, 2, 3], "LV": 3, "ignore": 4}
    file.write_text(json.dumps(description))
    change(truth / "patient001_ED.nii.gz", lambda labels: np.where(labels == 1, 4, labels))
    result = evaluate(predictions, truth, n_processes=1).metrics.set_index(["case", "structure"])
    assert set(result.index.get_level_values("structure")) == {"heart", "LV"}
    assert (result["dice"] == 1).all()


def test_structures_absent_from_both_are_counted_and_left_out_of_means(folders):
    for folder in folders:
        change(folder / "patient002_ED.nii.gz", lambda labels: np.where(labels == 2, 0, labels))
    summary = summarise(evaluate(*folders, n_processes=1).metrics).set_index(["subset", "structure"])
    row = summary.loc[("all", "MYO")]
    assert (row["cases"], row["absent"], row["scored"]) == (8, 1, 7)
    assert row["dice_mean"] == 1
