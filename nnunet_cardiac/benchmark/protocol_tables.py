"""The tables of what a benchmark tests beyond each fold's held-out cases."""

from dataclasses import replace

import pandas as pd

from nnunet_cardiac.benchmark.results import ContenderResults, Results
from nnunet_cardiac.benchmark.settings import CORRUPTED, POSTPROCESSED, SEVERITIES, SNAPSHOTS
from nnunet_cardiac.benchmark.tables import interval, number
from nnunet_cardiac.evaluation.statistics import compare, describe, holm, paired

POSTPROCESSED_METRICS = {"dice": ("Dice", 3), "hausdorff_mm": ("HD mm", 1), "hausdorff95_mm": ("HD95 mm", 1)}


def postprocessing_table(results: Results) -> pd.DataFrame:
    """Means over cases of the raw segmentations and of the postprocessed ones, of each structure and of their mean."""
    rows = []
    for c, cleaned in _both(results, POSTPROCESSED):
        for structure in ["mean", *results.structures]:
            row = {"structure": structure, "contender": c.name}
            for metric, (title, digits) in POSTPROCESSED_METRICS.items():
                raw, new = (r.by_case(metric, structure).mean() for r in (c, cleaned))
                row |= {title: f"{raw:.{digits}f}", f"{title}, postprocessed": f"{new:.{digits}f}"}
            rows.append(row)
    return pd.DataFrame(rows).sort_values("structure", kind="stable") if rows else pd.DataFrame()


def matched_table(results: Results, margin: float) -> pd.DataFrame:
    """Contenders against nnU-Net's residual encoder U-Net of the same cost; see ``compare``."""
    networks = {name: (c.plans, c.configuration) for name, c in results.settings.contenders.items()}
    pairs = [
        (c, baseline)
        for baseline in results.contenders
        for c in results.contenders
        if baseline.contender.matched_to and networks[c.name] == networks[baseline.contender.matched_to]
    ]
    matched = {networks[c.matched_to] for c in results.settings.contenders.values() if c.matched_to}
    planned = sum(networks[name] in matched for name in networks)
    costs = [("flops_per_slice", "GFLOPs per slice", 1e9), ("parameters", "parameters (M)", 1e6)]
    costs += [("peak_memory_GB", "peak memory (GB)", 1)] if results.settings.match == "memory" else []
    rows, p_values = [], []
    for contender, baseline in pairs:
        dice = [c.by_case("dice") for c in (contender, baseline)]
        test = compare({contender.name: dice[0]}, dice[1], contender.patients, margin, 1.0, planned).iloc[0]
        if not test["n"]:  # nobody whom both have segmented
            continue
        of_both = paired(dict(zip(("own", "its"), dice, strict=True)), 1.0)
        row: dict = {"contender": contender.name}
        for key, title, unit in costs:
            row[f"{title}, baseline's"] = ", ".join(number(c.cost[key] / unit, ".2f") for c in (contender, baseline))
        p_values.append(test["p"])
        rows.append(
            row
            | {
                "patients": int(test["n"]),
                "Dice, baseline's": ", ".join(f"{of_both[name].mean():.3f}" for name in of_both),
                "difference": number(test["difference"], "+.3f"),
                "95 % interval": interval(test, "+.3f"),
                "p": number(test["p"], ".2g"),
                "p, equivalent": number(test["p_equivalent"], ".2g"),
                "detectable": number(test["detectable"], ".3f"),
            }
        )
    corrected = holm(p_values, planned)
    return pd.DataFrame({**row, "p (Holm)": f"{p:.2g}"} for row, p in zip(rows, corrected, strict=True))


def snapshot_table(results: Results) -> pd.DataFrame:
    """Mean Dice after each share of the training, by phase and structure (as in DADU's Table 2)."""
    rows = []
    for _, tested in _both(results, SNAPSHOTS):
        phases = [phase for phase in tested.metrics["phase"].unique() if phase]
        for phase in phases if len(phases) > 1 else [""]:
            part = tested.metrics[tested.metrics["phase"] == phase] if phase else tested.metrics
            for structure in [*results.structures, "mean"]:
                own = part if structure == "mean" else part[part["structure"] == structure]
                dice = own.groupby(["share", "case"])["dice"].mean().groupby("share").mean()
                row = {"contender": tested.name} | ({"phase": phase} if phase else {}) | {"structure": structure}
                rows.append(row | {f"{share} %": f"{value:.3f}" for share, value in dice.items()})
    return pd.DataFrame(rows)


def corruption_table(results: Results) -> pd.DataFrame:
    """Mean Dice of the images as they are and made worse in steps, and what is lost with each step."""
    rows = []
    for c, tested in _both(results, CORRUPTED):
        for corruption, part in tested.metrics.groupby("corruption", sort=False):
            clean = c.by_case("dice").mean()
            row = {"corruption": str(corruption).replace("_", " "), "contender": c.name, "as it is": f"{clean:.3f}"}
            for severity in range(1, SEVERITIES + 1):
                dice = part[part["severity"] == severity].groupby("case")["dice"].mean().mean()
                row |= {f"step {severity}": f"{dice:.3f}", f"change {severity}": f"{dice - clean:+.3f}"}
            rows.append(row)
    return pd.DataFrame(rows).sort_values("corruption", kind="stable") if rows else pd.DataFrame()


def corruption_curves(results: Results) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By corruption and contender: mean Dice with its interval (see ``describe``), as it is and at each step."""
    curves: dict[str, dict[str, list[dict[str, float]]]] = {}
    for c, tested in _both(results, CORRUPTED):
        for corruption, part in tested.metrics.groupby("corruption", sort=False):
            by_step = [part[part["severity"] == severity] for severity in range(1, SEVERITIES + 1)]
            values = [c.by_case("dice"), *(step.groupby("case")["dice"].mean() for step in by_step)]
            curves.setdefault(str(corruption), {})[c.name] = [describe(value, c.patients) for value in values]
    return curves


def _both(results: Results, where: str) -> list[tuple[ContenderResults, ContenderResults]]:
    """Every tested contender's results on the held-out cases, of the folds and seeds that are tested, and those of the
    test."""
    own = {c.name: c for c in results.contenders}
    pairs = []
    for tested in results.tests[where].contenders if where in results.tests else ():
        metrics = own[tested.name].metrics
        same = metrics.merge(tested.metrics[["fold", "seed"]].drop_duplicates())
        pairs.append((replace(own[tested.name], metrics=same), tested))
    return pairs
