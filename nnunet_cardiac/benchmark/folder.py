"""A benchmark's folder: where its parts are, and how they are read and written. Nothing else knows.

FOLDER/settings.json     what the benchmark is asked to do
FOLDER/workflow.json     what its latest call is asked to do
FOLDER/jobs/             for each job when it began (.begun), a record when it is done (.json), the reason when it
                         failed (.failed), a lock
FOLDER/logs/             what the jobs printed
FOLDER/evaluation/       tables by model, and by fold or test
FOLDER/predictions/      segmentations of the tests; those of the folds are where nnU-Net keeps them
FOLDER/corrupted_images/ images that were made worse
FOLDER/nnUNet_results/   models trained with a budget or another learning rate; others are in $nnUNet_results
FOLDER/search/           short runs that look for a learning rate
FOLDER/gpus/             a lock for each GPU
FOLDER/report/           the page and its tables
"""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from nnunet_cardiac.benchmark.records import RECORDS
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import write_text
from nnunet_cardiac.lock import held, locked
from nnunet_cardiac.model import Model
from nnunet_cardiac.texts import read_json, read_text, unforeseen

KINDS = ("plan", "tune", "train", "evaluate", "cost", "test")
SETTINGS = "settings.json"
EVENTS = {".begun": "started", ".json": "done", ".failed": "failed"}
"""What a file beside a job's record says about the job."""


@dataclass(frozen=True)
class Job:
    """A piece of a benchmark's work.

    Args:
        kind: one of ``KINDS``
        name: of the plans (to "plan") or of the model
        fold: of "tune", "train" and "evaluate"
        where: of "test", what is tested on
    """

    kind: str
    name: str
    fold: int | None = None
    where: str | None = None

    @property
    def path(self) -> PurePosixPath:
        """Relative to the folder of all records, or logs, and without a suffix."""
        place = PurePosixPath(self.kind, self.name)
        if self.where is not None:
            return place / self.where
        return place if self.fold is None else place / f"fold_{self.fold}"

    @classmethod
    def at(cls, path: PurePosixPath) -> "Job":
        """The job of a ``path``."""
        kind, name, *part = path.parts
        if kind == "test":
            return cls(kind, name, where=part[0])
        return cls(kind, name, int(part[0].removeprefix("fold_")) if part else None)

    def __str__(self) -> str:
        return " ".join(self.path.parts)

    def model_and_fold(self, dataset: str) -> tuple[Model, int]:
        """What is trained or evaluated.

        Raises:
            ValueError: a job without a fold
        """
        if self.fold is None:
            raise ValueError(f"{self} names no fold: kind of job, model and fold are needed.")
        return Model.named(dataset, self.name), self.fold


