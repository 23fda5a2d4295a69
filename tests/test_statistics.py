import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from nnunet_cardiac.evaluation.statistics import (
    _detectable_effect,
    _kendall,
    agreement,
    compare,
    describe,
    describe_columns,
    of_all_seeds,
    rank_biserial,
    rank_stability,
    variance_components,
)


@pytest.fixture
def few_draws(monkeypatch):
    """For tests that bootstrap often."""
    monkeypatch.setattr("nnunet_cardiac.evaluation.statistics.DRAWS", 200)


def test_interval_covers_the_true_mean_about_as_often_as_it_says(few_draws):
    random = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        result = describe(pd.Series(random.normal(0.8, 0.1, 40)), seed=i)
        assert result["ci_lower"] < result["mean"] < result["ci_upper"]
        hits += result["ci_lower"] < 0.8 < result["ci_upper"]
    assert 0.89 < hits / 200 < 0.99


def test_missing_values_are_left_out_and_counted():
    assert describe(pd.Series([1.0, math.nan, 3.0]))["n"] == 2
    assert describe(pd.Series([1.0, math.nan, 3.0]))["mean"] == 2
    assert math.isnan(describe(pd.Series([], dtype=float))["mean"]) and math.isnan(describe(pd.Series([1.0]))["sd"])


def patients_and_cases(n, within, between, seed):
    """Two cases of each of ``n`` patients."""
    random = np.random.default_rng(seed)
    cases = [f"{i}_{phase}" for i in range(n) for phase in ("ED", "ES")]
    values = np.repeat(random.normal(0, between, n), 2) + random.normal(0, within, 2 * n)
    return pd.Series(values, cases), pd.Series([case.split("_")[0] for case in cases], cases)


def test_intervals_are_those_of_patients(few_draws):
    """Where cases of a patient are alike, twice as many of them are not twice as much evidence."""
    hits = {"patients": 0, "cases": 0}
    for i in range(100):
        values, patients = patients_and_cases(30, 0.01, 0.1, i)
        for unit, given in (("patients", patients), ("cases", None)):
            result = describe(values, given, seed=i)
            hits[unit] += result["ci_lower"] < 0 < result["ci_upper"]
        assert describe(values, patients)["patients"] == 30 and describe(values, patients)["n"] == 60
    assert hits["patients"] / 100 > 0.89 > hits["cases"] / 100


def test_tests_are_those_of_patients(few_draws):
    """Between equals, one in twenty is significant, and not more because every patient has two cases."""
    equals = {str(i): patients_and_cases(20, 0.01, 0.1, i)[0] for i in range(150)}
    _, patients = patients_and_cases(20, 0.01, 0.1, 0)
    baseline = pd.Series(0.0, patients.index)
    found = {
        unit: (compare(equals, baseline, given)["p"] < 0.05).mean()
        for unit, given in (("patients", patients), ("cases", None))
    }
    assert found["patients"] < 0.1 < found["cases"]


def test_equivalence_and_what_can_be_seen():
    random = np.random.default_rng(0)
    baseline = pd.Series(random.normal(0.85, 0.05, 40))
    near, far = (baseline + shift + random.normal(0, 0.01, 40) for shift in (0.001, 0.02))
    table = compare({"near": near, "far": far}, baseline, margin=0.01)
    assert table.loc["near", "p_equivalent"] < 0.01 < 0.9 < table.loc["far", "p_equivalent"]
    assert table["ci_lower"].lt(table["difference"]).all() and table["ci_upper"].gt(table["difference"]).all()
    # for 40 pairs, 80 % and 5 %: 0.45 standard deviations (Cohen's tables)
    sd = (far - baseline).std()
    assert compare({"far": far}, baseline).loc["far", "detectable"] == pytest.approx(0.454 * sd, rel=0.01)
    # with two comparisons, of which Holm asks 2.5 % of the first: (2.241 + 0.842) / sqrt(40), and some for Student's t
    assert table.loc["far", "detectable"] == pytest.approx(0.502 * sd, rel=0.01)
    assert compare({"far": far}, baseline)["p_equivalent"].isna().all()
    # of so few that statsmodels' solver stops short, nothing is said
    assert np.isnan(_detectable_effect(3, 0.05 / 24)) and _detectable_effect(20, 0.05 / 24) == pytest.approx(
        brentq(lambda d: stats.nct.sf(stats.t.isf(0.05 / 48, 19), 19, d * 20**0.5) - 0.8, 0.1, 5), rel=0.01
    )


