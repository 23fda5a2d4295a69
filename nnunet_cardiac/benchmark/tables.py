"""The tables of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_cardiac.architectures.architecture import PublishedFigures
from nnunet_cardiac.benchmark.records import Sizes
from nnunet_cardiac.benchmark.results import ContenderResults, Results, energy, trained_with
from nnunet_cardiac.benchmark.settings import SNAPSHOTS
from nnunet_cardiac.evaluation.evaluate import STATES, subsets
from nnunet_cardiac.evaluation.figures import TITLES
from nnunet_cardiac.evaluation.measure import Measurement
from nnunet_cardiac.evaluation.repeatability import VARIATIONS
from nnunet_cardiac.evaluation.statistics import (
    COMPARED,
    compare,
    describe_columns,
    of_all_seeds,
    paired,
    rank_stability,
    variance_components,
)

TESTED = {"dice": 1.0, "hausdorff95_mm": 0.0}
"""Metrics, and their best values."""
ANATOMY = ("implausible_slices", "slices")
PHASES = ("ED", "ES")
BY_PHASE = {"dice": ("Dice", ".3f"), "hausdorff_mm": ("HD mm", ".1f"), "hausdorff95_mm": ("HD95 mm", ".1f")}
"""What DADU's Table 3 shows, and HD95: title and format by metric."""
PUBLISHED_METRICS = {
    "Dice": "dice",
    "HD": "hausdorff_mm",
    "Jaccard": "jaccard",
    "accuracy": "accuracy",
    "F1": "f1",
}
"""Metrics by the first word of a published column."""


def full_table(results: Results) -> pd.DataFrame:
    """Every metric of every contender and structure, see ``describe``, with counts of absent structures (means of the
    seeds)."""
    rows = []
    for contender in results.contenders:
        of_a_case = 1 / contender.metrics.groupby("case")["seed"].transform("nunique")
        states = of_a_case.groupby([contender.metrics["structure"], contender.metrics["state"]]).sum()
        states = states.unstack(fill_value=0).reindex(index=results.structures, columns=list(STATES), fill_value=0)
        states.loc["mean"] = states.sum()
        values = pd.concat({structure: contender.case_means[structure] for structure in states.index}, axis=1)
        described = describe_columns(values, contender.patients)
        for (structure, metric), numbers in zip(values.columns, described, strict=True):
            row = {"contender": contender.name, "structure": structure, "metric": metric}
            rows.append(row | numbers | states.loc[structure].to_dict())
    return pd.DataFrame(rows)


def test_table(results: Results, baseline: ContenderResults, margin: float) -> pd.DataFrame:
    """Every contender against the baseline: Dice and HD95, of each structure and of their mean, see ``compare``.

    Args:
        results: of all contenders
        baseline: one of them
        margin: difference of Dice that means nothing
    """
    tables = []
    planned = results.settings.contenders.values()
    matched = [c.name for c in planned if c.matched_to]  # which have a table of their own
    n_planned = len([c for c in planned if not c.matched_to and c.name != baseline.name])
    for metric, perfect in TESTED.items():
        for structure in ["mean", *results.structures]:
            others = {c.name: c.by_case(metric, structure) for c in results.contenders if c is not baseline}
            table = compare(
                others, baseline.by_case(metric, structure), baseline.patients, margin if metric == "dice" else None,
                perfect, n_planned, matched,
            )  # fmt: skip
            tables.append(table.rename_axis("contender").reset_index().assign(metric=metric, structure=structure))
    return pd.concat(tables)[["metric", "structure", "contender", *COMPARED]]


def summary_table(results: Results, full: pd.DataFrame, tests: pd.DataFrame | None, baseline: str) -> pd.DataFrame:
    """The main table: Dice by structure, mean Dice with its interval, Jaccard, HD95, the test."""
    rows = []
    for contender in results.contenders:
        own = full[full["contender"] == contender.name].set_index(["metric", "structure"])
        row = {"contender": contender.name, "patients": contender.patients.nunique()}
        for structure in results.structures:
            row[f"Dice {structure}"] = _mean_sd(own.loc["dice", structure], 3)
        mean = own.loc["dice", "mean"]
        row["Dice, mean"] = _mean_sd(mean, 3)
        row["95 % interval"] = interval(mean, ".3f")
        row["Jaccard, mean"] = _mean_sd(own.loc["jaccard", "mean"], 3)
        row["HD mm, mean"] = _mean_sd(own.loc["hausdorff_mm", "mean"], 1)
        row["HD95 mm, mean"] = _mean_sd(own.loc["hausdorff95_mm", "mean"], 1)
        if tests is not None:
            row |= _test_columns(tests, contender.name, baseline)
        rows.append(row)
    return pd.DataFrame(rows)


