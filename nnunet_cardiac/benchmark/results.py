"""What a benchmark has finished, read back from its folder."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_cardiac.architectures import choosing_trainers
from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.schedule import first_seed, untested
from nnunet_cardiac.benchmark.settings import CORRUPTED, POSTPROCESSED, SNAPSHOTS, Settings
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.evaluate import METRICS, STATES
from nnunet_cardiac.evaluation.measure import Measurement, index_columns
from nnunet_cardiac.evaluation.metrics import DISTANCES, OVERLAPS
from nnunet_cardiac.evaluation.segmentation import CASE_COLUMNS
from nnunet_cardiac.model import Model
from nnunet_cardiac.texts import printable, reason, unforeseen

NUMBERS = {
    "metrics.csv": list(METRICS), "anatomy.csv": ["implausible_slices", "slices"],
    "crop.csv": ["pixels", "inside", "iou", "images", "heart", "cropped", "area"],
}  # fmt: skip
"""Columns of a fold's tables that are numbers; of indices all are."""
ROWS = {"metrics.csv": "structure", "anatomy.csv": "source", "crop.csv": "structure"}
"""The column of which every case has each value in as many rows."""
OF_TESTS = {CORRUPTED: ["corruption", "severity"], SNAPSHOTS: ["share"]}
"""Columns of the metrics of a test."""
DAMAGED = (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What records and tables raise that are not as the jobs wrote them."""
STEPS_PER_EPOCH = 250
"""nnU-Net's; of trainings whose number of steps was not recorded."""


@dataclass
class ContenderResults:
    """One contender's results over the folds and seeds that are finished.

    Args:
        contender: who
        model: what of nnU-Net's was trained, of a cascade its last stage; with several seeds, that of the first
        folds: that are finished
        metrics: as of an ``Evaluation``, with columns ``fold`` and ``seed``
        anatomy: as of an ``Evaluation``, with ``fold``; of the first seed
        measurement: clinical indices, where there are ventricles and phases; of the first seed
        cost: see ``cost_table``
        curves: by fold and seed: ``steps`` and the online Dice of each epoch, of the last stage
        crop: see ``evaluate_crop``, of the first seed; None for a model without one
        searches: by stage and fold, the record of the search for a learning rate
        stages: the models that lead to it, and itself
        trainings: by its name, the cost, hardware, versions and seed of every training of every stage
    """

    contender: Contender
    model: Model
    folds: list[int]
    metrics: pd.DataFrame
    anatomy: pd.DataFrame
    measurement: Measurement | None
    cost: dict[str, float]
    curves: dict[tuple[int, int], dict[str, list[float]]]
    crop: pd.DataFrame | None = None
    searches: dict[tuple[str, int], dict] = field(default_factory=dict)
    stages: list[Model] = field(default_factory=list)
    trainings: dict[str, dict] = field(default_factory=dict)

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
        """A metric by case, the mean of all seeds: of one structure, or the mean of those that the case has."""
        return self.case_means[structure][metric]

    @cached_property
    def case_means(self) -> dict[str, pd.DataFrame]:
        """By structure, and for their mean: all metrics by case. A structure that one seed has found where there is
        none counts as rightly absent for the seeds that have not."""
        metrics = self.metrics.copy()
        found = metrics.groupby(["case", "structure"])["dice"].transform("count") > 0
        rightly_absent = metrics["dice"].isna() & found  # another seed has found what the expert has not
        metrics.loc[rightly_absent, [*OVERLAPS]], metrics.loc[rightly_absent, [*DISTANCES]] = 1.0, 0.0
        parts = {name: rows for name, rows in metrics.groupby("structure", sort=False)} | {"mean": metrics}
        by_seed = {name: rows.groupby(["case", "seed"])[list(METRICS)].mean() for name, rows in parts.items()}
        return {name: rows.groupby("case").mean() for name, rows in by_seed.items()}


@dataclass
class Results:
    """A benchmark: its settings, the contenders with at least one finished fold, and what is missing."""

    settings: Settings
    contenders: list[ContenderResults]
    problems: list[str]
    tests: dict[str, "Results"] = field(default_factory=dict)
    """By what was tested on; tables of metrics have what distinguishes their rows as further columns."""

    @cached_property
    def found(self) -> list[str]:
        """Trainings that were not what the settings ask for: models that were found, and are used as they are."""
        found = {
            f"{c.name} was found trained, with {_length(r)} and an initial learning rate of {r['initial_lr']:g}"
            f"{', in bfloat16' if r.get('bfloat16') else ''}."
            for c in self.contenders
            for r in c.trainings.values()
            if (r["budget"] or 0) != (self.settings.budget or 0)
            or r.get("bfloat16", False) != self.settings.bfloat16
            or not (r.get("is_own_rate", True) or self.settings.initial_lr or self.settings.lr_factors)
        }
        return sorted(found)

    @property
    def remarks(self) -> list[str]:
        """What a reader must know of the trainings: ``found``, and recipes that look at the held-out cases."""
        favoured = [
            c.name
            for c in self.contenders
            if "held-out cases" in (chosen := {r.get("chosen_on") for r in c.trainings.values()})
            or (c.contender.trainer in choosing_trainers() and chosen != {"training patients"})
        ]
        if not favoured:
            return self.found
        return [
            *self.found,
            f"In favour of {', '.join(favoured)}: the recipe keeps its best epoch, which it chooses by the online "
            "validation on the held-out cases (not so with --inner_validation).",
        ]

    @property
    def structures(self) -> list[str]:
        """In the order of the data set's labels."""
        return list(dict.fromkeys(s for c in self.contenders for s in c.metrics["structure"].unique()))


def _length(record: dict) -> str:
    return f"a budget of {record['budget']} steps" if record["budget"] else "its recipe's own length"


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
    contenders = _alike([c for c in found if c is not None], benchmark, problems)
    tests = {where: _load_test(benchmark, settings, contenders, where) for where in settings.tests}
    problems += [problem for test in tests.values() for problem in test.problems]
    return Results(settings, contenders, problems, {where: test for where, test in tests.items() if test.contenders})


def _load_test(
    benchmark: BenchmarkFolder, settings: Settings, contenders: Sequence[ContenderResults], where: str
) -> Results:
    """The contenders that a test is finished of, with its metrics in place of those of the held-out cases."""
    tested, problems = [], []
    for contender in contenders:
        models = {seed: settings.model(contender.contender, seed) for seed in settings.seeds}
        try:
            places = {
                seed: benchmark.evaluation(model, where)
                for seed, model in models.items()
                if not _why_not_tested(benchmark, settings, model, where)
            }
            parts = [_read_table(place / "metrics.csv").assign(seed=seed) for seed, place in places.items()]
            own_patients = where not in (CORRUPTED, POSTPROCESSED, SNAPSHOTS)
            measurement = _measurement([*places.values()][:1]) if own_patients else None
        except DAMAGED as e:
            problems.append(_damaged(benchmark, contender.contender, e))
            continue
        if parts:
            metrics = pd.concat(parts)
            metrics = metrics if "fold" in metrics else metrics.assign(fold=0)
            tested.append(replace(contender, metrics=metrics, measurement=measurement, crop=None))
    return Results(settings, _alike(tested, benchmark, problems), problems)


def _alike(found: list[ContenderResults], benchmark: BenchmarkFolder, problems: list[str]) -> list[ContenderResults]:
    """Those with the structures that most have; of the others, ``problems`` get a sentence."""
    structures = {c.name: frozenset(c.metrics["structure"]) for c in found}
    usual = max(structures.values(), key=Counter(structures.values()).__getitem__, default=frozenset())
    for c in found:
        if structures[c.name] != usual:
            own, others = (printable(", ".join(sorted(names)))[:80] for names in (structures[c.name], usual))
            place = benchmark.evaluation(c.model, c.folds[0]).parent
            problems.append(
                f"{c.name}: metrics.csv in {place} is of {own}, that of others of {others}: it is left out."
            )
    return [c for c in found if structures[c.name] == usual]


def _read_table(file: Path, **options) -> pd.DataFrame:
    """A table by case, with what is known of the case as text, or one of indices.

    Raises:
        UserError: it is damaged
    """
    texts = ("case", *CASE_COLUMNS, "structure", "state", "source", "corruption")
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=True, **options)
        numbers = [*NUMBERS.get(file.name, index_columns(table)), *{*table} & {"fold", "severity", "share"}]
        table[numbers] = table[numbers].apply(pd.to_numeric)
        if np.isinf(table[numbers]).any(axis=None):
            raise ValueError("a number is infinite")
        if file.name in ROWS:
            rows = pd.crosstab(table["case"], table[ROWS[file.name]])
            if rows.empty or rows.to_numpy().sum() < len(table) or rows.nunique(axis=1).max() > 1:
                raise ValueError("a case has too few or too many rows")
        if file.name == "metrics.csv":
            table[[*CASE_COLUMNS]] = table[[*CASE_COLUMNS]].fillna("")
            if not table["state"].isin(STATES).all() or {*OF_TESTS.get(file.parent.name, ())} - {*table}:
                raise ValueError("its states or columns are others")
    except (KeyError, ValueError) as e:
        raise UserError(f"{file} is damaged ({reason(e)}): it is left out.") from e
    return table


