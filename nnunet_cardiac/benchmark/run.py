"""Runs a benchmark: settings, then a Snakemake workflow over the jobs, then the report on what has finished."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnunet_cardiac.benchmark.gpus import visible_gpus
from nnunet_cardiac.benchmark.jobs import record_file
from nnunet_cardiac.benchmark.settings import Settings, write_json
from nnunet_cardiac.environment import check_trainer, folder
from nnunet_cardiac.errors import UserError

SNAKEFILE = Path(__file__).with_name("Snakefile")
PROFILES = Path(__file__).with_name("profiles")


def run(
    settings: Settings,
    output: Path,
    cores: int = 1,
    gpus: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Does all of a benchmark that is not done yet.

    Args:
        settings: what to do; contenders and folds of earlier calls in ``output`` stay in the report
        output: the benchmark's folder
        cores: for all jobs together
        gpus: trainings at a time on "cuda"; None for all GPUs that are visible
        profile: "slurm", or a folder with a profile of Snakemake's
        dry_run: only list what would be done

    Returns:
        why the workflow stopped, if it did so for another reason than a failed job; failed jobs are found in the report

    Raises:
        UserError: Snakemake, the profile or the baseline is missing, settings that do not fit the folder, or a
            benchmark that runs there already
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("The benchmark runs on Snakemake: pip install 'nnunet-cardiac[benchmark]'.")
    if profile and not (PROFILES / profile).is_dir():
        if not Path(profile).is_dir():
            known = ", ".join(sorted(p.name for p in PROFILES.iterdir()))
            raise UserError(f"There is no profile '{profile}': there is {known}, or give a folder with a profile.")
    for trainer in {c.trainer for c in settings.contenders.values()}:
        check_trainer(trainer)
    for fold in settings.folds:
        if fold not in (known := all_folds(settings.dataset)):
            raise UserError(f"There is no fold {fold}: {settings.dataset} has folds {known[0]} to {known[-1]}.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / ".lock").touch()
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e
    output = output.resolve()
    with _lock(output) as lock:
        merged = settings.with_earlier(output)
        if settings.baseline not in merged.contenders:
            raise UserError(
                f"The baseline {settings.baseline} is not among the contenders {', '.join(merged.contenders)}: add it, "
                "or name one of them with --baseline."
            )
        if not dry_run:
            merged.write(output)
            merged.results_folder(output).mkdir(parents=True, exist_ok=True)
            _plan_again_for_new_configurations(settings, output)
        on_gpu = settings.device == "cuda"
        if gpus is None and on_gpu and not profile:
            gpus = len(visible_gpus())
        config = {
            "targets": sorted({settings.model(contender) for contender in settings.contenders.values()}),
            "folds": settings.folds,
            "all_folds": all_folds(settings.dataset),
            "gpu": int(on_gpu),
            "own_gpu": on_gpu and not profile,
            "threads": max(1, cores // (gpus or 1)) if on_gpu else 1,
            "python": sys.executable,
        }
        write_json(config, output / "workflow.json")
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(output),
            "--configfile", str(output / "workflow.json"), "--keep-going", "--rerun-triggers", "mtime",
            "--rerun-incomplete", "--ignore-incomplete", "--nolock",  # a record is written whole or not at all
        ]  # fmt: skip
        if profile:
            own = PROFILES / profile
            command += ["--profile", str(own if own.is_dir() else Path(profile).resolve())]
        else:
            command += ["--cores", str(cores)]
        command += ["--resources", "planning=1"] + ([f"gpu={gpus}"] if gpus else [])
        if dry_run:
            subprocess.run([*command, "--dry-run", "--quiet", "host", "reason"], cwd=output)
            return []
        return _run_workflow(command, output, lock)


def _run_workflow(command: list[str], output: Path, lock: int) -> list[str]:
    """Runs Snakemake, prints a line when a job starts, ends or fails; returns what Snakemake says where it gives up."""
    log = output / "logs" / "snakemake.log"
    log.parent.mkdir(exist_ok=True)
    jobs, began = output / "jobs", time.time()
    events = {".lock": "started", ".json": "done", ".failed": "failed"}
    seen: set[Path] = set()

    def print_news() -> None:
        news = []
        for file in jobs.rglob("*"):
            if file.suffix in events and not file.name.startswith(".") and file not in seen:
                with suppress(FileNotFoundError):  # the workflow clears away what was left half done
                    news.append((file.stat().st_mtime, file))
        for changed, file in sorted(news):
            if changed >= began:
                seen.add(file)
                job = " ".join(file.relative_to(jobs).with_suffix("").parts)
                clock = time.strftime("%H:%M:%S", time.localtime(changed))
                why = f": {file.read_text()}" if file.suffix == ".failed" else ""
                print(f"{clock}  {events[file.suffix]:<8}{job}{why}", flush=True)

    print(f"Jobs and what they print: {log.parent}", flush=True)
    with open(log, "a") as out:
        workflow = subprocess.Popen(command, cwd=output, stdout=out, stderr=out, pass_fds=[lock])
        try:
            while workflow.poll() is None:
                time.sleep(0.5)
                print_news()
        except BaseException:
            workflow.terminate()
            workflow.wait()
            raise
        print_news()
    if workflow.returncode and not any(file.suffix == ".failed" for file in seen):
        said = [line for line in log.read_text().splitlines() if line.strip()][-1]
        return [f"The workflow stopped: {said} (all that it printed: {log})"]
    return []


def _plan_again_for_new_configurations(settings: Settings, output: Path) -> None:
    """Plans are kept, but a configuration that is new in the benchmark may not be preprocessed yet."""
    for contender in settings.contenders.values():
        record = record_file(output, "plan", settings.plans_name(contender.plans))
        if record.is_file() and contender.configuration not in json.loads(record.read_text())["configurations"]:
            record.unlink()


def all_folds(dataset: str) -> list[int]:
    """The folds of a data set."""
    for variable in ("nnUNet_preprocessed", "nnUNet_raw"):
        file = folder(variable) / dataset / "splits_final.json"
        if file.is_file():
            return list(range(len(json.loads(file.read_text()))))
    return list(range(5))  # nnU-Net's default


@contextmanager
def _lock(output: Path) -> Iterator[int]:
    """Keeps a second benchmark out of the folder, for as long as this one's workflow lives."""
    import fcntl

    with open(output / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise UserError(
                f"A benchmark is running in {output}: wait for it, or choose another folder with -o."
            ) from e
        yield file.fileno()


def unfinished(settings: Settings, benchmark: Path) -> list[str]:
    """What of a benchmark's contenders and folds is missing, with the reason where a job has left one."""
    problems = []
    for name, contender in settings.contenders.items():
        model = settings.model(contender)
        for fold in settings.folds:
            record = record_file(benchmark, "evaluate", model, fold)
            if record.is_file():
                problems += [f"{name}, fold {fold}: {p}" for p in json.loads(record.read_text())["problems"]]
            else:
                problems.append(f"{name}, fold {fold}: {_reason(benchmark, model, fold)}")
        if not record_file(benchmark, "cost", model).is_file():
            failed = record_file(benchmark, "cost", model).with_suffix(".failed")
            reason = f"failed: {failed.read_text()}" if failed.is_file() else "not measured."
            problems.append(f"{name}, cost: {reason}")
    return problems


def _reason(benchmark: Path, model: str, fold: int) -> str:
    """Why a fold has no evaluation: the job that failed on the way to it, if one did."""
    trainer, plans, configuration = model.split("__")
    plan = record_file(benchmark, "plan", plans)
    jobs = [plan, record_file(benchmark, "train", model, fold), record_file(benchmark, "evaluate", model, fold)]
    stages = json.loads(plan.read_text())["previous_stages"] if plan.is_file() else {}
    while configuration := stages.get(configuration):
        stage = record_file(benchmark, "train", f"{trainer}__{plans}__{configuration}", 0).parent
        jobs[1:1] = [failed.with_suffix(".json") for failed in sorted(stage.glob("*.failed"))]
    for job in jobs:
        failed = job.with_suffix(".failed")
        if failed.is_file():
            what = failed.relative_to(benchmark / "jobs").with_suffix("")
            return f"{what} failed: {failed.read_text()} (all that it printed: {benchmark / 'logs' / what}.log)"
    trained = record_file(benchmark, "train", model, fold).is_file()
    return "trained, but not evaluated yet." if trained else "its training has not finished."