def _mean_sd(row: pd.Series, digits: int) -> str:
    """Of one case alone there is no standard deviation."""
    mean, sd = (number(row[key], f".{digits}f") for key in ("mean", "sd"))
    return mean if sd == "-" else f"{mean} ± {sd}"


def _test_columns(tests: pd.DataFrame, name: str, baseline: str) -> dict[str, str]:
    titles = ("difference", "p (Holm)", "effect size")
    if name == baseline:
        return dict(zip(titles, ("baseline", "", ""), strict=True))
    row = tests[(tests["metric"] == "dice") & (tests["structure"] == "mean") & (tests["contender"] == name)].iloc[0]
    p = "-" if math.isnan(row["p_holm"]) else "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
    shown = number(row["difference"], "+.3f"), p, number(row["effect_size"], "+.2f")
    return dict(zip(titles, shown, strict=True))


def readable_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """``test_table`` with rounded numbers, and the metric's name."""
    return pd.DataFrame(
        {
            "metric": tests["metric"].map(TITLES),
            "structure": tests["structure"],
            "contender": tests["contender"],
            "patients": tests["n"],
            "difference": [number(v, "+.3f") for v in tests["difference"]],
            "95 % interval": [interval(row, "+.3f") for _, row in tests.iterrows()],
            "p": [number(v, ".2g") for v in tests["p"]],
            "p (Holm)": [number(v, ".2g") for v in tests["p_holm"]],
            "effect size": [number(v, "+.2f") for v in tests["effect_size"]],
            "p, equivalent": [number(v, ".2g") for v in tests["p_equivalent"]],
            "detectable": [number(v, ".3f") for v in tests["detectable"]],
        }
    )


def phase_table(results: Results) -> pd.DataFrame:
    """Dice, HD and HD95 of every structure at ED and ES, as DADU's Table 3; empty where no phase is known."""
    rows = []
    for contender in results.contenders:
        means = _phase_means(contender)
        row = {"contender": contender.name, "patients": contender.patients.nunique()}
        for structure in results.structures:
            for metric, (title, how) in BY_PHASE.items():
                for phase in PHASES:
                    if (phase, structure) in means.index:
                        row[f"{structure} {title}, {phase}"] = number(means.loc[(phase, structure), metric], how)
        if len(row) > 2:
            rows.append(row)
    return pd.DataFrame(rows)


def _phase_means(contender: ContenderResults) -> pd.DataFrame:
    """Of ``BY_PHASE``, by phase and structure, the structures' mean included."""
    known = contender.metrics[contender.metrics["phase"].isin(PHASES)]
    by_case = known.groupby(["phase", "case"])[list(BY_PHASE)].mean()
    mean = by_case.groupby("phase").mean().assign(structure="mean").set_index("structure", append=True)
    by_case = known.groupby(["phase", "structure", "case"])[list(BY_PHASE)].mean()  # not all may have all seeds
    return pd.concat([by_case.groupby(["phase", "structure"]).mean(), mean])


