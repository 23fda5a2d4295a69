"""LVQuan19: 56 patients, one mid-ventricular short-axis slice in 20 frames, cavity and epicardium labelled in all
(Xue et al., Medical Image Analysis 43, 2018, and the challenge of STACOM 2019)."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io

from nnunet_cardiac.dataset_conversion.conversion import Case, Conversion, Volume, write_dataset
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.nifti import MOST_VOXELS
from nnunet_cardiac.texts import printable, reason

NAME = "LVQuan19"
DATASET_ID = 19
LABELS = {"background": 0, "LV": 1, "MYO": 2}
REFERENCE = "Xue et al., Full left ventricle quantification via deep multitask relationships learning, MIA 43, 2018"
VARIABLES = ("image", "endo", "epi", "pix_spa")
KNOWN = (*VARIABLES, "lv_phase")
NUMERIC = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
"""MATLAB's classes of numbers. Others, as a struct, can hold more than their size tells."""
SLICE_THICKNESS = 10.0
"""mm. The files do not say it; nnU-Net takes the axis with the largest spacing for the one between slices."""


def convert(source: Path, dataset_id: int | None = None, n_folds: int = 5, n_processes: int = 2) -> Conversion:
    """Converts the ``.mat`` files of LVQuan19, one a patient, MATLAB v5 or v7.3. Every annotated frame is a case.

    LV is the ``endo`` mask, MYO what ``epi`` has beyond it. ``phase`` in ``cases.csv`` is diastole or systole, from
    ``lv_phase``.

    Args:
        source: the folder with the files; folders below it are searched too
        dataset_id: NNN of ``DatasetNNN_LVQuan19``, 19 where None
        n_folds: folds over the patients
        n_processes: cases converted at a time

    Raises:
        UserError: there are no such files, or nothing could be converted
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give -i the folder with the .mat files of LVQuan19.")
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() == ".mat")
    if not files:
        raise UserError(
            f"There is no .mat file in {source} or below: give -i the folder that LVQuan19 was unpacked into."
        )
    cases, problems = [], []
    for file in files:
        try:
            cases += _cases(file)
        except UserError as e:
            problems.append(str(e))
    if not cases:
        raise UserError(f"No file in {source} can be used: {problems[0]}")
    result = write_dataset(
        cases, DATASET_ID if dataset_id is None else dataset_id, NAME, LABELS, REFERENCE, n_folds, n_processes,
        read=_read,
    )  # fmt: skip
    result.problems = problems + result.problems
    return result


def _cases(file: Path) -> list[Case]:
    content = read_mat(file)
    phases = np.ravel(content.get("lv_phase", ()))
    annotated = np.flatnonzero(content["endo"].any((0, 1)) | content["epi"].any((0, 1)))
    if not len(annotated):
        raise UserError(f"{file} has no annotated frame: endo and epi are empty.")
    return [
        Case(
            f"{file.stem}_frame{frame + 1:02d}", file.stem, _phase(phases, frame), "unknown", "unknown", "train", file,
            file,
        )
        for frame in annotated.tolist()
    ]  # fmt: skip


def _phase(phases: np.ndarray, frame: int) -> str:
    return ("systole" if phases[frame] else "diastole") if frame < len(phases) else "unknown"


def _read(case: Case) -> Volume:
    content = read_mat(case.image)
    frame = int(case.case.rsplit("_frame", 1)[1]) - 1
    endo, epi = (content[name][..., frame] > 0 for name in ("endo", "epi"))
    remarks = []
    outside = np.count_nonzero(endo & ~epi)
    if outside:
        remarks.append(f"{case.image}, frame {frame + 1}: {outside} pixels of endo are outside epi; they are LV.")
    segmentation = np.where(endo, LABELS["LV"], np.where(epi, LABELS["MYO"], 0)).astype(np.uint8)
    image = content["image"][..., frame].astype(np.float32)
    if not np.isfinite(image).all():
        raise UserError(f"{case.image}, frame {frame + 1}: the image has NaN or infinite pixels.")
    spacing = float(np.ravel(content["pix_spa"])[0])
    affine = np.diag([spacing, spacing, SLICE_THICKNESS, 1.0])
    return Volume(nib.Nifti1Image(image.T[..., None], affine), segmentation.T[..., None], remarks)


@lru_cache(maxsize=2)  # the frames of a patient are converted one after the other
def read_mat(file: Path) -> dict[str, np.ndarray]:
    """The variables of a file, as MATLAB has them: image, endo and epi (H, W, frames), pix_spa in mm.

    Raises:
        UserError: no MATLAB file, a variable is missing, or the masks have another size than the image
    """
    try:
        if h5py.is_hdf5(file):
            with h5py.File(file) as content:  # v7.3, axes reversed
                known = [name for name in KNOWN if name in content]
                for name in known:
                    kind = getattr(content[name], "dtype", np.dtype(object)).kind
                    _check_header(name, getattr(content[name], "shape", ()), kind in "biuf")
                found = {name: np.asarray(content[name]).T for name in known}
        else:
            for name, shape, kind in scipy.io.whosmat(file):
                if name in KNOWN:
                    _check_header(name, shape, kind in NUMERIC)
            content = scipy.io.loadmat(file, variable_names=list(KNOWN))
            found = {name: content[name] for name in KNOWN if name in content}
    except Exception as e:  # damaged files make h5py and SciPy raise all kinds
        raise UserError(f"{file} cannot be read as a MATLAB file ({reason(e)}): get it again.") from e
    _check(file, found)
    return found


def _check_header(name: str, shape: Sequence[int] | None, is_numeric: bool) -> None:
    if not is_numeric:
        raise ValueError(f"{name} holds no numbers")
    if math.prod(shape or ()) > MOST_VOXELS:
        raise ValueError(f"{name} has {math.prod(shape or ()):.2g} values")


def _check(file: Path, content: Mapping[str, np.ndarray]) -> None:
    missing = [name for name in VARIABLES if name not in content]
    if missing:
        found = printable(", ".join(sorted(content)))[:200]
        raise UserError(f"{file} has no {', '.join(missing)}; it has {found or 'no variable'}.")
    if odd := [name for name in VARIABLES if content[name].dtype.kind not in "biuf"]:
        raise UserError(f"{file}: {odd[0]} holds no numbers.")
    shape = content["image"].shape
    for name in ("endo", "epi"):
        if content[name].shape != shape or len(shape) != 3:
            raise UserError(f"{file}: {name} is {content[name].shape}, image {shape}; both should be H x W x frames.")
    spacing = np.ravel(content["pix_spa"])
    if not len(spacing) or not np.isfinite(spacing[0]) or spacing[0] <= 0:
        raise UserError(f"{file}: pix_spa is {spacing[:1].tolist()}, not a spacing in mm.")