def test_comparison_pairs_by_case_and_corrects_by_holm():
    random = np.random.default_rng(0)
    cases = [f"case{i}" for i in range(30)]
    baseline = pd.Series(random.normal(0.8, 0.05, 30), cases)
    contenders = {
        "better": baseline + 0.02 + random.normal(0, 0.01, 30),
        "slightly better": baseline + 0.003 + random.normal(0, 0.01, 30),
        "same": baseline + random.normal(0, 0.01, 30),
    }
    shuffled = {name: values.sample(frac=1, random_state=1) for name, values in contenders.items()}
    table = compare(shuffled, baseline)
    p = {name: stats.wilcoxon(values - baseline).pvalue for name, values in contenders.items()}
    assert table["p"].to_dict() == pytest.approx(p)
    first, second, third = sorted(p, key=p.get)
    holm = {first: 3 * p[first], second: max(3 * p[first], 2 * p[second])}  # by hand
    holm[third] = max(holm[second], p[third])
    assert table["p_holm"].to_dict() == pytest.approx({k: min(1, v) for k, v in holm.items()})
    assert table.loc["better", "p_holm"] < 0.001 < table.loc["same", "p_holm"]
    assert table.loc["better", "difference"] == pytest.approx(0.02, abs=0.005)


def test_comparison_uses_the_cases_that_both_have():
    baseline = pd.Series([0.5, 0.6, 0.7], ["a", "b", "c"])
    table = compare({"x": pd.Series([0.9, 0.1], ["b", "z"]), "y": pd.Series([0.4], ["z"]), "z": baseline}, baseline)
    assert table["n"].to_dict() == {"x": 1, "y": 0, "z": 3}
    assert math.isnan(table.loc["y", "p"]) and math.isnan(table.loc["y", "p_holm"])
    assert table.loc["z", "p"] == 1 and table.loc["z", "effect_size"] == 0


def test_what_is_not_finished_yet_counts_in_the_correction():
    random = np.random.default_rng(0)
    baseline = pd.Series(random.normal(0.8, 0.05, 30))
    others = {name: baseline + random.normal(0.01, 0.02, 30) for name in "ab"}
    table = compare(others, baseline, planned=5, outside=["b"])
    assert table.loc["a", "p_holm"] == pytest.approx(5 * table.loc["a", "p"]) and np.isnan(table.loc["b", "p_holm"])
    assert table.loc["b", "p"] > 0


def test_a_structure_that_is_not_there_does_not_drop_out_with_whoever_finds_it():
    """Of 12 patients 6 have none: the baseline finds none, the contender does, and is a little better in the others."""
    cases = [f"case{i}" for i in range(12)]
    baseline = pd.Series([np.nan] * 6 + [0.9] * 6, cases)
    contender = pd.Series([0.0] * 6 + [0.901] * 6, cases)
    left_out = compare({"c": contender}, baseline).loc["c"]
    assert left_out["n"] == 6 and left_out["difference"] > 0
    counted = compare({"c": contender}, baseline, perfect=1.0).loc["c"]
    assert counted["n"] == 12 and counted["difference"] == pytest.approx((6 * -1 + 6 * 0.001) / 12)
    neither = compare({"c": baseline}, baseline, perfect=1.0).loc["c"]
    assert neither["n"] == 6
    nobody = compare({"c": pd.Series([0.5], ["other"])}, baseline, perfect=1.0).loc["c"]
    assert nobody["n"] == 0 and np.isnan(nobody["effect_size"]) and np.isnan(nobody["difference"])


def test_folds_that_lack_a_seed_tell_nothing_of_seeds():
    values = pd.DataFrame(
        [(fold, f"p{fold}{i}", seed, 0.8 + 0.01 * i) for fold in (0, 1) for i in range(3) for seed in (0, 1)],
        columns=["fold", "patient", "seed", "value"],
    )
    lacking = values[(values["fold"] == 0) | (values["seed"] == 0)]
    assert len(of_all_seeds(lacking)) == 3 and np.isnan(variance_components(lacking)["fold"])
    nothing_shared = values[values["fold"] == values["seed"]]
    assert np.isnan(variance_components(nothing_shared)["patient"])


def test_equals_are_first_together():
    values = pd.DataFrame({"a": [0.9, 0.8], "b": [0.9, 0.8], "c": [0.1, 0.2]})
    assert rank_stability(values)["first"].tolist() == [1, 1, 0]


