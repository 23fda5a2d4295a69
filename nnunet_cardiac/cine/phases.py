"""End-diastole and end-systole, found in the volumes over the cardiac cycle.

1. **Smoothing**: a few harmonics of the cycle are fitted to the volumes by robust least squares (Cauchy's loss), so the
   curve is closed, phases may be unequally far apart, and phases that went wrong do not pull at it. Those far from a
   first, stiffer curve are left out of the fit.
2. **Outliers** are the phases that lie far from the curve.
3. **ED** is the phase where the curve is largest, **ES** where it is smallest; neither is an outlier. Of phases that
   are as large within what a segmentation can tell, ED is the one nearest to the R wave, with which images begin.
4. **Peak rates** are the steepest fall and rise of the same curve.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

HARMONICS = 5
"""At most. Five follow early filling, diastasis and the atrial contraction; more follow the noise."""
COARSE_HARMONICS = 3
"""Of the stiffer curve that first tells which phases are wrong: more would bend to several in a row."""
PHASES_A_HARMONIC = 4
"""A harmonic has two unknowns; twice as many phases leave enough to tell which of them are wrong."""
FEWEST_PHASES = 8
"""For two harmonics, the least that tells the short systole from the long diastole; below, there is no smoothing."""
NOISE = 0.03
"""Of the largest volume: how far from the curve good phases lie, at least; without it, a perfect fit has outliers."""
OUTLIER = 3.5
"""Robust standard deviations from the curve, after Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993."""
AS_LARGE = 0.99
"""Of the largest volume: phases as large as that are told apart by the R wave. Late in diastole the curve is flat."""
FINENESS = 1000
"""Moments of the cycle at which rates are computed."""


@dataclass(frozen=True)
class VolumeCurve:
    """A structure's volume over the closed cycle.

    Args:
        smooth: (T,), mL
        outliers: phases far from the curve, from 0
        ed, es: phases of end-diastole and end-systole
        peak_ejection_rate, peak_filling_rate: mL/s, positive; NaN where times are unknown or phases too few
    """

    smooth: np.ndarray
    outliers: tuple[int, ...]
    ed: int
    es: int
    peak_ejection_rate: float = np.nan
    peak_filling_rate: float = np.nan


def volume_curves(volumes: pd.DataFrame, heart_rate: float | None = None) -> dict[str, VolumeCurve]:
    """Smooth curves of all structures.

    Args:
        volumes: a row for each phase; columns ``time_ms`` (NaN where unknown) and some of ``LV_mL``, ``RV_mL``,
            ``MYO_mL``
        heart_rate: beats a minute; None to take the length of the cycle from the times

    Returns:
        by structure: "LV", "RV", "MYO"

    Raises:
        ValueError: there are fewer than two phases
    """
    times = volumes["time_ms"].to_numpy(float)
    cycle = None if heart_rate is None else 60_000 / heart_rate
    return {
        role: volume_curve(volumes[f"{role}_mL"].to_numpy(float), times if np.isfinite(times).all() else None, cycle)
        for role in ("LV", "RV", "MYO")
        if f"{role}_mL" in volumes
    }


def leading_curve(curves: dict[str, VolumeCurve]) -> VolumeCurve:
    """The curve that ED and ES are taken from: the left ventricle's, or the right one's where there is no left one.

    Raises:
        ValueError: there is neither
    """
    ventricles = [curves[v] for v in ("LV", "RV") if v in curves]
    if not ventricles:
        raise ValueError("There is no curve of a ventricle.")
    return next((curve for curve in ventricles if curve.smooth.any()), ventricles[0])


def volume_curve(volumes: np.ndarray, times: np.ndarray | None = None, cycle: float | None = None) -> VolumeCurve:
    """The smooth curve through the volumes of one structure.

    Args:
        volumes: (T,), mL, in the order of time
        times: (T,), ms, ascending; None where unknown: phases are then taken to be equally far apart
        cycle: length of the cycle, ms; None, or less than the times need, to add a usual step to the last of them

    Raises:
        ValueError: there are fewer than two phases
    """
    n = len(volumes)
    if n < 2:
        raise ValueError(f"There is {n} phase; a cycle has two at least.")
    if n < FEWEST_PHASES or not volumes.any():
        return VolumeCurve(volumes.astype(float), (), int(volumes.argmax()), int(volumes.argmin()))
    moments = np.arange(n) if times is None else times - times[0]
    length = moments[-1] + np.median(np.diff(moments))
    if times is not None and cycle is not None and cycle > moments[-1]:
        length = cycle
    omega = 2 * np.pi / length

    def design(at: np.ndarray, harmonics: int) -> np.ndarray:
        angles = np.outer(at, np.arange(1, harmonics + 1)) * omega
        return np.hstack([np.ones((len(at), 1)), np.cos(angles), np.sin(angles)])

    most = min(HARMONICS, n // PHASES_A_HARMONIC)
    coarse = design(moments, min(COARSE_HARMONICS, most))
    wrong = find_outliers(volumes, coarse @ _robust_fit(coarse, volumes))
    kept = np.setdiff1d(np.arange(n), wrong)
    fitted = _robust_fit(design(moments[kept], most), volumes[kept])
    smooth = design(moments, most) @ fitted
    outliers = find_outliers(volumes, smooth)
    good = np.setdiff1d(np.arange(n), outliers) if len(outliers) < n - 1 else np.arange(n)
    largest = good[smooth[good] >= AS_LARGE * smooth[good].max()]
    ed, es = int(min(largest, key=lambda phase: min(phase, n - phase))), int(good[smooth[good].argmin()])
    if times is None:
        return VolumeCurve(smooth, outliers, ed, es)
    # the curve is known between the first and the last phase; prospective gating leaves out the end of the cycle
    seconds = np.linspace(0, moments[-1], FINENESS) / 1000
    rate = np.gradient(design(seconds * 1000, most) @ fitted, seconds)
    return VolumeCurve(smooth, outliers, ed, es, float(-rate.min()), float(rate.max()))


def find_outliers(volumes: np.ndarray, smooth: np.ndarray) -> tuple[int, ...]:
    """Phases whose volume is far from the smooth curve, both (T,) in mL."""
    residuals = volumes - smooth
    return tuple(np.flatnonzero(abs(residuals) > OUTLIER * _spread(residuals, volumes)).tolist())


def _spread(residuals: np.ndarray, volumes: np.ndarray) -> float:
    """Robust standard deviation, mL, at least that of good phases."""
    return max(1.4826 * float(np.median(abs(residuals))), NOISE * float(volumes.max()))


def _robust_fit(design: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Coefficients of the harmonics. The convex loss comes first: its one minimum is where Cauchy's search begins."""
    coefficients = np.zeros(design.shape[1])
    for loss in ("soft_l1", "cauchy"):
        scale = _spread(design @ coefficients - volumes, volumes) if loss == "cauchy" else NOISE * volumes.max()
        coefficients = least_squares(
            lambda c: design @ c - volumes,
            coefficients,
            lambda c: design.copy(),  # SciPy before 1.16 scales it in place
            loss=loss,
            f_scale=scale,
        ).x
    return coefficients
