import numpy as np
import pandas as pd
import pytest

from nnunet_cardiac.cine.phases import find_outliers, leading_curve, volume_curve, volume_curves

CYCLE = 900.0
EDV, ESV = 150.0, 60.0
EJECTION, EARLY, DIASTASIS = 330.0, 520.0, 720.0
"""ms: ends of ejection, early filling and diastasis; the atrial contraction fills the rest of the cycle."""


def volume(times: np.ndarray) -> np.ndarray:
    """A ventricle's, mL: it empties and fills along half cosines, a quarter of it by the atrium."""
    t = times % CYCLE
    stroke = EDV - ESV

    def rise(start: float, end: float) -> np.ndarray:
        return (1 - np.cos(np.pi * (np.clip(t, start, end) - start) / (end - start))) / 2

    return (
        EDV
        - stroke * rise(0, EJECTION)
        + 0.75 * stroke * rise(EJECTION, EARLY)
        + 0.25 * stroke * rise(DIASTASIS, CYCLE)
    )


def evenly(n: int) -> np.ndarray:
    return np.arange(n) * CYCLE / n


PEAK_EJECTION = np.pi / 2 * (EDV - ESV) / (EJECTION / 1000)
PEAK_FILLING = np.pi / 2 * 0.75 * (EDV - ESV) / ((EARLY - EJECTION) / 1000)


@pytest.mark.parametrize("n", [8, 10, 12, 15, 20, 25, 30, 40, 60])
def test_ed_and_es_are_found_in_cycles_of_any_number_of_phases(n):
    times = evenly(n)
    curve = volume_curve(volume(times), times, CYCLE)
    assert curve.outliers == () and curve.ed == 0
    assert volume(times)[curve.es] <= volume(times).min() + 0.08 * (EDV - ESV)
    assert curve.smooth == pytest.approx(volume(times), abs=10 if n < 20 else 1)


@pytest.mark.parametrize("n", [20, 30, 60])
def test_peak_rates_are_those_of_the_curve(n):
    times = evenly(n)
    noisy = volume(times) + np.random.default_rng(0).normal(0, 1, n)
    curve = volume_curve(noisy, times, CYCLE)
    assert curve.peak_ejection_rate == pytest.approx(PEAK_EJECTION, rel=0.08)
    assert curve.peak_filling_rate == pytest.approx(PEAK_FILLING, rel=0.08)


def test_the_cycle_is_closed():
    """Whichever phase is the first, it is the same curve: also where ED and ES are at its ends."""
    times = evenly(25)
    whole = volume_curve(volume(times), times, CYCLE)
    for shift in (3, 9, 17):
        turned = volume_curve(np.roll(volume(times), shift), times, CYCLE)
        assert turned.smooth == pytest.approx(np.roll(whole.smooth, shift), abs=0.1)
        assert (turned.ed, turned.es) == ((whole.ed + shift) % 25, (whole.es + shift) % 25)


@pytest.mark.parametrize("n", [8, 12, 20, 30])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.6])
def test_a_phase_that_went_wrong_is_an_outlier_and_neither_ed_nor_es(n, factor):
    times = evenly(n)
    noise = np.random.default_rng(1).normal(0, 1, n)
    for wrong in range(n):
        volumes = volume(times) + noise
        volumes[wrong] *= factor
        curve = volume_curve(volumes, times, CYCLE)
        assert wrong in curve.outliers and len(curve.outliers) <= 2
        others = np.delete(volume(times), wrong)
        assert wrong not in (curve.ed, curve.es)
        assert volume(times)[curve.ed] >= others.max() - 6 and volume(times)[curve.es] <= others.min() + 6


@pytest.mark.parametrize("covered", [1.0, 0.87])
def test_two_wrong_phases_in_a_row_do_not_bend_the_curve(covered):
    times = covered * evenly(30)
    for wrong in range(29):
        volumes = volume(times)
        volumes[wrong : wrong + 2] = 0
        curve = volume_curve(volumes, times, CYCLE)
        assert curve.outliers == (wrong, wrong + 1)
        assert curve.smooth == pytest.approx(volume(times), abs=6)


def test_times_may_be_unequal_and_the_end_of_the_cycle_may_be_missing():
    rng = np.random.default_rng(2)
    times = np.sort(np.concatenate([[0], rng.uniform(10, 780, 29)]))
    curve = volume_curve(volume(times), times, CYCLE)
    assert curve.outliers == () and curve.smooth == pytest.approx(volume(times), abs=2)
    assert curve.peak_ejection_rate == pytest.approx(PEAK_EJECTION, rel=0.06)
    assert curve.peak_filling_rate == pytest.approx(PEAK_FILLING, rel=0.06)


def test_without_times_there_are_phases_but_no_rates():
    curve = volume_curve(volume(evenly(25)))
    assert curve.ed == 0 and curve.es == volume_curve(volume(evenly(25)), evenly(25), CYCLE).es
    assert np.isnan([curve.peak_ejection_rate, curve.peak_filling_rate]).all()


@pytest.mark.parametrize("n", [2, 3, 7])
def test_few_phases_are_taken_as_they_are(n):
    volumes = volume(evenly(n))
    curve = volume_curve(volumes, evenly(n), CYCLE)
    assert curve.ed == volumes.argmax() and curve.es == volumes.argmin() and curve.outliers == ()
    assert (curve.smooth == volumes).all() and np.isnan(curve.peak_filling_rate)


def test_one_phase_is_no_cycle():
    with pytest.raises(ValueError, match="There is 1 phase"):
        volume_curve(np.array([100.0]))


def test_a_constant_volume_has_no_outliers_for_its_noise():
    noise = np.random.default_rng(3).normal(0, 1, 25)
    assert volume_curve(100 + noise, evenly(25)).outliers == ()
    assert find_outliers(np.array([100.0, 100, 100, 80]), np.full(4, 100.0)) == (3,)


def test_the_right_ventricle_leads_where_there_is_no_left_one():
    times = evenly(25)
    right = np.roll(volume(times), 2)
    table = pd.DataFrame({"time_ms": times, "LV_mL": volume(times), "RV_mL": right, "MYO_mL": 90.0})
    curves = volume_curves(table, heart_rate=60_000 / CYCLE)
    assert set(curves) == {"LV", "RV", "MYO"} and leading_curve(curves).ed == 0
    assert curves["LV"].peak_ejection_rate == pytest.approx(PEAK_EJECTION, rel=0.06)
    assert leading_curve(volume_curves(table.assign(LV_mL=0.0))).ed == 2
    assert leading_curve(volume_curves(table.drop(columns="LV_mL"))).ed == 2
    with pytest.raises(ValueError, match="no curve of a ventricle"):
        leading_curve({"MYO": curves["MYO"]})


def test_unknown_times_are_those_of_no_phase():
    table = pd.DataFrame({"time_ms": np.nan, "LV_mL": volume(evenly(25))})
    curve = volume_curves(table, 70)["LV"]
    assert curve.ed == 0 and np.isnan(curve.peak_ejection_rate)


def test_of_phases_as_large_the_one_at_the_r_wave_is_ed():
    """Late in diastole the curve is flat, and which of its phases is the largest is chance."""
    volumes = np.array([148.0, 130, 100, 75, 60, 70, 95, 115, 125, 130, 132, 135, 140, 146, 149.5, 150.2, 149.8])
    assert volume_curve(volumes).ed == len(volumes) - 1
    volumes[-1], volumes[0] = 146, 143
    assert volume_curve(volumes).ed == len(volumes) - 2
