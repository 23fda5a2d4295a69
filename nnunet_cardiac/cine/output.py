"""The files that a cine ends in."""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from nnunet_cardiac.cine.analysis import Analysis
from nnunet_cardiac.cine.dicom_output import write_measurements, write_segmentations
from nnunet_cardiac.cine.reference_ranges import Range, reference_range
from nnunet_cardiac.cine.report import write_report
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import INDICES
from nnunet_cardiac.files import DISK_FULL, write_text, writing, written_whole
from nnunet_cardiac.texts import printable, write_rows

REPORT, INDICES_JSON, INDICES_CSV, VOLUMES = "report.html", "indices.json", "indices.csv", "volumes.csv"
SEGMENTATION, DICOM = "segmentation.nii.gz", "dicom"
MEASUREMENTS = "measurements.dcm"


def write_output(analysis: Analysis, folder: Path, key: str, keep_identifiers: bool = False) -> None:
    """Writes everything; ``indices.json`` comes last, so that where it is, all is.

    Args:
        analysis: of a cine
        folder: exists
        key: of the images and the model, by which a later run knows them
        keep_identifiers: whether the DICOM objects name the patient as their source does

    Raises:
        UserError: a file cannot be written
    """
    patient = analysis.cine.patient
    ranges = {
        name: found
        for name in analysis.indices
        if (found := reference_range(name, patient.sex, patient.age)) is not None
    }
    with writing(folder, DISK_FULL):
        with written_whole(folder / SEGMENTATION) as file:
            nib.save(_image(analysis), file)
        for name, table in ((VOLUMES, volume_table(analysis)), (INDICES_CSV, index_table(analysis, ranges))):
            write_rows(folder / name, table, index=False, float_format="%.6g")
        write_report(analysis, folder / REPORT, ranges)
        shutil.rmtree(folder / DICOM, ignore_errors=True)
        if analysis.cine.sources is not None:
            _write_dicom(analysis, folder / DICOM, keep_identifiers)
        record = json.dumps(as_json(analysis, ranges) | {"key": key}, indent=1, allow_nan=False) + "\n"
        write_text(record, folder / INDICES_JSON)


def _image(analysis: Analysis) -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ascontiguousarray(analysis.labels.transpose(3, 2, 1, 0)), analysis.cine.affine)
    image.header.set_xyzt_units("mm", "msec")
    times = analysis.cine.times
    if times is not None and len(times) > 1:
        image.header["pixdim"][4] = (times[-1] - times[0]) / (len(times) - 1)
    return image


def _write_dicom(analysis: Analysis, folder: Path, keep_identifiers: bool) -> None:
    """What of it cannot be made is said; the report does without it."""
    try:
        segmentations = write_segmentations(analysis, folder, keep_identifiers)
        write_measurements(analysis, folder / MEASUREMENTS, segmentations, keep_identifiers)
    except (OSError, MemoryError):
        raise
    except Exception as e:  # see nnunet_cardiac.dicom
        why = printable(str(e)) if isinstance(e, UserError) else type(e).__name__  # others' texts may name the patient
        print(f"left out: DICOM objects, as the study's headers do not allow for them ({why}).", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)


def volume_table(analysis: Analysis) -> pd.DataFrame:
    """A row for each phase, from 1: volumes, and the titles of the flags that concern it."""
    flags = [
        "; ".join(flag.title for flag in analysis.flags if phase in flag.phases) for phase in analysis.volumes["phase"]
    ]
    return analysis.volumes.assign(phase=analysis.volumes["phase"] + 1, flags=flags)


def index_table(analysis: Analysis, ranges: Mapping[str, Range]) -> pd.DataFrame:
    """A row for each index: name, title, value, unit, the titles of the flags that it rests on, and the reference range
    with its source, where there is one."""
    return pd.DataFrame(
        {
            "index": name,
            "title": INDICES[name].title,
            "value": value,
            "unit": INDICES[name].unit,
            "flags": "; ".join(flag.title for flag in analysis.flagged(name)),
            "reference_low": ranges[name].low if name in ranges else np.nan,
            "reference_high": ranges[name].high if name in ranges else np.nan,
            "reference": ranges[name].source if name in ranges else "",
        }
        for name, value in analysis.indices.items()
    )


def as_json(analysis: Analysis, ranges: Mapping[str, Range]) -> dict:
    """What was found, without the images, and reference ranges by the index's name; NaN is null."""

    def values(numbers: np.ndarray | None) -> list[float | None] | None:
        return None if numbers is None else [_finite(float(v)) for v in numbers]

    cine = analysis.cine
    return {
        "origin": cine.origin,
        "n_phases": len(cine.voxels),
        "spacing_mm": list(cine.spacing),
        "heart_rate": cine.heart_rate,
        "body_surface_m2": cine.patient.body_surface,
        "ed_phase": analysis.ed + 1,
        "es_phase": analysis.es + 1,
        "indices": {name: _finite(value) for name, value in analysis.indices.items()},
        "reference_ranges": {name: asdict(found) for name, found in ranges.items()},
        "wall_thickness_mm": values(analysis.wall_thickness),
        "thickening_percent": values(analysis.thickening),
        "flags": [
            {"title": f.title, "reason": f.reason, "indices": list(f.indices), "phases": [p + 1 for p in f.phases]}
            for f in analysis.flags
        ],
        "remarks": list(cine.remarks),
        "model": analysis.model,
        "note": "Research only, not for clinical use. Phases count from 1.",
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