def distance_table(results: Results, full: pd.DataFrame) -> pd.DataFrame:
    """Distances and Jaccard by structure, mean and standard deviation; distances by phase too where it is known."""
    rows = []
    by_phase = {c.name: _phase_means(c) for c in results.contenders}
    numbers = full.set_index(["contender", "metric", "structure"]).sort_index()
    for structure in [*results.structures, "mean"]:
        for contender in results.contenders:
            own = numbers.loc[contender.name]
            row = {"structure": structure, "contender": contender.name, "patients": contender.patients.nunique()}
            for metric, title, digits in (
                ("jaccard", "Jaccard", 3), ("hausdorff_mm", "HD mm", 1), ("hausdorff95_mm", "HD95 mm", 1),
                ("assd_mm", "ASSD mm", 1), ("precision", "precision", 3), ("recall", "recall", 3), ("f1", "F1", 3),
                ("accuracy", "accuracy", 4), ("volume_error_mL", "volume error mL", 1),
            ):  # fmt: skip
                row[title] = _mean_sd(own.loc[metric, structure], digits)
                for phase in PHASES if metric in ("hausdorff_mm", "hausdorff95_mm") else ():
                    if (phase, structure) in by_phase[contender.name].index:
                        row[f"{title}, {phase}"] = number(
                            by_phase[contender.name].loc[(phase, structure), metric], ".1f"
                        )
            row |= {state: f"{own.loc['dice', structure][state]:.3g}" for state in STATES[1:]}
            rows.append(row)
    return pd.DataFrame(rows)


def subset_table(results: Results) -> pd.DataFrame:
    """Mean Dice, HD and HD95 of each phase and group, by structure; empty where nothing tells the cases apart."""
    rows: dict[str, list[dict]] = {}
    for contender in results.contenders:
        for subset, part in subsets(contender.metrics)[1:]:
            row = {"subset": subset, "contender": contender.name, "cases": part["case"].nunique()}
            for structure, group in part.groupby("structure", sort=False):
                means = group.groupby("case")[list(BY_PHASE)].mean().mean()  # not all cases may have all seeds
                row |= {
                    f"Dice {structure}": number(means["dice"], ".3f"),
                    f"HD {structure} mm": number(means["hausdorff_mm"], ".1f"),
                    f"HD95 {structure} mm": number(means["hausdorff95_mm"], ".1f"),
                }
            rows.setdefault(subset, []).append(row)
    return pd.DataFrame([row for of_subset in rows.values() for row in of_subset])


def variance_table(results: Results) -> pd.DataFrame:
    """What the scatter of the mean Dice owes to folds, patients and seeds; empty with one fold and one seed."""
    rows = []
    for contender in results.contenders:
        table = contender.metrics.assign(patient=contender.metrics["case"].map(contender.patients))
        by_case = table.groupby(["case", "patient", "fold", "seed"])["dice"].mean().rename("value").reset_index()
        if by_case["fold"].nunique() == by_case["seed"].nunique() == 1:
            continue
        used = of_all_seeds(by_case)
        n_folds, n_seeds = used.index.unique("fold").size, used.shape[1]
        parts = variance_components(by_case)
        total = sum(part for part in parts.values() if not math.isnan(part))
        row: dict = {"contender": contender.name, "folds": n_folds, "seeds": n_seeds, "patients": len(used)}
        row |= {f"sd of Dice, {source}": number(math.sqrt(part), ".4f") for source, part in parts.items()}
        row |= {f"{source}, %": number(100 * part / total, ".0f") for source, part in parts.items() if total}
        of_a_mean = parts["seed"] / (n_folds * n_seeds) + parts["rest"] / used.size if n_folds else math.nan
        chance = math.sqrt(2 * of_a_mean)
        rows.append(row | {"sd of a difference of means, seeds alone": number(chance, ".4f")})
    return pd.DataFrame(rows)


def rank_table(results: Results) -> pd.DataFrame:
    """Ranks by mean Dice and HD95, of each structure and of their mean, with their stability over patients."""
    rows = []
    patients = pd.concat([c.patients for c in results.contenders])
    patients = patients[~patients.index.duplicated()]
    for metric, perfect in TESTED.items():
        for structure in ["mean", *results.structures]:
            by_case = paired({c.name: c.by_case(metric, structure) for c in results.contenders}, perfect)
            by_patient = by_case.groupby(patients.reindex(by_case.index)).mean()
            if by_patient.shape[1] < 2 or by_patient.empty:
                continue
            for name, row in rank_stability(by_patient, higher_is_better=metric == "dice").iterrows():
                rows.append(
                    {
                        "metric": TITLES[metric],
                        "structure": structure,
                        "contender": name,
                        "patients": len(by_patient),
                        "rank": f"{row['rank']:g}",
                        "95 % of draws": f"{row['rank_lower']:g} to {row['rank_upper']:g}",
                        "first in, %": number(100 * row["first"], ".0f"),
                        "Kendall's tau": number(row["tau"], ".2f"),
                    }
                )
    return pd.DataFrame(rows)