def _load_contender(benchmark: BenchmarkFolder, settings: Settings, contender: Contender) -> ContenderResults | None:
    models = {seed: settings.model(contender, seed) for seed in settings.seeds}
    places = {
        (fold, seed): benchmark.evaluation(model, fold)
        for seed, model in models.items()
        for fold in settings.folds
        if benchmark.record(Job("evaluate", model.name, fold)).is_file()
    }
    if not places:
        return None
    first = min(seed for _, seed in places)
    model = models[first]

    def read(name: str, **options) -> list[pd.DataFrame]:
        return [
            _read_table(place / name, **options).assign(fold=fold, seed=seed)
            for (fold, seed), place in places.items()
            if (place / name).is_file()
        ]

    def of_first(parts: list[pd.DataFrame]) -> pd.DataFrame:
        table = pd.concat(parts)
        return table[table["seed"] == first].drop(columns="seed")

    crops = read("crop.csv")
    trainings = {
        (stage, seed): _trainings(benchmark, stage)
        for seed in sorted({seed for _, seed in places})
        for stage in _stages(benchmark, models[seed])
    }
    copies = settings.copied_plans()
    searches = {
        (stage.configuration, fold): record | {"dice": {float(rate): dice for rate, dice in record["dice"].items()}}
        for (stage, _), records in trainings.items()
        for fold in records
        if (record := benchmark.read_record(Job("tune", first_seed(stage, copies).name, fold)))
    }
    metrics, anatomy = pd.concat(read("metrics.csv")), of_first(read("anatomy.csv"))
    return ContenderResults(
        contender, model, sorted({fold for fold, _ in places}), metrics, anatomy,
        _measurement([place for (_, seed), place in places.items() if seed == first]),
        {key: float(value) for key, value in _cost(benchmark, model, trainings, searches).items()},
        {
            (fold, seed): _curve(record)
            for seed, own in models.items()
            for fold, record in trainings.get((own, seed), {}).items()
            if (fold, seed) in places and record["curve"]["mean_fg_dice"]
        },
        of_first(crops) if crops else None, searches, _stages(benchmark, model),
        {
            f"{stage.name} fold {fold}": record["cost"]
            for (stage, _), records in trainings.items()
            for fold, record in records.items()
            if record["cost"]
        },
    )  # fmt: skip


