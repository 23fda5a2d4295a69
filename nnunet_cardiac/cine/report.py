"""The report on a patient's cine: one page that needs nothing else."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from skimage.measure import find_contours

from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.reference_ranges import Range
from nnunet_cardiac.evaluation.indices import INDICES, indexed
from nnunet_cardiac.evaluation.segmentation import COLOURS_OF_ROLES
from nnunet_cardiac.evaluation.segments import SEGMENTS
from nnunet_cardiac.files import write_text, writing
from nnunet_cardiac.pages import data_uri, greys, script, template, webp
from nnunet_cardiac.system import versions

STYLES = {
    "LV": {"title": "LV", "line": "LV cavity", "colour": COLOURS_OF_ROLES["LV"], "dash": []},
    "RV": {"title": "RV", "line": "RV cavity", "colour": COLOURS_OF_ROLES["RV"], "dash": [1, 2.5]},
    "MYO": {"title": "Myocardium", "line": "epicardium", "colour": COLOURS_OF_ROLES["MYO"], "dash": [6, 4]},
}
"""How a structure is drawn, with dashes for grey print."""
MAIN = {
    "Left ventricle": {
        "LV_EF_percent": "EF", "LV_EDV_mL": "EDV", "LV_ESV_mL": "ESV", "LV_SV_mL": "SV", "LV_mass_g": "mass",
    },
    "Right ventricle": {"RV_EF_percent": "EF", "RV_EDV_mL": "EDV", "RV_ESV_mL": "ESV", "RV_SV_mL": "SV"},
}  # fmt: skip
"""The numbers that stand large: their short names by index."""
RINGS = ((6, 112, 78, 60), (6, 78, 44, 60), (4, 44, 14, 45))
"""Of the bull's eye, from base to apex: segments, outer and inner radius, where the anterior one begins (degrees)."""
MARGIN = 20.0
"""mm that are shown around the heart."""
MOST_IMAGE_BYTES = 4_500_000
"""Of all images together; as text they take a third more."""
QUALITIES = (90, 80, 65, 45, 20)
"""WebP's: the first whose images are small enough is taken."""
STEPS_PER_PIXEL = 8
"""Points of contours are rounded to this part of a pixel."""
MOST_LISTED = 6
"""Indices that a flag names; more are counted."""
MISSING = "–"


def write_report(analysis: Analysis, file: Path, ranges: Mapping[str, Range] | None = None) -> None:
    """Writes the page.

    Args:
        analysis: of the cine
        file: the page, HTML; it needs no other file and no network
        ranges: reference ranges by the index's name

    Raises:
        UserError: the file cannot be written
    """
    viewer, sheets = viewer_data(analysis)
    page = template("nnunet_cardiac.cine", "report.html.j2").render(
        analysis=analysis, cine=analysis.cine, today=date.today().isoformat(), patient=patient_line(analysis.cine),
        main=main_numbers(analysis), flags=flags(analysis), table=index_table(analysis, ranges or {}),
        bulls_eyes=bulls_eyes(analysis), viewer=viewer, sheets=sheets, versions=versions(),
        definitions={name: INDICES[name] for name in analysis.indices},
        **script(Path(__file__).with_name("viewer.js")),
    )  # fmt: skip
    with writing(file):
        write_text(page, file)


def patient_line(cine: Cine) -> str:
    """What is known of the patient, in words."""
    p = cine.patient
    derived = " (derived)" if cine.heart_rate_is_derived else ""
    known = [
        {"F": "female", "M": "male"}.get(p.sex or ""),
        p.age is not None and f"{p.age:.0f} years",
        p.height is not None and f"{p.height:.2f} m",
        p.weight is not None and f"{p.weight:.0f} kg",
        p.body_surface is not None and f"body surface {p.body_surface:.2f} m²",
        cine.heart_rate is not None and f"heart rate {cine.heart_rate:.0f}/min{derived}",
    ]
    return ", ".join(words for words in known if words)


