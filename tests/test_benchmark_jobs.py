"""The order of a benchmark's jobs, its worker and its workflow, with jobs that do next to nothing."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import DATASET
from fake_jobs import RECORDS, finish_training

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark import jobs, workflow
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.gpus import own_gpu
from nnunet_cardiac.benchmark.results import unfinished
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import PARTIAL
from nnunet_cardiac.planners.sizes import SIZES

FAKE_JOBS = Path(__file__).with_name("fake_jobs.py")
PLANS = "nnUNetCroCNetPlans"
E2A, CROCNET = (f"nnUNetTrainerCroCNet__{PLANS}__{name}" for name in ("2d", "2d_cascade"))
NNUNET = "nnUNetTrainer__nnUNetPlans__2d"
SETTINGS = Settings(
    DATASET, [0], "crocnet", {name: contenders()[name] for name in ("crocnet", "nnunet_2d")}, device="cpu"
)


@pytest.fixture
def benchmark(tmp_path, monkeypatch) -> BenchmarkFolder:
    """A benchmark of CroCNet and nnU-Net on one fold of two, which is about to begin; nnU-Net's folders are its own."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    preprocessed = tmp_path / "preprocessed" / DATASET
    (preprocessed / "splits_final.json").write_text('[{"train": [], "val": []}, {"train": [], "val": []}]')
    for plans in ("nnUNetPlans", PLANS):
        made = {"dataset_name": DATASET, "configurations": {"2d": {}, "2d_cascade": {}}}
        (preprocessed / f"{plans}.json").write_text(json.dumps(made))
    folder = BenchmarkFolder(tmp_path / "benchmark")
    folder.write_settings(SETTINGS)
    folder.write_workflow({"dataset": DATASET, "models": [CROCNET, NNUNET], "folds": [0], "all_folds": [0, 1]})
    return folder


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Path:
    """The workflow runs fake jobs, in processes as it runs others; returns what stands for Python's interpreter."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{FAKE_JOBS}" "$@"\n')  # without -m MODULE
    python.chmod(0o755)
    monkeypatch.setattr(workflow, "WORKER", [sys.executable, str(FAKE_JOBS), "ready"])
    monkeypatch.setattr(workflow, "check_trainer", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(python))
    return python


def schedule_of(benchmark: BenchmarkFolder) -> Schedule:
    return Schedule.of_call(benchmark, benchmark.read_workflow())


def states_of(benchmark: BenchmarkFolder) -> dict[str, str]:
    return {str(job): state for job, state in schedule_of(benchmark).states().items()}


def do(benchmark: BenchmarkFolder, *chosen: Job) -> None:
    """Jobs that leave their record, without doing anything."""
    for job in chosen:
        with benchmark.locked(job):
            benchmark.begin(job)
            benchmark.finish(job, RECORDS[job.kind])


def do_all(benchmark: BenchmarkFolder) -> None:
    do(benchmark, Job("plan", PLANS), Job("plan", "nnUNetPlans"))
    do(benchmark, *schedule_of(benchmark).jobs())


# the schedule


def test_plans_come_first_and_tell_the_stages(benchmark):
    first = {f"plan {PLANS}": "ready", f"train {CROCNET} fold_0": "waiting", f"evaluate {CROCNET} fold_0": "waiting"}
    assert first.items() <= states_of(benchmark).items()
    assert f"train {E2A} fold_0" not in states_of(benchmark)
    do(benchmark, Job("plan", PLANS))
    assert {job: state for job, state in states_of(benchmark).items() if PLANS in job} == {
        f"plan {PLANS}": "done",
        f"train {E2A} fold_0": "ready",
        f"train {E2A} fold_1": "ready",  # the next stage learns from predictions of all folds
        f"train {CROCNET} fold_0": "waiting",
        f"evaluate {CROCNET} fold_0": "waiting",
        f"cost {CROCNET}": "waiting",
    }
    do(benchmark, Job("train", E2A, 0))
    assert states_of(benchmark)[f"train {CROCNET} fold_0"] == "waiting"
    do(benchmark, Job("train", E2A, 1))
    assert states_of(benchmark)[f"train {CROCNET} fold_0"] == "ready"
    do(benchmark, Job("train", CROCNET, 0))
    assert {states_of(benchmark)[job] for job in (f"evaluate {CROCNET} fold_0", f"cost {CROCNET}")} == {"ready"}


def test_every_seed_trains_models_of_its_own_with_the_rate_that_was_found_once(benchmark):
    settings = replace(SETTINGS, seeds=[0, 3], lr_factors=[1, 10], search_steps=2)
    copy = PLANS.replace("nnUNet", "nnUNetSeed3", 1)
    assert settings.copied_plans()[copy] == PLANS and settings.seed_of(copy) == 3 and settings.seed_of(PLANS) == 0
    again = E2A.replace(PLANS, copy)
    benchmark.write_workflow(
        {
            "dataset": DATASET, "models": [E2A, again], "folds": [0], "all_folds": [0, 1],
            "copies": settings.copied_plans(), "tuned": True,
        }
    )  # fmt: skip
    assert states_of(benchmark)[f"plan {copy}"] == "waiting"
    do(benchmark, Job("plan", PLANS))
    assert states_of(benchmark)[f"plan {copy}"] == "ready"
    do(benchmark, Job("plan", copy))
    assert {job: state for job, state in states_of(benchmark).items() if "plan" not in job} == {
        f"tune {E2A} fold_0": "ready",
        f"train {E2A} fold_0": "waiting",
        f"evaluate {E2A} fold_0": "waiting",
        f"train {again} fold_0": "waiting",
        f"evaluate {again} fold_0": "waiting",
        f"cost {E2A}": "waiting",  # a seed changes nothing about it
    }
    do(benchmark, Job("tune", E2A, 0))
    assert states_of(benchmark)[f"train {E2A} fold_0"] == states_of(benchmark)[f"train {again} fold_0"] == "ready"
    do(benchmark, Job("train", again, 0))
    time.sleep(0.02)
    benchmark.record(Job("tune", E2A, 0)).unlink()
    do(benchmark, Job("tune", E2A, 0))
    assert states_of(benchmark)[f"train {again} fold_0"] == "ready"  # another search, another training


def test_a_test_of_fewer_folds_or_corruptions_is_done_again(benchmark):
    call = benchmark.read_workflow() | {"models": [NNUNET], "tests": ["corrupted"], "corruptions": ["noise"]}
    test = Job("test", NNUNET, where="corrupted")
    benchmark.write_workflow(call)
    do_all(benchmark)
    benchmark.finish(test, {"problems": [], "folds": [0, 1], "corruptions": ["noise"]})
    assert states_of(benchmark)[str(test)] == "done"  # of more folds is enough
    benchmark.write_workflow(call | {"corruptions": ["noise", "ghosting"]})
    assert states_of(benchmark)[str(test)] == "ready"
    benchmark.write_workflow(call)
    benchmark.finish(test, {"problems": [], "folds": [], "corruptions": ["noise"]})
    assert states_of(benchmark)[str(test)] == "ready"


def test_what_needs_a_failed_job_is_not_tried(benchmark):
    do(benchmark, Job("plan", PLANS))
    benchmark.fail(Job("train", E2A, 1), "it cannot be done.")
    states = states_of(benchmark)
    assert states[f"train {E2A} fold_1"] == "failed" and states[f"train {E2A} fold_0"] == "ready"
    for job in (f"train {CROCNET} fold_0", f"evaluate {CROCNET} fold_0", f"cost {CROCNET}"):
        assert states[job] == "blocked"
    assert states["plan nnUNetPlans"] == "ready"


def test_what_failed_in_an_earlier_call_is_tried_again(benchmark):
    benchmark.fail(Job("plan", PLANS), "it cannot be done.")
    assert states_of(benchmark)[f"plan {PLANS}"] == "failed"
    time.sleep(0.02)  # more than the file system's clock needs
    benchmark.write_workflow(benchmark.read_workflow())
    assert states_of(benchmark)[f"plan {PLANS}"] == "ready"
    assert benchmark.failure(Job("plan", PLANS)) == "it cannot be done."  # until it is done, the report needs it
    do(benchmark, Job("plan", PLANS))
    assert benchmark.failure(Job("plan", PLANS)) is None


def test_a_model_that_is_trained_again_is_evaluated_again(benchmark, monkeypatch):
    do_all(benchmark)
    assert set(states_of(benchmark).values()) == {"done"}
    benchmark.record(Job("train", NNUNET, 0)).touch()  # as Snakemake does
    assert set(states_of(benchmark).values()) == {"done"}
    time.sleep(0.02)
    benchmark.record(Job("train", NNUNET, 0)).unlink()
    do(benchmark, Job("train", NNUNET, 0))
    again = {job for job, state in states_of(benchmark).items() if state == "ready"}
    assert again == {f"evaluate {NNUNET} fold_0", f"cost {NNUNET}"}
    done = []
    monkeypatch.setitem(jobs.JOBS, "evaluate", lambda *_: done.append("again") or RECORDS["evaluate"])
    for _ in range(2):  # a lock that is only looked at does not make the old record a new one
        assert jobs.run(benchmark, Job("evaluate", NNUNET, 0))
    assert done == ["again"]


def test_what_is_missing_is_said_with_its_reason(benchmark):
    do(benchmark, Job("plan", PLANS), Job("train", NNUNET, 0))
    benchmark.fail(Job("train", E2A, 1), "it cannot be done.")
    assert unfinished(benchmark, SETTINGS) == [
        f"crocnet, fold 0: train/{E2A}/fold_1 failed: it cannot be done. (all that it printed: "
        f"{benchmark.path / 'logs' / 'train' / E2A / 'fold_1.log'})",
        "crocnet, cost: not measured.",
        "nnunet_2d, fold 0: trained, but not evaluated yet.",
        "nnunet_2d, cost: not measured.",
    ]
    do_all(benchmark)
    benchmark.finish(Job("evaluate", NNUNET, 0), {"cases": 1, "problems": ["A case is missing."]})
    benchmark.record(Job("cost", CROCNET)).unlink()
    benchmark.fail(Job("cost", CROCNET), "out of memory.")
    assert unfinished(benchmark, SETTINGS) == [
        "crocnet, cost: failed: out of memory.", "nnunet_2d, fold 0: A case is missing.",
    ]  # fmt: skip
    benchmark.record(Job("evaluate", NNUNET, 0)).unlink()
    benchmark.record(Job("train", NNUNET, 0)).unlink()
    assert unfinished(benchmark, SETTINGS)[1] == "nnunet_2d, fold 0: its training has not finished."


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("nnUNetPlans", "nnUNetSmall128Plans"),
        ("nnUNetCroCNetPlans", "nnUNetSmall128CroCNetPlans"),
        ("my_nnUNetPlans", "my_nnUNetSmall128Plans"),
        ("MyPlans", "Small128MyPlans"),  # once it had none, and the real plans were written over
    ],
)
def test_small_plans_have_names_of_their_own(name, small):
    assert Settings(DATASET, [0], "nnunet_2d", size=SIZES["small"]).plans_name(name) == small
    assert Settings(DATASET, [0], "nnunet_2d").plans_name(name) == name


def test_plans_for_another_memory_have_names_of_their_own():
    settings = Settings(DATASET, [0], "nnunet_2d", gpu_memory_target=7.5)
    assert settings.plans_name("nnUNetDADUPlans", 2) == "nnUNetSeed2Memory7_5DADUPlans"


def test_settings_are_read_as_they_were_written():
    for size in (None, SIZES["half"].with_patch(96)):
        settings = Settings(DATASET, [0], "nnunet_2d", SETTINGS.contenders, size=size, seeds=[0, 1], lr_factors=[1.0])
        assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_of_an_earlier_version():
    written = Settings(DATASET, [0], "nnunet_2d").to_json()
    del written["size"]
    assert Settings.from_json(written | {"small": None}).size is None
    assert Settings.from_json(written | {"small": 64}).size == SIZES["small"].with_patch(64)


# one job


def test_a_job_leaves_its_record_or_the_reason_of_its_failure(benchmark, monkeypatch):
    outcomes = iter([UserError("Train it first."), ZeroDivisionError("by zero"), {"cases": 4, "problems": []}])

    def evaluate(*arguments):
        if isinstance(outcome := next(outcomes), Exception):
            raise outcome
        return outcome

    monkeypatch.setitem(jobs.JOBS, "evaluate", evaluate)
    job = Job("evaluate", NNUNET, 0)
    do(benchmark, Job("plan", "nnUNetPlans"), Job("train", NNUNET, 0))
    assert not jobs.run(benchmark, job) and benchmark.failure(job) == "Train it first."
    assert not jobs.run(benchmark, job) and benchmark.failure(job) == "ZeroDivisionError: by zero"
    assert benchmark.read_record(job) is None
    assert jobs.run(benchmark, job) and benchmark.failure(job) is None
    assert benchmark.read_record(job) == {"cases": 4, "problems": []}


def test_what_a_killed_writer_left_is_no_event(benchmark):
    job = Job("train", CROCNET, 0)
    rest = benchmark.record(job).parent / f"{PARTIAL}of_a_killed_one"
    rest.mkdir(parents=True)
    (rest / benchmark.record(job).name).write_text("{}")
    assert not list(benchmark.events())
    benchmark.finish(job, {})
    assert [(what, found) for _, what, found, _ in benchmark.events()] == [("done", job)]


def test_a_job_that_outlived_its_call_is_waited_for_and_not_repeated(benchmark, monkeypatch):
    monkeypatch.setattr(jobs, "JOBS", {})  # nothing can be done
    job, results = Job("plan", PLANS), []
    with benchmark.locked(job):
        thread = threading.Thread(target=lambda: results.append(jobs.run(benchmark, job)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        benchmark.finish(job, RECORDS["plan"])
    thread.join(10)
    assert results == [True]


def test_one_benchmark_at_a_time(benchmark):
    said = r"is being written by process \d+ on .+ since 20.+: wait for it with --wait, or choose another folder"
    with benchmark.alone(), pytest.raises(UserError, match=said):
        workflow.run(settings=SETTINGS, output=benchmark.path)


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


# the worker and the workflow


def processes_of(benchmark: BenchmarkFolder, *chosen: Job) -> list[int]:
    return [int(re.search(r"process (\d+)", benchmark.log(job).read_text())[1]) for job in chosen]


def run(benchmark: BenchmarkFolder) -> list[str]:
    return workflow.run(settings=SETTINGS, output=benchmark.path, cores=2)


def test_what_takes_no_training_is_done_in_one_process(benchmark, fake, monkeypatch, capsys):
    finished = [Job("train", E2A, 0), Job("train", E2A, 1), Job("train", CROCNET, 0), Job("train", NNUNET, 0)]
    for job in finished:
        finish_training(benchmark, SETTINGS, job)
    monkeypatch.setenv("JOBS_THAT", json.dumps({"fail": [f"evaluate {CROCNET} fold_0"]}))
    monkeypatch.setattr(workflow, "SNAKEMAKE", ["no such program"])
    assert run(benchmark) == []
    done = schedule_of(benchmark).jobs()
    (process,) = set(processes_of(benchmark, *done))
    for job in done:
        assert benchmark.log(job).read_text().startswith(f"{job}: process {process}\na child process\n")
    failed = Job("evaluate", CROCNET, 0)
    assert [job for job in done if not benchmark.record(job).is_file()] == [failed]
    assert benchmark.failure(failed) == "it cannot be done." and "Traceback" in benchmark.log(failed).read_text()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"Jobs and what they print: {benchmark.logs}"
    lines = [re.fullmatch(r"\d\d:\d\d:\d\d  (.+)", line)[1] for line in printed[1:]]
    assert {f"started {job}" for job in done} | {f"done    {job}" for job in done if job != failed} == {*lines} - {
        f"failed  {failed}: it cannot be done."
    }

    monkeypatch.delenv("JOBS_THAT")
    assert run(benchmark) == []
    assert re.findall(r"(?:started|done|failed) .+", capsys.readouterr().out) == [
        f"started {failed}",
        f"done    {failed}",
    ]

    monkeypatch.setattr(workflow, "WORKER", ["no such program"])
    assert run(benchmark) == []  # nothing is left: no process is started


def test_the_worker_is_a_command(benchmark):
    do_all(benchmark)
    worker = subprocess.Popen(workflow.WORKER, cwd=benchmark.path, stdin=subprocess.PIPE)
    assert worker.wait() == 0
    assert benchmark.running() is None


def test_a_worker_that_dies_does_not_stop_the_rest(benchmark, fake, monkeypatch):
    monkeypatch.setattr(workflow, "SNAKEMAKE", ["no such program"])
    for job in (Job("train", E2A, 0), Job("train", E2A, 1), Job("train", CROCNET, 0), Job("train", NNUNET, 0)):
        finish_training(benchmark, SETTINGS, job)
    monkeypatch.setenv("JOBS_THAT", json.dumps({"die": [f"train {E2A} fold_1", f"cost {NNUNET}"]}))
    assert run(benchmark) == []
    states = states_of(benchmark)
    assert {job for job, state in states.items() if state == "failed"} == {f"train {E2A} fold_1", f"cost {NNUNET}"}
    assert states[f"evaluate {NNUNET} fold_0"] == "done" and states[f"cost {CROCNET}"] == "blocked"
    assert benchmark.failure(Job("cost", NNUNET)) == "its process was killed by signal 9."
    assert (
        f"crocnet, fold 0: train/{E2A}/fold_1 failed: its process was killed by signal 9."
        in unfinished(benchmark, SETTINGS)[0]
    )


def test_a_worker_that_cannot_begin_is_said(benchmark, fake, monkeypatch):
    monkeypatch.setattr(workflow, "SNAKEMAKE", ["false"])
    monkeypatch.setattr(workflow, "WORKER", ["sh", "-c", "echo no such module; exit 1"])
    problems = run(benchmark)
    assert problems[0] == f"The worker stopped: no such module (all that it printed: {benchmark.worker_log})"


def test_trainings_are_processes_of_snakemake_and_do_what_follows(benchmark, fake, monkeypatch, capsys):
    monkeypatch.setenv("JOBS_THAT", json.dumps({"fail": [f"evaluate {NNUNET} fold_0"], "die": [f"cost {CROCNET}"]}))
    assert run(benchmark) == []
    jobs_by_state = {}
    for job, state in states_of(benchmark).items():
        jobs_by_state.setdefault(state, set()).add(job)
    assert jobs_by_state.keys() == {"done", "failed"}
    assert jobs_by_state["failed"] == {f"evaluate {NNUNET} fold_0", f"cost {CROCNET}"}
    trainings = [Job("train", E2A, 0), Job("train", E2A, 1), Job("train", NNUNET, 0)]
    assert len(set(processes_of(benchmark, *trainings))) == 3
    # a failure of what follows leaves the training's record and process as they are
    follow = [Job("train", NNUNET, 0), Job("evaluate", NNUNET, 0), Job("cost", NNUNET)]
    assert len(set(processes_of(benchmark, *follow))) == 1
    assert benchmark.failure(Job("evaluate", NNUNET, 0)) == "it cannot be done."
    # one that kills the process does not, and the worker finds it again
    assert benchmark.failure(Job("cost", CROCNET)) == "its process was killed by signal 9."
    out = capsys.readouterr().out
    assert out.index(f"done    train {E2A} fold_1") < out.index(f"started train {CROCNET} fold_0")


def test_killed_benchmark_finishes_without_repeating_work(benchmark, fake, monkeypatch, tmp_path):
    cascade = {name: contenders()[name] for name in ("e2aunet", "crocnet")}
    settings = Settings(DATASET, [0], "crocnet", cascade, device="cpu")
    driver = tmp_path / "driver.py"
    driver.write_text(f"""
