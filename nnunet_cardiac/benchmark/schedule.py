"""The jobs of one call of a benchmark: which there are, what each needs, and how far they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.settings import CORRUPTED
from nnunet_cardiac.model import Model

State = Literal["done", "failed", "blocked", "ready", "waiting"]
"""``failed``: in this call; ``blocked``: needs what has failed; ``ready``: all that it needs is done."""


def first_seed(model: Model, copies: Mapping[str, str]) -> Model:
    """The model that differs from another in the seed alone.

    Args:
        model: the other
        copies: plans that are copied, for another seed, and from what
    """
    return replace(model, plans=copies.get(model.plans, model.plans))


def untested(record: Mapping, where: str | None, folds: Sequence[int], corruptions: Sequence[str]) -> list[str]:
    """Of what a test's record is older than what is asked for: ``folds``, ``corruptions``; it may be of more."""
    wanted = {"folds": folds} | ({"corruptions": corruptions} if where == CORRUPTED else {})
    return [key for key, values in wanted.items() if set(values) - set(record.get(key, ()))]


@dataclass(frozen=True)
class Schedule:
    """
    Args:
        folder: the benchmark's
        dataset: ``DatasetNNN_NAME``
        models: of the contenders that take part in this call, by nnU-Net's names
        folds: to evaluate
        all_folds: that a stage is trained on before the next stage
        copies: plans that are copied, for another seed, and from what
        tuned: whether a learning rate is looked for before a training
        tests: what is tested beyond the held-out cases
        corruptions: of images, of the test "corrupted"
        matched: plans of baselines of matched cost, and those that tell the cost
    """

    folder: BenchmarkFolder
    dataset: str
    models: Sequence[str]
    folds: Sequence[int]
    all_folds: Sequence[int]
    copies: Mapping[str, str] = field(default_factory=dict)
    tuned: bool = False
    tests: Sequence[str] = ()
    corruptions: Sequence[str] = ()
    matched: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_call(cls, folder: BenchmarkFolder, workflow: Mapping) -> "Schedule":
        """Of a call as it is written down in ``workflow.json``."""
        return cls(folder, **{key.name: workflow[key.name] for key in fields(cls)[1:] if key.name in workflow})

    def targets(self) -> list[Job]:
        """What a benchmark is for: evaluations, tests and costs."""
        evaluations = [Job("evaluate", model, fold) for model in self.models for fold in self.folds]
        evaluations += [Job("test", model, where=where) for model in self.models for where in self.tests]
        return evaluations + [Job("cost", model) for model in self.models if self._first_seed(model) not in self.models]

    def _first_seed(self, model: str) -> str | None:
        """The model that differs in the seed alone, if there is one."""
        of = Model.named(self.dataset, model)
        return first_seed(of, self.copies).name if of.plans in self.copies else None

    def needs(self, job: Job) -> list[Job]:
        """The jobs that must be done before ``job``; the plans alone, as long as they do not tell the stages."""
        if job.kind == "plan":
            return [Job("plan", plans[job.name]) for plans in (self.copies, self.matched) if job.name in plans]
        if job.kind == "evaluate":
            return [Job("train", job.name, job.fold)]
        model = Model.named(self.dataset, job.name)
        plan, previous = Job("plan", model.plans), self.folder.previous_stages(model.plans)
        if previous is None:
            return [plan]
        *before, _ = stages = model.stages(previous)
        if job.kind in ("cost", "test"):
            folds = self.folds if job.kind == "test" else self.folds[:1]
            return [Job("train", stage.name, fold) for stage in stages for fold in folds]
        # a cascaded stage learns from predictions of the stage before it, on all folds
        needs = [plan] + [Job("train", stage.name, fold) for stage in before[-1:] for fold in self.all_folds]
        if job.kind == "train" and self.tuned:  # all seeds have the rate that was found with the first
            needs.append(Job("tune", self._first_seed(job.name) or job.name, job.fold))
        return needs

    def jobs(self) -> list[Job]:
        """Everything that the targets need, and they themselves; a job comes after those that it needs."""

        def with_needs(job: Job) -> Iterator[Job]:
            for need in self.needs(job):
                yield from with_needs(need)
            yield job

        return list(dict.fromkeys(job for target in self.targets() for job in with_needs(target)))

    def states(self) -> dict[Job, State]:
        """How far every job is, in the order of ``jobs``."""
        states: dict[Job, State] = {}
        for job in self.jobs():
            needs = self.needs(job)
            before = {states[need] for need in needs}
            if before <= {"done"} and self._is_recorded(job, needs):
                states[job] = "done"
            elif self.folder.failed_in_this_call(job):
                states[job] = "failed"
            elif before & {"failed", "blocked"}:
                states[job] = "blocked"
            else:
                states[job] = "ready" if before <= {"done"} else "waiting"
        return states

    def _is_recorded(self, job: Job, needs: Sequence[Job]) -> bool:
        """Whether the record is there, and the job was begun after the trainings that it follows from.

        Times of the records do not tell: Snakemake sets them anew.
        """
        if job.kind == "test" and (record := self.folder.read_record(job)):
            if untested(record, job.where, self.folds, self.corruptions):
                return False
        begun = self.folder.begun(job)
        return self.folder.record(job).is_file() and all(
            self.folder.begun(need) <= begun for need in needs if need.kind in ("train", "tune")
        )