def _measurement(places: Sequence[Path]) -> Measurement | None:
    """The patients' indices of several folds together; None where none were measured.

    Raises:
        UserError: the tables of a fold do not belong together
    """
    measured, reference = [], []
    for place in places:
        if (place / "indices.csv").is_file() and (place / "reference.csv").is_file():
            own, true = (_read_table(place / f"{name}.csv", index_col="patient") for name in ("indices", "reference"))
            if set(index_columns(own)) - set(index_columns(true)):
                raise UserError(f"indices.csv and reference.csv of {place} have other columns.")
            measured.append(own)
            reference.append(true)
    if not measured:
        return None
    measurement = Measurement(*(tables := [pd.concat(measured), pd.concat(reference)]))
    if not all(table.index.is_unique for table in tables):
        raise UserError(f"indices.csv or reference.csv in {places[0].parent} name a patient twice.")
    return measurement


def _stages(benchmark: BenchmarkFolder, model: Model) -> list[Model]:
    """The stages that lead to a model, and itself, as far as its plans are made."""
    return model.stages(benchmark.previous_stages(model.plans) or {})


def _trainings(benchmark: BenchmarkFolder, model: Model) -> dict[int, dict]:
    """The records of a model's trainings, by fold."""
    records = {fold: benchmark.read_record(Job("train", model.name, fold)) for fold in benchmark.folds(model)}
    return {fold: record for fold, record in records.items() if record is not None}


