"""The command's own part: environment, help, planning's mistakes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATASET

from nnunet_cardiac import environment
from nnunet_cardiac.cli import main, parser
from nnunet_cardiac.errors import UserError

COMMANDS = (
    "convert", "plan_and_preprocess", "env", "train", "predict", "evaluate", "measure", "benchmark", "report", "demo",
)  # fmt: skip


def error_of(*arguments):
    with pytest.raises(SystemExit) as exit_status:
        main(list(map(str, arguments)))
    return str(exit_status.value.code)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_status:
        parser().parse_args([command, "--help"])
    assert exit_status.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_env_can_be_evaluated_and_keeps_what_was_there(tmp_path):
    python = f"{sys.executable} -m nnunet_cardiac env"
    for before in ("", str(tmp_path)):
        script = f'eval "$({python})"; echo "$nnUNet_extTrainer"'
        shell = subprocess.run(
            ["bash", "-c", script], env=os.environ | {"nnUNet_extTrainer": before}, capture_output=True, text=True
        )
        folders = shell.stdout.strip().split(os.pathsep)
        assert folders[-1] == environment.trainers_folder() and folders[:-1] == ([before] if before else [])
        assert (Path(folders[-1]) / "nnUNetTrainerCroCNet.py").is_file()


def test_mistakes_are_answered_fast():
    """Help and wrong options must not wait for PyTorch."""
    code = "import sys; from nnunet_cardiac.cli import parser; parser(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_planning_mistakes(planned, monkeypatch):
    plan = ("plan_and_preprocess", "-d", "27")
    assert "There is no planner 'DADUplanner'" in error_of(*plan, "-pl", "DADUplanner")
    assert "has no configuration '3d_cascade'" in error_of(*plan, "-c", "3d_cascade", "-overwrite_plans_name", "X")
    assert "ExperimentPlanner follows no paper" in error_of(*plan, "-pl", "ExperimentPlanner", "--paper")
    assert "There is no data set 99" in error_of("plan_and_preprocess", "-d", "99")
    (planned / "X.json").unlink()
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        with monkeypatch.context() as context:
            context.delenv(variable)
            assert f"{variable} is not set" in error_of(*plan)


def test_folds_that_changed_are_noticed(planned, dataset):
    splits = dataset / "splits_final.json"
    before = splits.read_text()
    splits.write_text(json.dumps(json.loads(before)[::-1]))
    try:
        assert "has other folds than" in error_of("plan_and_preprocess", "-d", "27")
    finally:
        splits.write_text(before)


def test_finished_preprocessing_is_kept_and_unfinished_is_not(planned, capsys):
    def preprocess():
        main(["plan_and_preprocess", "-d", "27", "-pl", "CroCNetPlanner", "-overwrite_plans_name", "nnUNetAgainPlans"])
        return "is complete and is kept" in capsys.readouterr().out

    folder = planned / "nnUNetPlans_2d"
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert preprocess()
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    (folder / "patient001_ED.pkl").unlink()
    assert not preprocess()
    assert {p.name for p in folder.iterdir()} == before.keys()
    (planned / "nnUNetAgainPlans.json").unlink()


def test_demo_does_not_write_into_a_full_folder(tmp_path):
    (tmp_path / "mine").touch()
    assert "is not empty" in error_of("demo", "-o", tmp_path)


def test_data_set_by_id_and_name(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in (DATASET, "Dataset128_A", "Dataset128_B"):
        (tmp_path / name).mkdir()
    assert environment.dataset_name("27", "nnUNet_raw") == DATASET
    assert environment.dataset_name(DATASET, "nnUNet_raw") == DATASET
    with pytest.raises(UserError, match="ambiguous"):
        environment.dataset_name("128", "nnUNet_raw")
    shutil.rmtree(tmp_path / "Dataset128_B")
    assert environment.dataset_name("128", "nnUNet_raw") == "Dataset128_A"
