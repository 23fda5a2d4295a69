"""``nnunet_cardiac.benchmark.jobs`` with jobs that do next to nothing, for tests of who runs what, when and where.

``JOBS_THAT`` in the environment says which jobs ``fail``, ``die`` (with their process) or ``wait`` (for minutes):
``{"fail": ["plan nnUNetPlans"]}``.
"""

import json
import os
import signal
import subprocess
import time

from nnunet_cardiac.benchmark import jobs
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.errors import UserError

RECORDS = {
    "plan": {"previous_stages": {"2d": None, "2d_cascade": "2d"}, "configurations": ["2d", "2d_cascade"]},
    "tune": {"initial_lr": 0.1, "dice": {}, "seconds": 1},
    "train": {"cost": {}, "curve": {"mean_fg_dice": []}},
    "evaluate": {"cases": 1, "problems": []},
    "cost": {},
    "test": {"problems": [], "folds": [0, 1]},
}


def fake_job(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Prints its name and its process, and so does a child process."""
    print(f"{job}: process {os.getpid()}")
    subprocess.run(["echo", "a child process"])
    for what, names in json.loads(os.environ.get("JOBS_THAT", "{}")).items():
        if str(job) in names:
            {"fail": fail, "die": die, "wait": wait}[what]()
    if job.kind == "train":
        finish_training(benchmark, settings, job)
    return RECORDS[job.kind]


def fail() -> None:
    raise UserError("it cannot be done.")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    time.sleep(300)


def finish_training(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> None:
    """What tells a finished training."""
    place = benchmark.results(settings) / settings.dataset / job.name / f"fold_{job.fold}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "validation").mkdir(exist_ok=True)
    for file in ("checkpoint_final.pth", "validation/summary.json"):
        (place / file).touch()


if __name__ == "__main__":
    jobs.JOBS = dict.fromkeys(jobs.JOBS, fake_job)
    jobs.main()