@dataclass(frozen=True)
class BenchmarkFolder:
    """The folder of one benchmark; it need not exist."""

    path: Path

    # settings

    def has_settings(self) -> bool:
        """Whether there is a benchmark in it."""
        return (self.path / SETTINGS).is_file()

    def read_settings(self) -> Settings:
        """
        Raises:
            UserError: there is no benchmark in it
        """
        if not self.has_settings():
            raise UserError(
                f"{self.path} holds no benchmark (no {SETTINGS}): run nnunet_cardiac benchmark -o {self.path} first."
            )
        try:
            return Settings.from_json(read_json(self.path / SETTINGS, Settings))
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(f"{self.path / SETTINGS} holds no settings of a benchmark ({unforeseen(e)}).") from e

    def write_settings(self, settings: Settings) -> None:
        """In one step."""
        _write(settings.to_json(), self.path / SETTINGS)

    @property
    def workflow(self) -> Path:
        """Snakemake's configuration; it is written when a call begins."""
        return self.path / "workflow.json"

    def read_workflow(self) -> dict:
        """What the latest call is asked to do."""
        return read_json(self.workflow)

    def write_workflow(self, content: dict) -> None:
        """Begins a call: failures of earlier ones do not count any more."""
        _write(content, self.workflow)

    # jobs

    def record(self, job: Job) -> Path:
        """What a job leaves when it is done."""
        return self._of(job, ".json")

    def log(self, job: Job) -> Path:
        """What a job prints."""
        return self.path / "logs" / f"{job.path}.log"

    def failed(self, job: Job) -> Path:
        """The reason why a job failed."""
        return self._of(job, ".failed")

    def _of(self, job: Job, suffix: str) -> Path:
        return self.path / "jobs" / f"{job.path}{suffix}"

    def read_record(self, job: Job) -> dict | None:
        """None for a job that is not done.

        Raises:
            UserError: the record is damaged
        """
        file = self.record(job)
        return read_json(file, RECORDS[job.kind], "delete it, and the job is done again") if file.is_file() else None

    def finish(self, job: Job, record: dict) -> None:
        """Writes the record of a job that is done, in one step: it is whole or not there."""
        self.failed(job).unlink(missing_ok=True)
        _write(record, self.record(job))

    def fail(self, job: Job, reason: str) -> None:
        """Notes why a job failed, in one step."""
        _write(reason, self.failed(job))

    def failure(self, job: Job) -> str | None:
        """Why a job failed; None for one that did not."""
        return read_text(self.failed(job)) if self.failed(job).is_file() else None

    def failed_in_this_call(self, job: Job) -> bool:
        """Whether a job has failed since the latest call began: both times are of the same file system."""
        failed = self.failed(job)
        return failed.is_file() and failed.stat().st_mtime_ns >= self.workflow.stat().st_mtime_ns

    def folds(self, model: Model) -> list[int]:
        """Those whose training has begun."""
        files = self.record(Job("train", model.name, 0)).parent.glob("fold_*")
        return sorted({int(file.stem.removeprefix("fold_")) for file in files if file.suffix in EVENTS})

    def previous_stages(self, plans: str) -> dict[str, str | None] | None:
        """The stage before each configuration; None for plans that are not made yet."""
        record = self.read_record(Job("plan", plans))
        return None if record is None else record["previous_stages"]

    def begun(self, job: Job) -> int:
        """When a job was last begun, in ns of the file system's clock; 0 for one that was not."""
        begun = self._of(job, ".begun")
        return begun.stat().st_mtime_ns if begun.is_file() else 0

    def events(self) -> Iterator[tuple[float, str, Job, str]]:
        """Since the call began: when, "started", "done" or "failed", which job, and the reason of a failure."""
        jobs = self.path / "jobs"
        began = self.workflow.stat().st_mtime
        for kind in reversed(KINDS):  # what comes later is looked at first: so its causes are not missed
            for file in _files(jobs / kind):
                if file.suffix not in EVENTS:
                    continue
                with suppress(FileNotFoundError):  # a workflow clears away what was left half done
                    if (changed := file.stat().st_mtime) >= began:
                        job = Job.at(PurePosixPath(file.relative_to(jobs).with_name(file.name[: -len(file.suffix)])))
                        reason = file.read_text(encoding="utf-8") if file.suffix == ".failed" else ""
                        yield changed, EVENTS[file.suffix], job, reason

    def set_running(self, job: Job | None) -> None:
        """Notes which job the worker is at, for whoever finds that it has died."""
        _write({} if job is None else asdict(job), self.path / "jobs" / ".running")

    def running(self) -> Job | None:
        """The job that the worker is at, or was at when it died."""
        file = self.path / "jobs" / ".running"
        job = read_json(file) if file.is_file() else {}
        return Job(**job) if job else None

    # locks: the operating system's, so that what dies lets go of them

    def alone(self) -> AbstractContextManager[None]:
        """Keeps a second benchmark out of the folder.

        Raises:
            UserError: there is one already, or the folder cannot be written
        """
        return locked(self.path)

    def locked(self, job: Job) -> AbstractContextManager[None]:
        """Waits for a job that outlived the call that started it, instead of disturbing it."""
        lock = self._of(job, ".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        return held(lock)

    def begin(self, job: Job) -> None:
        """Notes that a job, which is locked, begins."""
        self._of(job, ".begun").touch()

    @property
    def gpus(self) -> Path:
        """Locks of GPUs."""
        return self.path / "gpus"

    # what the jobs print and leave

    @property
    def logs(self) -> Path:
        """Folder of all logs."""
        return self.path / "logs"

    @property
    def snakemake_log(self) -> Path:
        """What Snakemake prints."""
        return self.logs / "snakemake.log"

    @property
    def worker_log(self) -> Path:
        """What the worker prints between its jobs."""
        return self.logs / "worker.log"

    def results(self, settings: Settings) -> Path:
        """Where the models are: ``nnUNet_results`` in the sense of nnU-Net."""
        return self.path.resolve() / "nnUNet_results" if settings.has_own_models else folder("nnUNet_results")

    def use_results(self, settings: Settings) -> None:
        """Sends nnU-Net there; to be called before it is imported."""
        os.environ["nnUNet_results"] = str(self.results(settings))

    def fold_folder(self, settings: Settings, model: Model, fold: int) -> Path:
        """Checkpoints and validation of one fold."""
        return self.results(settings) / model.dataset / model.name / f"fold_{fold}"

    def search(self, model: Model, fold: int) -> Path:
        """Short runs that look for a learning rate."""
        return self.path.resolve() / "search" / model.name / f"fold_{fold}"

    def evaluation(self, model: Model, part: int | str) -> Path:
        """Tables of one fold, or of a test."""
        return self.path / "evaluation" / model.name / (f"fold_{part}" if isinstance(part, int) else part)

    def predictions(self, model: Model, where: str) -> Path:
        """Segmentations of a test."""
        return self.path / "predictions" / model.name / where

    @property
    def corrupted(self) -> Path:
        """Images that were made worse."""
        return self.path / "corrupted_images"

    @property
    def report(self) -> Path:
        """Where the report goes, unless it is told another place."""
        return self.path / "report"


def _files(folder: Path) -> Iterator[Path]:
    """Files in a folder of any depth that are not hidden, and in no hidden folder; others may come and go meanwhile."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _write(content: dict | str, file: Path) -> None:
    """In one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(content if isinstance(content, str) else json.dumps(content, indent=2), file)
