"""What a benchmark has finished, read back from its folder."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_cardiac.benchmark import settings as benchmark_settings
from nnunet_cardiac.benchmark.contenders import Contender
from nnunet_cardiac.benchmark.jobs import record_file
from nnunet_cardiac.benchmark.run import unfinished
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.measure import Measurement

STEPS_PER_EPOCH = 250
"""nnU-Net's; of trainings whose number of steps was not recorded."""


@dataclass
class ContenderResults:
    """One contender's results over the folds that are finished.

    Args:
        contender: who
        model: nnU-Net's name of its folder
        folds: that are finished
        metrics, anatomy: as of an ``Evaluation``, with a column ``fold``
        measurement: clinical indices, where there are ventricles and phases
        cost: see ``cost_table``
        curves: by fold: ``steps`` and the online Dice of each epoch, of the last stage
        circumstances: hardware, versions, seed, of every training
        crop: see ``evaluate_crop``; None for a model without one
    """

    contender: Contender
    model: str
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


def load(benchmark: Path) -> Results:
    """Everything that a benchmark has finished.

    Raises:
        UserError: the folder holds no benchmark, or one that has finished nothing
    """
    settings = benchmark_settings.read(benchmark)
    found = [_load_contender(benchmark, settings, contender) for contender in settings.contenders.values()]
    problems = unfinished(settings, benchmark)
    if not any(found):
        raise UserError(
            f"{benchmark} holds no finished fold yet"
            + (f"; the first reason: {problems[0]}" if problems else ": run nnunet_cardiac benchmark.")
        )
    return Results(settings, [c for c in found if c is not None], problems)


def _load_contender(benchmark: Path, settings: Settings, contender: Contender) -> ContenderResults | None:
    model = settings.model(contender)
    folds = [f for f in settings.folds if record_file(benchmark, "evaluate", model, f).is_file()]
    if not folds:
        return None
    places = {fold: benchmark / "evaluation" / model / f"fold_{fold}" for fold in folds}
    text = dict.fromkeys(("case", "patient", "phase", "group", "vendor"), str)

    def table(name: str, **options) -> pd.DataFrame | None:
        parts = [
            pd.read_csv(place / name, dtype=text, keep_default_na=True, **options).assign(fold=fold)
            for fold, place in places.items()
            if (place / name).is_file()
        ]
        return pd.concat(parts) if parts else None

    measured, reference = (table(f"{name}.csv", index_col="patient") for name in ("indices", "reference"))
    measurement = None if measured is None else Measurement(*(t.drop(columns="fold") for t in (measured, reference)))
    stages = list(_stages(benchmark, model))
    trainings = {stage: _trainings(benchmark, stage) for stage in stages}
    metrics, anatomy = table("metrics.csv"), table("anatomy.csv")
    for frame in (metrics, anatomy):
        frame[["patient", "phase", "group", "vendor"]] = frame[["patient", "phase", "group", "vendor"]].fillna("")
    return ContenderResults(
        contender, model, folds, metrics, anatomy, measurement, _cost(benchmark, model, trainings),
        {fold: _curve(record) for fold, record in trainings[model].items() if fold in folds},
        [record["cost"] for stage in stages for record in trainings[stage].values() if record["cost"]],
        table("crop.csv"),
    )  # fmt: skip


def _stages(benchmark: Path, model: str) -> Iterable[str]:
    """The model, and the stages before it."""
    trainer, plans, configuration = model.split("__")
    record = record_file(benchmark, "plan", plans)
    previous = json.loads(record.read_text())["previous_stages"] if record.is_file() else {}
    while configuration:
        yield f"{trainer}__{plans}__{configuration}"
        configuration = previous.get(configuration)


def _trainings(benchmark: Path, model: str) -> dict[int, dict]:
    folder = record_file(benchmark, "train", model, 0).parent
    return {int(file.stem.split("_")[1]): json.loads(file.read_text()) for file in sorted(folder.glob("fold_*.json"))}


def _cost(benchmark: Path, model: str, trainings: dict[str, dict[int, dict]]) -> dict[str, float]:
    """Of all stages: training is the sum of each stage's mean over its folds, memory the largest of any training."""
    record = record_file(benchmark, "cost", model)
    measured = json.loads(record.read_text()) if record.is_file() else {}
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
