"""What all converters share: from cases on disk to ``nnUNet_raw/DatasetNNN_NAME``, checked, atomic, repeatable."""

import csv
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.nifti import read_nifti

PLAUSIBLE_SPACING = (0.3, 25.0)
"""mm; outside this range a warning is given."""
PARTIAL = ".partial"
"""Folder in the data set where files are written before they are moved into place."""


@dataclass(frozen=True)
class Case:
    """One image to convert, with what is known of it. ``label`` is None where the owners give none."""

    case: str
    patient: str
    phase: str
    group: str
    vendor: str
    split: str
    image: Path
    label: Path | None


@dataclass
class Conversion:
    """What came of it: ``converted`` now, ``kept`` from an earlier run, ``warnings`` and ``problems`` in sentences."""

    folder: Path
    converted: int = 0
    kept: int = 0
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def dataset_folder(dataset_id: int, name: str) -> Path:
    """``nnUNet_raw/DatasetNNN_NAME``.

    Raises:
        UserError: nnUNet_raw is not set, or the ID belongs to another data set
    """
    raw = folder("nnUNet_raw")
    path = raw / f"Dataset{dataset_id:03d}_{name}"
    others = [p.name for p in raw.glob(f"Dataset{dataset_id:03d}_*") if p != path]
    if others:
        raise UserError(f"Data set ID {dataset_id} already belongs to {others[0]} in {raw}: choose another with -d.")
    return path


def write_dataset(
    cases: Sequence[Case],
    dataset_id: int,
    name: str,
    labels: dict[str, int],
    reference: str,
    n_folds: int = 5,
    n_processes: int = 2,
) -> Conversion:
    """Converts ``cases`` into an nnU-Net raw data set with splits and ``cases.csv``.

    A case that cannot be converted is reported in ``problems``; the others are. Cases whose files are there and not
    older than their source are kept as they are.

    Args:
        cases: all of the data set; those with split "train" and a label are for training, the rest for testing
        dataset_id: NNN of the folder's name
        name: NAME of the folder's name
        labels: name to value in the label files, background included
        reference: citation for ``dataset.json``
        n_folds: folds in ``splits_final.json``
        n_processes: cases converted at a time

    Raises:
        UserError: no case could be converted, fewer patients than folds, or the target cannot be written
    """
    result = Conversion(dataset_folder(dataset_id, name))
    patient_splits([case for case in cases if case.split == "train"], n_folds)  # fails, if at all, before the work
    try:
        for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs", PARTIAL):
            (result.folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{result.folder} cannot be written ({e.strerror}): check nnUNet_raw.") from e

    done: list[Case] = []
    volumes: dict[Case, np.ndarray] = {}
    with ProcessPoolExecutor(n_processes) as pool:
        jobs = {pool.submit(_convert_case, case, result.folder, labels): case for case in cases}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc=f"Converting {name}", unit="case"):
            try:
                converted, remarks, volume = job.result()
            except UserError as e:
                result.problems.append(str(e))
                continue
            done.append(jobs[job])
            result.warnings += remarks
            if converted:
                result.converted += 1
                volumes[jobs[job]] = volume
            else:
                result.kept += 1
    shutil.rmtree(result.folder / PARTIAL)
    done.sort(key=lambda case: case.case)
    result.problems.sort()
    training = [case for case in done if case.split == "train"]
    if not training:
        raise UserError(f"No training case could be converted; the first reason: {result.problems[0]}")

    result.warnings += _swapped_phases(volumes, labels)
    for part in ("imagesTs", "labelsTs"):
        if not any((result.folder / part).iterdir()):
            (result.folder / part).rmdir()
    _write_text(result.folder / "cases.csv", _cases_csv(done))
    splits = patient_splits(training, n_folds)
    _write_text(result.folder / "splits_final.json", json.dumps(splits, indent=2))
    dataset_json = {
        "name": name,
        "reference": reference,
        "channel_names": {"0": "cineMRI"},
        "labels": labels,
        "numTraining": len(training),
        "file_ending": ".nii.gz",
    }
    _write_text(result.folder / "dataset.json", json.dumps(dataset_json, indent=2))
    return result