def trained_with(cost: Mapping) -> dict[str, str]:
    """What a training's record tells of its plans and its rate, as a row of a table."""
    features, on_cpu = cost["features_per_stage"], cost["peak_memory_of"] == "process"
    return {
        "stage": str(cost["configuration"]),
        "plans": str(cost["plans"]),
        "network": str(cost["network"]),
        "features": f"{features[0]} to {max(features)}" if features else "-",
        "resolutions": str(len(features) or "-"),
        "spacing, mm": " x ".join(f"{mm:.3g}" for mm in cost["spacing"]),
        "patch": " x ".join(map(str, cost["patch_size"])),
        "batch": str(cost["batch_size"]),
        "steps": str(cost["steps"]),
        "learning rate": f"{cost['initial_lr']:g}",
        "computed in": "bfloat16" if cost["bfloat16"] else "float32" if on_cpu else "float16",
    }


def _search_minutes(searches: Mapping[tuple[str, int], dict]) -> float:
    """Of all stages, each the mean over its folds."""
    seconds: dict[str, list[float]] = {}
    for (stage, _), record in searches.items():
        seconds.setdefault(stage, []).append(record["seconds"])
    return sum(sum(stage) / len(stage) for stage in seconds.values()) / 60


def _cost(
    benchmark: BenchmarkFolder,
    model: Model,
    trainings: Mapping[tuple[Model, int], dict[int, dict]],
    searches: Mapping[tuple[str, int], dict],
) -> dict[str, float]:
    """Of all stages: training is the sum of each stage's mean over folds and seeds, memory the largest of any."""
    measured = benchmark.read_record(Job("cost", model.name)) or {}
    by_stage: dict[str, list[dict]] = {}
    for (stage, _), records in trainings.items():
        by_stage.setdefault(stage.configuration, []).extend(r["cost"] for r in records.values() if r["cost"])
    costs = list(by_stage.values())
    complete, all_costs = all(costs), [cost for stage in costs for cost in stage]
    memory = [cost["peak_memory_GB"] for cost in all_costs if cost["peak_memory_GB"] is not None]
    return {
        "parameters": measured.get("parameters", math.nan),
        "flops_per_slice": measured.get("flops_per_slice", math.nan),
        "steps_per_fold": sum(sum(c["steps"] for c in stage) / len(stage) for stage in costs) if complete else math.nan,
        "training_minutes_per_fold": (
            sum(sum(c["seconds"] for c in stage) / len(stage) for stage in costs) / 60 if complete else math.nan
        ),
        "search_minutes_per_fold": _search_minutes(searches),
        "training_hours": sum(cost["seconds"] for cost in all_costs) / 3600 if complete else math.nan,
        "energy_kWh": energy(all_costs) if complete else math.nan,
        "peak_memory_GB": max(memory, default=math.nan),
        "prediction_seconds_per_case": measured.get("prediction_seconds_per_case", math.nan),
    }


