"""What Slurm tells of a benchmark: whether it has nodes for the jobs, why one waits, and why one has ended."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.errors import UserError

SECONDS_BETWEEN_LOOKS = 20.0
"""Slurm's controller answers all users of a cluster."""
ENDS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "ran out of time: give {kind} more 'runtime' in the profile",
    "DEADLINE": "missed its deadline",
    "OUT_OF_MEMORY": "ran out of memory: give {kind} more 'mem_mb' in the profile",
    "NODE_FAIL": "lost its node, which failed",
    "BOOT_FAIL": "got no node, because it did not boot",
    "PREEMPTED": "had to make room for another one",
}
"""What has happened to a job in one of Slurm's states, to which the job itself had nothing to say."""
NEVER = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")
"""Reasons to wait that do not go away."""
ELSEWHERE = ("cluster", "clusters", "slurm_cluster", "slurm_extra")
"""Resources that may send a job to nodes that ``sinfo`` does not name."""
GPUS = re.compile(r"\bgpu:(?:[^:,]+:)?(\d+)")
"""Their number in a node's list of generic resources, such as "gpu:a100:4(S:0-1)"."""
REFUSED = re.compile(
    r"Error in (?:rule|checkpoint) \w+:\n    message: "
    r"(?:SLURM sbatch failed\. The error message was '|Job submission failed with exception: )"
    r"(.+?)(?:'\.\n    sbatch call:|For further).+?\n    output: jobs/(\S+)\.json",
    re.DOTALL,
)
"""What Snakemake prints of a job that did not get into the queue: why, and its record."""
LOWER = "Copy the profile, lower what it asks for, and give the copy's folder to --profile"


@dataclass(frozen=True)
class Request:
    """What a job asks for, or a node has."""

    cores: int
    memory_mb: int
    gpus: int

    def fits(self, node: "Request") -> bool:
        """Whether a node has so much."""
        return self.cores <= node.cores and self.memory_mb <= node.memory_mb and self.gpus <= node.gpus

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        return f"{self.cores} core{'s' * (self.cores > 1)}, {self.memory_mb / 1000:g} GB{gpus}"


def read_profile(profile: Path) -> dict:
    """Of Snakemake; the file for some versions of Snakemake comes before the one for all.

    Raises:
        UserError: it is no YAML of keys and values
    """
    file = min(profile.glob("config*.yaml"), default=None)
    try:
        content = yaml.safe_load(file.read_text()) if file else {}
    except yaml.YAMLError as e:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(content, dict):
        raise UserError(f"{file} has no keys and values.")
    return content


def check_nodes(profile: Path, workflow: Mapping, kinds: Collection[str]) -> None:
    """Looks for nodes that are large enough, also if they are down. Requests that are not plain numbers pass.

    Args:
        profile: Snakemake's
        workflow: what the call is asked to do
        kinds: of the jobs that are left

    Raises:
        UserError: Slurm does not answer, or some of these jobs would wait for ever
    """
    if shutil.which("sinfo") is None:
        raise UserError(f"There is no Slurm here, which {profile} is for: its command sinfo is not found.")
    content = read_profile(profile)
    defaults = _mapping(content, "default-resources")
    too_large, nodes_seen = [], set()
    for kind in kinds:
        resources = defaults | _mapping(_mapping(content, "set-resources"), kind)
        if any(key in resources for key in ELSEWHERE) or _chooses_partitions(content):
            continue
        on_gpu = kind in ("tune", "train", "cost", "test")
        asked = Request(
            _number(_mapping(content, "set-threads").get(kind, 1 if kind == "evaluate" else workflow["threads"])),
            _number(resources.get("mem_mb")),
            _number(resources.get("gpu", workflow["gpu"] if on_gpu else 0)),
        )
        nodes = _nodes(resources.get("slurm_partition"))
        if not any(asked.fits(node) for node in nodes):
            too_large.append(f"{kind} ({asked})")
            nodes_seen |= nodes
    if too_large:
        largest = sorted(nodes_seen, key=lambda node: (node.gpus, node.cores, node.memory_mb), reverse=True)
        raise UserError(
            f"Slurm has no node for {', '.join(too_large)}: its largest have "
            f"{' or '.join(map(str, largest[:2]))}. {LOWER}: {profile}"
        )


def _mapping(content: Mapping, key: str) -> dict:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _chooses_partitions(content: Mapping) -> bool:
    """Whether Snakemake chooses one for each job."""
    return "slurm-partition-config" in content or "SNAKEMAKE_SLURM_PARTITIONS" in os.environ