def search_table(results: Results) -> pd.DataFrame:
    """The learning rates that were tried for every contender, and what came of them; empty without a search."""
    rows = []
    for contender in results.contenders:
        for (stage, fold), record in contender.searches.items():
            rates = record["dice"]
            rows.append(
                {
                    "contender": contender.name,
                    "stage": stage,
                    "fold": fold,
                    "Dice by rate": ", ".join(f"{rate:g}: {dice:.3f}" for rate, dice in rates.items()),
                    "chosen": f"{record['initial_lr']:g}",
                    "at the edge": "yes" if rates and record["initial_lr"] in (min(rates), max(rates)) else "no",
                    "min": f"{record['seconds'] / 60:.1f}",
                }
            )
    return pd.DataFrame(rows)


def plans_table(results: Results) -> pd.DataFrame:
    """What every stage of every contender was trained with; empty where nothing was recorded."""
    rows = [
        {"contender": contender.name} | trained_with(cost)
        for contender in results.contenders
        for cost in contender.trainings.values()
        if Sizes.__annotations__.keys() <= cost.keys()
    ]
    return pd.DataFrame(rows).drop_duplicates()


def cost_table(results: Results) -> pd.DataFrame:
    """What each contender costs, all its stages together."""
    titles = {
        "parameters": ("parameters (M)", lambda v: f"{v / 1e6:.2f}"),
        "flops_per_slice": ("GFLOPs per slice", lambda v: f"{v / 1e9:.2f}"),
        "steps_per_fold": ("optimiser steps per fold", lambda v: f"{v:.0f}"),
        "training_minutes_per_fold": ("training, min per fold", lambda v: f"{v:.1f}"),
        "search_minutes_per_fold": ("search of the rate, min per fold", lambda v: f"{v:.1f}"),
        "training_hours": ("training, h in all", lambda v: f"{v:.2f}"),
        "energy_kWh": ("energy, kWh in all", lambda v: f"{v:.2f}"),
        "peak_memory_GB": ("peak memory (GB)", lambda v: f"{v:.2f}"),
        "prediction_seconds_per_case": ("prediction, s per case", lambda v: f"{v:.2f}"),
    }
    rows = []
    for contender in results.contenders:
        row = {"contender": contender.name}
        for key, (title, text) in titles.items():
            row[title] = "-" if math.isnan(contender.cost[key]) else text(contender.cost[key])
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Expense:
    """What all trainings of a benchmark took together, each counted once though several contenders may need it.

    Args:
        trainings: how many
        hours: of training
        search_hours: of the searches for learning rates
        devices: "GPU" or "process", as it was recorded
        energy_kWh: of the GPUs; NaN where not every training recorded it
    """

    trainings: int
    hours: float
    search_hours: float
    devices: list[str]
    energy_kWh: float


def expense(results: Results) -> Expense:
    """Of all contenders, all stages, all folds."""
    trainings = {name: cost for c in results.contenders for name, cost in c.trainings.items()}.values()
    searches = {
        (c.model.trainer, c.model.plans, *where): record["seconds"]
        for c in results.contenders
        for where, record in c.searches.items()
    }
    return Expense(
        len(trainings),
        sum(cost["seconds"] for cost in trainings) / 3600,
        sum(searches.values()) / 3600,
        sorted({cost["peak_memory_of"] for cost in trainings}),
        energy(trainings),
    )


def anatomy_table(results: Results) -> pd.DataFrame:
    """Implausible anatomy of every contender, and of the ground truth of the same cases; counts over slices."""
    rows = []
    expert = None
    for contender in results.contenders:
        for source, part in contender.anatomy.groupby("source", sort=False):
            counts = part.select_dtypes("number").drop(columns="fold").sum().astype(int)
            row = {"contender": contender.name, "patients": contender.patients.nunique()}
            row |= counts[list(ANATOMY)].to_dict()
            row["cases with any"] = int((part["implausible_slices"] > 0).sum())
            row |= counts.drop(list(ANATOMY)).to_dict()
            if source == "prediction":
                rows.append(row)
            elif expert is None or len(part) > expert[0]:
                expert = (len(part), row | {"contender": "ground truth"})
    table = pd.DataFrame([*rows, expert[1]] if expert else rows)
    return table.rename(columns=lambda name: name.replace("_", " "))


