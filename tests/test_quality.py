from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_cardiac.cine.analysis import Analysis
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.phases import leading_curve, volume_curves
from nnunet_cardiac.cine.quality import quality_flags
from nnunet_cardiac.evaluation.indices import INDICES, cine_indices
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures
from nnunet_cardiac.phantom.short_axis import ShortAxisPhantom

STRUCTURES = Structures({"RV": (1,), "MYO": (2,), "LV": (3,)})
SPACING = (8.0, 1.5, 1.5)
N = 24
CONTRACTION = (1 - np.cos(2 * np.pi * np.arange(N) / N)) / 2


def frame(contraction: float, missing: float = 1.0) -> np.ndarray:
    """Ten slices of a half-ellipsoid in a wall that keeps its area, between an empty slice at the apex and one at the
    base; the right ventricle beside it is as large.
    """
    y, x = np.indices((60, 100)) - np.array([30, 68])[:, None, None]
    labels = np.zeros((12, 60, 100), np.uint8)
    for z in range(1, 11):
        widest = 16 * np.sqrt(1 - (1 - z / 10) ** 2)
        cavity = widest * (1 - 0.35 * contraction) * missing
        outside = np.sqrt((widest + 6) ** 2 - widest**2 + cavity**2)
        labels[z][np.hypot(y, x + 42) < cavity] = 1
        labels[z][np.hypot(y, x) < outside] = 2
        labels[z][np.hypot(y, x) < cavity] = 3
    return labels


def analysed(labels: np.ndarray, spacing=SPACING, disagreement: float | np.ndarray = 0.02) -> Analysis:
    """What a cine's labels (T, Z, Y, X) come to."""
    n = len(labels)
    cine = Cine(np.zeros((n, 1, 1, 1)), np.diag([*spacing[::-1], 1.0]), np.arange(n) * 40.0, 60_000 / (n * 40))
    volumes = pd.DataFrame({"phase": range(n), "time_ms": cine.times, "disagreement": disagreement})
    for role, value in (("LV", 3), ("RV", 1), ("MYO", 2)):
        volumes[f"{role}_mL"] = (labels == value).sum((1, 2, 3)) * np.prod(spacing) / 1000
    curves = volume_curves(volumes, cine.heart_rate)
    for role, curve in curves.items():
        volumes[f"{role}_smooth_mL"] = curve.smooth
    lead = leading_curve(curves)
    ed, es = (Segmentation(labels[p], spacing) for p in (lead.ed, lead.es))
    rates = {v: (curves[v].peak_ejection_rate, curves[v].peak_filling_rate) for v in ("LV", "RV")}
    indices = cine_indices(ed, es, STRUCTURES, cine.heart_rate, 1.9, rates)
    return Analysis(cine, labels, STRUCTURES, volumes, lead.ed, lead.es, indices)


@pytest.fixture(scope="module")
def cycle() -> np.ndarray:
    return np.stack([frame(c) for c in CONTRACTION])


def flags_of(labels: np.ndarray, **more) -> dict:
    return {flag.title: flag for flag in quality_flags(analysed(labels, **more))}


def test_a_good_cine_has_no_flags(cycle):
    assert flags_of(cycle) == {}


@pytest.mark.parametrize("way", [1, -1], ids=["apex first", "base first"])
def test_an_end_of_the_ventricle_that_is_not_covered_is_flagged(cycle, way):
    base = flags_of(cycle[:, :9][:, ::way])
    assert set(base) == {"Base not covered"}
    assert "100% of its largest area" in base["Base not covered"].reason
    assert {"LV_EDV_mL", "RV_EF_percent", "LV_mass_g", "LV_CO_index_L_min_m2"} <= set(base["Base not covered"].indices)
    apex = flags_of(cycle[:, 4:][:, ::way])
    assert set(apex) == {"Apex not covered"}
    assert not any(index.startswith("RV") for index in apex["Apex not covered"].indices)
    assert flags_of(cycle[:, 1:][:, ::way]) == {}  # the first slice has a small cavity: that is the apex


