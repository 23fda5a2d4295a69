"""The benchmark on the phantom: four contenders and one that cannot work, killed in the middle and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import DATASET

from nnunet_cardiac.benchmark import contenders
from nnunet_cardiac.benchmark.gpus import own_gpu
from nnunet_cardiac.benchmark.report import write_report
from nnunet_cardiac.benchmark.results import load
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import check_trainer
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.planners.plan_and_preprocess import find_planner

CONTENDERS = ("nnunet_2d", "e2aunet", "crocnet", "crocnet_single")
BROKEN = "broken: {planner: ExperimentPlanner, plans: nnUNetPlans, configuration: 2d_wrong, trainer: nnUNetTrainer}"


@pytest.fixture(scope="module")
def arguments(dataset, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "more.yaml").write_text(BROKEN)
    return [
        "benchmark", "-d", "27", "--contenders", *CONTENDERS, "broken", "--contenders_file", str(folder / "more.yaml"),
        "-f", "0", "--budget", "2", "--small", "32", "-device", "cpu", "--cores", "2", "-o", str(folder / "out"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def killed(arguments) -> dict[Path, int]:
    """The benchmark, killed after its first training: the records that are there, and when they were written."""
    output = Path(arguments[-1])
    process = subprocess.Popen([sys.executable, "-m", "nnunet_cardiac", *arguments], start_new_session=True)
    while not list(output.glob("jobs/train/*/fold_*.json")):
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {file: file.stat().st_mtime_ns for file in output.glob("jobs/*/**/*.json")}


@pytest.fixture(scope="module")
def finished(arguments, killed) -> dict:
    """The benchmark, started again after it was killed, and what it printed."""
    again = subprocess.run(
        [sys.executable, "-m", "nnunet_cardiac", *arguments], capture_output=True, text=True, timeout=600
    )
    return {"output": Path(arguments[-1]), "before": killed, "again": again}


def test_killed_benchmark_leaves_whole_records_only(killed):
    assert killed
    assert all(json.loads(file.read_text()) for file in killed)


def test_killed_benchmark_finishes_without_repeating_work(finished):
    output, again = finished["output"], finished["again"]
    trained = {file.parent.name for file in output.glob("jobs/train/*/fold_*.json")}
    assert len(trained) == len(CONTENDERS)
    assert len(list(output.glob("jobs/train/*/fold_*.json"))) == 5  # CroCNet's stage 1 on both folds
    assert len(list(output.glob("jobs/evaluate/*/fold_0.json"))) == len(list(output.glob("jobs/cost/*.json"))) == 4
    assert finished["before"] and all(f.stat().st_mtime_ns == t for f, t in finished["before"].items())
    done = {" ".join(file.relative_to(output / "jobs").with_suffix("").parts) for file in finished["before"]}
    started = set(re.findall(r"started +(.+)", again.stdout))
    assert started and not started & done
    for log in output.glob("nnUNet_results/*/*/fold_*"):  # a log for each time that a training began
        began_before = log.parent.name + "/" + log.name in {f"{f.parent.name}/{f.stem}" for f in finished["before"]}
        assert len(list(log.glob("training_log_*.txt"))) == 1 or not began_before


def test_failure_is_named_and_shows_in_the_exit_status(finished):
    again = finished["again"]
    assert again.returncode == 1
    assert "left out: broken, fold 0" in again.stderr and "has no configuration '2d_wrong'" in again.stderr
    assert f"Report: {finished['output'] / 'report' / 'index.html'}" in again.stdout


def test_third_call_does_nothing(finished, arguments, capsys):
    with pytest.raises(SystemExit):
        main([a for a in arguments if a != "broken"])  # it stays in the report, and is not tried again
    assert "started" not in capsys.readouterr().out


def test_records_tell_what_it_cost(finished):
    for file in finished["output"].glob("jobs/train/*/fold_*.json"):
        record = json.loads(file.read_text())
        cost = record["cost"]
        assert cost["steps"] == cost["budget"] == 2 and cost["scaled_schedule"] and cost["seed"] == 0
        assert cost["seconds"] > 0 and cost["peak_memory_GB"] > 0.1 and cost["hardware"]
        assert {"python", "torch", "nnunetv2", "nnunet-cardiac"} <= cost["versions"].keys()
        assert len(record["curve"]["mean_fg_dice"]) == 1
    costs = {
        f.stem.split("__")[-1]: json.loads(f.read_text()) for f in finished["output"].glob("jobs/cost/*CroC*.json")
    }
    assert costs["2d_cascade"]["parameters"] > costs["2d_cascade_single"]["parameters"] > costs["2d"]["parameters"] > 0
    assert costs["2d_cascade"]["flops_per_slice"] > costs["2d"]["flops_per_slice"] > 0
    assert all(c["prediction_cases"] == 4 and c["prediction_seconds_per_case"] > 0 for c in costs.values())


def test_report_is_one_page_with_everything(finished):
    report = finished["output"] / "report"
    page = (report / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for name in CONTENDERS:
        assert page.count(f"<h3>{name}</h3>") == 2  # overlays and Bland-Altman
    for words in ("Failed or missing", "2d_wrong", "not measured here", "95.01", "Holm", "Implausible", "--budget 2"):
        assert words in page, words
    assert page.count("data:image/png") == 4 and page.count("data:image/svg") == 7
    summary = pd.read_csv(report / "summary.csv")
    assert list(summary["contender"]) == list(CONTENDERS)
    full = pd.read_csv(report / "metrics_full.csv").set_index(["contender", "structure", "metric"])
    metrics = pd.read_csv(next(finished["output"].glob("evaluation/nnUNetTrainer__*/fold_0/metrics.csv")))
    expected = metrics.groupby("case")["dice"].mean()
    row = full.loc[("nnunet_2d", "mean", "dice")]
    assert row["n"] == 4 and row["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert row["sd"] == pytest.approx(expected.std(), abs=1e-6)
    assert (report / "tables.md").read_text().count("\n## ") >= 5
    assert (report / "tables.tex").read_text().count(r"\begin{table}") >= 6


def test_report_tells_what_the_crops_show(finished):
    table = pd.read_csv(finished["output"] / "report" / "crop.csv").set_index("contender")
    assert list(table.index) == ["crocnet", "crocnet_single"]  # the others have none
    cases = pd.read_csv(next(finished["output"].glob("evaluation/*CroCNet*__2d_cascade/fold_0/crop.csv")))
    assert cases["case"].nunique() == 4 and set(cases["structure"]) == {"RV", "MYO", "LV"}
    lv = cases[cases["structure"] == "LV"]
    assert (lv["pixels"] > 0).all()
    expected = 100 * lv["inside"].sum() / lv["pixels"].sum()
    assert table.loc["crocnet", "LV inside, %"] == pytest.approx(expected, abs=0.01)


def test_report_against_another_baseline(finished, tmp_path):
    result = write_report(finished["output"], tmp_path / "report", baseline="crocnet")
    summary = pd.read_csv(tmp_path / "report" / "summary.csv").set_index("contender")
    assert summary.loc["crocnet", "difference"] == "baseline" and "broken" in result.problems[0]
    untested = write_report(finished["output"], tmp_path / "untested", baseline="broken")
    assert "nothing is tested against it" in untested.problems[-1]
    assert not (tmp_path / "untested" / "tests.csv").exists()
    with pytest.raises(UserError, match="'nobody' takes no part"):
        write_report(finished["output"], tmp_path / "report", baseline="nobody")


def test_models_that_were_found_trained_otherwise_are_named(finished):
    results = load(finished["output"])
    assert results.remarks == []
    found = replace(results, settings=replace(results.settings, budget=None))
    assert (
        "nnunet_2d was found trained, with a budget of 2 steps and an initial learning rate of 0.01." in found.remarks
    )
    assert len(found.remarks) == len(CONTENDERS)


def test_other_settings_need_another_folder(finished, arguments):
    with pytest.raises(SystemExit) as exit_status:
        main([{"2": "3"}.get(a, a) for a in arguments])
    assert "holds a benchmark with budget 2, not 3" in str(exit_status.value)


def test_mistakes_are_one_sentence(dataset, tmp_path):
    def error_of(*more: str) -> str:
        with pytest.raises(SystemExit) as exit_status:
            main([*more, "-o", str(tmp_path / "new")])
        return str(exit_status.value)

    benchmark = ("benchmark", "-d", "27", "-device", "cpu", "--cores", "2")
    assert "There is no contender 'nnunet_4d': there are nnunet_2d" in error_of(*benchmark, "--contenders", "nnunet_4d")
    assert "There is no fold 7" in error_of(*benchmark, "-f", "7")
    assert "nnunet_2d is not among the contenders" in error_of(*benchmark, "--contenders", "crocnet")
    assert "There is no profile 'lsf': there is slurm" in error_of(*benchmark, "--profile", "lsf")
    (tmp_path / "bad.yaml").write_text("mine: {trainer: nnUNetTrainer}")
    assert "describes no contenders" in error_of(*benchmark, "--contenders_file", str(tmp_path / "bad.yaml"))
    assert "holds no benchmark" in error_of("report", "-i", str(tmp_path))
    settings = Settings(DATASET, [0], "nnunet_2d", {"nnunet_2d": contenders.BUILT_IN["nnunet_2d"]}, budget=1)
    settings.write(tmp_path)
    assert "holds no finished fold yet; the first reason: nnunet_2d, fold 0" in error_of("report", "-i", str(tmp_path))


@pytest.mark.parametrize("contender", contenders.BUILT_IN.values(), ids=lambda c: c.name)
def test_built_in_contenders_name_what_exists(contender, planned):
    planner = find_planner(contender.planner)
    assert planner(DATASET).plans_identifier == contender.plans
    check_trainer(contender.trainer)


def test_jobs_on_one_machine_get_gpus_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with own_gpu(tmp_path, ["4", "7"]) as first, own_gpu(tmp_path, ["4", "7"]) as second:
        assert (first, second) == ("4", "7") and os.environ["CUDA_VISIBLE_DEVICES"] == "7"
        code = (
            "from pathlib import Path; from nnunet_cardiac.benchmark.gpus import own_gpu\n"
            f"with own_gpu(Path({str(tmp_path)!r}), ['4', '7']) as gpu: print(gpu)"
        )
        third = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        assert third.poll() is None  # it waits
    assert third.communicate(timeout=20)[0].strip() == "4"
