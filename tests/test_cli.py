"""The command's own part: help, spelling, environment, information, planning's mistakes."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import nnunetv2
import pandas as pd
import pytest
from conftest import DATASET

from nnunet_cardiac import environment
from nnunet_cardiac.architectures import costed
from nnunet_cardiac.cli import benchmark, info, main, parser
from nnunet_cardiac.cost import table as cost
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.planners.sizes import SIZES


def commands(of: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command's parser by name, those of the data sets too."""
    found = {name: of}
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child, child_parser in action.choices.items():
                found |= commands(child_parser, f"{name} {child}".strip())
    return found


COMMANDS = {name: p for name, p in commands(parser()).items() if name}


def error_of(*arguments):
    with pytest.raises(SystemExit) as exit_status:
        main(list(map(str, arguments)))
    return str(exit_status.value.code)


# help and spelling


def test_there_are_all_commands():
    data_sets = {f"convert {name}" for name in ("acdc", "lvquan19", "mnms2", "sunnybrook")}
    models = {f"models {action}" for action in ("list", "show", "export", "install", "to_nnunet")}
    assert set(COMMANDS) == data_sets | models | {
        "convert", "plan_and_preprocess", "train", "predict", "evaluate", "measure", "benchmark", "report", "cost",
        "env", "info", "demo", "models", "cine",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_that_hold(name, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main([*name.split(), "--help"])
    assert exit_status.value.code == 0
    text = capsys.readouterr().out
    assert len(text) > 200
    assert "writes:" in text or name in ("env", "info", "models", "models list", "models show")
    examples = re.findall(
        r"^  (?:eval \"\$\()?nnunet_cardiac (.+?)(?:   \(.+\)|\)\")?$", text.partition("example")[2], re.M
    )
    assert examples and any(example.startswith(name) for example in examples)
    for example in examples:
        if not example.endswith("--help"):
            parser().parse_args(shlex.split(example))  # exits where an option is wrong


def test_options_are_spelled_as_nnunet_spells_them_and_else_in_snake_case():
    sources = (
        "run/run_training.py", "inference/predict_from_raw_data.py", "evaluation/evaluate_predictions.py",
        "experiment_planning/plan_and_preprocess_entrypoints.py",
    )  # fmt: skip
    code = "".join(Path(nnunetv2.__path__[0], file).read_text() for file in sources)
    nnunet = set(re.findall(r"""add_argument\(\s*["'](-\w+)["']""", code))
    for name, p in COMMANDS.items():
        for action in p._actions:
            if action.help != argparse.SUPPRESS:
                for option in action.option_strings:
                    fits = option in nnunet or re.fullmatch("-[a-z]|--[a-z][a-z0-9_]*", option)
                    assert fits, f"{name} {option}"


IN_OUT = ("-i", "a", "-o", "b")
FORMER = {
    "--keep-unknown": ("--keep_unknown", ("convert", "sunnybrook", "-i", "a"), ()),
    "-memory": ("--memory", ("predict", *IN_OUT, "-d", "27", "-c", "2d"), ("2",)),
    "-cases": ("--case_table", ("evaluate", *IN_OUT, "-g", "c"), ("cases.csv",)),
}


@pytest.mark.parametrize("former", FORMER)
def test_former_spellings_still_work_and_are_not_shown(former, capsys):
    option, command, value = FORMER[former]
    assert parser().parse_args([*command, former, *value]) == parser().parse_args([*command, option, *value])
    without = vars(parser().parse_args(command))
    given = vars(parser().parse_args([*command, former, *value]))
    assert [key for key in given if given[key] != without[key]] == [option.lstrip("-")]
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    words = re.findall(r"[\w-]+", capsys.readouterr().out)
    assert option in words and former not in words


@pytest.mark.parametrize("labels", (("lv", "myo"), ("LV", "MYO"), ("Lv", "Myo")))
def test_labels_are_accepted_in_any_case(labels):
    for data_set in ("acdc", "sunnybrook"):
        assert parser().parse_args(["convert", data_set, "-i", "a", "--labels", *labels]).labels == ["LV", "MYO"]
    named = [f"{label}={value}" for value, label in enumerate(labels, 1)]
    options = parser().parse_args(["measure", *IN_OUT, "--labels", *named, "Aorta=4", "heart=1,2"])
    assert dict(options.labels) == {"LV": (1,), "MYO": (2,), "Aorta": (4,), "heart": (1, 2)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("train", "-d", "27", "-c", "2d", "--budget", "many"),
            "--budget: must be a whole number, at least 1; got many",
        ),
        (("train", "-d", "27", "-c", "2d", "-f", "first"), "-f: must be the number of a fold, or all; got first"),
        (("predict", *IN_OUT, "-d", "27", "-c", "2d", "--memory", "0"), "--memory: must be a number above 0; got 0"),
        (
            ("measure", *IN_OUT, "--labels", "LV"),
            "--labels: must be NAME=VALUE with a value above 0, such as LV=3; got LV",
        ),
        (("measure", *IN_OUT, "--labels", "LV=0"), "must be NAME=VALUE with a value above 0"),
        (("cost", "-d", "27", "-o", "table.xlsx"), "-o: must end in .csv or .md; got table.xlsx"),
        (("cost", "-d", "27", "--cases", "-1"), "expected one argument|at least 0"),
        (("convert",), "the following arguments are required: DATASET"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_options_exit_with_2_and_say_why(arguments, message, capsys):
    assert error_of(*arguments) == "2"
    assert re.search(f"nnunet_cardiac.*: error: .*({message})", capsys.readouterr().err)


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["--version"])
    assert exit_status.value.code == 0
    assert capsys.readouterr().out == f"nnunet_cardiac {version('nnunet-cardiac')}\n"


# the environment


def test_the_real_command_is_fast_and_its_environment_can_be_evaluated(tmp_path):
    """One process for all three: ``python -m nnunet_cardiac``, what a shell makes of env, and what is imported."""
    script = f'eval "$({sys.executable} -X importtime -m nnunet_cardiac env)"; echo "$nnUNet_extTrainer"'
    shell = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"nnUNet_extTrainer": str(tmp_path)}, capture_output=True, text=True
    )
    folders = shell.stdout.strip().split(os.pathsep)
    assert folders == [str(tmp_path), environment.trainers_folder()]
    assert (Path(folders[-1]) / "nnUNetTrainerCroCNet.py").is_file()
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in shell.stderr.splitlines()}
    assert "nnunet_cardiac" in imported
    assert not imported & {"torch", "nnunetv2", "monai", "pandas", "matplotlib", "numpy", "SimpleITK", "snakemake"}


