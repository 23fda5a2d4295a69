"""What all converters share: from cases on disk to ``nnUNet_raw/DatasetNNN_NAME``, checked, atomic, repeatable."""

import csv
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from scipy.linalg import polar
from sklearn.model_selection import StratifiedKFold

from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import DISK_FULL, check_utf8, remove_partial, write_text, writing, written_whole
from nnunet_cardiac.lock import locked
from nnunet_cardiac.nifti import open_nifti, read_nifti
from nnunet_cardiac.processes import worker_processes
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import plain, read_cases, unforeseen

PLAUSIBLE_SPACING = (0.3, 25.0)
"""mm; outside this range a warning is given."""
NAMED = 10
"""Files, at most, that one sentence names."""


@dataclass(frozen=True)
class Case:
    """One image to convert, with what is known of it. ``label`` is None where the owners give none; ``more`` are other
    files that it is read from."""

    case: str
    patient: str
    phase: str
    group: str
    vendor: str
    split: str
    image: Path
    label: Path | None
    more: tuple[Path, ...] = ()


@dataclass
class Volume:
    """What a case is read as: image, segmentation of its shape or None, and sentences on what a user should know of
    them and on what was put right."""

    image: nib.Nifti1Image
    segmentation: np.ndarray | None = None
    remarks: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)


@dataclass
class Conversion:
    """What came of it: cases ``converted`` now, of these ``repaired``, ``kept`` from before; ``patients`` to train
    and to test on, as "train" and "test"; ``warnings`` and ``problems`` in sentences."""

    folder: Path
    converted: int = 0
    repaired: int = 0
    kept: int = 0
    patients: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def dataset_folder(dataset_id: int, name: str) -> Path:
    """``nnUNet_raw/DatasetNNN_NAME``.

    Raises:
        UserError: nnUNet_raw is not set, no ID of nnU-Net's, or the ID or the folder belongs to another data set
    """
    if not 1 <= dataset_id <= 999:
        raise UserError(f"nnU-Net's data set IDs have three digits: choose another than {dataset_id} with -d.")
    raw = folder("nnUNet_raw")
    path = raw / f"Dataset{dataset_id:03d}_{name}"
    others = [p.name for p in raw.glob(f"Dataset{dataset_id:03d}_*") if p != path and p.is_dir()]
    if others:
        raise UserError(f"Data set ID {dataset_id} already belongs to {others[0]} in {raw}: choose another with -d.")
    if (path / "dataset.json").exists() and not (path / "cases.csv").exists():
        raise UserError(
            f"{path} has a dataset.json but no cases.csv: it was not converted here and stays as it is; choose another "
            "ID with -d."
        )
    return path


