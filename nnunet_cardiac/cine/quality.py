"""What makes the numbers of a cine less certain: flags, each with the indices that rest on it."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.cine.phases import find_outliers
from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.indices import INDICES
from nnunet_cardiac.evaluation.segments import base_is_last

BASE_AREA = 0.5
"""Of the largest slice: a cavity still that large in the stack's last slice goes on beyond it. Slices at the valve show
part of the cavity or none."""
APEX_AREA = 0.3
"""Of the largest slice. Half an ellipsoid has it at 16 % of its length; the tip below holds 4 % of the volume."""
MASS_DIFFERENCE = 0.15
"""Between ED and ES. Muscle keeps its mass: healthy people differ by 3.0 ± 2.5 g, about 3 % (Le et al., J Cardiovasc
Magn Reson 18:21, 2016); 15 % is well beyond what contours drawn twice differ by."""
STROKE_DIFFERENCE = 0.2
"""Between the ventricles, which eject the same where no valve leaks and no shunt is. Two observers differ by 5.7 (left)
and 6.2 mL/m² (right; standard deviations, Le et al., 2016), which alone sets the ventricles 13 % of 45 mL/m² apart."""
LEAST_EF = 5.0
"""%. The weakest left ventricle of 60 patients of ACDC ejects 10 %, by the experts' contours."""
DISAGREEMENT = 0.1
"""1 - Dice between mirrored copies. Networks reach Dice of about 0.9 against experts in the hardest structures; where
copies of one image differ more than that, one of them at least is wrong. Our own choice."""
SLICE_SHARE = 0.03
"""Of the ventricle's largest volume, in one slice: it then moves an ejection fraction by up to three points, about as
much as a second scan does (``nnunet_cardiac.evaluation.repeatability``)."""
SLICE_DISTANCE = 12.0
"""mm. Protocols ask for 10 or less (Kramer et al., J Cardiovasc Magn Reson 22:17, 2020); a fifth more is tolerated."""
PIXEL = 2.5
"""mm. A wall of 8 mm is then three pixels thick."""
SHIFT = 10.0
"""mm between neighbouring slices. Of phantoms whose slices are shifted by 10 mm, cleaning up takes nothing; by 20 mm up
to 5 % of the right ventricle, by 30 mm up to half of it."""
FEW_FOR_ES = 12
"""Phases: at 60 beats a minute they are 83 ms apart, longer than the ventricle stays near its smallest volume."""
FEW_FOR_RATES = 20
"""Phases: at 60 beats a minute they are 50 ms apart, and protocols ask for 45 ms or less (Kramer et al., 2020)."""

LV_VOLUMES = ("LV_EDV", "LV_ESV", "LV_SV", "LV_EF", "LV_CO", "LV_PER", "LV_PFR")
RV_VOLUMES = tuple(name.replace("LV", "RV") for name in LV_VOLUMES)
SYSTOLIC = tuple(f"{v}_{what}" for v in ("LV", "RV") for what in ("ESV", "SV", "EF", "CO"))
OUTPUT = ("LV_CO", "RV_CO")
RATES = ("LV_PER", "LV_PFR", "RV_PER", "RV_PFR")
WALL = ("LV_mass", "LV_max", "LV_mean")
BETWEEN_PHASES = (*SYSTOLIC, *RATES, "LV_mean_thickening")
EVERYTHING = (*LV_VOLUMES, *RV_VOLUMES, *WALL)
OF_STRUCTURE = {"LV": LV_VOLUMES, "RV": RV_VOLUMES, "MYO": WALL}
NAMES = {"LV": "left ventricle", "RV": "right ventricle", "MYO": "myocardium"}


def quality_flags(analysis: Analysis) -> tuple[Flag, ...]:
    """All flags of an analysis, the gravest first; those it has already are not looked at.

    Args:
        analysis: complete but for its flags

    Returns:
        flags that name only indices that the analysis has
    """
    if not any(analysis.volumes[column].any() for column in ("LV_mL", "RV_mL") if column in analysis.volumes):
        flags = [Flag("No heart found", "No phase has a voxel of a ventricle.", tuple(INDICES))]
    else:
        checks = (
            _doubts, _motion, _coverage, _steadiness, _anatomy, _mass, _stroke_volumes, _outliers, _disagreement,
            _shift, _phases, _spacing, _heart_rate,
        )  # fmt: skip
        flags = [flag for check in checks for flag in check(analysis)]
    return tuple(replace(f, indices=tuple(i for i in f.indices if i in analysis.indices)) for f in flags)


def _starting_with(prefixes: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in INDICES if name.startswith(tuple(prefixes)))


def _mask(analysis: Analysis, phase: int, role: str) -> np.ndarray:
    """Where the structure is, (Z, Y, X); nowhere if it is not labelled."""
    name = analysis.structures.roles.get(role)
    labels = analysis.labels[phase]
    return np.zeros(labels.shape, bool) if name is None else analysis.structures.mask(labels, name)


