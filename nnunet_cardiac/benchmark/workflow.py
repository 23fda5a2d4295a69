"""Runs a benchmark: its jobs as a Snakemake workflow; without a GPU, what takes no training in one worker process."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import nnunet_cardiac
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.gpus import visible_gpus
from nnunet_cardiac.benchmark.jobs import takes_training
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.benchmark.slurm import Queue, check_nodes, read_profile
from nnunet_cardiac.environment import check_trainer, folder, read_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model
from nnunet_cardiac.processes import GRACE, GUARDED, interrupt, kill_started

SNAKEFILE = Path(__file__).with_name("Snakefile")
PROFILES = Path(__file__).with_name("profiles")
SNAKEMAKE = [*GUARDED, "snakemake"]
WORKER = [*GUARDED, "nnunet_cardiac.benchmark.jobs", "ready"]
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)  # fmt: skip
"""What Snakemake sets for a job of one thread, so that the worker's times are like those of such a job."""


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
        why the work stopped, if it did so for another reason than a failed job; the report names failed jobs

    Raises:
        UserError: Snakemake, the profile or the baseline is missing, settings that do not fit the folder, a
            benchmark that runs there already, or Slurm has no node for the jobs
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("The benchmark runs on Snakemake: pip install 'nnunet-cardiac[benchmark]'.")
    profile_folder = _profile_folder(profile) if profile else None
    folds = all_folds(settings.dataset)
    for fold in settings.folds:
        if fold not in folds:
            raise UserError(f"There is no fold {fold}: {settings.dataset} has folds {folds[0]} to {folds[-1]}.")
    benchmark = BenchmarkFolder(output.resolve())
    with benchmark.alone():
        merged = settings
        if benchmark.has_settings():
            merged = settings.with_earlier(benchmark.read_settings(), benchmark.path)
        if settings.baseline not in merged.contenders:
            raise UserError(
                f"The baseline {settings.baseline} is not among the contenders {', '.join(merged.contenders)}: add it, "
                "or name one of them with --baseline."
            )
        on_gpu = settings.device == "cuda"
        here, one_gpu_each = not on_gpu and not profile, on_gpu and not profile
        if gpus is None and one_gpu_each:
            gpus = len(visible_gpus())
        workflow = {
            "dataset": settings.dataset,
            "models": [model.name for model in settings.models()],
            "folds": settings.folds,
            "all_folds": folds,
            "copies": settings.copied_plans(),
            "tuned": bool(settings.lr_factors),
            "tests": settings.tests,
            "corruptions": settings.corruptions,
            "matched": settings.matched_plans(),
            "gpu": int(on_gpu),
            "own_gpu": one_gpu_each,
            "follow_up": here,
            "threads": max(1, cores // (gpus or 1)) if on_gpu else 1,
            "python": sys.executable,
        }
        benchmark.write_workflow(workflow)
        schedule = Schedule.of_call(benchmark, workflow)
        left = [job for job, state in schedule.states().items() if state != "done"]
        for trainer in sorted({Model.named(settings.dataset, job.name).trainer for job in left if job.kind != "plan"}):
            check_trainer(trainer)
        command = _snakemake_command(benchmark, cores, gpus, profile_folder)
        if dry_run:
            _list_jobs(left) if here else _let_snakemake_list_jobs(benchmark, command)
            return []
        benchmark.write_settings(merged)
        if not left:
            return []
        queue = None
        if profile_folder and read_profile(profile_folder).get("executor") == "slurm":
            check_nodes(profile_folder, workflow, list(dict.fromkeys(job.kind for job in left)))
            queue = Queue(benchmark, schedule)
        benchmark.results(merged).mkdir(parents=True, exist_ok=True)
        _plan_again_for_new_configurations(settings, benchmark)
        for job in left:
            if job.kind == "test":  # done before, but of fewer folds or corruptions, which Snakemake cannot know
                benchmark.record(job).unlink(missing_ok=True)
        print(f"Jobs and what they print: {benchmark.logs}", flush=True)
        work = _Work(benchmark, schedule, merged, on_cluster=bool(profile), queue=queue)
        if not here:
            return work.run_snakemake(command)
        problems = work.run_worker()
        if trainings := work.trainings():
            problems += work.run_snakemake(command, trainings)
            problems += work.run_worker()  # what a training's own process should have done, but died
        return problems if set(schedule.states().values()) != {"done"} else []


def _profile_folder(profile: str) -> Path:
    for place in (PROFILES / profile, Path(profile)):
        if place.is_dir():
            return place.resolve()
    known = ", ".join(sorted(p.name for p in PROFILES.iterdir()))
    raise UserError(f"There is no profile '{profile}': there is {known}, or give a folder with a profile.")


def _list_jobs(jobs: Sequence[Job]) -> None:
    print("\n".join([*map(str, jobs), f"{len(jobs)} jobs are left to do."]))
    if any(job.kind == "plan" for job in jobs):
        print("Where plans are not made yet, stages that come before these models are not listed.")


def _let_snakemake_list_jobs(benchmark: BenchmarkFolder, command: Sequence[str]) -> None:
    command = [*SNAKEMAKE, *command, "--dry-run", "--quiet", "host", "reason"]
    with subprocess.Popen(command, cwd=benchmark.path, env=_environment(), stdin=subprocess.PIPE) as process:
        process.wait()  # a pipe that stays open: at its end the command would be killed


def _snakemake_command(benchmark: BenchmarkFolder, cores: int, gpus: int | None, profile: Path | None) -> list[str]:
    """Snakemake's options; they come after its targets, because some take all that follows."""
    command = [
        "--snakefile", str(SNAKEFILE), "--directory", str(benchmark.path), "--configfile", str(benchmark.workflow),
        "--keep-going", "--rerun-triggers", "mtime",
        "--rerun-incomplete", "--ignore-incomplete", "--nolock",  # a record is written whole or not at all
    ]  # fmt: skip
    if profile:
        command += ["--profile", str(profile)]
    else:
        command += ["--cores", str(cores)]
    return command + ["--resources", "planning=1"] + ([f"gpu={gpus}"] if gpus else [])


class _Work:
    """The processes of a call; prints a line when a job starts, ends or fails.

    Args:
        benchmark: where they work
        schedule, settings: what they do
        on_cluster: Snakemake has jobs elsewhere, which it takes back when it is interrupted
        queue: Slurm's, if they are there
    """

    def __init__(
        self, benchmark: BenchmarkFolder, schedule: Schedule, settings: Settings, on_cluster: bool = False,
        queue: Queue | None = None,
    ):  # fmt: skip
        self.benchmark, self.schedule, self.settings, self.on_cluster = benchmark, schedule, settings, on_cluster
        self.queue = queue
        self.printed: set[tuple[str, Job]] = set()

    def trainings(self) -> list[Job]:
        """What is to be trained, and can be."""
        states = self.schedule.states().items()
        return [job for job, state in states if job.kind in ("tune", "train") and state in ("ready", "waiting")]

    def run_worker(self) -> list[str]:
        """Does what takes no training. When the worker dies, the job that it was at has failed; another does the rest.

        Returns:
            why it stopped, if it died outside of any job
        """
        while self._has_work_for_worker():
            self.benchmark.set_running(None)
            status = self._run(WORKER, self.benchmark.worker_log, ONE_THREAD)
            if not status:
                break
            job = self.benchmark.running()
            if job is None:
                return [_stopped("worker", self.benchmark.worker_log)]
            if self.schedule.states()[job] != "done":
                what = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
                self.benchmark.fail(job, f"its process {what}.")
                self.print_news()
        return []

    def _has_work_for_worker(self) -> bool:
        ready = (job for job, state in self.schedule.states().items() if state == "ready")
        return not all(takes_training(self.benchmark, self.settings, job) for job in ready)

    def run_snakemake(self, command: Sequence[str], targets: Sequence[Job] = ()) -> list[str]:
        """Runs the workflow.

        Args:
            command: options
            targets: all, if there are none

        Returns:
            what Snakemake says, if it gave up for another reason than a failed job
        """
        failures = self._failures()
        records = [self.benchmark.record(job).relative_to(self.benchmark.path).as_posix() for job in targets]
        status = self._run([*SNAKEMAKE, *records, *command], self.benchmark.snakemake_log)
        if self.queue:
            self.queue.finish()
            self.print_news()
        return [_stopped("workflow", self.benchmark.snakemake_log)] if status and failures == self._failures() else []

    def _failures(self) -> set[Job]:
        return {job for what, job in self.printed if what == "failed"}

    def _run(self, command: Sequence[str], log: Path, more: Mapping[str, str] | None = None) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a") as out:
            process = subprocess.Popen(
                command, cwd=self.benchmark.path, stdin=subprocess.PIPE, stdout=out, stderr=out,
                env={**_environment(), **(more or {})}, start_new_session=True,  # Ctrl-C is ours to answer
            )  # fmt: skip
            try:
                while process.returncode is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=0.5)
                    self.print_news()
            except BaseException:
                if self.on_cluster:
                    interrupt(process)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=GRACE - 2)
                kill_started(process)
                raise
        return process.returncode

    def print_news(self) -> None:
        """Prints what has happened since the last time."""
        for waiting in self.queue.look() if self.queue else ():
            print(f"{time.strftime('%H:%M:%S')}  waiting {waiting}", flush=True)
        for when, what, job, why in sorted(self.benchmark.events(), key=lambda event: event[0]):
            if (what, job) not in self.printed:
                self.printed.add((what, job))
                clock = time.strftime("%H:%M:%S", time.localtime(when))
                print(f"{clock}  {what:<8}{job}{': ' + why if why else ''}", flush=True)


def _stopped(what: str, log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"The {what} stopped: {lines[-1] if lines else 'it said nothing'} (all that it printed: {log})"


def _environment() -> dict[str, str]:
    """This process's, in which this package is found from any folder, also where it is not installed."""
    checkout = Path(nnunet_cardiac.__file__).resolve().parents[1]
    if not (checkout / "pyproject.toml").is_file():
        return dict(os.environ)
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _plan_again_for_new_configurations(settings: Settings, benchmark: BenchmarkFolder) -> None:
    """Plans are kept, but a configuration that is new in the benchmark may not be preprocessed yet."""
    for contender in settings.contenders.values():
        job = Job("plan", settings.plans_name(contender.plans))
        record = benchmark.read_record(job)
        if record is not None and contender.configuration not in record["configurations"]:
            benchmark.record(job).unlink()


def all_folds(dataset: str) -> list[int]:
    """The folds of a data set."""
    for variable in ("nnUNet_preprocessed", "nnUNet_raw"):
        file = folder(variable) / dataset / "splits_final.json"
        if file.is_file():
            return list(range(len(read_splits(file))))
    return list(range(5))  # nnU-Net's default