def test_env_without_other_trainers(monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_extTrainer", "")
    main(["env"])
    assert capsys.readouterr().out == f"export nnUNet_extTrainer={shlex.quote(environment.trainers_folder())}\n"


def test_data_set_by_id_and_name(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in (DATASET, "Dataset128_A", "Dataset128_B"):
        (tmp_path / name).mkdir()
    assert environment.dataset_name("27", "nnUNet_raw") == DATASET
    assert environment.dataset_name(DATASET, "nnUNet_raw") == DATASET
    assert environment.dataset_name(DATASET.split("_")[1], "nnUNet_raw") == DATASET
    with pytest.raises(UserError, match="ambiguous"):
        environment.dataset_name("128", "nnUNet_raw")
    shutil.rmtree(tmp_path / "Dataset128_B")
    assert environment.dataset_name("128", "nnUNet_raw") == "Dataset128_A"


# info


@pytest.fixture
def three_folders(tmp_path, monkeypatch) -> Path:
    """A data set that was converted, planned and trained, as far as folders and names go."""
    for folder, file in (
        ("nnUNet_raw", "dataset.json"),
        ("nnUNet_preprocessed", "nnUNetPlans.json"),
        ("nnUNet_results", "nnUNetTrainer__nnUNetPlans__2d/plans.json"),
    ):
        monkeypatch.setenv(folder, str(tmp_path / folder))
        (tmp_path / folder / DATASET / file).parent.mkdir(parents=True)
        (tmp_path / folder / DATASET / file).touch()
    return tmp_path


def printed_info(capsys) -> tuple[str, str]:
    """What ``info`` prints, and its part on what is missing."""
    main(["info"])
    text = capsys.readouterr().out
    return text, text.partition("\nMissing\n")[2]


def test_info_of_a_machine_that_has_everything(three_folders, capsys):
    text, missing = printed_info(capsys)
    for name in ("nnunet-cardiac", "nnunetv2", "torch", "dynamic-network-architectures", "monai", "snakemake"):
        assert re.search(rf"^  {name} +{re.escape(version(name))}$", text, re.M)
    assert re.search(r"^  python +3\.", text, re.M) and re.search(r"^  processor +.+ cores$", text, re.M)
    for folder in environment.PURPOSES:
        assert re.search(rf"^  {folder} +{three_folders / folder}, writable, \d+ GB free$", text, re.M)
    for content in (DATASET, f"{DATASET} nnUNetPlans", f"{DATASET}, 1 model"):
        assert re.search(f"^ +{content}$", text, re.M)
    assert re.search(r"^  GPU", text, re.M)
    assert missing == "  nothing\n"


def test_info_says_what_is_missing_and_how_to_mend_it(three_folders, monkeypatch, capsys):
    def version_but_for(name):
        if name in ("monai", "snakemake"):
            raise PackageNotFoundError(name)
        return "1.0" if name == "nnunetv2" else version(name)

    monkeypatch.setattr(info, "version", version_but_for)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    monkeypatch.delenv("nnUNet_raw")
    shutil.rmtree(three_folders / "nnUNet_preprocessed")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.delenv("nnUNet_extTrainer")
    text, missing = printed_info(capsys)
    for sentence in (
        "monai is not installed: pip install 'monai",
        "snakemake is not installed: benchmark and demo need it, pip install 'nnunet-cardiac[benchmark]'",
        "nnunetv2 1.0 is another version than",
        "PyTorch cannot be imported",
        "nnUNet_raw is not set: export nnUNet_raw=FOLDER",
        f"nnUNet_preprocessed names a folder that does not exist: mkdir -p {three_folders / 'nnUNet_preprocessed'}",
        "nnUNet_results cannot be written",
        'eval "$(nnunet_cardiac env)"',
    ):
        assert sentence in missing
    assert len(missing.splitlines()) == 8


def test_info_of_a_checkout_that_is_not_installed(monkeypatch, capsys):
    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(info, "version", nothing)
    missing = printed_info(capsys)[1]
    assert "nnunet-cardiac is not installed" in missing and "nnunetv2 is not installed" in missing


def test_info_survives_a_machine_that_answers_with_errors(three_folders, monkeypatch, capsys):
    def fails(path):
        raise OSError("no such device")

    monkeypatch.setattr(shutil, "disk_usage", fails)
    text, _ = printed_info(capsys)
    assert "could not be found out: OSError: no such device" in text and "Devices" in text


# cost


@pytest.fixture
def cost_calls(three_folders, monkeypatch) -> list[dict]:
    """Arguments of every call of ``cost_table``, which measures nothing."""
    calls = []

    def table(**arguments):
        calls.append(arguments)
        return pd.DataFrame({"architecture": ["nnunet_2d"], "M parameters": [20.6789]})

    monkeypatch.setattr(cost, "cost_table", table)
    return calls


def test_cost_prints_the_table_and_writes_it(cost_calls, tmp_path, capsys):
    arguments = ["cost", "-d", "27", "--contenders", "nnunet_2d", "-device", "cpu", "--small", "64", "--steps", "2"]
    for file in ("cost.csv", "cost.md"):
        main([*arguments, "--cases", "0", "-gpu_memory_target", "4", "--batch_size", "3", "-o", str(tmp_path / file)])
    (contender,) = cost_calls[0].pop("contenders")
    assert contender.name == "nnunet_2d"
    assert cost_calls[0] == {
        "dataset": DATASET, "gpu_memory_target": 4, "device": "cpu", "batch_size": 3, "n_steps": 2, "n_cases": 0,
        "size": SIZES["small"].with_patch(64),
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert re.search(r"\| nnunet_2d +\| +20.7 \|", printed) and f"torch {version('torch')}" in printed
    assert "a quarter of the width, at most 4 resolutions, patches of at most 64 pixels a side" in printed
    assert pd.read_csv(tmp_path / "cost.csv").loc[0].tolist() == ["nnunet_2d", 20.6789]
    assert (tmp_path / "cost.md").read_text() in printed


def test_cost_measures_every_network_unless_told_otherwise(cost_calls, capsys):
    main(["cost", "-d", "27", "-device", "cpu"])
    assert [c.name for c in cost_calls[0]["contenders"]] == [c.name for c in costed()]
    assert "planned for 8 GB" in capsys.readouterr().out


def test_cost_looks_for_mistakes_before_it_measures(cost_calls, tmp_path):
    assert "There is no data set 99" in error_of("cost", "-d", "99")
    assert "There is no contender 'unet'" in error_of("cost", "-d", "27", "--contenders", "unet")
    assert "does not exist" in error_of("cost", "-d", "27", "-o", tmp_path / "nowhere" / "cost.csv")
    assert not cost_calls


# planning


def test_planning_mistakes(planned, monkeypatch):
    plan = ("plan_and_preprocess", "-d", "27")
    assert "There is no planner 'DADUplanner'" in error_of(*plan, "-pl", "DADUplanner")
    assert "has no configuration '3d_cascade'" in error_of(
        *plan, "--small", "-c", "3d_cascade", "-overwrite_plans_name", "X"
    )
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
    plan = ["plan_and_preprocess", "-d", "27", "-pl", "CroCNetPlanner", "--small"]

    def preprocess():
        main([*plan, "-overwrite_plans_name", "nnUNetAgainPlans"])
        return "is complete and is kept" in capsys.readouterr().out

    folder = planned / "nnUNetPlans_2d"
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert preprocess()
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    (folder / "patient001_ED.pkl").unlink()
    assert not preprocess()
    assert {p.name for p in folder.iterdir()} == before.keys()
    (planned / "nnUNetAgainPlans.json").unlink()


# the demo


def test_demo_does_not_write_into_a_full_folder(tmp_path):
    (tmp_path / "mine").touch()
    assert "is not empty" in error_of("demo", "-o", tmp_path)
    (tmp_path / "file").touch()
    assert "file is a file: give the demo a folder" in error_of("demo", "-o", tmp_path / "file")


def test_output_that_nobody_reads_to_the_end_is_no_fault(tmp_path):
    code = "from nnunet_cardiac import cli; cli.env.run = lambda _: print('x' * 1_000_000); cli.main(['env'])"
    command = f"{sys.executable} -c {shlex.quote(code)} 2> {tmp_path / 'said'} | head -c 3"
    assert subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout == "xxx"
    assert not (tmp_path / "said").read_text()
    code = code.replace("print('x' * 1_000_000)", "exec('raise BrokenPipeError')")
    assert "BrokenPipeError" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr


def test_mistakes_are_told_before_pytorch_is_loaded(monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    code = (
        "import sys; from nnunet_cardiac.cli import main\n"
        "try: main(['benchmark', '-d', '27', '--bfloat16'])\n"
        "except SystemExit as e: print(e.code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "nnUNet_preprocessed is not set" in said and said.split()[-1] == "False"


@pytest.mark.parametrize(
    "options, steps, factors",
    [
        ({"budget": 8000}, 4000, [0.3, 1, 3]),
        ({"budget": 1}, 1, [0.3, 1, 3]),
        ({}, 125_000, [0.3, 1, 3]),
        ({"budget": 8000, "search_steps": 7, "tune_lr": [2, 1, 1]}, 7, [1, 2]),
    ],
)
def test_a_search_for_learning_rates_is_long_enough(options, steps, factors):
    asked = SimpleNamespace(**{"tune_lr": [], "search_steps": None, "budget": None} | options)
    assert benchmark._search(asked) == {"search_steps": steps, "lr_factors": factors}
