"""Clinical indices of the heart: what each is, and how it is computed. ``measure`` and ``cine`` share them.

An index's name ends in its unit. Cavities include papillary muscles and trabeculae where the labels do, as those of
ACDC, M&Ms-2 and the like do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures

MYOCARDIAL_DENSITY = 1.05
"""g/mL."""
POST_PROCESSING = "Schulz-Menger et al., J Cardiovasc Magn Reson 22:19, 2020"
MOSTELLER = "Mosteller, N Engl J Med 317:1098, 1987"
SEGMENTATION = "Cerqueira et al., Circulation 105:539, 2002"
VENTRICLES = {"LV": "left ventricle", "RV": "right ventricle"}


@dataclass(frozen=True)
class Index:
    """
    Args:
        name: of columns and keys
        title: for people
        unit: as it is written, "mL/m²"
        definition: how it is computed, in words
        source: the paper that the definition follows; empty where it is our own
    """

    name: str
    title: str
    unit: str
    definition: str
    source: str = POST_PROCESSING


def _of_ventricle(v: str, ventricle: str) -> list[Index]:
    change = f"of the {ventricle}'s smoothed volume curve over the closed cycle"
    return [
        Index(f"{v}_EDV_mL", f"{v} end-diastolic volume", "mL", f"voxels of the {ventricle}'s cavity at ED"),
        Index(
            f"{v}_ESV_mL",
            f"{v} end-systolic volume",
            "mL",
            f"voxels of the {ventricle}'s cavity at ES, the phase of the left ventricle's smallest volume",
        ),
        Index(f"{v}_SV_mL", f"{v} stroke volume", "mL", "EDV - ESV"),
        Index(f"{v}_EF_percent", f"{v} ejection fraction", "%", "100 (EDV - ESV) / EDV"),
        Index(f"{v}_CO_L_min", f"{v} cardiac output", "L/min", "stroke volume times heart rate"),
        Index(f"{v}_PER_mL_s", f"{v} peak ejection rate", "mL/s", f"the steepest fall {change}", ""),
        Index(
            f"{v}_PFR_mL_s", f"{v} peak filling rate", "mL/s", f"the steepest rise {change}, be it early or atrial", ""
        ),
    ]


def _per_body_surface(index: Index) -> Index:
    return Index(
        indexed(index.name),
        {"LV_CO_L_min": "LV cardiac index", "RV_CO_L_min": "RV cardiac index"}.get(index.name, f"{index.title} index"),
        "L/min/m²" if index.unit == "L/min" else f"{index.unit}/m²",
        f"{index.title} over the body's surface, √(height in cm × weight in kg / 3600) m²",
        MOSTELLER,
    )


def indexed(name: str) -> str:
    """The name of an index per body surface: ``LV_EDV_mL`` to ``LV_EDV_index_mL_m2``."""
    ventricle, what, unit = name.split("_", 2)
    return f"{ventricle}_{what}_index_{unit}_m2"


ABSOLUTE = [
    *(index for v, ventricle in VENTRICLES.items() for index in _of_ventricle(v, ventricle)),
    Index("LV_mass_g", "LV mass", "g", f"myocardium at ED, {MYOCARDIAL_DENSITY} g/mL"),
    Index("LV_mass_ES_g", "LV mass at ES", "g", f"myocardium at ES, {MYOCARDIAL_DENSITY} g/mL; a check on that at ED"),
    Index(
        "LV_max_wall_thickness_mm",
        "LV maximal wall thickness",
        "mm",
        "at ED: largest in-plane distance from the outer border of the myocardium to the cavity, in any slice with a "
        "cavity; near the apex, slices cut the wall at an angle",
        "",
    ),
    Index(
        "LV_mean_wall_thickness_mm", "LV mean wall thickness", "mm", "at ED: mean of AHA segments 1 to 16", SEGMENTATION
    ),
    Index(
        "LV_mean_thickening_percent",
        "LV mean wall thickening",
        "%",
        "mean over AHA segments 1 to 16 of 100 (thickness at ES - at ED) / at ED",
        SEGMENTATION,
    ),
]
PER_BODY_SURFACE = tuple(f"{v}_{what}" for v in VENTRICLES for what in ("EDV_mL", "ESV_mL", "SV_mL", "CO_L_min"))
"""With ``LV_mass_g``, what is also given over the body's surface."""
INDICES: dict[str, Index] = {
    index.name: index
    for index in [*ABSOLUTE, *(_per_body_surface(i) for i in ABSOLUTE if i.name in (*PER_BODY_SURFACE, "LV_mass_g"))]
}
"""All indices by name; ``measure`` gives those that two phases are enough for."""