def write_dataset(
    cases: Sequence[Case],
    dataset_id: int,
    name: str,
    labels: dict[str, int],
    reference: str,
    n_folds: int = 5,
    n_processes: int = 2,
    source_labels: dict[str, int] | None = None,
    read: Callable[[Case], Volume] | None = None,
) -> Conversion:
    """Converts ``cases`` into an nnU-Net raw data set with splits and ``cases.csv``.

    A case that cannot be converted is reported in ``problems``; the others are. Cases whose files are there, made of
    the same source files of the same size and time, are kept as they are. What an earlier run has converted and is no
    case now is deleted.

    Args:
        cases: all of the data set; those with split "train" and a label are for training, the rest for testing
        dataset_id: NNN of the folder's name
        name: NAME of the folder's name
        labels: name to value, background included
        reference: citation for ``dataset.json``
        n_folds: folds in ``splits_final.json``
        n_processes: cases converted at a time
        source_labels: name to value in the source, where they differ; what is not in ``labels`` becomes background
        read: how a case is read, raising ``UserError`` where it cannot be; ``read_pair`` where None

    Raises:
        UserError: no case could be converted, fewer patients than folds, or the target cannot be written
    """
    result = Conversion(dataset_folder(dataset_id, name))
    cases = _without_duplicates(cases, result.problems)
    patient_splits([case for case in cases if case.split == "train"], n_folds)  # fails, if at all, before the work
    with locked(result.folder, "choose another ID with -d"):
        with writing(result.folder, "check nnUNet_raw."):
            for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
                (result.folder / part).mkdir(parents=True, exist_ok=True)

        done: list[Case] = []
        volumes: dict[Case, np.ndarray] = {}
        with worker_processes(n_processes) as pool:
            how = (labels, source_labels or labels, read or read_pair)
            jobs = {pool.submit(_convert_case, case, result.folder, *how): case for case in cases}
            for job in progress(as_completed(jobs), total=len(jobs), desc=f"Converting {name}", unit="case"):
                try:
                    converted, remarks, repairs, volume = job.result()
                except UserError as e:
                    result.problems.append(str(e))
                    continue
                except BrokenExecutor:  # with it all others
                    raise
                except Exception as e:  # one case never stops the others
                    why = f"it failed in a way that nobody foresaw ({unforeseen(e)})"
                    result.problems.append(f"{jobs[job].image}: {why}.")
                    continue
                done.append(jobs[job])
                result.warnings += remarks + repairs
                result.repaired += bool(repairs)
                volumes[jobs[job]] = volume
                result.converted += converted
                result.kept += not converted
        remove_partial(result.folder, *(place for place in result.folder.iterdir() if place.is_dir()))
        done.sort(key=lambda case: case.case)
        for split in ("train", "test"):
            result.patients[split] = len({case.patient for case in done if case.split == split})
        result.problems.sort()
        training = [case for case in done if case.split == "train"]
        if not training:
            raise UserError(f"No training case could be converted; the first reason: {result.problems[0]}")

        result.warnings += _swapped_phases(volumes, labels)
        try:
            _delete_others(result, done)
            _describe(result.folder, done, training, name, labels, reference, n_folds)
        except OSError as e:
            raise UserError(f"{e.filename or result.folder} cannot be written ({e.strerror}): is the disk full?") from e
    return result


def _without_duplicates(cases: Sequence[Case], problems: list[str]) -> list[Case]:
    known: dict[str, Case] = {}
    for case in cases:
        if case.case in known:
            problems.append(f"{case.image} is {case.case} once more, after {known[case.case].image}: it is left out.")
        else:
            known[case.case] = case
    return list(known.values())


def _delete_others(result: Conversion, done: Sequence[Case]) -> None:
    """Deletes files of cases that ``cases.csv`` lists and ``done`` does not; names them, and others, which stay."""
    dataset = result.folder
    names = {part: {case.case for case in done if (case.split == "train") == (part == "Tr")} for part in ("Tr", "Ts")}
    try:
        before = {row.get("case") for row in read_cases(dataset)}
    except UserError:  # no earlier run was finished
        before = set()
    deleted: list[str] = []
    foreign: list[str] = []
    for part, known in names.items():
        for file in sorted((*dataset.glob(f"images{part}/*.nii.gz"), *dataset.glob(f"labels{part}/*.nii.gz"))):
            case = file.name.removesuffix(".nii.gz")
            if file.parent.name.startswith("images"):
                case = case.removesuffix("_0000")
            if case in known:
                continue
            (deleted if case in before else foreign).append(str(file.relative_to(dataset)))
            if case in before:
                (dataset / "dataset.json").unlink(missing_ok=True)
                file.unlink()
    if deleted:
        result.warnings.append(
            "Files of an earlier conversion whose cases are not in the source any more, or are left out now, were "
            f"deleted: {_listed(deleted)}."
        )
    if foreign:
        result.warnings.append(
            f"{dataset} has files of no case of this conversion, and nnU-Net would use them: {_listed(foreign)}; "
            "move them away."
        )


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


