"""ACDC: 150 patients, short-axis cine MR, ED and ES labelled (Bernard et al., IEEE TMI 37(11), 2018)."""

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_cardiac.dataset_conversion.conversion import Case, Conversion, write_dataset
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import read_text

NAME = "ACDC"
DATASET_ID = 27
DATASET_ID_OF_SOME_LABELS = 28
LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
REFERENCE = "Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac ..., IEEE TMI 37(11), 2018"
SPLITS = {"training": "train", "testing": "test"}


def convert(
    source: Path,
    dataset_id: int | None = None,
    n_folds: int = 5,
    n_processes: int = 2,
    labels: Sequence[str] | None = None,
) -> Conversion:
    """Converts ACDC as its owners ship it: ``[ACDC/database/]{training,testing}/patientNNN``.

    Args:
        source: the folder with ``training``, or one above it
        dataset_id: NNN of ``DatasetNNN_ACDC``, 27 where None; with ``labels`` 28
        n_folds: folds over the training patients, stratified by their group
        n_processes: cases converted at a time
        labels: structures to keep, in any case of letters, numbered from 1 in the order given; the others become
            background, and the data set is ``DatasetNNN_ACDC_STRUCTURES``. None for all, as ACDC numbers them

    Raises:
        UserError: an unknown structure, the layout was not found, or nothing could be converted
    """
    name, values = NAME, LABELS
    if labels is not None:
        labels = [label.upper() for label in labels]
        unknown = [label for label in labels if label not in LABELS or not LABELS[label]]
        if unknown or len(set(labels)) < len(labels):
            raise UserError(f"--labels are some of RV, MYO, LV, each once; got {' '.join(labels)}.")
        name = "_".join([NAME, *labels])
        values = {"background": 0} | {label: i for i, label in enumerate(labels, 1)}
    if dataset_id is None:
        dataset_id = DATASET_ID if labels is None else DATASET_ID_OF_SOME_LABELS
    cases, problems = [], []
    for folder in _patients(source):
        try:
            cases += _cases(folder)
        except UserError as e:
            problems.append(str(e))
    if not any(case.split == "train" for case in cases):
        raise UserError(f"No training patient in {source} can be used: {problems[0] if problems else 'there is none.'}")
    result = write_dataset(cases, dataset_id, name, values, REFERENCE, n_folds, n_processes, LABELS)
    result.problems = problems + result.problems
    return result


def _patients(source: Path) -> list[Path]:
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give -i the folder that ACDC was unpacked into.")
    for root in (source, source / "database", source / "ACDC", source / "ACDC" / "database"):
        patients = [p for split in SPLITS for p in sorted((root / split).glob("patient*")) if p.is_dir()]
        if patients:
            return patients
    raise UserError(
        f"No folder 'training/patientNNN' or 'testing/patientNNN' in {source}, nor in ACDC/database below it: "
        "give -i the folder that ACDC was unpacked into."
    )


def _cases(folder: Path) -> list[Case]:
    """A patient's ED and ES, as far as ``Info.cfg`` names them. Phases come from there: ED is not always frame 1."""
    info_file = folder / "Info.cfg"
    if not info_file.is_file():
        raise UserError(f"{info_file} is missing; it tells which frames are ED and ES.")
    info = dict(line.split(":", 1) for line in read_text(info_file).splitlines() if ":" in line)
    info = {key.strip(): value.strip() for key, value in info.items()}
    split = SPLITS[folder.parent.name]
    cases = []
    for phase in ("ED", "ES"):
        if not re.fullmatch(r"\d{1,4}", info.get(phase, "")):
            raise UserError(f"{info_file} has no line '{phase}: FRAME'.")
        stem = f"{folder.name}_frame{int(info[phase]):02d}"
        label = _nifti(folder, f"{stem}_gt")
        if label is None and split == "train":
            raise UserError(f"{folder / stem}_gt.nii.gz is missing: {folder.name} has no label at {phase}.")
        image = _nifti(folder, stem) or folder / f"{stem}.nii.gz"
        group = info.get("Group") or "unknown"
        cases.append(Case(f"{folder.name}_{phase}", folder.name, phase, group, "Siemens", split, image, label))
    return cases


def _nifti(folder: Path, stem: str) -> Path | None:
    """``stem.nii.gz`` or ``stem.nii``, which some copies hold in a folder of the same name."""
    for path in (folder / f"{stem}.nii.gz", folder / f"{stem}.nii"):
        if path.is_file():
            return path
        inside = sorted(path.glob("*.nii*")) if path.is_dir() else []
        if inside:
            return inside[0]
    return None