def number(value: float, unit: str) -> str:
    """With as many decimals as can mean something; a dash for NaN."""
    if not np.isfinite(value):
        return MISSING
    decimals = 1 if unit in ("mm", "L/min", "L/min/m²", "") else 0
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # 0 has no sign


def main_numbers(analysis: Analysis) -> dict[str, list[dict[str, Any]]]:
    """By ventricle, those of ``MAIN`` that were measured."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group, names in MAIN.items():
        for index, short in names.items():
            if index in analysis.indices:
                title, unit = INDICES[index].title, INDICES[index].unit
                found.setdefault(group, []).append(
                    {"short": short, "title": title, "marks": marks(analysis, index)}
                    | {"value": number(analysis.indices[index], unit), "unit": unit}
                )
    return found


def marks(analysis: Analysis, index: str) -> list[tuple[int, str]]:
    """Number (from 1) and title of the flags that an index rests on."""
    return [(analysis.flags.index(flag) + 1, flag.title) for flag in analysis.flagged(index)]


def flags(analysis: Analysis) -> list[dict[str, str]]:
    """The flags in words."""
    return [
        {"title": flag.title, "reason": flag.reason}
        | {"indices": _listed(flag, analysis)}
        | {"phases": ", ".join(str(phase + 1) for phase in flag.phases)}
        for flag in analysis.flags
    ]


def _listed(flag: Flag, analysis: Analysis) -> str:
    """The indices that rest on a flag, where they are few enough to be read."""
    shown = _shown(analysis)
    measured = [index for index in flag.indices if index in shown]
    if len(measured) > MOST_LISTED:
        return f"{len(measured)} of {len(shown)} indices, marked below"
    return ", ".join(INDICES[index].title for index in measured)


def _shown(analysis: Analysis) -> list[str]:
    """The indices that the page has: those divided by the body surface only where it is known."""
    divided = {indexed(index) for index in analysis.indices}
    unknown = analysis.cine.patient.body_surface is None
    return [index for index in analysis.indices if not (unknown and index in divided)]


def index_table(analysis: Analysis, ranges: Mapping[str, Range]) -> list[dict[str, Any]]:
    """A row for each index, that divided by the body surface in its second cell; a cell is None where there is none."""
    divided, shown_indices = {indexed(index) for index in analysis.indices} & set(analysis.indices), _shown(analysis)

    def cell(index: str) -> dict[str, Any] | None:
        if index not in shown_indices:
            return None
        value = analysis.indices[index]
        title, unit = INDICES[index].title, INDICES[index].unit
        shown = {"title": title, "unit": unit, "value": number(value, unit), "marks": marks(analysis, index)}
        usual = ranges.get(index)
        if usual is None:
            return shown | {"range": "", "source": "", "outside": ""}
        text = f"{number(usual.low, unit)} to {number(usual.high, unit)}"
        outside = "below the range" if value < usual.low else "above the range" if value > usual.high else ""
        return shown | {"range": text, "source": usual.source, "outside": outside}

    return [{"cells": (cell(index), cell(indexed(index)))} for index in analysis.indices if index not in divided]


def bulls_eyes(analysis: Analysis) -> list[dict[str, Any]]:
    """The AHA segments' wall thickness and thickening, as what is drawn."""
    drawn = []
    for title, unit, values, low, high, index in (
        ("Wall thickness at ED", "mm", analysis.wall_thickness, 4, 16, "LV_mean_wall_thickness_mm"),
        ("Wall thickening", "%", analysis.thickening, 0, 100, "LV_mean_thickening_percent"),
    ):
        if values is not None:
            segments = [
                _segment(i, value, unit, low, high) for i, value in enumerate(np.asarray(values, float).tolist())
            ]
            key = [_shade((i + 0.5) / 12) for i in range(12)]
            drawn.append(
                {"title": title, "unit": unit, "segments": segments, "low": low, "high": high, "key": key}
                | {"marks": marks(analysis, index)}
            )
    return drawn


