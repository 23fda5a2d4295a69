"""M&Ms-2: 360 subjects, long-axis four-chamber view and short-axis stack, ED and ES labelled in both (Martin-Isla et
al., IEEE Journal of Biomedical and Health Informatics 27(7), 2023)."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_cardiac.dataset_conversion.conversion import Case, Conversion, Volume, read_pair, write_dataset
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import read_rows

REFERENCE = (
    "Martin-Isla et al., Deep Learning Segmentation of the Right Ventricle in Cardiac MRI, IEEE JBHI 27(7), 2023"
)
LABELS = {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
DATASET_IDS = {"MnM2_LA": 32, "MnM2_SA": 33, "MnM2_LA_challenge": 34, "MnM2_SA_challenge": 35}
INFORMATION = "dataset_information.csv"
VENDORS = {"siemens": "Siemens", "philips": "Philips", "ge": "GE"}
FIRST_OF_TEST = 201
"""Subjects 1 to 160 are the challenge's training, 161 to 200 its validation, 201 to 360 its test set."""
SLICE_THICKNESS = 10.0
"""mm, of a long-axis image that tells less than its pixels' size: nnU-Net takes the axis with the largest spacing for
the one between slices."""


def convert(
    source: Path,
    dataset_id: int | None = None,
    n_folds: int = 5,
    n_processes: int = 2,
    view: str = "LA",
    split: str = "all",
) -> Conversion:
    """Converts one view of M&Ms-2 as its owners ship it: ``[MnM2/]dataset/NNN/NNN_VIEW_{ED,ES}[_gt].nii.gz``.

    Args:
        source: the folder with the subjects' folders, or one above it
        dataset_id: NNN of the folder's name; where None 32 (LA) and 33 (SA), with the challenge's split 34 and 35
        n_folds: folds over the subjects, stratified by disease and vendor
        n_processes: cases converted at a time
        view: "LA", one slice in four-chamber view, or "SA", the short-axis stack
        split: "all" for 360 subjects in the folds, as CroCNet has them; "challenge" for 200 in the folds, and the
            challenge's test set as ``imagesTs`` and ``labelsTs``

    Raises:
        UserError: the layout was not found, or nothing could be converted
    """
    root = _root(source)
    about, remarks = _information(root)
    name = f"MnM2_{view}" + "_challenge" * (split == "challenge")
    cases, problems = [], []
    known: dict[int, Path] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(r"\d{1,3}", p.name)):
        subject = int(folder.name)
        if subject in known:
            problems.append(f"{folder} is subject {subject} once more, after {known[subject]}: it is left out.")
            continue
        known[subject] = folder
        if about and subject not in about:
            remarks.append(f"{folder}: {INFORMATION} does not know subject {subject}.")
        disease, vendor = about.get(subject, ("unknown", "unknown"))
        test = split == "challenge" and subject >= FIRST_OF_TEST
        for phase in ("ED", "ES"):
            image, label = (_file(folder, f"{view}_{phase}{ending}") for ending in ("", "_gt"))
            if image is None or (label is None and not test):
                what = "image" if image is None else "label"
                problems.append(f"{folder}: subject {subject} has no {view} {what} at {phase}.")
                continue
            case = f"{subject:03d}_{phase}"
            cases.append(
                Case(case, f"{subject:03d}", phase, disease, vendor, "test" if test else "train", image, label)
            )
    if not any(case.split == "train" for case in cases):
        raise UserError(f"No subject in {root} can be used: {problems[0] if problems else 'there is none.'}")
    result = write_dataset(
        cases, DATASET_IDS[name] if dataset_id is None else dataset_id, name, LABELS, REFERENCE, n_folds, n_processes,
        read=_read,
    )  # fmt: skip
    result.problems = problems + result.problems
    result.warnings = remarks + result.warnings
    return result


def _root(source: Path) -> Path:
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give -i the folder that M&Ms-2 was unpacked into.")
    for root in (source, source / "dataset", source / "MnM2", source / "MnM2" / "dataset"):
        if any(root.glob("[0-9]*/*_[LS]A_E[DS].nii*")):
            return root
    near = f" ({source / INFORMATION} is there)" if (source / INFORMATION).is_file() else ""
    raise UserError(
        f"No folder 'NNN' with NNN_LA_ED.nii.gz in {source}, nor in dataset or MnM2/dataset below it{near}: give -i "
        "the folder that M&Ms-2 was unpacked into."
    )


def _file(folder: Path, ending: str) -> Path | None:
    """``NNN_ending.nii.gz`` or ``.nii`` in a subject's folder."""
    files = [folder / f"{folder.name}_{ending}{suffix}" for suffix in (".nii.gz", ".nii")]
    return next((file for file in files if file.is_file()), None)


def _information(root: Path) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Disease and vendor of each subject, and what is wrong with the table, which no conversion fails for."""
    file = next((f for f in (root / INFORMATION, root.parent / INFORMATION) if f.is_file()), None)
    if file is None:
        return {}, [f"There is no {INFORMATION} in {root}: folds are not stratified by disease and vendor."]
    try:
        rows = [{key.strip().upper(): value.strip() for key, value in row.items()} for row in read_rows(file)]
    except UserError as e:
        return {}, [str(e)]
    remarks = [
        f"{file} has no column {column}: it is taken for unknown."
        for column in ("SUBJECT_CODE", "DISEASE", "VENDOR")
        if not rows or column not in rows[0]
    ]
    about: dict[int, tuple[str, str]] = {}
    for row in rows:
        code = row.get("SUBJECT_CODE", "")
        if not re.fullmatch(r"\d{1,9}", code):
            if "SUBJECT_CODE" in row:
                remarks.append(f"{file}: '{code:.40}' is no subject's number.")
            continue
        vendor = next((v for key, v in VENDORS.items() if row.get("VENDOR", "").lower().startswith(key)), None)
        if vendor is None and row.get("VENDOR"):
            remarks.append(f"{file}: subject {int(code)} has the unknown vendor '{row['VENDOR']}'.")
        found = (_plain(row.get("DISEASE", "")), vendor or _plain(row.get("VENDOR", "")))
        if about.setdefault(int(code), found) != found:
            remarks.append(f"{file}: subject {int(code)} has two lines that differ; the first counts.")
    return about, remarks


def _plain(text: str) -> str:
    """For ``cases.csv``."""
    return text or "unknown"


def _read(case: Case) -> Volume:
    volume = read_pair(case)
    spacing = np.linalg.norm(volume.image.affine[:3, :3], axis=0)
    if volume.image.shape[2] == 1 and spacing[2] <= max(spacing[:2]):
        affine = volume.image.affine.copy()
        affine[:3, 2] *= SLICE_THICKNESS / spacing[2]
        volume.image = nib.Nifti1Image(np.asanyarray(volume.image.dataobj), affine, volume.image.header)
        volume.repairs.append(
            f"{case.image}: its one slice is {spacing[2]:g} mm thick, no more than a pixel; {SLICE_THICKNESS:g} mm are "
            "written."
        )
    return volume
