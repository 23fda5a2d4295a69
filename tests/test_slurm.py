"""A benchmark on Slurm, with jobs that do next to nothing: what programs that stand for Slurm's say, and a real one."""

import importlib.util
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import slurm
import test_benchmark_jobs
import yaml
from test_benchmark_jobs import NNUNET, PLANS, SETTINGS, do, states_of

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark import slurm as benchmark_slurm
from nnunet_cardiac.benchmark import workflow
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.results import unfinished
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.slurm import Queue, check_nodes, read_profile
from nnunet_cardiac.errors import UserError

benchmark, fake = test_benchmark_jobs.benchmark, test_benchmark_jobs.fake
SHIPPED = workflow.PROFILES / "slurm"
PLAN = Job("plan", "nnUNetPlans")
TRAININGS = [Job("train", NNUNET, fold) for fold in range(3)]


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Makes a program that prints something, and is found before others."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def make(name: str, output: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
        (folder / name).chmod(0o755)

    return make


def check(profile: Path = SHIPPED, gpu: int = 1) -> None:
    check_nodes(profile, {"threads": 1, "gpu": gpu}, ["plan", "train", "evaluate"])


def changed(tmp_path: Path, **changes) -> Path:
    """A copy of the shipped profile, with other values for some keys."""
    profile = tmp_path / "profile"
    profile.mkdir(exist_ok=True)
    content = yaml.safe_load((SHIPPED / "config.yaml").read_text()) | changes
    (profile / "config.yaml").write_text(yaml.safe_dump(content))
    return profile