def energy(costs: Collection[dict]) -> float:
    """kWh of trainings together; NaN where one did not record it."""
    known = [cost["energy_kWh"] for cost in costs if cost.get("energy_kWh") is not None]
    return sum(known) if known and len(known) == len(costs) else math.nan


def _curve(record: dict) -> dict[str, list[float]]:
    dice = record["curve"]["mean_fg_dice"]
    steps = record["cost"].get("steps", STEPS_PER_EPOCH * len(dice))
    return {"steps": [steps * (i + 1) / len(dice) for i in range(len(dice))], "dice": dice}


def unfinished(benchmark: BenchmarkFolder, settings: Settings) -> list[str]:
    """What of a benchmark's contenders and folds is missing, with the reason where a job has left one."""
    problems: list[str] = []
    for contender in settings.contenders.values():
        try:
            problems += map(printable, _unfinished(benchmark, settings, contender))
        except DAMAGED as e:
            problems.append(_damaged(benchmark, contender, e))
    return problems


def _damaged(benchmark: BenchmarkFolder, contender: Contender, e: Exception) -> str:
    why = str(e) if isinstance(e, UserError) else f"its records in {benchmark.path} are damaged ({unforeseen(e)})."
    return f"{contender.name}: {why}"


def _unfinished(benchmark: BenchmarkFolder, settings: Settings, contender: Contender) -> list[str]:
    """What of a contender is missing, with the reason where a job has left one."""
    problems, name = [], contender.name
    for seed in settings.seeds:
        model = settings.model(contender, seed)
        which = f", seed {seed}" if len(settings.seeds) > 1 else ""
        for fold in settings.folds:
            record = benchmark.read_record(Job("evaluate", model.name, fold))
            missing = [_why_not_evaluated(benchmark, model, fold)] if record is None else record["problems"]
            problems += [f"{name}{which}, fold {fold}: {problem}" for problem in missing]
    cost = Job("cost", settings.model(contender, settings.seeds[0]).name)
    if not benchmark.record(cost).is_file():
        why = benchmark.failure(cost)
        problems.append(f"{name}, cost: {'not measured.' if why is None else f'failed: {why}'}")
    for where in settings.tests:
        for seed in settings.seeds:
            which = f", seed {seed}" if len(settings.seeds) > 1 else ""
            model = settings.model(contender, seed)
            if why := _why_not_tested(benchmark, settings, model, where):
                problems.append(f"{name}{which}, {where}: {why}")
            else:
                record = benchmark.read_record(Job("test", model.name, where=where)) or {"problems": []}
                problems += [f"{name}{which}, {where}: {problem}" for problem in record["problems"]]
    return problems


def _why_not_tested(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> str:
    """Why a test cannot be shown; empty where it can. Tables of a test may be older than what was asked for."""
    job = Job("test", model.name, where=where)
    record, failure = benchmark.read_record(job), benchmark.failure(job)
    if record is None:
        return "not tested." if failure is None else f"failed: {failure}"
    missing = untested(record, where, settings.folds, settings.corruptions)
    return f"not tested with all {' and '.join(missing)} yet." if missing else ""


def _why_not_evaluated(benchmark: BenchmarkFolder, model: Model, fold: int) -> str:
    """The job that failed on the way to a fold's evaluation, if one did."""
    *before, _ = _stages(benchmark, model)
    jobs = [Job("plan", model.plans)]
    for stage in before:
        jobs += [Job(kind, stage.name, other) for other in benchmark.folds(stage) for kind in ("tune", "train")]
    jobs += [Job(kind, model.name, fold) for kind in ("tune", "train", "evaluate")]
    for job in jobs:
        why = benchmark.failure(job)
        if why is not None:
            return f"{job.path} failed: {why} (all that it printed: {benchmark.log(job)})"
    trained = benchmark.record(Job("train", model.name, fold)).is_file()
    return "trained, but not evaluated yet." if trained else "its training has not finished."