def _doubts(analysis: Analysis) -> list[Flag]:
    """Of the images: slices or phases that are missing, and what may be no short axis."""
    affected = _starting_with(EVERYTHING)
    return [Flag(title, reason, affected) for title, reason in analysis.cine.doubts]


def _motion(analysis: Analysis) -> list[Flag]:
    """Of the left ventricle; of the right one where that is not found."""
    fractions = {v: analysis.indices.get(f"{v}_EF_percent", np.nan) for v in ("LV", "RV")}
    ventricle = next((v for v, fraction in fractions.items() if np.isfinite(fraction)), None)
    if ventricle is None or fractions[ventricle] >= LEAST_EF:
        return []
    reason = (
        f"The {NAMES[ventricle]} ejects {fractions[ventricle]:.0f} % of its volume. These may be no phases of one "
        "cycle, or ED and ES are not segmented or not chosen well."
    )
    return [Flag("The heart hardly moves", reason, _starting_with(BETWEEN_PHASES), (analysis.ed, analysis.es))]


def _coverage(analysis: Analysis) -> list[Flag]:
    """Base and apex, at ED: whether the cavity is still large where the stack ends."""
    lv, rv, myocardium = (_mask(analysis, analysis.ed, role) for role in ("LV", "RV", "MYO"))
    if not lv.any():
        return []
    base, apex = (-1, 0) if base_is_last(lv | rv) else (0, -1)
    areas = lv.sum((1, 2)) / lv.sum((1, 2)).max()
    affected = _starting_with(EVERYTHING)
    phases = (analysis.ed,)
    flags = []
    if areas[base] >= BASE_AREA and (myocardium[base].any() or not myocardium.any()):
        reason = (
            f"In the stack's last slice at the base the left ventricle has {areas[base]:.0%} of its largest area at "
            "ED, so the ventricles may go on beyond it."
        )
        flags.append(Flag("Base not covered", reason, affected, phases))
    if areas[apex] > APEX_AREA:
        reason = (
            f"In the stack's last slice at the apex the left ventricle has {areas[apex]:.0%} of its largest area at "
            "ED, so its tip lies beyond it."
        )
        flags.append(Flag("Apex not covered", reason, _starting_with((*LV_VOLUMES, *WALL)), phases))
    return flags


def _steadiness(analysis: Analysis) -> list[Flag]:
    """Slices that a ventricle fills or leaves within one phase again and again: at the base it does so once."""
    flags = []
    for role in ("LV", "RV"):
        areas = np.stack([_mask(analysis, phase, role).sum((1, 2)) for phase in range(len(analysis.labels))])
        if not areas.any():
            continue
        large, none = areas >= SLICE_SHARE * areas.sum(1).max(), areas == 0
        jumps = (large & np.roll(none, 1, axis=0)) | (none & np.roll(large, 1, axis=0))
        for z in np.flatnonzero(jumps.sum(0) > 2).tolist():
            phases = tuple(np.flatnonzero(jumps[:, z]).tolist())
            reason = (
                f"In slice {z + 1} the {NAMES[role]} comes or goes at {_listed(phases)}, with up to "
                f"{areas[:, z].max() / areas.sum(1).max():.0%} of its volume; a heart leaves a slice once in a cycle."
            )
            title = f"A slice comes and goes: {NAMES[role]}"
            flags.append(Flag(title, reason, _starting_with(OF_STRUCTURE[role]), phases))
    return flags


def _anatomy(analysis: Analysis) -> list[Flag]:
    flags = []
    for name, phase in (("ED", analysis.ed), ("ES", analysis.es)):
        counts = implausible_anatomy(analysis.segmentation(phase), analysis.structures)
        implausible, slices = counts.pop("implausible_slices"), counts.pop("slices")
        if implausible:
            found = ", ".join(f"{what.replace('_', ' ')} {count}" for what, count in counts.items() if count)
            reason = f"At {name}, {implausible} of {slices} slices show what no heart has: {found}."
            affected = _starting_with(EVERYTHING)
            flags.append(Flag(f"Implausible anatomy at {name}", reason, affected, (phase,)))
    return flags


def _mass(analysis: Analysis) -> list[Flag]:
    ed, es = (analysis.indices.get(name, np.nan) for name in ("LV_mass_g", "LV_mass_ES_g"))
    if not abs(ed - es) > MASS_DIFFERENCE * (ed + es) / 2:
        return []
    reason = f"The myocardium has {ed:.0f} g at ED and {es:.0f} g at ES, but muscle keeps its mass."
    affected = _starting_with(WALL)
    return [Flag("Mass differs between ED and ES", reason, affected, (analysis.ed, analysis.es))]