def test_mass_that_changes_over_the_cycle_is_flagged(cycle):
    labels = cycle.copy()
    labels[:, 7:][labels[:, 7:] == 2] = 0
    labels[0] = cycle[0]
    flag = flags_of(labels)["Mass differs between ED and ES"]
    found = analysed(labels).indices
    assert f"{found['LV_mass_g']:.0f} g at ED and {found['LV_mass_ES_g']:.0f} g at ES" in flag.reason
    assert "LV_mass_index_g_m2" in flag.indices and "LV_EDV_mL" not in flag.indices


def test_stroke_volumes_that_differ_are_flagged(cycle):
    labels = cycle.copy()
    labels[:, 6:][labels[:, 6:] == 1] = 0
    found = flags_of(labels)
    assert set(found) == {"Stroke volumes differ"}
    assert {"LV_SV_mL", "RV_SV_mL"} <= set(found["Stroke volumes differ"].indices)


def test_a_heart_that_stands_still_is_flagged(cycle):
    """The same image at every phase is no cine."""
    still_labels = np.stack([frame(0.5)] * N)
    ((title, flag),) = flags_of(still_labels).items()
    assert title == "The heart hardly moves"
    assert {"LV_EF_percent", "RV_EF_percent", "LV_CO_L_min", "LV_PER_mL_s"} <= set(flag.indices)
    without_lv = np.where(np.isin(still_labels, (2, 3)), 0, still_labels)
    assert "The right ventricle ejects 0 %" in flags_of(without_lv)[title].reason
    assert set(flags_of(np.stack([frame(0.1 * c) for c in CONTRACTION]))) == set()  # ejects 7 %


@pytest.mark.parametrize(("value", "name", "ventricle"), [(3, "left", "LV"), (1, "right", "RV")])
def test_a_slice_that_a_ventricle_enters_twice_in_a_cycle_is_flagged(cycle, value, name, ventricle):
    once = cycle.copy()
    once[8:16, 10] = 0  # the base leaves the last slice at systole
    title = f"A slice comes and goes: {name} ventricle"
    assert title not in flags_of(once)
    twice = once.copy()
    twice[11:13, 10] = np.where(cycle[11:13, 10] == value, value, 0)
    flag = flags_of(twice)[title]
    assert "In slice 11" in flag.reason and "phases 9, 12, 14 and 17" in flag.reason
    assert flag.phases == (8, 11, 13, 16)
    assert f"{ventricle}_EF_percent" in flag.indices and "LV_mass_g" not in flag.indices
    sliver = once.copy()
    sliver[11:13, 10, 30, 68 if value == 3 else 26] = value
    assert title not in flags_of(sliver)
    tip = cycle.copy()
    tip[[3, 9], 1] = 0  # less than 3 % of the volume
    assert title not in flags_of(tip)


def test_implausible_anatomy_counts_at_ed_and_es_only(cycle):
    labels = cycle.copy()
    labels[5, 5, 0:3, 0:3] = 3  # an island between ED and ES
    assert flags_of(labels) == {}
    labels[12, 5, 0:3, 0:3] = 3
    found = flags_of(labels)
    assert set(found) == {"Implausible anatomy at ES"}
    flag = found["Implausible anatomy at ES"]
    assert "1 of 10 slices" in flag.reason and "LV extra components 1" in flag.reason and flag.phases == (12,)


def test_a_phase_that_is_out_of_line_touches_the_rates_and_near_ed_or_es_the_volumes(cycle):
    labels = cycle.copy()
    labels[6] = frame(CONTRACTION[6], missing=0.6)
    flag = flags_of(labels)["Volume out of line: left ventricle"]
    assert flag.phases == (6,) and set(flag.indices) == {"LV_PER_mL_s", "LV_PFR_mL_s"} and "phase 7" in flag.reason
    labels[12] = 0
    flag = flags_of(labels)["Volume out of line: left ventricle"]
    assert flag.phases == (6, 12) and "phases 7 and 13" in flag.reason and "LV_ESV_mL" in flag.indices


