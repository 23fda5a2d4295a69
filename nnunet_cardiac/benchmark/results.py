"""What a benchmark has finished, read back from its folder."""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.evaluate import METRICS
from nnunet_cardiac.evaluation.measure import Measurement, index_columns
from nnunet_cardiac.model import Model
from nnunet_cardiac.texts import reason, unforeseen

NUMBERS = {
    "metrics.csv": list(METRICS), "anatomy.csv": ["implausible_slices", "slices"],
    "crop.csv": ["pixels", "inside", "iou", "images", "heart", "cropped", "area"],
}  # fmt: skip
"""Columns of a fold's tables that are numbers; of indices all are."""
DAMAGED = (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What records and tables raise that are not as the jobs wrote them."""
STEPS_PER_EPOCH = 250
"""nnU-Net's; of trainings whose number of steps was not recorded."""


@dataclass
class ContenderResults:
    """One contender's results over the folds that are finished.

    Args:
        contender: who
        model: what of nnU-Net's was trained, of a cascade its last stage
        folds: that are finished
        metrics, anatomy: as of an ``Evaluation``, with a column ``fold``
        measurement: clinical indices, where there are ventricles and phases
        cost: see ``cost_table``
        curves: by fold: ``steps`` and the online Dice of each epoch, of the last stage
        circumstances: hardware, versions, seed, of every training
        crop: see ``evaluate_crop``; None for a model without one
    """

    contender: Contender
    model: Model
    folds: list[int]
    metrics: pd.DataFrame
    anatomy: pd.DataFrame
    measurement: Measurement | None
    cost: dict[str, float]
    curves: dict[int, dict[str, list[float]]]
    circumstances: list[dict] = field(default_factory=list)
    crop: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def patients(self) -> pd.Series:
        """By case, who it is of; where nothing tells, every case is a patient."""
        cases = self.metrics.drop_duplicates("case").set_index("case")
        named = cases["patient"].replace("", np.nan) if "patient" in cases else pd.Series(np.nan, cases.index)
        return named.fillna(pd.Series(cases.index, cases.index)).astype(str)

    def by_case(self, metric: str, structure: str = "mean") -> pd.Series:
        """A metric by case, of one structure, or the mean of those that the case has."""
        if structure == "mean":
            return self.metrics.groupby("case")[metric].mean()
        return self.metrics[self.metrics["structure"] == structure].set_index("case")[metric]


@dataclass
class Results:
    """A benchmark: its settings, the contenders with at least one finished fold, and what is missing."""

    settings: Settings
    contenders: list[ContenderResults]
    problems: list[str]

    @property
    def remarks(self) -> list[str]:
        """Trainings that were not what the settings ask for: models that were found, and are used as they are."""
        remarks = []
        for c in self.contenders:
            for budget in sorted({r["budget"] or 0 for r in c.circumstances} - {self.settings.budget or 0}):
                rates = sorted({f"{r['initial_lr']:g}" for r in c.circumstances if r["budget"] == budget})
                remarks.append(
                    f"{c.name} was found trained, with a budget of {budget} steps and an initial learning rate of "
                    f"{' and '.join(rates)}."
                )
        return remarks

    @property
    def structures(self) -> list[str]:
        """In the order of the data set's labels."""
        return list(dict.fromkeys(s for c in self.contenders for s in c.metrics["structure"]))


def load(benchmark: BenchmarkFolder) -> Results:
    """Everything that a benchmark has finished.

    Raises:
        UserError: the folder holds no benchmark, or one that has finished nothing
    """
    settings = benchmark.read_settings()
    found, problems = [], []
    for contender in settings.contenders.values():
        try:
            found.append(_load_contender(benchmark, settings, contender))
        except DAMAGED as e:
            problems.append(_damaged(benchmark, contender, e))
    problems = list(dict.fromkeys([*problems, *unfinished(benchmark, settings)]))
    if not any(found):
        raise UserError(
            f"{benchmark.path} holds no finished fold yet"
            + (f"; the first reason: {problems[0]}" if problems else ": run nnunet_cardiac benchmark.")
        )
    return Results(settings, [c for c in found if c is not None], problems)


def _load_contender(benchmark: BenchmarkFolder, settings: Settings, contender: Contender) -> ContenderResults | None:
    model = settings.model(contender)
    folds = [fold for fold in settings.folds if benchmark.record(Job("evaluate", model.name, fold)).is_file()]
    if not folds:
        return None
    places = {fold: benchmark.evaluation(model, fold) for fold in folds}
    text = dict.fromkeys(("case", "patient", "phase", "group", "vendor"), str)

    def read(name: str, **options) -> list[pd.DataFrame]:
        parts = []
        for fold, place in places.items():
            if not (place / name).is_file():
                continue
            try:
                part = pd.read_csv(place / name, dtype=text, keep_default_na=True, **options)
                numbers = NUMBERS.get(name, index_columns(part))
                part[numbers] = part[numbers].apply(pd.to_numeric)
            except (KeyError, ValueError) as e:
                raise UserError(f"{place / name} is damaged ({reason(e)}): it is left out.") from e
            parts.append(part.assign(fold=fold))
        return parts

    measured, reference = (read(f"{name}.csv", index_col="patient") for name in ("indices", "reference"))
    measurement = None
    if measured:
        if odd := [
            p for p, q in zip(measured, reference, strict=False) if set(index_columns(p)) - set(index_columns(q))
        ]:
            raise UserError(f"indices.csv and reference.csv of fold {odd[0]['fold'].iloc[0]} have other columns.")
        measurement = Measurement(*(pd.concat(parts).drop(columns="fold") for parts in (measured, reference)))
    crops = read("crop.csv")
    trainings = {stage: _trainings(benchmark, stage) for stage in _stages(benchmark, model)}
    metrics, anatomy = pd.concat(read("metrics.csv")), pd.concat(read("anatomy.csv"))
    for frame in (metrics, anatomy):
        frame[["patient", "phase", "group", "vendor"]] = frame[["patient", "phase", "group", "vendor"]].fillna("")
    return ContenderResults(
        contender, model, folds, metrics, anatomy, measurement, _cost(benchmark, model, trainings),
        {fold: _curve(record) for fold, record in trainings[model].items() if fold in folds},
        [record["cost"] for stage in trainings.values() for record in stage.values() if record["cost"]],
        pd.concat(crops) if crops else None,
    )  # fmt: skip


def _stages(benchmark: BenchmarkFolder, model: Model) -> list[Model]:
    """The stages that lead to a model, and itself, as far as its plans are made."""
    return model.stages(benchmark.previous_stages(model.plans) or {})


def _trainings(benchmark: BenchmarkFolder, model: Model) -> dict[int, dict]:
    """The records of a model's trainings, by fold."""
    records = {fold: benchmark.read_record(Job("train", model.name, fold)) for fold in benchmark.folds(model)}
    return {fold: record for fold, record in records.items() if record is not None}


def _cost(benchmark: BenchmarkFolder, model: Model, trainings: dict[Model, dict[int, dict]]) -> dict[str, float]:
    """Of all stages: training is the sum of each stage's mean over its folds, memory the largest of any training."""
    measured = benchmark.read_record(Job("cost", model.name)) or {}
    costs = [[r["cost"] for r in stage.values() if r["cost"]] for stage in trainings.values()]
    complete = all(costs)
    memory = [c["peak_memory_GB"] for stage in costs for c in stage if c["peak_memory_GB"] is not None]
    return {
        "parameters": measured.get("parameters", math.nan),
        "flops_per_slice": measured.get("flops_per_slice", math.nan),
        "steps_per_fold": sum(stage[0]["steps"] for stage in costs) if complete else math.nan,
        "training_minutes_per_fold": (
            sum(sum(c["seconds"] for c in stage) / len(stage) for stage in costs) / 60 if complete else math.nan
        ),
        "peak_memory_GB": max(memory, default=math.nan),
        "prediction_seconds_per_case": measured.get("prediction_seconds_per_case", math.nan),
    }


def _curve(record: dict) -> dict[str, list[float]]:
    dice = record["curve"]["mean_fg_dice"]
    steps = record["cost"].get("steps", STEPS_PER_EPOCH * len(dice))
    return {"steps": [steps * (i + 1) / len(dice) for i in range(len(dice))], "dice": dice}


def unfinished(benchmark: BenchmarkFolder, settings: Settings) -> list[str]:
    """What of a benchmark's contenders and folds is missing, with the reason where a job has left one."""
    problems = []
    for contender in settings.contenders.values():
        try:
            problems += _unfinished(benchmark, settings, contender)
        except DAMAGED as e:
            problems.append(_damaged(benchmark, contender, e))
    return problems


def _damaged(benchmark: BenchmarkFolder, contender: Contender, e: Exception) -> str:
    why = str(e) if isinstance(e, UserError) else f"its records in {benchmark.path} are damaged ({unforeseen(e)})."
    return f"{contender.name}: {why}"


def _unfinished(benchmark: BenchmarkFolder, settings: Settings, contender: Contender) -> list[str]:
    """What of a contender and its folds is missing, with the reason where a job has left one."""
    problems = []
    name, model = contender.name, settings.model(contender)
    for fold in settings.folds:
        record = benchmark.read_record(Job("evaluate", model.name, fold))
        missing = [_why_not_evaluated(benchmark, model, fold)] if record is None else record["problems"]
        problems += [f"{name}, fold {fold}: {problem}" for problem in missing]
    cost = Job("cost", model.name)
    if not benchmark.record(cost).is_file():
        why = benchmark.failure(cost)
        problems.append(f"{name}, cost: {'not measured.' if why is None else f'failed: {why}'}")
    return problems


def _why_not_evaluated(benchmark: BenchmarkFolder, model: Model, fold: int) -> str:
    """The job that failed on the way to a fold's evaluation, if one did."""
    *before, _ = _stages(benchmark, model)
    jobs = [Job("plan", model.plans)]
    jobs += [Job("train", stage.name, other) for stage in before for other in benchmark.folds(stage)]
    jobs += [Job("train", model.name, fold), Job("evaluate", model.name, fold)]
    for job in jobs:
        reason = benchmark.failure(job)
        if reason is not None:
            return f"{job.path} failed: {reason} (all that it printed: {benchmark.log(job)})"
    trained = benchmark.record(Job("train", model.name, fold)).is_file()
    return "trained, but not evaluated yet." if trained else "its training has not finished."