def _nodes(partition: object) -> set[Request]:
    """The different nodes of a partition, or of the default one."""
    only = [] if partition is None else ["--partition", str(partition)]
    answer = subprocess.run(
        ["sinfo", "--noheader", "--Node", *only, "--format", "%P|%c|%m|%G"], capture_output=True, text=True
    )
    if answer.returncode:
        raise UserError(f"Slurm does not answer: {answer.stderr.strip()}")
    rows = [line.split("|") for line in answer.stdout.split()]
    if partition is not None and not rows:
        raise UserError(f"Slurm has no nodes in a partition '{partition}', which the profile asks for.")
    default = [row for row in rows if row[0].endswith("*")]
    return {
        Request(int(cores.rstrip("+")), int(memory.rstrip("+")), sum(map(int, GPUS.findall(gres))))
        for _, cores, memory, gres in (default if partition is None and default else rows)
    }


@dataclass(frozen=True)
class SlurmJob:
    """A job as Slurm knows it.

    Args:
        number: Slurm's
        job: ours
        state, reason: Slurm's words
        cores, memory: that it asks for, as Slurm prints them
    """

    number: int
    job: Job
    state: str
    reason: str
    cores: str
    memory: str


class Queue:
    """The jobs of a call in Slurm's queue.

    Args:
        benchmark: whose jobs are handed to Slurm from now on
        schedule: which they are
    """

    def __init__(self, benchmark: BenchmarkFolder, schedule: Schedule):
        self.benchmark, self.schedule = benchmark, schedule
        log = benchmark.snakemake_log
        self.log_begins = log.stat().st_size if log.is_file() else 0
        self.earlier = {job.number for job in self._ask()}
        self.jobs: dict[int, SlurmJob] = {}
        self.next_look = 0.0
        self.told: set[str] = set()

    def look(self) -> Iterator[str]:
        """From time to time asks Slurm. Notes why a job has failed, and yields a line for each new reason to wait."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        self.jobs |= {job.number: job for job in self._ask() if job.number not in self.earlier}
        waiting: dict[str, list[SlurmJob]] = {}
        for job in self.jobs.values():
            if job.state == "PENDING" and job.reason != "None":
                waiting.setdefault(job.reason, []).append(job)
            elif job.state in ENDS:
                self._fail(job, ENDS[job.state].format(kind=job.job.kind))
        for reason, (job, *more) in waiting.items():
            if reason not in self.told:
                self.told.add(reason)
                others = f" and {len(more)} more" if more else ""
                never = f", which will not change. {LOWER}." if reason.startswith(NEVER) else ""
                cores = f"{job.cores} core{'s' * (job.cores != '1')}"
                yield f"{job.job}{others}: in Slurm for {cores} and {job.memory}: {reason}{never}"

    def finish(self) -> None:
        """Notes failures that no job has given a reason for: to be called when nothing of the call runs any more."""
        self.next_look = 0.0
        list(self.look())
        for job in self.jobs.values():
            if job.state == "FAILED":
                logs = self.benchmark.path.glob(f".snakemake/slurm_logs/*/*/{job.number}.log")
                where = "".join(f"; what it printed: {log}" for log in logs)
                self._fail(job, f"failed ({job.reason}{where})")
        log = self.benchmark.snakemake_log.read_bytes()[self.log_begins :].decode(errors="replace")
        for message, record in REFUSED.findall(log):
            why = "; ".join(line.removeprefix("sbatch: error: ") for line in message.splitlines()).rstrip(".")
            self.benchmark.fail(Job.at(PurePosixPath(record)), f"Slurm refused it: {why}.")

    def _fail(self, job: SlurmJob, why: str) -> None:
        latest = max(other.number for other in self.jobs.values() if other.job == job.job)
        if (
            job.number == latest
            and not self.benchmark.record(job.job).is_file()
            and not self.benchmark.failed_in_this_call(job.job)
        ):
            self.benchmark.fail(job.job, f"Slurm's job {job.number} {why}.")

    def _ask(self) -> Iterator[SlurmJob]:
        """All jobs of this folder that Slurm knows, also those that ended some minutes ago."""
        answer = subprocess.run(
            ["squeue", "--noheader", "--me", "--states=all", "--format", "%i|%T|%C|%m|%k|%r|%Z"],
            capture_output=True, text=True,
        )  # fmt: skip
        ours = {_comment(job): job for job in self.schedule.jobs()}
        for line in answer.stdout.splitlines():
            if line.endswith(f"|{self.benchmark.path}"):
                number, state, cores, memory, comment, reason, _ = line.split("|", 6)
                if comment in ours and number.isdigit():
                    yield SlurmJob(int(number), ours[comment], state, reason, cores, memory)


def _comment(job: Job) -> str:
    """What Snakemake's plugin writes beside a job."""
    parts = [str(part) for part in (job.name, job.fold, job.where) if part is not None]
    return f"rule_{job.kind}_wildcards_{'_'.join(parts)}"