def _shade(fraction: float) -> str:
    return to_hex(matplotlib.colormaps["YlGnBu"](0.02 + 0.78 * float(np.clip(fraction, 0, 1))))


def _segment(i: int, value: float, unit: str, low: float, high: float) -> dict[str, Any]:
    """Outline, colour and text of AHA segment ``i`` (from 0); the anterior wall is above, the septum on the left."""
    n, outer, inner, start = RINGS[i // 6]
    begin = np.radians(start + i % 6 * 360 / n)
    end = begin + np.radians(360 / n)

    def at(radius: float, angle: float) -> str:
        return f"{radius * np.cos(angle):.2f} {-radius * np.sin(angle):.2f}"

    path = (
        f"M{at(outer, begin)}A{outer} {outer} 0 0 0 {at(outer, end)}"
        f"L{at(inner, end)}A{inner} {inner} 0 0 1 {at(inner, begin)}Z"
    )
    x, y = at((outer + inner) / 2, (begin + end) / 2).split()
    fraction = (value - low) / (high - low)
    text = number(value, unit)
    covered = bool(np.isfinite(value))
    return {
        "path": path, "x": x, "y": y, "text": text, "covered": covered, "fill": _shade(fraction) if covered else "",
        "light": covered and fraction > 0.72,
        "title": f"{i + 1} {SEGMENTS[i]}: " + (f"{text} {unit}" if covered else "not covered"),
    }  # fmt: skip


def viewer_data(analysis: Analysis) -> tuple[dict[str, Any], list[str]]:
    """All that ``viewer.js`` draws: data ready for JSON, and the sheets of ``image_sheets``."""
    voxels, labels, (dy, dx) = as_seen(analysis)
    rows, columns = shown_box(labels, (dy, dx))
    voxels, labels = voxels[..., rows, columns], labels[..., rows, columns]
    phases, slices, height, width = labels.shape
    structures = [role for role in STYLES if role in analysis.structures.roles]
    across = int(np.ceil(np.sqrt(phases)))
    present = np.flatnonzero((labels > 0).any((0, 2, 3)))
    times, rate = analysis.cine.times, analysis.cine.heart_rate
    span = 0.0 if times is None else float(times[-1] - times[0])
    cycle = span * phases / (phases - 1) if span > 0 else 60_000 / rate if rate else 1000.0
    return {
        "phases": phases, "slices": slices, "height": height, "width": width, "dy": dy, "dx": dx, "across": across,
        "structures": [STYLES[role] for role in structures],
        "contours": [
            [
                [contours(outlined(analysis, labels[t, z], role)) for role in structures]
                for t in range(phases)
            ]
            for z in range(slices)
        ],
        "curves": [
            {"style": STYLES[role]}
            | {kind: _numbers(analysis.volumes[f"{role}_{kind}"], 2) for kind in ("mL", "smooth_mL")}
            for role in STYLES
            if f"{role}_mL" in analysis.volumes
        ],
        "times": None if times is None else _numbers(times, 2),
        "cycle": cycle, "ed": int(analysis.ed), "es": int(analysis.es),
        "slice": int(present[len(present) // 2]) if len(present) else slices // 2,
        "flagged": [
            [phase, "; ".join(flag.title for flag in analysis.flags if phase in flag.phases)]
            for phase in sorted({phase for flag in analysis.flags for phase in flag.phases})
        ],
    }, image_sheets(voxels, across)  # fmt: skip


def _numbers(values: Any, decimals: int) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [round(v, decimals) if np.isfinite(v) else None for v in np.asarray(values, float).tolist()]


def as_seen(analysis: Analysis) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Voxels, labels and pixel size (mm; y, x) turned to the usual view: the patient's left on the right, feet below.

    A short axis is oblique; a stack along the world's axes says nothing about the patient and stays as it is.
    """
    voxels, labels = analysis.cine.voxels, analysis.labels
    _, dy, dx = analysis.cine.spacing
    axes = analysis.cine.affine[:3, :2] / (dx, dy)  # columns: along x, along y
    if np.allclose(np.abs(axes).max(0), 1, atol=1e-3):
        return voxels, labels, (dy, dx)
    right, down = np.array([-1, -0.5, 0]), np.array([0, -0.5, -1])
    x, y = axes.T
    if abs(y @ right) + abs(x @ down) > abs(x @ right) + abs(y @ down):
        voxels, labels, (dy, dx), (x, y) = voxels.swapaxes(2, 3), labels.swapaxes(2, 3), (dx, dy), (y, x)
    turned = (..., slice(None, None, -1 if y @ down < 0 else 1), slice(None, None, -1 if x @ right < 0 else 1))
    return voxels[turned], labels[turned], (dy, dx)


def shown_box(labels: np.ndarray, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns that hold the heart of all phases and slices and ``MARGIN`` around it; all if there is none."""
    box = []
    for axis, size in zip((2, 3), spacing, strict=True):
        found = np.flatnonzero((labels > 0).any(tuple({0, 1, 2, 3} - {axis})))
        margin = int(np.ceil(MARGIN / size))
        box.append(slice(max(found[0] - margin, 0), int(found[-1]) + margin + 1) if len(found) else slice(None))
    return box[0], box[1]


def image_sheets(voxels: np.ndarray, across: int) -> list[str]:
    """For each slice its phases in rows of ``across``, one grey image as a data URI; phase 0 is top left.

    Args:
        voxels: (T, Z, Y, X)
    """
    phases, slices, height, width = voxels.shape
    finite = np.nan_to_num(np.asarray(voxels, np.float32))
    down = -(-phases // across)
    sheets = np.zeros((slices, down * across, height, width), np.uint8)
    sheets[:, :phases] = greys(finite, finite[:, :, ::2, ::2]).swapaxes(0, 1)
    sheets = sheets.reshape(slices, down, across, height, width).swapaxes(2, 3)
    sheets = sheets.reshape(slices, down * height, across * width)
    middle = sheets[slices // 2]  # shows more than most others do
    small = (quality for quality in QUALITIES if len(webp(middle, quality)) * slices <= MOST_IMAGE_BYTES)
    quality = next(small, QUALITIES[-1])
    return [data_uri(webp(sheet, quality), "webp") for sheet in sheets]


def outlined(analysis: Analysis, labels: np.ndarray, role: str) -> np.ndarray:
    """What a structure's contour goes around: the myocardium's is the epicardium, around wall and cavity."""
    structures = analysis.structures
    mask = structures.mask(labels, structures.roles[role])
    if role == "MYO" and "LV" in structures.roles:
        mask = mask | structures.mask(labels, structures.roles["LV"])
    return mask


def contours(mask: np.ndarray) -> list[list[int]]:
    """The borders of a mask as smoothed polygons, holes as well: filled by the even-odd rule they give it again.

    Args:
        mask: (Y, X), bool

    Returns:
        polygons x0, y0 and the steps to all other points, x1 - x0, y1 - y0, x2 - x1, ..., in 1/``STEPS_PER_PIXEL``
        pixels; the first pixel reaches from 0 to 1
    """
    if not mask.any():
        return []
    polygons = []
    for points in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        ring = points[:-1, ::-1] - 0.5
        # Taubin's smoothing: takes the pixels' steps off and does not shrink; little for what is little
        for weight in (0.5, -0.53) * min(len(ring) // 8 + 1, 8):
            ring = ring + weight * ((np.roll(ring, 1, 0) + np.roll(ring, -1, 0)) / 2 - ring)
        kept = np.round(ring[:: min(len(ring) // 40 + 1, 4)] * STEPS_PER_PIXEL).astype(int)
        polygons.append(np.diff(kept, axis=0, prepend=0).ravel().tolist())
    return polygons
