"""Statistics of comparisons: what a mean is worth, and whether a difference is more than chance.

The patient is the unit: cases of one patient (ED and ES) are alike, so they are drawn together and tested by their
mean.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

CONFIDENCE = 0.95
DRAWS = 2000
"""Of a bootstrap."""
RANK_DRAWS = 1000
SIGNIFICANCE, POWER = 0.05, 0.8
"""Of the smallest difference that can be shown."""


def describe(values: pd.Series, patients: pd.Series | None = None, seed: int = 0) -> dict[str, float]:
    """Mean, standard deviation and the mean's bootstrap interval of values that are not NaN.

    Args:
        values: by case
        patients: by case, who it is of; None where every case is a patient
        seed: of the bootstrap

    Returns:
        ``n`` cases, ``patients``, ``mean`` and ``sd`` over cases, ``ci_lower`` and ``ci_upper`` (95 %, percentile
        bootstrap over patients, each with all its cases)
    """
    return describe_columns(values.to_frame(), patients, seed)[0]


def describe_columns(table: pd.DataFrame, patients: pd.Series | None = None, seed: int = 0) -> list[dict[str, float]]:
    """``describe`` of every column: the same numbers, many times as fast, because they share their draws."""
    results: list[dict[str, float]] = []
    by_count: dict[int, list[tuple[int, np.ndarray]]] = {}
    groups = table.groupby(_patients_of(table, patients))
    sums, counts = groups.sum().to_numpy(float), groups.count().to_numpy(float)
    for i, (n, mean, sd) in enumerate(zip(table.count(), table.mean(), table.std(ddof=1), strict=True)):
        known = counts[:, i] > 0
        results.append({"n": int(n), "patients": int(known.sum()), "mean": mean, "sd": sd})
        results[-1] |= {"ci_lower": math.nan, "ci_upper": math.nan}
        by_count.setdefault(int(known.sum()), []).append((i, known))
    for n_patients, columns in by_count.items():
        if n_patients > 1:
            drawn = _draws(n_patients, DRAWS, seed)
            parts = (np.stack([of[known, i] for i, known in columns], axis=1) for of in (sums, counts))
            means = np.divide(*(drawn @ part for part in parts))
            tail = 50 * (1 - CONFIDENCE)
            for (i, _), low, high in zip(columns, *np.percentile(means, (tail, 100 - tail), axis=0), strict=True):
                results[i] |= {"ci_lower": float(low), "ci_upper": float(high)}
    return results


@lru_cache(maxsize=2)
def _draws(n: int, n_draws: int, seed: int) -> np.ndarray:
    """How often each of ``n`` patients is drawn: (``n_draws``, n)."""
    drawn = np.random.default_rng(seed).integers(0, n, (n_draws, n))
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)


def _patients_of(values: pd.Series | pd.DataFrame, patients: pd.Series | None) -> pd.Series:
    if patients is None:
        return pd.Series(values.index, index=values.index)
    return patients.reindex(values.index)


def compare(
    contenders: dict[str, pd.Series],
    baseline: pd.Series,
    patients: pd.Series | None = None,
    margin: float | None = None,
    perfect: float | None = None,
    planned: int | None = None,
    outside: Collection[str] = (),
) -> pd.DataFrame:
    """Every contender against the baseline, paired by patient: Wilcoxon's signed-rank test, two-sided, Holm-corrected.

    Args:
        contenders: by name, a metric indexed by case
        baseline: the same metric of the baseline
        patients: by case, who it is of; None where every case is a patient
        margin: largest difference that means nothing, in the metric's unit; None to ask for no equivalence
        perfect: the metric's best value, see ``paired``
        planned: how many comparisons were planned; None for as many as there are
        outside: contenders whose comparison is not among these, and is not corrected

    Returns:
        by contender: ``n`` paired patients, ``difference`` (mean, contender - baseline) with its interval ``ci_lower``
        and ``ci_upper``, ``p`` (as it is), ``p_holm`` (corrected for all planned comparisons; those that are missing
        count as found alike), ``effect_size``: the matched-pairs rank-biserial correlation, from -1 (the baseline's
        value is larger in every patient) to 1 (the contender's is); ``p_equivalent``: of two one-sided paired t tests,
        small where the difference is within ``margin``; ``detectable``: the smallest difference that a paired t test
        with so many patients shows with a power of 80 % at 5 % over the planned comparisons (Holm's first step), given
        how much the differences scatter
    """
    planned = max(planned or 0, len(contenders.keys() - {*outside}), 1)
    rows = {}
    for name, values in contenders.items():
        pairs = paired({"contender": values, "baseline": baseline}, perfect)
        means = pairs.groupby(_patients_of(pairs["baseline"], patients)).mean()
        differences = (means["contender"] - means["baseline"]).to_numpy()
        untied = differences[differences != 0]
        p = float(stats.wilcoxon(untied).pvalue) if len(untied) else 1.0 if len(differences) else math.nan
        spread = describe(pd.Series(differences))
        rows[name] = {
            "n": len(differences),
            "difference": spread["mean"],
            "ci_lower": spread["ci_lower"],
            "ci_upper": spread["ci_upper"],
            "p": p,
            "p_holm": math.nan,
            "effect_size": rank_biserial(differences),
            "p_equivalent": _equivalence(means, margin),
            "detectable": _detectable(spread["sd"], len(differences), planned),
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COMPARED)
    tested = table["p"].notna() & ~table.index.isin(list(outside))
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"], planned)
    return table


def holm(p: Sequence[float], planned: int) -> list[float]:
    """p values after Holm's correction for all planned tests, of which those that are missing count with p = 1."""
    if not len(p):
        return []
    return multipletests([*p, *[1.0] * (planned - len(p))], method="holm")[1][: len(p)].tolist()


def paired(values: Mapping[str, pd.Series], perfect: float | None = None) -> pd.DataFrame:
    """A metric of several contenders, of the cases that all have segmented.

    A structure that neither the expert nor a contender has, has no value. Where another contender finds it all the
    same, which counts as a failure, its absence is right and gets the best value: else the failure would drop out.

    Args:
        values: by name, a metric indexed by case
        perfect: the metric's best value; None to leave such cases out

    Returns:
        a row for each case, a column for each name
    """
    table = pd.concat(values, axis=1, join="inner")
    if perfect is not None:
        table[table.notna().any(axis=1)] = table[table.notna().any(axis=1)].fillna(perfect)
    return table.dropna()


COMPARED = [
    "n", "difference", "ci_lower", "ci_upper", "p", "p_holm", "effect_size", "p_equivalent", "detectable",
]  # fmt: skip
"""Columns of ``compare``'s table."""


def _equivalence(means: pd.DataFrame, margin: float | None) -> float:
    if margin is None or len(means) < 2:
        return math.nan
    differences = means["contender"] - means["baseline"]
    if differences.std() == 0:
        return 0.0 if abs(differences.iloc[0]) < margin else 1.0
    return float(ttost_paired(means["contender"], means["baseline"], -margin, margin)[0])


def _detectable(sd: float, n: int, planned: int) -> float:
    return math.nan if n < 3 or math.isnan(sd) else sd * _detectable_effect(n, SIGNIFICANCE / planned)


@lru_cache
def _detectable_effect(n: int, alpha: float) -> float:
    """In standard deviations of the differences; NaN where the solver finds none, with few patients."""
    effect = float(TTestPower().solve_power(nobs=n, alpha=alpha, power=POWER, alternative="two-sided"))
    return effect if abs(TTestPower().power(effect, n, alpha) - POWER) < 0.01 else math.nan


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): share of the ranks for minus share against; 0 where
    all are alike, NaN where there are none."""
    if not len(differences):
        return math.nan
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = stats.rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def variance_components(values: pd.DataFrame) -> dict[str, float]:
    """Where the scatter of a metric comes from: variances by the method of moments (ANOVA estimators, negative ones 0).

    Patients are nested in folds; a training, with its seed, is of one fold and is crossed with the fold's patients.

    Args:
        values: ``patient``, ``fold``, ``seed`` and ``value``; a patient's cases are averaged

    Returns:
        variances ``fold``, ``patient``, ``seed`` (of trainings that differ in it alone) and ``rest`` (how seeds and
        patients interact); NaN where one fold or one seed tells nothing about it. Of patients whom not all seeds have
        segmented, see ``of_all_seeds``, nothing is taken
    """
    means = of_all_seeds(values)
    n_seeds = means.shape[1]
    sums = dict.fromkeys(("patient", "seed", "rest"), 0.0)
    degrees = dict.fromkeys(sums, 0)
    folds = []
    for _, part in means.groupby("fold"):
        y = part.to_numpy()
        n, mean = len(y), y.mean()
        by_patient, by_seed = y.mean(1), y.mean(0)
        folds.append((n, mean))
        sums["patient"] += n_seeds * ((by_patient - mean) ** 2).sum()
        sums["seed"] += n * ((by_seed - mean) ** 2).sum()
        sums["rest"] += ((y - by_patient[:, None] - by_seed + mean) ** 2).sum()
        degrees["patient"] += n - 1
        degrees["seed"] += n_seeds - 1
        degrees["rest"] += (n - 1) * (n_seeds - 1)
    squares = {key: sums[key] / degrees[key] if degrees[key] else math.nan for key in sums}
    several_seeds = n_seeds > 1 and degrees["rest"] > 0
    rest = squares["rest"] if several_seeds else 0.0
    size = len(means) / max(1, len(folds))
    variances = {
        "fold": math.nan,
        "patient": _not_negative((squares["patient"] - rest) / n_seeds),
        "seed": _not_negative((squares["seed"] - rest) / size) if several_seeds else math.nan,
        "rest": rest if several_seeds else math.nan,
    }
    if len(folds) > 1:
        between = n_seeds * sum(n * (mean - means.to_numpy().mean()) ** 2 for n, mean in folds) / (len(folds) - 1)
        within = squares["patient"] + (squares["seed"] - rest if several_seeds else 0.0)
        variances["fold"] = _not_negative((between - within) / (size * n_seeds))
    return variances


def of_all_seeds(values: pd.DataFrame) -> pd.DataFrame:
    """Means of patients by fold and patient, a column for each seed: of the patients whom all seeds have segmented."""
    return values.groupby(["fold", "patient", "seed"])["value"].mean().unstack("seed").dropna()


def _not_negative(value: float) -> float:
    return value if math.isnan(value) else max(0.0, value)


def rank_stability(values: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Ranks by the mean, and how much they owe to who the patients are (a bootstrap over patients, as challengeR does).

    Args:
        values: a row for each patient, a column for each contender; patients that miss one are left out
        higher_is_better: of the metric

    Returns:
        by contender: ``rank`` (1 is best; equals share the mean of theirs), ``rank_lower`` and ``rank_upper`` (95 %),
        ``first`` (share of draws in which none is before it), ``tau`` (Kendall's, mean over draws, of the whole order)
    """
    values = values.dropna()
    scores = values.to_numpy(float) * (1 if higher_is_better else -1)
    rank = stats.rankdata(-scores.mean(0))
    ranks = stats.rankdata(-_draws(len(scores), RANK_DRAWS, 0) @ scores, axis=1)
    lower, upper = np.percentile(ranks, [2.5, 97.5], axis=0)
    varied = len(rank) > 1 and len(set(rank)) > 1
    tau = np.nanmean(_kendall(rank, ranks)) if varied else math.nan
    return pd.DataFrame(
        {
            "rank": rank, "rank_lower": lower, "rank_upper": upper, "tau": tau,
            "first": (ranks == ranks.min(axis=1, keepdims=True)).mean(0),
        },
        index=values.columns,
    )  # fmt: skip


def _kendall(rank: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of one ranking (n,) with each of many (m, n); NaN where all of one are equal."""
    i, j = np.triu_indices(len(rank), 1)
    one, many = np.sign(rank[i] - rank[j]), np.sign(ranks[:, i] - ranks[:, j])
    with np.errstate(invalid="ignore"):
        return many @ one / np.sqrt((one**2).sum() * (many**2).sum(1))


def agreement(pair: pd.DataFrame) -> dict[str, float]:
    """Bland and Altman's bias and 95 % limits of agreement, and Pearson's correlation.

    Args:
        pair: columns ``measured`` and ``reference``, a row for each patient

    Returns:
        ``n``, ``bias`` (measured - reference), ``sd`` of the differences, ``loa_lower`` and ``loa_upper`` (bias ∓
        1.96 sd), ``correlation``; NaN where there are too few patients
    """
    pair = pair.dropna()
    differences = pair["measured"] - pair["reference"]
    bias, sd = differences.mean(), differences.std()
    varied = len(pair) > 1 and (pair.nunique() > 1).all()
    return {
        "n": len(pair),
        "bias": bias,
        "sd": sd,
        "loa_lower": bias - 1.96 * sd,
        "loa_upper": bias + 1.96 * sd,
        "correlation": float(stats.pearsonr(pair["measured"], pair["reference"])[0]) if varied else math.nan,
    }