def _describe(
    dataset: Path,
    done: Sequence[Case],
    training: Sequence[Case],
    name: str,
    labels: dict[str, int],
    reference: str,
    n_folds: int,
) -> None:
    """Writes cases.csv, splits_final.json and, last, dataset.json, without which nnU-Net does not read the folder."""
    for part in ("imagesTs", "labelsTs"):
        if not any((dataset / part).iterdir()):
            (dataset / part).rmdir()
    _write_text(dataset / "cases.csv", _cases_csv(done))
    _write_text(dataset / "splits_final.json", json.dumps(patient_splits(training, n_folds), indent=2))
    dataset_json = {
        "name": name,
        "reference": reference,
        "channel_names": {"0": "cineMRI"},
        "labels": labels,
        "numTraining": len(training),
        "file_ending": ".nii.gz",
    }
    _write_text(dataset / "dataset.json", json.dumps(dataset_json, indent=2))


def patient_splits(cases: Sequence[Case], n_folds: int) -> list[dict[str, list[str]]]:
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
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=12345).split(names, strata))
    return [
        {
            "train": sorted(case.case for case in cases if case.patient in names[train]),
            "val": sorted(case.case for case in cases if case.patient in names[val]),
        }
        for train, val in folds
    ]


def read_pair(case: Case) -> Volume:
    """An image and its label from a NIfTI file each.

    Raises:
        UserError: one cannot be read, is not 3D, or they differ in shape or geometry
    """
    voxels, image = read_nifti(case.image)
    if voxels.ndim != 3:
        raise UserError(f"{case.image} has {voxels.ndim} dimensions where 3 were expected.")
    affine, repairs = repair_affine(image.affine, case.image)
    volume = Volume(nib.Nifti1Image(voxels, affine, image.header), repairs=repairs)
    if case.label is not None:
        volume.segmentation, label_image = read_nifti(case.label)
        if volume.segmentation.shape != voxels.shape:
            raise UserError(f"{case.label} is {volume.segmentation.shape} voxels, its image {voxels.shape}.")
        off = _largest_distance(label_image.affine, image.affine, voxels.shape)
        if off > 0.5:
            raise UserError(f"{case.label} has another geometry (spacing, origin or direction) than its image.")
        if off > 1e-3:
            repairs.append(f"{case.label}: its geometry differs a little from its image's, which it is given.")
    return volume


def _largest_distance(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """How far apart two geometries put a voxel of an image at most, in ``other``'s smallest voxel sides."""
    corners = np.array([[*index, 1] for index in np.ndindex(2, 2, 2)]) * [*np.subtract(shape, 1), 1]
    distances = np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1)
    return float(distances.max() / np.linalg.norm(other[:3, :3], axis=0).min())


