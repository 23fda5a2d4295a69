"""Statistics of comparisons: what a mean is worth, and whether a difference is more than chance.

The patient is the unit: cases of one patient (ED and ES) are alike, so they are drawn together and tested by their
mean.
"""

import math
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
) -> pd.DataFrame:
    """Every contender against the baseline, paired by patient: Wilcoxon's signed-rank test, two-sided, Holm-corrected.

    Args:
        contenders: by name, a metric indexed by case
        baseline: the same metric of the baseline
        patients: by case, who it is of; None where every case is a patient
        margin: largest difference that means nothing, in the metric's unit; None to ask for no equivalence

    Returns:
        by contender: ``n`` paired patients, ``difference`` (mean, contender - baseline) with its interval ``ci_lower``
        and ``ci_upper``, ``p`` (as it is), ``p_holm`` (corrected for the number of contenders), ``effect_size``: the
        matched-pairs rank-biserial correlation, from -1 (the baseline's value is larger in every patient) to 1 (the
        contender's is); ``p_equivalent``: of two one-sided paired t tests, small where the difference is within
        ``margin``; ``detectable``: the smallest difference that a paired t test with so many patients shows at 5 % with
        a power of 80 %, given how much the differences scatter
    """
    rows = {}
    for name, values in contenders.items():
        pairs = pd.concat([values, baseline], axis=1, keys=["contender", "baseline"]).dropna()
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
            "detectable": _detectable(spread["sd"], len(differences)),
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COMPARED)
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "p_holm"] = multipletests(table.loc[tested, "p"], method="holm")[1]
    return table


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


def _detectable(sd: float, n: int) -> float:
    return math.nan if n < 3 or math.isnan(sd) else sd * _detectable_effect(n)


@lru_cache
def _detectable_effect(n: int) -> float:
    """In standard deviations of the differences."""
    return float(TTestPower().solve_power(nobs=n, alpha=SIGNIFICANCE, power=POWER, alternative="two-sided"))


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): share of the ranks for minus share against; 0 without."""
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
        patients interact); NaN where one fold or one seed tells nothing about it
    """
    means = values.groupby(["fold", "patient", "seed"])["value"].mean().unstack("seed").dropna()
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
        "patient": max(0.0, (squares["patient"] - rest) / n_seeds),
        "seed": max(0.0, (squares["seed"] - rest) / size) if several_seeds else math.nan,
        "rest": rest if several_seeds else math.nan,
    }
    if len(folds) > 1:
        between = n_seeds * sum(n * (mean - means.to_numpy().mean()) ** 2 for n, mean in folds) / (len(folds) - 1)
        within = squares["patient"] + (squares["seed"] - rest if several_seeds else 0.0)
        variances["fold"] = max(0.0, (between - within) / (size * n_seeds))
    return variances


def rank_stability(values: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Ranks by the mean, and how much they owe to who the patients are (a bootstrap over patients, as challengeR does).

    Args:
        values: a row for each patient, a column for each contender; patients that miss one are left out
        higher_is_better: of the metric

    Returns:
        by contender: ``rank`` (1 is best; equals share the mean of theirs), ``rank_lower`` and ``rank_upper`` (95 %),
        ``first`` (share of draws in which it is first), ``tau`` (Kendall's, mean over draws, of the ranking as a whole)
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
            "rank": rank, "rank_lower": lower, "rank_upper": upper, "first": (ranks == 1).mean(0), "tau": tau,
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
