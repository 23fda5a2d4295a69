"""Statistics of comparisons: what a mean is worth, and whether a difference is more than chance."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95


def describe(values: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Mean, standard deviation and the mean's bootstrap interval of values that are not NaN.

    Returns:
        ``n``, ``mean``, ``sd``, ``ci_lower`` and ``ci_upper`` (95 %, percentile bootstrap over cases, 2,000 draws)
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    n = len(known)
    result = {
        "n": n,
        "mean": known.mean() if n else math.nan,
        "sd": known.std(ddof=1) if n > 1 else math.nan,
        "ci_lower": math.nan,
        "ci_upper": math.nan,
    }
    if n > 1:
        interval = stats.bootstrap(
            (known,), np.mean, n_resamples=2000, confidence_level=CONFIDENCE, method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
        result |= {"ci_lower": float(interval.low), "ci_upper": float(interval.high)}
    return result


def compare(contenders: dict[str, pd.Series], baseline: pd.Series) -> pd.DataFrame:
    """Every contender against the baseline, paired by case: Wilcoxon's signed-rank test, two-sided, Holm-corrected.

    Args:
        contenders: by name, a metric indexed by case
        baseline: the same metric of the baseline

    Returns:
        by contender: ``n`` paired cases, ``difference`` (mean, contender - baseline), ``p`` (as it is), ``p_holm``
        (corrected for the number of contenders), ``effect_size``: the matched-pairs rank-biserial correlation, from -1
        (the baseline's value is larger in every case) to 1 (the contender's is)
    """
    rows = {}
    for name, values in contenders.items():
        pairs = pd.concat([values, baseline], axis=1, keys=["contender", "baseline"]).dropna()
        differences = (pairs["contender"] - pairs["baseline"]).to_numpy()
        untied = differences[differences != 0]
        p = float(stats.wilcoxon(untied).pvalue) if len(untied) else 1.0 if len(differences) else math.nan
        rows[name] = {
            "n": len(differences),
            "difference": differences.mean() if len(differences) else math.nan,
            "p": p,
            "effect_size": rank_biserial(differences),
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "difference", "p", "effect_size"])
    table.insert(3, "p_holm", math.nan)
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "p_holm"] = multipletests(table.loc[tested, "p"], method="holm")[1]
    return table


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): share of the ranks for minus share against; 0 without."""
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = stats.rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


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