def test_nodes_that_are_too_small_are_said_before_anything_starts(programs, tmp_path):
    programs("sinfo", "all*|4|22000|(null)\nall*|2|22000|gpu:a100:1(S:0-1)\nbig|64|256000|gpu:4")
    said = (
        "Slurm has no node for plan (8 cores, 16 GB), train (12 cores, 64 GB, 1 GPU): its largest have 2 cores, 22 GB, "
        "1 GPU or 4 cores, 22 GB. Copy the profile"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        check()
    small = {"set-threads": {"plan": 2, "train": 2}, "set-resources": {"train": {"mem_mb": 20000}}}
    check(changed(tmp_path, **small))
    with pytest.raises(UserError, match=r"train \(2 cores, 20 GB, 2 GPUs\)"):
        check(changed(tmp_path, **small | {"set-resources": {"train": {"mem_mb": 20000, "gpu": 2}}}))
    programs("sinfo", "all*|12|64000|(null)")
    check(gpu=0)


@pytest.mark.parametrize("content", ["a: [", "text", ""])
def test_a_profile_that_is_none_is_said(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml (is not valid YAML|has no keys and values)"):
        read_profile(tmp_path)


def test_slurm_that_does_not_answer_is_said(programs, monkeypatch, tmp_path):
    programs("sinfo", "")
    with pytest.raises(UserError, match="no nodes in a partition 'gpu'"):
        check(changed(tmp_path, **{"default-resources": {"slurm_partition": "gpu"}}))
    (tmp_path / "programs" / "sinfo").write_text("#!/bin/sh\necho unable to contact the controller >&2\nexit 1\n")
    with pytest.raises(UserError, match="Slurm does not answer: unable to contact the controller"):
        check()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="There is no Slurm here"):
        check()


def test_why_jobs_wait_and_fail(benchmark, programs, monkeypatch):
    monkeypatch.setattr(benchmark_slurm, "SECONDS_BETWEEN_LOOKS", 0)
    plans = f"rule_plan_wildcards_{PLANS}", "rule_plan_wildcards_nnUNetPlans"
    train, evaluate = (f"rule_{kind}_wildcards_{NNUNET}_0" for kind in ("train", "evaluate"))
    here = benchmark.path

    def squeue(*lines: str) -> list[str]:
        programs("squeue", "\n".join(lines))
        return list(queue.look())

    refused = (
        "Error in rule {}:\n    message: {}\nFor further error details see the log.\n    jobid: 3\n"
        "    output: jobs/{}.json\n    log: a.log\n"
    )
    benchmark.logs.mkdir()
    benchmark.snakemake_log.write_text(refused.format("plan", "Job submission failed with exception: no", PLAN.path))
    programs("squeue", f"1|CANCELLED|8|16G|{plans[0]}|None|{here}")
    queue = Queue(benchmark, Schedule.of_call(benchmark, benchmark.read_workflow()))
    waiting = [f"{i}|PENDING|8|16G|{plan}|Resources|{here}" for i, plan in enumerate(plans, 2)]
    earlier, other = f"1|CANCELLED|8|16G|{plans[0]}|None|{here}", f"4|TIMEOUT|8|16G|{plans[0]}|None|/somewhere/else"
    assert squeue(earlier, other, *waiting) == [f"plan {PLANS} and 1 more: in Slurm for 8 cores and 16G: Resources"]
    assert squeue(earlier, other, *waiting) == []
    assert benchmark.failure(Job("plan", PLANS)) is None
    (line,) = squeue(f"2|PENDING|8|16G|{plans[0]}|PartitionTimeLimit|{here}")
    assert "PartitionTimeLimit, which will not change. Copy the profile" in line
    do(benchmark, PLAN)
    squeue(
        f"2|NODE_FAIL|8|16G|{plans[0]}|NodeDown|{here}", f"3|TIMEOUT|8|16G|{plans[1]}|TimeLimit|{here}",
        f"5|TIMEOUT|8|16G|{train}|TimeLimit|{here}", f"6|FAILED|1|16G|{evaluate}|NonZeroExitCode|{here}",
    )  # fmt: skip
    assert benchmark.failure(Job("plan", PLANS)) == "Slurm's job 2 lost its node, which failed."
    assert benchmark.failure(PLAN) is None  # it is done
    assert benchmark.failure(TRAININGS[0]) == (
        "Slurm's job 5 ran out of time: give train more 'runtime' in the profile."
    )
    assert benchmark.failure(Job("evaluate", NNUNET, 0)) is None  # it may still say itself why
    log = here / ".snakemake" / "slurm_logs" / "rule_evaluate" / f"{NNUNET}_0" / "6.log"
    log.parent.mkdir(parents=True)
    log.touch()
    sbatch = (
        "SLURM sbatch failed. The error message was 'sbatch: error: Memory is too large\nsbatch: error: Batch job "
        "submission failed'.\n    sbatch call:\n        sbatch --parsable\n"
    )
    account = "Job submission failed with exception: The given account x appears to be invalid."
    with open(benchmark.snakemake_log, "a") as snakemake:
        snakemake.write("Error in rule evaluate:\n    message: None\n    output: jobs/evaluate/none.json\n")
        snakemake.write(refused.format("train", sbatch, TRAININGS[1].path))
        snakemake.write(refused.format("train", account, TRAININGS[2].path))
    queue.finish()
    assert benchmark.failure(TRAININGS[1]) == "Slurm refused it: Memory is too large; Batch job submission failed."
    assert benchmark.failure(TRAININGS[2]) == "Slurm refused it: The given account x appears to be invalid."
    assert benchmark.failure(PLAN) is None  # that was in an earlier call
    assert benchmark.failure(Job("evaluate", NNUNET, 0)) == (
        f"Slurm's job 6 failed (NonZeroExitCode; what it printed: {log})."
    )


@pytest.fixture
def node(tmp_path, monkeypatch) -> str:
    """The name of the node of a Slurm that runs."""
    if missing := slurm.missing():
        pytest.skip(f"Slurm is not installed: there is no {missing[0]}")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed")
    with slurm.one_node(tmp_path / "slurm") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield output_of("sinfo", "-h", "-o", "%N")


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Call(threading.Thread):
    """A call of the benchmark, which goes on meanwhile."""

    def __init__(self, **arguments):
        super().__init__(target=lambda: setattr(self, "problems", workflow.run(**arguments)), daemon=True)
        self.problems = None
        self.start()

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 150
        while not condition():
            assert self.is_alive() and time.monotonic() < deadline, self.problems
            time.sleep(0.3)

    def result(self) -> list[str]:
        self.join(timeout=150)
        return self.problems


@pytest.mark.slurm
def test_a_benchmark_on_slurm(benchmark, fake, node, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(benchmark_slurm, "SECONDS_BETWEEN_LOOKS", 1)
    (Path(os.environ["nnUNet_preprocessed"]) / SETTINGS.dataset / "splits_final.json").write_text(
        json.dumps([{"train": ["a"], "val": ["b"]}] * 3)
    )
    only = {"nnunet_2d": contenders()["nnunet_2d"]}
    settings = replace(SETTINGS, folds=[0, 1, 2], baseline="nnunet_2d", contenders=only)
    other = BenchmarkFolder(benchmark.path.with_name("slurm_benchmark"))
    assert workflow.run(settings=settings, output=other.path, profile="slurm", dry_run=True) == []
    assert re.search(r"\ntrain +3\n", capfd.readouterr().out)  # Snakemake takes the shipped profile
    with pytest.raises(UserError, match=r"no node for plan \(8 cores, 16 GB\).+ its largest have 4 cores, 2 GB"):
        workflow.run(settings=settings, output=other.path, profile="slurm")
    small = {
        "default-resources": {"runtime": 5, "mem_mb": 100}, "set-resources": {"train": {"mem_mb": 200}},
        "set-threads": {"plan": 2}, "latency-wait": 5, "slurm-init-seconds-before-status-checks": 15,
    }  # fmt: skip
    profile = changed(tmp_path, **small)
    arguments = {"settings": settings, "output": other.path, "profile": str(profile)}

    monkeypatch.setenv("JOBS_THAT", json.dumps({"wait": list(map(str, TRAININGS))}))
    call = Call(**arguments)
    call.wait_for(lambda: all(other.begun(job) for job in TRAININGS))
    running = dict(line.split()[::-1] for line in output_of("squeue", "-h", "-o", "%i %k").splitlines())
    cancelled, late, lost = (running[f"rule_train_wildcards_{NNUNET}_{fold}"] for fold in range(3))
    output_of("scontrol", "update", f"JobId={late}", "TimeLimit=0")
    output_of("scancel", cancelled)
    call.wait_for(lambda: other.failure(TRAININGS[0]) and other.failure(TRAININGS[1]))
    output_of("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    assert call.result() == []
    reasons = [
        f"Slurm's job {cancelled} was cancelled.",
        f"Slurm's job {late} ran out of time: give train more 'runtime' in the profile.",
        f"Slurm's job {lost} lost its node, which failed.",
    ]
    problems = unfinished(other, settings)
    printed = capfd.readouterr().out
    for fold, reason in enumerate(reasons):
        job = f"train/{NNUNET}/fold_{fold}"
        assert problems[fold].startswith(f"nnunet_2d, fold {fold}: {job} failed: {reason}")
        assert f"failed  {' '.join(job.split('/'))}: {reason}" in printed

    monkeypatch.delenv("JOBS_THAT")
    planned = other.begun(PLAN)
    call, printed = Call(**arguments), ""

    def waits() -> bool:
        nonlocal printed
        printed += capfd.readouterr().out
        return "waiting" in printed

    call.wait_for(waits)
    assert re.search(r"train .+fold_\d.*: in Slurm for 1 core and 200M: .*(Nodes|Node).+(DOWN|Avail)", printed), printed
    output_of("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert call.result() == []
    assert set(states_of(other).values()) == {"done"} and unfinished(other, settings) == []
    assert other.begun(PLAN) == planned