import sys
from pathlib import Path
from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.benchmark import workflow
from nnunet_cardiac.benchmark.settings import Settings
workflow.WORKER, sys.executable = {workflow.WORKER!r}, {str(fake)!r}
workflow.check_trainer = lambda name: None
workflow.run(settings={settings!r}, output=Path({str(benchmark.path)!r}), cores=2)
""")
    last = [Job("evaluate", E2A, 0), Job("train", E2A, 1)]
    environment = os.environ | {"JOBS_THAT": json.dumps({"wait": list(map(str, last))})}
    process = subprocess.Popen([workflow.SNAKEMAKE[0], str(driver)], env=environment)
    deadline = time.monotonic() + 60
    while not all(benchmark.begun(job) for job in last):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) > len(last)
    process.kill()
    process.wait()
    assert psutil.wait_procs(started, timeout=20)[1] == []  # Snakemake and the jobs have died with it
    before = {job: benchmark.begun(job) for job, state in schedule_of(benchmark).states().items() if state == "done"}
    assert list(before) == [Job("plan", PLANS), Job("train", E2A, 0)]
    assert all(benchmark.read_record(job) == RECORDS[job.kind] for job in before)  # they are whole

    assert workflow.run(settings=settings, output=benchmark.path, cores=2) == []
    assert set(states_of(benchmark).values()) == {"done"}
    assert {job: benchmark.begun(job) for job in before} == before


def test_on_a_gpu_every_job_is_a_process(benchmark, fake, monkeypatch):
    monkeypatch.setattr(workflow, "visible_gpus", lambda: ["0"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(workflow, "WORKER", ["no such program"])
    one = Settings(DATASET, [0], "nnunet_2d", {"nnunet_2d": contenders()["nnunet_2d"]}, device="cuda")
    other = BenchmarkFolder(benchmark.path.with_name("gpu"))
    assert workflow.run(settings=one, output=other.path, cores=2) == []
    assert set(states_of(other).values()) == {"done"}
    assert [lock.name for lock in other.gpus.iterdir()] == ["0"]  # they waited for it
    assert len(set(processes_of(other, *schedule_of(other).jobs()))) == 4
    snakemake = other.snakemake_log.read_text()
    for rule in ("plan", "train", "evaluate", "cost"):
        assert re.search(rf"rule {rule}:|checkpoint {rule}:", snakemake), rule


def test_a_dry_run_lists_what_is_left(benchmark, fake, monkeypatch, capsys):
    do(benchmark, Job("plan", "nnUNetPlans"), Job("train", NNUNET, 0), Job("cost", NNUNET))
    assert workflow.run(settings=SETTINGS, output=benchmark.path, dry_run=True) == []
    printed = capsys.readouterr().out.splitlines()
    left = [f"plan {PLANS}", f"train {CROCNET} fold_0", f"evaluate {CROCNET} fold_0", f"evaluate {NNUNET} fold_0",
            f"cost {CROCNET}"]  # fmt: skip
    assert printed[:5] == left and printed[5] == "5 jobs are left to do." and "are not listed" in printed[6]
    assert states_of(benchmark)[f"plan {PLANS}"] == "ready"


def test_a_new_configuration_is_planned_for(benchmark, fake, monkeypatch):
    do_all(benchmark)
    monkeypatch.setattr(workflow, "SNAKEMAKE", ["false"])
    single = contenders()["crocnet_single"]
    settings = Settings(DATASET, [0], "crocnet", {"crocnet_single": single}, device="cpu")
    before = benchmark.begun(Job("plan", PLANS))
    workflow.run(settings=settings, output=benchmark.path)
    assert benchmark.begun(Job("plan", PLANS)) > before
    assert list(benchmark.read_settings().contenders) == ["crocnet", "nnunet_2d", "crocnet_single"]