def test_effect_size_is_one_where_every_case_is_better():
    assert rank_biserial(np.array([0.1, 0.2, 0.0])) == 1
    assert rank_biserial(np.array([-0.1, -0.2])) == -1
    assert rank_biserial(np.array([3.0, -1.0, 2.0])) == pytest.approx((3 + 2 - 1) / 6)


def test_bland_altman_by_hand():
    pair = pd.DataFrame({"measured": [101.0, 98.0, 110.0, np.nan], "reference": [100.0, 100.0, 105.0, 7.0]})
    differences = np.array([1.0, -2.0, 5.0])
    result = agreement(pair)
    assert result["n"] == 3
    assert result["bias"] == pytest.approx(differences.mean())
    half = 1.96 * differences.std(ddof=1)
    assert (result["loa_lower"], result["loa_upper"]) == pytest.approx((4 / 3 - half, 4 / 3 + half))
    assert result["correlation"] == pytest.approx(np.corrcoef([101, 98, 110], [100, 100, 105])[0, 1])
    assert math.isnan(agreement(pair.iloc[:1])["correlation"])


def test_the_scatter_is_told_apart_by_where_it_comes_from():
    rng = np.random.default_rng(0)
    sds = {"fold": 0.05, "patient": 0.08, "seed": 0.03, "rest": 0.02}
    rows = []
    for fold in range(300):
        of_fold, of_seed = rng.normal(0, sds["fold"]), rng.normal(0, sds["seed"], 4)
        for patient in range(10):
            of_patient = rng.normal(0, sds["patient"])
            rows += [
                {"fold": fold, "patient": f"{fold}_{patient}", "seed": seed,
                 "value": 0.8 + of_fold + of_patient + of_seed[seed] + rng.normal(0, sds["rest"])}
                for seed in range(4)
            ]  # fmt: skip
    table = pd.DataFrame(rows)
    found = variance_components(table)
    for source, sd in sds.items():
        assert math.sqrt(found[source]) == pytest.approx(sd, rel=0.25), source
    one_fold = variance_components(table[table["fold"] == 0])
    assert math.isnan(one_fold["fold"]) and not math.isnan(one_fold["seed"])
    one_seed = variance_components(table[table["seed"] == 0])
    assert math.isnan(one_seed["seed"]) and math.isnan(one_seed["rest"]) and one_seed["patient"] > 0


def test_ranks_tell_how_much_they_owe_to_the_patients():
    rng = np.random.default_rng(0)
    patients = rng.normal(0.8, 0.1, 30)
    values = pd.DataFrame({"best": patients + 0.05, "same": patients, "twin": patients + rng.normal(0, 0.01, 30)})
    values.iloc[0, 0] = math.nan  # a patient who misses one is left out of all
    ranks = rank_stability(values)
    assert ranks.loc["best", ["rank", "rank_lower", "rank_upper", "first"]].tolist() == [1, 1, 1, 1]
    assert ranks.loc["twin", "rank_lower"] == 2 and ranks.loc["twin", "rank_upper"] == 3
    assert 0.3 < ranks["tau"].iloc[0] < 1
    assert rank_stability(values, higher_is_better=False).loc["best", "rank"] == 3


def test_columns_are_described_as_each_alone():
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(40, 3)), columns=list("abc"))
    table.loc[[3, 8, 9], "b"] = np.nan  # a patient is left without a value
    patients = pd.Series([f"p{i // 2}" for i in range(40)])
    alone = [describe(table[column], patients) for column in table]
    pd.testing.assert_frame_equal(pd.DataFrame(describe_columns(table, patients)), pd.DataFrame(alone))
    known = table["b"].dropna()
    groups = known.groupby(patients)
    expected = stats.bootstrap(
        (groups.sum(), groups.count()), lambda s, c, axis: s.sum(axis) / c.sum(axis), n_resamples=2000, paired=True,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    row = describe_columns(table, patients)[1]
    assert (row["n"], row["patients"]) == (37, 19)
    assert (row["ci_lower"], row["ci_upper"]) == pytest.approx(tuple(expected))


def test_kendall_is_scipys():
    random = np.random.default_rng(0)
    rank, ranks = random.integers(0, 5, 8), random.integers(0, 5, (20, 8))
    assert _kendall(rank, ranks) == pytest.approx([stats.kendalltau(rank, other).statistic for other in ranks])