def patient_indices(ed: Segmentation, es: Segmentation, structures: Structures) -> dict[str, float]:
    """Indices of one patient that need two phases and no more.

    Args:
        ed, es: end-diastole and end-systole
        structures: tells cavities and myocardium by their names

    Returns:
        for each ventricle that is labelled ``LV_EDV_mL``, ``LV_ESV_mL``, ``LV_SV_mL`` (stroke volume) and
        ``LV_EF_percent`` (ejection fraction; NaN without a volume at ED); with a myocardium ``LV_mass_g`` and, with the
        cavity, ``LV_max_wall_thickness_mm``, both at ED
    """
    indices: dict[str, float] = {}
    roles = structures.roles
    for ventricle in VENTRICLES:
        if ventricle not in roles:
            continue
        edv, esv = (structures.mask(s.labels, roles[ventricle]).sum() * s.voxel_volume for s in (ed, es))
        indices |= {f"{ventricle}_EDV_mL": edv, f"{ventricle}_ESV_mL": esv, f"{ventricle}_SV_mL": edv - esv}
        indices[f"{ventricle}_EF_percent"] = 100 * (edv - esv) / edv if edv else np.nan
    if "MYO" in roles:
        indices["LV_mass_g"] = _mass(ed, structures)
        if "LV" in roles:
            myocardium, cavity = (structures.mask(ed.labels, roles[role]) for role in ("MYO", "LV"))
            indices["LV_max_wall_thickness_mm"] = max_wall_thickness(myocardium, cavity, ed.spacing, ed.slice_axis)
    return indices


def _mass(segmentation: Segmentation, structures: Structures) -> float:
    myocardium = structures.mask(segmentation.labels, structures.roles["MYO"])
    return MYOCARDIAL_DENSITY * myocardium.sum() * segmentation.voxel_volume


def cine_indices(
    ed: Segmentation,
    es: Segmentation,
    structures: Structures,
    heart_rate: float | None = None,
    body_surface: float | None = None,
    peak_rates: Mapping[str, tuple[float, float]] | None = None,
    wall_thickness: np.ndarray | None = None,
    thickening: np.ndarray | None = None,
) -> dict[str, float]:
    """All indices of a cine, in the order of ``INDICES``.

    Args:
        ed, es: segmentations at end-diastole and end-systole
        structures: tells cavities and myocardium by their names
        heart_rate: beats a minute
        body_surface: m²
        peak_rates: of ejection and of filling, mL/s, both positive, by ventricle ("LV", "RV")
        wall_thickness, thickening: of AHA segments 1 to 16, at ED in mm and from ED to ES in percent

    Returns:
        by name, of those structures that are labelled; NaN where something that an index needs is not known
    """
    indices = patient_indices(ed, es, structures)
    for ventricle in VENTRICLES.keys() & structures.roles.keys():
        output = np.nan if heart_rate is None else indices[f"{ventricle}_SV_mL"] * heart_rate / 1000
        ejection, filling = (peak_rates or {}).get(ventricle, (np.nan, np.nan))
        indices |= {
            f"{ventricle}_CO_L_min": output,
            f"{ventricle}_PER_mL_s": ejection,
            f"{ventricle}_PFR_mL_s": filling,
        }
    if "MYO" in structures.roles:
        indices["LV_mass_ES_g"] = _mass(es, structures)
    if "LV_max_wall_thickness_mm" in indices:
        indices["LV_mean_wall_thickness_mm"] = _mean(wall_thickness)
        indices["LV_mean_thickening_percent"] = _mean(thickening)
    surface = np.nan if body_surface is None else body_surface
    indices |= {indexed(name): value / surface for name, value in indices.items() if indexed(name) in INDICES}
    return {name: float(indices[name]) for name in INDICES if name in indices}


def _mean(segments: np.ndarray | None) -> float:
    known = np.array([]) if segments is None else segments[np.isfinite(segments)]
    return float(known.mean()) if len(known) else np.nan


def max_wall_thickness(
    myocardium: np.ndarray, cavity: np.ndarray, spacing: tuple[float, ...], slice_axis: int
) -> float:
    """The largest distance, within a slice, from the myocardium's outer border to the cavity, mm.

    Slices without a cavity (the apex) or without myocardium do not count; NaN if that leaves none. The distance is that
    between the centres of an outermost myocardial pixel and of the nearest pixel of the cavity, which for a wall of n
    pixels is n pixels. Only the largest component of wall and cavity counts in a slice: a stray island is no wall.

    Args:
        myocardium, cavity: bool, (Z, Y, X)
        spacing: mm
        slice_axis: across the slices
    """
    in_plane = [s for axis, s in enumerate(spacing) if axis != slice_axis]
    thickest = np.nan
    for wall, hollow in zip(np.moveaxis(myocardium, slice_axis, 0), np.moveaxis(cavity, slice_axis, 0), strict=True):
        heart = cc3d.largest_k(np.ascontiguousarray(wall | hollow), k=1, connectivity=8) > 0
        outermost, hollow = wall & heart & ~binary_erosion(heart), hollow & heart
        if outermost.any() and hollow.any():
            thickest = np.fmax(thickest, distance_transform_edt(~hollow, sampling=in_plane)[outermost].max())
    return float(thickest)