def _stroke_volumes(analysis: Analysis) -> list[Flag]:
    lv, rv = (analysis.indices.get(f"{v}_SV_mL", np.nan) for v in ("LV", "RV"))
    if not abs(lv - rv) > STROKE_DIFFERENCE * (abs(lv) + abs(rv)) / 2:
        return []
    reason = (
        f"The left ventricle ejects {lv:.0f} mL and the right one {rv:.0f} mL. One of them may not be segmented well, "
        "above all at the base; otherwise a valve leaks, or there is a shunt."
    )
    affected = _starting_with((*LV_VOLUMES, *RV_VOLUMES))
    return [Flag("Stroke volumes differ", reason, affected, (analysis.ed, analysis.es))]


def _outliers(analysis: Analysis) -> list[Flag]:
    """Peak rates rest on all phases; volumes and mass on ED and ES, and on their neighbours, which might be those."""
    n = len(analysis.volumes)
    near = {(phase + step) % n for phase in (analysis.ed, analysis.es) for step in (-1, 0, 1)}
    flags = []
    for role, prefixes in OF_STRUCTURE.items():
        if f"{role}_smooth_mL" not in analysis.volumes:
            continue
        measured, smooth = (analysis.volumes[f"{role}{kind}_mL"].to_numpy(float) for kind in ("", "_smooth"))
        outliers = find_outliers(measured, smooth)
        if not outliers:
            continue
        worst = max(outliers, key=lambda phase: abs(measured[phase] - smooth[phase]))
        reason = (
            f"The {NAMES[role]}'s volume does not fit into the cycle at {_listed(outliers)}: at phase {worst + 1} it "
            f"is {measured[worst]:.0f} mL, where its neighbours make {smooth[worst]:.0f} mL likely."
        )
        affected = _starting_with(prefixes if near & set(outliers) else [p for p in prefixes if p in RATES])
        flags.append(Flag(f"Volume out of line: {NAMES[role]}", reason, affected, outliers))
    return flags


def _disagreement(analysis: Analysis) -> list[Flag]:
    if "disagreement" not in analysis.volumes:
        return []
    values = analysis.volumes["disagreement"].to_numpy(float)
    phases = tuple(np.flatnonzero(values > DISAGREEMENT).tolist())
    if not phases:
        return []
    reason = (
        f"Mirrored copies of the image are segmented differently at {_listed(phases)}: 1 - Dice is up to "
        f"{np.nanmax(values):.2f}, where {DISAGREEMENT:g} is usual at most."
    )
    concerned = {analysis.ed, analysis.es} & set(phases)
    affected = _starting_with(EVERYTHING if concerned else RATES)
    return [Flag("Uncertain segmentation", reason, affected, phases)]


def _shift(analysis: Analysis) -> list[Flag]:
    if analysis.cine.shift <= SHIFT:
        return []
    reason = (
        f"Neighbouring slices are shifted by up to {analysis.cine.shift:.0f} mm in their plane, and are segmented as "
        "if they were not: parts of the heart that then do not touch may be missing."
    )
    return [Flag("Slices shifted", reason, _starting_with(EVERYTHING))]


def _phases(analysis: Analysis) -> list[Flag]:
    n = len(analysis.volumes)
    if n >= FEW_FOR_RATES:
        return []
    if n >= FEW_FOR_ES:
        reason = f"The cycle has {n} phases; peak rates need {FEW_FOR_RATES} or more."
        return [Flag("Few phases", reason, _starting_with(RATES))]
    reason = f"The cycle has {n} phases; with fewer than {FEW_FOR_ES} the smallest volume may lie between two of them."
    return [Flag("Few phases", reason, _starting_with(BETWEEN_PHASES))]


def _spacing(analysis: Analysis) -> list[Flag]:
    distance, *pixel = analysis.cine.spacing
    flags = []
    if distance > SLICE_DISTANCE:
        reason = f"Slices are {distance:.1f} mm apart, more than {SLICE_DISTANCE:g} mm: what lies between is not seen."
        flags.append(Flag("Slices far apart", reason, _starting_with((*LV_VOLUMES, *RV_VOLUMES, "LV_mass"))))
    if max(pixel) > PIXEL:
        reason = f"Pixels are {max(pixel):.1f} mm wide, more than {PIXEL:g} mm: a wall is a few pixels thick."
        flags.append(Flag("Large pixels", reason, _starting_with(WALL)))
    return flags


def _heart_rate(analysis: Analysis) -> list[Flag]:
    if not analysis.cine.heart_rate_is_derived:
        return []
    reason = (
        f"The heart rate of {analysis.cine.heart_rate:.0f}/min is derived from the phases' times, as if they covered "
        "the whole cycle: where they leave out its end (prospective gating), it is too high."
    )
    return [Flag("Heart rate derived", reason, _starting_with(OUTPUT))]


def _listed(phases: Iterable[int]) -> str:
    """Phases as people count them, from 1."""
    numbers = [str(phase + 1) for phase in phases]
    return f"phase {numbers[0]}" if len(numbers) == 1 else f"phases {', '.join(numbers[:-1])} and {numbers[-1]}"
