"""The benchmark and its report on the phantom: with models that are found trained, and one that is to be trained."""

import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import DATASET
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark import jobs, sections, workflow
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.report import write_report
from nnunet_cardiac.benchmark.results import load
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.training import train
from nnunet_cardiac.training.inner_split import inner_split

CONTENDERS = ("nnunet_2d", "e2aunet", "crocnet")
BROKEN = "broken: {planner: ExperimentPlanner, plans: nnUNetPlans, configuration: 2d_wrong, trainer: nnUNetTrainer}"


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("benchmark") / "out"


@pytest.fixture(scope="module")
def arguments(output) -> list[str]:
    """Of the benchmark of all contenders, without --budget: trained models are used as they are found."""
    file = output.with_name("more.yaml")
    file.write_text(BROKEN)
    return [
        "benchmark", "-d", "27", "--contenders", *CONTENDERS, "broken", "--contenders_file", str(file), "-f", "0",
        "-device", "cpu", "--cores", "2", "-o", str(output),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What the benchmark of all contenders has printed: to ``out`` and ``err``."""
    return {}


@pytest.fixture(scope="module")
def finished(trained_nnunet, trained_crocnet, arguments, output, printed) -> BenchmarkFolder:
    """The benchmark of all contenders, with the worker's jobs in this process."""
    with pytest.MonkeyPatch.context() as context, StringIO() as out, StringIO() as err:
        context.setattr(workflow._Work, "run_worker", work_here)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_status:
            main(arguments)
        printed.update(out=out.getvalue(), err=err.getvalue())
    assert exit_status.value.code == 1  # because of the broken one
    return BenchmarkFolder(output)


def work_here(work: workflow._Work) -> list[str]:
    with pytest.MonkeyPatch.context() as context:
        context.chdir(work.benchmark.path)
        jobs.main(["ready"])
    work.print_news()
    return []


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports without pictures, which take most of their time; the fixture ``finished`` draws them."""
    for name in ("distributions", "bland_altman", "dice_against_cost", "learning_curves"):
        monkeypatch.setattr(sections, name, lambda *arguments: None)
    monkeypatch.setattr(sections, "draw_cases", lambda *arguments: ([], []))
    monkeypatch.setattr(sections, "_embed", lambda figure, svg: "")


def test_models_that_are_trained_are_used_and_nothing_is_trained(finished):
    models = {path.parent.name for path in finished.path.glob("jobs/train/*/fold_*.json")}
    assert {name.split("__", 1)[1] for name in models} == {
        "nnUNetPlans__2d", "nnUNetCroCNetPlans__2d", "nnUNetCroCNetPlans__2d_cascade"
    }  # fmt: skip
    assert len(list(finished.path.glob("jobs/train/*/fold_*.json"))) == 4  # CroCNet's stage 1 on both folds
    assert len(list(finished.path.glob("jobs/evaluate/*/fold_0.json"))) == 3
    assert len(list(finished.path.glob("jobs/cost/*.json"))) == 3
    assert not finished.snakemake_log.exists()
    for job in (Job("train", f"nnUNetTrainer__nnUNetPlans__{name}", 0) for name in ("2d", "2d_wrong")):
        text = finished.log(job).read_text()
        assert ("finished already" in text) != ("has no configuration '2d_wrong'" in text)


def test_failure_is_named(finished, printed):
    assert "left out: broken, fold 0" in printed["err"] and "has no configuration '2d_wrong'" in printed["err"]
    assert re.search(r"failed  train nnUNetTrainer__nnUNetPlans__2d_wrong fold_0: .+ no configuration", printed["out"])
    assert f"Report: {finished.report / 'index.html'}" in printed["out"]


def test_a_finished_benchmark_starts_no_process(finished, arguments, monkeypatch, capsys, tmp_path, no_pictures):
    shutil.copytree(finished.path, tmp_path, dirs_exist_ok=True)
    for command in ("WORKER", "SNAKEMAKE"):
        monkeypatch.setattr(workflow, command, ["no such program"])
    with pytest.raises(SystemExit):
        main([*(a for a in arguments if a != "broken"), "-o", str(tmp_path)])
    text = capsys.readouterr()
    assert "started" not in text.out
    assert "left out: broken, fold 0" in text.err  # it stays in the report, and is not tried again


def test_records_tell_what_it_cost(finished):
    for file in finished.path.glob("jobs/train/*/fold_*.json"):
        record = json.loads(file.read_text())
        cost = record["cost"]
        assert cost["steps"] == cost["budget"] == 4 and cost["scaled_schedule"] and cost["seed"] == 0
        assert cost["patch_size"] and cost["features_per_stage"] and cost["network"] and cost["spacing"]
        assert cost["seconds"] > 0 and cost["peak_memory_GB"] > 0.1 and cost["hardware"]
        assert {"python", "torch", "nnunetv2", "nnunet-cardiac"} <= cost["versions"].keys()
        assert len(record["curve"]["mean_fg_dice"]) == 1
    costs = {c.name: c.cost for c in load(finished).contenders}
    assert costs["crocnet"]["parameters"] > costs["e2aunet"]["parameters"] > 0
    assert costs["crocnet"]["flops_per_slice"] > costs["e2aunet"]["flops_per_slice"] > 0
    assert (costs["crocnet"]["steps_per_fold"], costs["e2aunet"]["steps_per_fold"]) == (8, 4)  # both stages
    for file in finished.path.glob("jobs/cost/*.json"):
        cost = json.loads(file.read_text())
        assert cost["prediction_cases"] == 4 and cost["prediction_seconds_per_case"] > 0
        assert cost["prediction_peak_memory_GB"] is None  # of this process, which did other jobs too


def test_report_is_one_page_with_everything(finished):
    page = (finished.report / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for name in CONTENDERS:
        assert page.count(f"<h3>{name}</h3>") == 1  # Bland-Altman
        assert len(re.findall(rf'aria-label="patient\d+_E[DS], {name}"', page)) == 3  # the same cases as all others
    for words in ("Failed or missing", "2d_wrong", "not measured here", "95.01", "Holm", "Implausible", "-device cpu"):
        assert words in page, words
    assert page.count("data:image/svg") == 6
    summary = pd.read_csv(finished.report / "summary.csv")
    assert list(summary["contender"]) == list(CONTENDERS)
    full = pd.read_csv(finished.report / "metrics_full.csv").set_index(["contender", "structure", "metric"])
    metrics = pd.read_csv(next(finished.path.glob("evaluation/nnUNetTrainer__*/fold_0/metrics.csv")))
    expected = metrics.groupby("case")["dice"].mean()
    row = full.loc[("nnunet_2d", "mean", "dice")]
    assert row["n"] == 4 and row["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert row["sd"] == pytest.approx(expected.std(), abs=1e-6)
    assert (finished.report / "tables.md").read_text().count("\n## ") >= 5
    assert (finished.report / "tables.tex").read_text().count(r"\begin{table}") >= 6


def test_report_tells_what_the_crops_show(finished):
    table = pd.read_csv(finished.report / "crop.csv").set_index("contender")
    assert list(table.index) == ["crocnet"]  # the others have none
    cases = pd.read_csv(next(finished.path.glob("evaluation/*CroCNet*__2d_cascade/fold_0/crop.csv")))
    assert cases["case"].nunique() == 4 and set(cases["structure"]) == {"RV", "MYO", "LV"}
    lv = cases[cases["structure"] == "LV"]
    assert (lv["pixels"] > 0).all()
    expected = 100 * lv["inside"].sum() / lv["pixels"].sum()
    assert table.loc["crocnet", "LV inside, %"] == pytest.approx(expected, abs=0.01)


def test_report_against_another_baseline(finished, tmp_path, no_pictures):
    result = write_report(benchmark=finished.path, output=tmp_path / "report", baseline="crocnet")
    summary = pd.read_csv(tmp_path / "report" / "summary.csv").set_index("contender")
    assert summary.loc["crocnet", "difference"] == "baseline" and "broken" in result.problems[0]
    with pytest.raises(UserError, match="'nobody' takes no part"):
        write_report(benchmark=finished.path, output=tmp_path / "report", baseline="nobody")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be written .*: choose another folder with -o"):
        write_report(benchmark=finished.path, output=tmp_path / "file")


def test_a_baseline_without_results_is_said(finished, tmp_path, no_pictures):
    untested = write_report(benchmark=finished.path, output=tmp_path, baseline="broken")
    assert "nothing is tested against it" in untested.problems[-1]
    assert not (tmp_path / "tests.csv").exists()


def test_models_that_were_found_trained_otherwise_are_named(finished):
    found = load(finished)
    assert (
        "nnunet_2d was found trained, with a budget of 4 steps and an initial learning rate of 0.01." in found.remarks
    )
    assert len(found.remarks) == len(CONTENDERS)
    assert replace(found, settings=replace(found.settings, budget=4)).remarks == []


def test_other_settings_need_another_folder(finished, arguments):
    with pytest.raises(SystemExit) as exit_status:
        main([*arguments, "--budget", "3"])
    assert "holds a benchmark with budget None, not 3" in str(exit_status.value)


def test_a_benchmark_plans_trains_evaluates_and_reports(planned, tmp_path, capsys, monkeypatch, no_pictures):
    """The worker's job in this process, the training and what follows in one of Snakemake's."""
    monkeypatch.setattr(workflow._Work, "run_worker", work_here)
    real_plans = (planned / "nnUNetPlans.json").read_text()
    main([
        "benchmark", "-d", "27", "--contenders", "nnunet_2d", "-f", "0", "--budget", "2", "--small", "32",
        "-device", "cpu", "--cores", "2", "-o", str(tmp_path),
    ])  # fmt: skip
    model = "nnUNetTrainer__nnUNetSmall32Plans__2d"
    happened = re.findall(r"(?:started|done|failed) .+", capsys.readouterr().out)
    done = ["plan nnUNetSmall32Plans", f"train {model} fold_0", f"evaluate {model} fold_0", f"cost {model}"]
    assert sorted(happened) == sorted(f"{what:<8}{job}" for job in done for what in ("started", "done"))
    record = BenchmarkFolder(tmp_path).read_record(Job("train", model, 0))
    assert record["cost"]["steps"] == record["cost"]["budget"] == 2 and len(record["curve"]["mean_fg_dice"]) == 1
    assert (tmp_path / "nnUNet_results" / DATASET / model / "fold_0" / "checkpoint_final.pth").is_file()
    assert "--budget 2 --small 32" in (tmp_path / "report" / "index.html").read_text()
    assert (planned / "nnUNetPlans.json").read_text() == real_plans
    (planned / "nnUNetSmall32Plans.json").unlink()


def test_two_seeds_are_trained_with_the_rate_that_a_search_found(planned, tmp_path, monkeypatch):
    """All jobs in this process."""
    place, plans = planned / "nnUNetSearchedPlans.json", ("nnUNetSearchedPlans", "nnUNetSeed5SearchedPlans")
    place.write_text((planned / "nnUNetPlans.json").read_text().replace('"nnUNetPlans"', f'"{plans[0]}"'))
    monkeypatch.setattr(train, "BUDGET_EPOCHS", 1)
    contender = replace(contenders()["nnunet_2d"], plans=plans[0])
    settings = Settings(
        DATASET, [0], contender.name, {contender.name: contender}, budget=3, device="cpu", seeds=[0, 5],
        lr_factors=[1e9, 1], search_steps=2,
    )  # fmt: skip
    benchmark = BenchmarkFolder(tmp_path)
    models = [settings.model(contender, seed).name for seed in settings.seeds]
    benchmark.write_settings(settings)
    benchmark.write_workflow(
        {
            "dataset": DATASET, "models": models, "folds": [0], "all_folds": [0, 1], "copies": settings.copied_plans(),
            "tuned": True,
        }
    )  # fmt: skip
    benchmark.use_results(settings)
    schedule = Schedule.of_call(benchmark, benchmark.read_workflow())
    mirrored, initialize = [], nnUNetPredictor.manual_initialization
    monkeypatch.setattr(
        nnUNetPredictor,
        "manual_initialization",
        lambda self, *arguments: mirrored.append(arguments[-1]) or initialize(self, *arguments),
    )
    while ready := [job for job, state in schedule.states().items() if state == "ready" and job.kind != "cost"]:
        assert jobs.run(benchmark, ready[0]), benchmark.failure(ready[0])
    assert mirrored == [None, None, (0, 1), (0, 1)]  # of the two short runs, then of the trainings
    found = benchmark.read_record(Job("tune", models[0], 0))
    assert found["initial_lr"] == 0.01 and found["steps"] == 4  # a billion times the recipe's rate learns nothing
    assert found["dice"]["1e+07"] <= found["dice"]["0.01"] and not list(tmp_path.rglob("search/**/*.pth"))
    split = json.loads((planned / "splits_final.json").read_text())[0]
    inner = inner_split(DATASET, split["train"])
    assert sorted(inner[0] + inner[1]) == sorted(split["train"])
    patients = [{case.rsplit("_", 1)[0] for case in part} for part in inner]
    assert all(patients) and not patients[0] & patients[1]
    costs = [benchmark.read_record(Job("train", model, 0))["cost"] for model in models]
    assert [(cost["seed"], cost["initial_lr"], cost["steps"]) for cost in costs] == [(0, 0.01, 3), (5, 0.01, 3)]
    weights = [
        torch.load(benchmark.results(settings) / DATASET / model / "fold_0/checkpoint_final.pth", weights_only=False)
        for model in models
    ]
    first, second = (next(iter(w["network_weights"].values())) for w in weights)
    assert not torch.equal(first, second)
    result = load(benchmark).contenders[0]
    assert set(result.metrics["seed"]) == {0, 5} and result.cost["search_minutes_per_fold"] > 0
    expected = result.metrics[result.metrics["structure"] == "LV"].groupby("case")["dice"].mean()
    assert result.by_case("dice", "LV").equals(expected)
    for name in plans:
        (planned / f"{name}.json").unlink()


def test_mistakes_are_one_sentence(dataset, tmp_path, capsys):
    def error_of(*more: str) -> str:
        with pytest.raises(SystemExit) as exit_status:
            main([*more, "-o", str(tmp_path / "new")])
        return str(exit_status.value)

    benchmark = ("benchmark", "-d", "27", "-device", "cpu", "--cores", "2")
    error_of(*benchmark, "--contenders", "dadu")
    warned = capsys.readouterr().err
    error_of(*benchmark, "--contenders", "dadu", "--budget", "9")
    assert "warning: whole trainings take weeks without a GPU" in warned and not capsys.readouterr().err
    unknown = error_of(*benchmark, "--contenders", "croc_net")
    assert "There is no contender 'croc_net': there are nnunet_2d, " in unknown
    assert unknown.strip().endswith("Did you mean crocnet?")
    assert "There is no fold 7" in error_of(*benchmark, "-f", "7")
    assert "nnunet_2d is not among the contenders" in error_of(*benchmark, "--contenders", "crocnet")
    assert "There is no profile 'lsf': there is slurm" in error_of(*benchmark, "--profile", "lsf")
    (tmp_path / "bad.yaml").write_text("mine: {trainer: nnUNetTrainer}")
    assert "describes no contenders" in error_of(*benchmark, "--contenders_file", str(tmp_path / "bad.yaml"))
    mine = "mine: {planner: ExperimentPlanner, plans: nnUNetPlans, configuration: 2d, trainer: nnUNetTrainerMine}"
    (tmp_path / "mine.yaml").write_text(mine)
    mine = ("--contenders", "nnunet_2d", "mine", "--contenders_file", str(tmp_path / "mine.yaml"))
    assert "There is no trainer 'nnUNetTrainerMine'" in error_of(*benchmark, *mine)
    (tmp_path / "new" / "file").touch()
    assert not (tmp_path / "new" / "settings.json").exists()  # nothing of it stays
    assert "holds no benchmark" in error_of("report", "-i", str(tmp_path))
    settings = Settings(DATASET, [0], "nnunet_2d", {"nnunet_2d": contenders()["nnunet_2d"]}, budget=1)
    BenchmarkFolder(tmp_path).write_settings(settings)
    assert "holds no finished fold yet; the first reason: nnunet_2d, fold 0" in error_of("report", "-i", str(tmp_path))