def test_mirrored_copies_that_disagree_are_flagged(cycle):
    disagreement = np.full(N, 0.03)
    disagreement[[4, 5]] = 0.14, 0.21
    flag = flags_of(cycle, disagreement=disagreement)["Uncertain segmentation"]
    assert flag.phases == (4, 5) and "phases 5 and 6" in flag.reason and "0.21" in flag.reason
    assert "LV_EDV_mL" not in flag.indices and "LV_PFR_mL_s" in flag.indices
    disagreement[0] = 0.2
    assert "LV_EDV_mL" in flags_of(cycle, disagreement=disagreement)["Uncertain segmentation"].indices
    assert flags_of(cycle, disagreement=np.nan) == {}


def test_few_phases_and_coarse_images_are_flagged(cycle):
    few, fewer = (flags_of(cycle[::step])["Few phases"] for step in (2, 3))
    assert set(few.indices) == {f"{v}_{rate}_mL_s" for v in ("LV", "RV") for rate in ("PER", "PFR")}
    assert "12 phases" in few.reason and "8 phases" in fewer.reason
    assert {"LV_ESV_mL", "RV_EF_percent", "LV_PFR_mL_s"} <= set(fewer.indices) and "LV_EDV_mL" not in fewer.indices
    assert set(flags_of(cycle, spacing=(14.0, 2.8, 2.8))) == {"Slices far apart", "Large pixels"}


def test_slices_that_are_shifted_are_flagged_from_where_on_parts_get_lost(cycle):
    found = analysed(cycle)
    flags = {}
    for shift in (9.0, 20.0):
        flags[shift] = quality_flags(replace(found, cine=replace(found.cine, shift=shift)))
    assert flags[9.0] == () and [flag.title for flag in flags[20.0]] == ["Slices shifted"]
    assert {"LV_EF_percent", "RV_EDV_mL", "LV_mass_g"} <= set(flags[20.0][0].indices)


def test_a_heart_rate_that_is_derived_touches_the_cardiac_output_alone(cycle):
    found = analysed(cycle)
    (flag,) = quality_flags(replace(found, cine=replace(found.cine, heart_rate_is_derived=True)))
    assert set(flag.indices) == {name for name in found.indices if "_CO_" in name} and flag.indices


def test_without_a_heart_there_is_one_flag(cycle):
    found = flags_of(np.zeros_like(cycle))
    assert set(found) == {"No heart found"} and "LV_EDV_mL" in found["No heart found"].indices


def test_flags_name_only_indices_that_there_are(cycle):
    analysis = analysed(cycle[:, :9])
    flags = quality_flags(replace(analysis, indices={"LV_EDV_mL": 100.0}))
    assert [flag.indices for flag in flags] == [("LV_EDV_mL",)]
    assert all(set(flag.indices) <= set(INDICES) for flag in quality_flags(analysis))


def test_one_ventricle_alone_is_no_reason_for_a_flag(cycle):
    labels = np.where(cycle == 3, cycle, 0)
    analysis = analysed(labels)
    only = replace(
        analysis,
        structures=Structures({"LV": (3,)}),
        volumes=analysis.volumes[["phase", "time_ms", "LV_mL", "LV_smooth_mL"]],
        indices={name: value for name, value in analysis.indices.items() if name.startswith("LV_E")},
    )
    assert quality_flags(only) == ()


def test_phantoms_are_flagged_for_what_they_are():
    """Their right ventricles eject as much as they like, a part of the wall is gone with the base at ES, and the last
    slice is at the base. They have an apex, smooth volumes and no implausible slice.
    """
    known = {"Stroke volumes differ", "Mass differs between ED and ES", "Base not covered", "Few phases"}
    for group in ("NOR", "DCM"):
        phantom = ShortAxisPhantom(group, 1)
        labels = np.stack([phantom.frame(c)[1] for c in CONTRACTION[::2]])
        assert set(flags_of(labels, spacing=(10.0, 1.6, 1.6))) <= known