def repair_affine(affine: np.ndarray, file: Path) -> tuple[np.ndarray, list[str]]:
    """Voxel axes at right angles, as SimpleITK wants them: the nearest orthonormal directions, the same spacing.

    Args:
        affine: voxels to mm (4, 4)
        file: named in the message

    Returns:
        the affine, and what was repaired, in a sentence

    Raises:
        UserError: an axis has no length, or the axes span no volume
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing == 0).any():
        raise UserError(f"{file} has no usable geometry: its affine is {affine[:3].tolist()}.")
    directions = affine[:3, :3] / spacing
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-5):
        return affine, []
    nearest, _ = polar(directions)
    if abs(np.linalg.det(directions)) < 0.5:
        raise UserError(f"{file} has no usable geometry: its axes are far from right angles.")
    repaired = affine.copy()
    repaired[:3, :3] = nearest * spacing
    return repaired, [f"{file}: its axes were not at right angles; they were turned to the nearest that are."]


def _convert_case(
    case: Case,
    dataset: Path,
    labels: dict[str, int],
    source_labels: dict[str, int],
    read: Callable[[Case], Volume],
) -> tuple[bool, list[str], list[str], np.ndarray | None]:
    """Whether files were written, warnings, repairs, and mm^3 of every label value."""
    suffix = "Tr" if case.split == "train" else "Ts"
    image_file, label_file = (
        dataset / f"{folder}{suffix}" / f"{case.case}{channel}.nii.gz"
        for folder, channel in (("images", "_0000"), ("labels", ""))
    )
    check_utf8(image_file)
    made_of = _made_of(case, labels, source_labels)
    n_values = max(labels.values()) + 1
    if _description(image_file) == made_of and (case.label is None or label_file.exists()):
        with suppress(UserError):  # a label that was damaged since is made again
            spacing = voxel_sizes(open_nifti(image_file).affine)
            kept = None if case.label is None else read_nifti(label_file)[0].astype(np.uint8)
            mm3 = None if kept is None else np.bincount(kept.ravel(), minlength=n_values) * spacing.prod()
            return False, _unusual_spacing(case, spacing), [], mm3

    volume = read(case)
    voxels = np.asanyarray(volume.image.dataobj)
    # a header of its own: the source's may tell programs that look elsewhere in it of another geometry than the label's
    image = nib.Nifti1Image(voxels, volume.image.affine, dtype=voxels.dtype)
    image.header["descrip"] = made_of
    spacing = voxel_sizes(image.affine)
    remarks = volume.remarks + _unusual_spacing(case, spacing)
    written = {image_file: image}
    mm3 = None
    if volume.segmentation is not None:
        unknown = sorted(set(np.unique(volume.segmentation).tolist()) - set(source_labels.values()))
        if unknown:
            raise UserError(f"{case.label} has unknown labels {unknown}; known are {sorted(source_labels.values())}.")
        values = np.zeros(max(source_labels.values()) + 1, np.uint8)
        for name, value in source_labels.items():
            values[value] = labels.get(name, 0)
        segmentation = values[volume.segmentation.astype(np.uint8)]
        written[label_file] = nib.Nifti1Image(segmentation, volume.image.affine)
        mm3 = np.bincount(segmentation.ravel(), minlength=n_values) * spacing.prod()
    with writing(label_file, DISK_FULL):
        (dataset / "dataset.json").unlink(missing_ok=True)  # until all is done: it is not finished now
        if volume.segmentation is None:
            label_file.unlink(missing_ok=True)
    with ExitStack() as both:  # image and label come into place together, last the image, which tells of both
        for target, nifti in written.items():
            both.enter_context(writing(target, DISK_FULL))
            nib.save(nifti, both.enter_context(written_whole(target)))
    return True, remarks, volume.repairs, mm3


def _unusual_spacing(case: Case, spacing: np.ndarray) -> list[str]:
    if ((spacing >= PLAUSIBLE_SPACING[0]) & (spacing <= PLAUSIBLE_SPACING[1])).all():
        return []
    return [f"{case.image} has an unusual voxel spacing of {' x '.join(f'{s:g}' for s in spacing)} mm."]


def _made_of(case: Case, *labels: dict[str, int]) -> str:
    """A hash of what decides how a case is written: paths, sizes and times of its files, and the labels."""
    files = [file for file in (case.image, case.label, *case.more) if file is not None and file.exists()]
    states = [(os.fspath(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(repr((states, labels)).encode(errors="surrogateescape")).hexdigest()


def _description(file: Path) -> str:
    """That of an image's header, where a conversion writes what the image was made of; empty where there is none."""
    try:
        return bytes(cast(nib.Nifti1Image, nib.load(file)).header["descrip"]).decode().rstrip("\0")
    except Exception:  # damaged headers make nibabel and NumPy raise all kinds
        return ""


def _swapped_phases(volumes: dict[Case, np.ndarray], labels: dict[str, int]) -> list[str]:
    """Warns of patients whose left ventricle is larger at ES than at ED."""
    if "LV" not in labels:
        return []
    lv = {(case.patient, case.phase): v[labels["LV"]] for case, v in volumes.items() if v is not None}
    return [
        f"{patient}: the left ventricle is larger at ES ({lv[patient, 'ES'] / 1000:.0f} mL) than at ED "
        f"({volume / 1000:.0f} mL); the phases may be swapped in the source."
        for (patient, phase), volume in sorted(lv.items())
        if phase == "ED" and lv.get((patient, "ES"), 0) > volume
    ]


def _cases_csv(cases: Sequence[Case]) -> str:
    rows = [(c.case, c.patient, c.phase, c.group, c.vendor, c.image.name, c.split) for c in cases]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("case", "patient", "phase", "group", "vendor", "source", "split"))
    table.writerows(map(plain, row) for row in rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    """Replaces ``path`` in one step, and only if its text changes."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    write_text(text, path)