def crop_table(results: Results) -> pd.DataFrame:
    """How well the crops of cascades hold the heart: see ``evaluate_crop``; shares are over all images of all cases."""
    rows = []
    for contender in results.contenders:
        if contender.crop is None:
            continue
        cases = contender.crop.drop_duplicates("case")
        pixels = contender.crop.groupby("structure", sort=False)[["pixels", "inside"]].sum()
        row = {
            "contender": contender.name,
            "IoU of the box": number((cases["iou"] * cases["heart"]).sum() / cases["heart"].sum(), ".3f"),
        }
        row |= {f"{name} inside, %": number(100 * p["inside"] / p["pixels"], ".2f") for name, p in pixels.iterrows()}
        row["images cropped, %"] = number(100 * cases["cropped"].sum() / cases["images"].sum(), ".1f")
        row["crop's area, %"] = number(100 * (cases["area"] * cases["cropped"]).sum() / cases["cropped"].sum(), ".1f")
        rows.append(row)
    return pd.DataFrame(rows)


def agreement_table(results: Results) -> pd.DataFrame:
    """Bland-Altman bias and limits of agreement, and correlation, of every index."""
    statistics = {c.name: c.measurement.agreement() for c in results.contenders if c.measurement}
    measured = {c.name: c.measurement for c in results.contenders if c.measurement}
    rows = []
    for index in dict.fromkeys(index for table in statistics.values() for index in table.index):
        for contender, table in statistics.items():
            row = table.loc[index]
            limits = f"{row['loa_lower']:.1f} to {row['loa_upper']:.1f}"
            rows.append(
                {
                    "index": index,
                    "contender": contender,
                    "patients": _of_known(measured[contender], index, int(row["n"])),
                    "bias": number(row["bias"], "+.1f"),
                    "limits of agreement": "-" if math.isnan(row["loa_lower"]) else limits,
                    "correlation": number(row["correlation"], ".3f"),
                }
            )
    return pd.DataFrame(rows)


def repeatability_table(results: Results) -> pd.DataFrame:
    """How far each contender's indices scatter around the experts', beside what two scans or two readers differ by."""
    measured = {c.name: c.measurement for c in results.contenders if c.measurement is not None}
    agreements = {name: measurement.agreement() for name, measurement in measured.items()}
    pairs = {name: measurement.pairs() for name, measurement in measured.items()}
    known = list(dict.fromkeys(index for variation in VARIATIONS for index in variation.ranges))
    shown = [index for index in known if any(index in table.index for table in agreements.values())]
    rows = []
    for variation in VARIATIONS if shown else ():
        row = {"who": variation.between, "measure": variation.measure}
        for index in shown:
            low, high = variation.ranges.get(index, (math.nan, math.nan))
            numbers = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
            row[_title(index)] = "" if math.isnan(low) else f"{numbers} {variation.unit or _unit(index)}"
        rows.append(row | {"source": variation.source})
    for name, table in agreements.items() if shown else ():
        row = {"who": name, "measure": "SD of the difference"}
        for index in shown:
            sd = table["sd"].get(index, math.nan)
            if math.isnan(sd):
                row[_title(index)] = "-"
                continue
            mean = pairs[name][index]["reference"].mean()
            patients = _of_known(measured[name], index, int(table["n"][index]))
            lost = f", {patients} patients" if "of" in patients else ""
            row[_title(index)] = f"{100 * sd / mean:.1f} % ({sd:.1f} {_unit(index)}{lost})"
        rows.append(row | {"source": "this benchmark, against the experts' contours"})
    return pd.DataFrame(rows)


def _of_known(measurement: Measurement, index: str, n: int) -> str:
    """How many patients an index was measured of, and of how many the experts' contours give it, if these are more: an
    ejection fraction of nothing is none."""
    known = n if measurement.reference is None else int(measurement.reference[index].notna().sum())
    return f"{n}" if n == known else f"{n} of {known}"