def patient_splits(cases: Sequence[Case], n_folds: int, seed: int = 12345) -> list[dict[str, list[str]]]:
    """nnU-Net's ``splits_final``: folds over patients, stratified by group and vendor.

    Raises:
        UserError: fewer patients than folds, or fewer than two folds
    """
    patients = {case.patient: f"{case.group} {case.vendor}" for case in sorted(cases, key=lambda case: case.case)}
    n = len(patients)
    if not 2 <= n_folds <= n:
        raise UserError(f"{n_folds} folds cannot be made of {n} training patients: choose --folds from 2 to {n}.")
    names, strata = np.array(list(patients)), np.array(list(patients.values()))
    if max(Counter(strata.tolist()).values()) < n_folds:
        strata[:] = ""  # StratifiedKFold wants at least one stratum that can be in every fold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of strata smaller than that; they are spread as far as they go
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(names, strata))
    return [
        {
            "train": sorted(case.case for case in cases if case.patient in names[train]),
            "val": sorted(case.case for case in cases if case.patient in names[val]),
        }
        for train, val in folds
    ]


def _convert_case(case: Case, dataset: Path, labels: dict[str, int]) -> tuple[bool, list[str], np.ndarray | None]:
    """Whether files were written, warnings, and mm^3 of every label value."""
    suffix = "Tr" if case.split == "train" else "Ts"
    targets = {case.image: dataset / f"images{suffix}" / f"{case.case}_0000.nii.gz"}
    if case.label is not None:
        targets[case.label] = dataset / f"labels{suffix}" / f"{case.case}.nii.gz"
    if all(t.exists() and s.exists() and t.stat().st_mtime >= s.stat().st_mtime for s, t in targets.items()):
        return False, [], None

    voxels, image = read_nifti(case.image)
    if voxels.ndim != 3:
        raise UserError(f"{case.image} has {voxels.ndim} dimensions where 3 were expected.")
    remarks = []
    spacing = np.array(image.header.get_zooms()[:3], dtype=float)
    if (spacing < PLAUSIBLE_SPACING[0]).any() or (spacing > PLAUSIBLE_SPACING[1]).any():
        remarks.append(f"{case.image} has an unusual voxel spacing of {' x '.join(f'{s:g}' for s in spacing)} mm.")
    written = {targets[case.image]: nib.Nifti1Image(voxels, image.affine, image.header)}
    volume = None
    if case.label is not None:
        segmentation, label_image = read_nifti(case.label)
        if segmentation.shape != voxels.shape:
            raise UserError(f"{case.label} is {segmentation.shape} voxels, its image {voxels.shape}.")
        if not np.allclose(label_image.affine, image.affine, atol=1e-3):
            raise UserError(f"{case.label} has another geometry (spacing, origin or direction) than its image.")
        unknown = sorted(set(np.unique(segmentation).tolist()) - set(labels.values()))
        if unknown:
            raise UserError(f"{case.label} has unknown labels {unknown}; known are {sorted(labels.values())}.")
        segmentation = segmentation.astype(np.uint8)
        written[targets[case.label]] = nib.Nifti1Image(segmentation, image.affine)
        volume = np.bincount(segmentation.ravel(), minlength=max(labels.values()) + 1) * spacing.prod()
    for target, nifti in written.items():
        partial = dataset / PARTIAL / target.name
        try:
            nib.save(nifti, partial)
            os.replace(partial, target)
        except OSError as e:
            raise UserError(f"{target} cannot be written ({e.strerror}): is the disk full?") from e
    return True, remarks, volume


def _swapped_phases(volumes: dict[Case, np.ndarray], labels: dict[str, int]) -> list[str]:
    """Warns of patients whose left ventricle is larger at ES than at ED."""
    lv = {(case.patient, case.phase): v[labels["LV"]] for case, v in volumes.items() if v is not None}
    return [
        f"{patient}: the left ventricle is larger at ES ({lv[patient, 'ES'] / 1000:.0f} mL) than at ED "
        f"({volume / 1000:.0f} mL); the phases may be swapped in the source."
        for (patient, phase), volume in sorted(lv.items())
        if phase == "ED" and lv.get((patient, "ES"), 0) > volume
    ]


def _cases_csv(cases: Sequence[Case]) -> str:
    rows = [(c.case, c.patient, c.phase, c.group, c.vendor, c.image.name, c.split) for c in cases]
    lines = [("case", "patient", "phase", "group", "vendor", "source", "split"), *rows]
    return "".join(",".join(line) + "\n" for line in lines)


def read_cases(dataset: Path, name: str = "cases.csv") -> list[dict[str, str]]:
    """The rows of a converted data set's ``cases.csv``."""
    with open(dataset / name, newline="") as f:
        return list(csv.DictReader(f))


def _write_text(path: Path, text: str) -> None:
    """Replaces ``path`` in one step, and only if its text changes."""
    if path.exists() and path.read_text() == text:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)