def _title(index: str) -> str:
    return index.rsplit("_", 1)[0].replace("_", " ")


def _unit(index: str) -> str:
    unit = index.rsplit("_", 1)[1]
    return "points" if unit == "percent" else unit


def case_table(results: Results) -> pd.DataFrame:
    """Every case, the hardest first: who and what it is, and each contender's mean Dice and HD95."""
    about = pd.concat([c.metrics.drop_duplicates("case") for c in results.contenders]).drop_duplicates("case")
    table = about.set_index("case")[["patient", "phase", "group", "vendor"]]
    means = {(c.name, metric): c.by_case(metric) for c in results.contenders for metric in TESTED}
    numbers = pd.DataFrame(means, index=table.index)
    dice = numbers.xs("dice", axis=1, level=1)
    table["Dice, mean"] = dice.mean(axis=1)
    table = table.sort_values("Dice, mean", kind="stable")
    table["Dice, mean"] = [number(v, ".3f") for v in table["Dice, mean"]]
    for c in results.contenders:
        for metric, title, how in (("dice", "Dice", ".3f"), ("hausdorff95_mm", "HD95", ".1f")):
            table[f"{title} {c.name}"] = [number(v, how) for v in numbers.loc[table.index, (c.name, metric)]]
    known = [column for column in table if (table[column] != "").any()]
    return table[known].reset_index()


def paper_table(results: Results, figures: PublishedFigures) -> pd.DataFrame:
    """A paper's table, and what was measured here beside each of its numbers.

    Means over cases, of the metric, structure and phase that a column names; an average is the mean of the structures
    of a case. Rows of an earlier moment of a training are of its snapshots.

    Args:
        results: of all contenders
        figures: the table

    Returns:
        by row: ``method``, ``here`` (the contender); for each column the paper's number and, in the column's name with
        ``, here``, ours; ``remark``: why there is none
    """
    finished = {c.name: c.metrics for c in results.contenders}
    snapshots = {c.name: c.metrics for c in results.tests[SNAPSHOTS].contenders} if SNAPSHOTS in results.tests else {}
    rows = []
    for method, numbers in figures.rows.items():
        name = figures.contenders.get(method)
        metrics = finished.get(name or "")
        absent = "" if metrics is not None else "takes no part in this benchmark, or has finished nothing"
        if metrics is not None and method in figures.shares:
            earlier = snapshots.get(name or "")
            metrics = None if earlier is None else earlier[earlier["share"] == figures.shares[method]]
            absent = "" if metrics is not None else "--snapshots would tell"
        row = {"method": method, "here": name or "-"}
        for column, number in zip(figures.columns, numbers, strict=True):
            row[column] = "-" if number is None else f"{number:g}"
            row[f"{column}, here"] = "-" if metrics is None else _here(metrics, column, method, figures.structures)
        rows.append(row | {"remark": figures.missing.get(method, absent)})
    return pd.DataFrame(rows)


def _here(metrics: pd.DataFrame, column: str, method: str, of_table: Sequence[str]) -> str:
    """What was measured of a published column, which names metric, structure, phase and unit; ``of_table`` are the
    structures of a column that names none."""
    metric, *words = column.replace(",", "").split()
    phases = {*words, method.split(", ")[-1]} & {*PHASES}
    structures = {*words} - {*PHASES} - {"%", "mm", "average"} or {*of_table}
    if phases:
        metrics = metrics[metrics["phase"].isin(phases)]
    if structures:
        metrics = metrics[metrics["structure"].isin(structures)]
    mean = metrics.groupby("case")[PUBLISHED_METRICS[metric]].mean().mean()
    return number(100 * mean if "%" in words else mean, ".2f" if {"%", "mm"} & {*words} or metric == "HD" else ".3f")


def interval(row: pd.Series, how: str) -> str:
    """``ci_lower`` and ``ci_upper`` as a table shows them."""
    return "-" if math.isnan(row["ci_lower"]) else f"{row['ci_lower']:{how}} to {row['ci_upper']:{how}}"


def number(value: float, how: str) -> str:
    """As a table shows it."""
    return "-" if math.isnan(value) else format(value, how)
