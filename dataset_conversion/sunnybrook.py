"""Sunnybrook: 45 patients, short-axis cine MR as DICOM, contours of the left ventricle as text (Radau et al., MIDAS
Journal, 2009; the data of the MICCAI 2009 left ventricle challenge)."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image, ImageDraw

from nnunet_cardiac.dataset_conversion.conversion import Case, Conversion, Volume, write_dataset
from nnunet_cardiac.dicom import SIZES, dicom_affine, read_dicom, unit_vectors
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import read_rows, read_text, reason

REFERENCE = "Radau et al., Evaluation Framework for Algorithms Segmenting Short Axis Cardiac MRI, MIDAS Journal, 2009"
DATASET_IDS = {"Sunnybrook": 9, "Sunnybrook_LV_MYO": 10, "Sunnybrook_LV_MYO_unknown": 11}
PATIENT = re.compile(r"SC-(HF-I|HF-NI|HYP|N)-0*(\d+)")
CONTOUR = re.compile(r"IM-\d+-(\d+)-([io])contour-manual\.txt")
HEADER = ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "Manufacturer", *SIZES)
SUBPIXELS = 16
"""Along each side of a pixel, to measure its share inside a contour."""


@dataclass
class Patient:
    """What was found of one patient, by frame number: contour files ("i", inner, "o", outer), DICOM files, positions
    of the slice; and the scanner's vendor."""

    contours: dict[int, dict[str, Path]] = field(default_factory=lambda: defaultdict(dict))
    images: dict[int, Path] = field(default_factory=dict)
    positions: dict[int, tuple] = field(default_factory=dict)
    vendor: str = "unknown"


def convert(
    source: Path,
    dataset_id: int | None = None,
    n_folds: int = 5,
    n_processes: int = 2,
    labels: Sequence[str] = ("LV",),
    keep_unknown: bool = False,
) -> Conversion:
    """Converts Sunnybrook in either of its layouts. Every frame with a contour of the cavity is a case of one slice.

    A contour's number is the DICOM instance number in the patient's short-axis series. Coordinates are pixels from the
    image's corner, so that 0.5 is the centre of the first pixel: the files do not tell, and against the edges in the
    images of two patients that fits best. Of the pixels that a contour crosses, those with the largest share inside are
    taken, as many as make up its area. ``phase`` in ``cases.csv`` is diastole for the larger of the cavities at one
    slice position, systole for the smaller.

    Args:
        source: the folder with images and contours, or one above it
        dataset_id: NNN of the folder's name; where None 9, with ``LV MYO`` 10, with ``keep_unknown`` 11
        n_folds: folds over the patients, stratified by pathology
        n_processes: cases converted at a time
        labels: ("LV",) for the cavity, ("LV", "MYO") also for the myocardium, of frames that have both contours; in
            any case of letters
        keep_unknown: with the myocardium, keep frames without the outer contour; what is not cavity there is nnU-Net's
            ignore label

    Raises:
        UserError: unknown labels, the layout was not found, or nothing could be converted
    """
    names = [label.upper() for label in labels]
    if names not in (["LV"], ["LV", "MYO"]):
        raise UserError(f"--labels is LV, or LV MYO; got {' '.join(labels)}.")
    myocardium = len(names) == 2
    if keep_unknown and not myocardium:
        raise UserError("--keep_unknown is for --labels LV MYO: with LV alone every frame with a cavity is kept.")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give -i the folder that Sunnybrook was unpacked into.")
    values = {"background": 0, "LV": 1} | ({"MYO": 2} if myocardium else {}) | ({"ignore": 3} if keep_unknown else {})
    name = "Sunnybrook" + "_LV_MYO" * myocardium + "_unknown" * keep_unknown

    patients, problems, remarks = find_patients(source)
    cases = []
    for patient, found in patients.items():
        phases = _phases(found)
        for number, contours in sorted(found.contours.items()):
            case = f"{patient}_{number:04d}"
            if "i" not in contours:
                problems.append(f"{contours['o']} has no inner contour beside it: the frame has no cavity.")
            elif number not in found.images:
                problems.append(
                    f"{contours['i']} has no image: no DICOM file of {patient} has instance number {number}."
                )
            elif not myocardium or keep_unknown or "o" in contours:
                outer = (contours["o"],) if myocardium and "o" in contours else ()
                named = PATIENT.fullmatch(patient)
                assert named  # it is called so because its folder's name matches
                group = named[1]
                cases.append(
                    Case(
                        case, patient, phases.get(number, "unknown"), group, found.vendor, "train",
                        found.images[number], contours["i"], outer,
                    )
                )  # fmt: skip
    if not cases:
        raise UserError(
            f"No frame in {source} has both an image and a contour: {(problems or ['none was found.'])[0]} Looked for "
            "*.dcm and IM-*-NNNN-icontour-manual.txt in folders named as SC-HF-I-4: give -i the folder above both."
        )
    result = write_dataset(
        cases, DATASET_IDS[name] if dataset_id is None else dataset_id, name, values, REFERENCE, n_folds, n_processes,
        read=partial(_read, unknown=values.get("ignore")),
    )  # fmt: skip
    result.problems = problems + result.problems
    result.warnings = remarks + result.warnings
    return result


def find_patients(source: Path) -> tuple[dict[str, Patient], list[str], list[str]]:
    """All patients that have contours, with their images; problems and remarks in sentences.

    Patients are named as in ``SC-HF-I-4``, however many zeros the folder's name has.
    """
    patients: dict[str, Patient] = defaultdict(Patient)
    problems, remarks = [], []
    strange: Counter[Path] = Counter()
    for file in sorted(source.rglob("*contour-manual.txt")):
        contour, patient = CONTOUR.fullmatch(file.name), patient_of(file.relative_to(source))
        if contour is None:
            continue  # papillary muscles
        if patient is None:
            strange[file.parent] += 1
            continue
        contours = patients[patient].contours[int(contour[1])]
        if contour[2] in contours:
            problems.append(f"{file} is a second contour of what {contours[contour[2]]} is one of: it is left out.")
        else:
            contours[contour[2]] = file
    problems += [f"{folder}: {n} contours of no patient that is named as SC-HF-I-4." for folder, n in strange.items()]

    files = _dicom_files(source, problems)
    for patient in sorted(files.keys() - patients.keys()):
        remarks.append(f"{patient}: {len(files[patient])} DICOM files and no contour.")
    for patient in progress(sorted(patients), desc="Reading DICOM headers", unit="patient"):
        if patient in files:
            _choose_series(patient, patients[patient], files[patient], problems, remarks)
        else:
            n = len(patients[patient].contours)
            problems.append(f"{patient}: {n} frames with contours, but no folder of {patient} has DICOM files.")
            patients[patient].contours.clear()
    return {patient: patients[patient] for patient in sorted(patients)}, problems, remarks


def patient_of(path: Path) -> str | None:
    """The patient that a path belongs to, by the innermost folder named after one."""
    for part in reversed(path.parts[:-1]):
        if match := PATIENT.fullmatch(part.upper()):
            return f"SC-{match[1]}-{match[2]}"
    return None


def _dicom_files(source: Path, problems: list[str]) -> dict[str, list[Path]]:
    """DICOM files by patient, from folders named after patients, or through ``link.csv``."""
    links = {}
    for file in sorted(source.rglob("link.csv")):
        try:
            rows = read_rows(file)
        except UserError as e:
            problems.append(str(e))
            continue
        if not rows or not {"patient_id", "original_id"} <= rows[0].keys():
            problems.append(f"{file} has no columns patient_id and original_id: it is not used.")
            continue
        for row in rows:
            if patient := patient_of(Path(row["original_id"].strip()) / "x"):
                links[row["patient_id"].strip()] = patient
            else:
                problems.append(f"{file}: original_id '{row['original_id']}' is no patient named as SC-HF-I-4.")
    files: dict[str, list[Path]] = defaultdict(list)
    unknown: Counter[Path] = Counter()
    for file in sorted(file for file in source.rglob("*") if file.suffix.lower() == ".dcm"):
        parts = file.relative_to(source).parts
        patient = patient_of(file.relative_to(source)) or next((links[p] for p in parts[-2::-1] if p in links), None)
        if patient:
            files[patient].append(file)
        else:
            unknown[file.parent] += 1
    problems += [f"{folder}: {n} DICOM files of an unknown patient." for folder, n in sorted(unknown.items())]
    return files


def _choose_series(
    patient: str, found: Patient, files: Sequence[Path], problems: list[str], remarks: list[str]
) -> None:
    """Finds the series that the contours belong to: the one with most of their numbers, of several the largest."""
    series: dict[str, dict[int, list[tuple[Path, tuple, str]]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's, of identifiers with leading zeros
                header = read_dicom(file, stop_before_pixels=True, specific_tags=list(HEADER))
                position = tuple(np.round(np.array(header.get("ImagePositionPatient", []), float), 1))
                vendor = str(header.get("Manufacturer", "unknown")).split(" ")[0] or "unknown"
                series[str(header.SeriesInstanceUID)][int(header.InstanceNumber)].append((file, position, vendor))
        except Exception as e:  # see nnunet_cardiac.dicom
            problems.append(f"{file} cannot be read as DICOM ({reason(e)}): get it again.")
    if not series:
        return
    wanted = found.contours.keys()
    chosen, *others = sorted(series.values(), key=lambda s: (len(wanted & s.keys()), len(s)), reverse=True)
    if others:
        n = sum(len(images) for other in others for images in other.values())
        remarks.append(f"{patient}: {n} DICOM files of {len(others)} other series are left out.")
    for number, images in chosen.items():
        if len(images) > 1:
            if number in wanted:
                two = " and ".join(str(file) for file, *_ in images[:2])
                problems.append(f"{two} both have instance number {number}: the frame is left out.")
                del found.contours[number]
            continue
        ((found.images[number], found.positions[number], found.vendor),) = images


def _phases(found: Patient) -> dict[int, str]:
    """Diastole and systole of the frames at each slice position that has two cavities."""
    areas: dict[tuple, list[tuple[float, int]]] = defaultdict(list)
    for number, contours in found.contours.items():
        if "i" in contours and number in found.images:
            try:
                areas[found.positions[number]].append((polygon_area(read_contour(contours["i"])), number))
            except UserError:
                continue  # named when the case is read
    pairs = [sorted(frames) for frames in areas.values() if len(frames) == 2]
    return {number: phase for pair in pairs for (_, number), phase in zip(pair, ("systole", "diastole"), strict=True)}


def read_contour(file: Path) -> np.ndarray:
    """A closed polygon's points (n, 2) as x and y in pixels from the image's corner.

    Raises:
        UserError: it is not made of pairs of numbers, or of fewer than three
    """
    try:
        points = np.array([[float(v) for v in line.split()] for line in read_text(file).splitlines() if line.strip()])
        points = points.reshape(len(points), 2)
    except ValueError as e:
        raise UserError(f"{file} is not a list of points, an x and a y in each line.") from e
    if len(points) < 3 or not np.isfinite(points).all():
        raise UserError(f"{file} has {len(points)} points: a contour needs three or more, all finite.")
    return points


def polygon_area(points: np.ndarray) -> float:
    """Area of a polygon in pixels."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def fill_polygon(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Pixels of a polygon, bool (rows, columns): as many as its area, those with the largest share inside it first.

    Args:
        points: (n, 2), x and y in pixels from the image's corner
        shape: rows and columns

    Raises:
        UserError: a point is outside the image, or the polygon has no area
    """
    rows, columns = shape
    low, high = points.min(0), points.max(0)
    if (low < 0).any() or high[0] > columns or high[1] > rows:
        raise UserError(
            f"the contour reaches from {low.tolist()} to {high.tolist()}, out of an image of {columns} x {rows} pixels."
        )
    first, last = np.floor(low).astype(int), np.ceil(high).astype(int)
    width, height = np.maximum(last - first, 1)
    fine = Image.new("1", (int(width) * SUBPIXELS, int(height) * SUBPIXELS))
    ImageDraw.Draw(fine).polygon(np.rint((points - first) * SUBPIXELS - 0.5).ravel().tolist(), fill=1)
    share = np.asarray(fine, float).reshape(height, SUBPIXELS, width, SUBPIXELS).mean((1, 3))
    n = min(round(polygon_area(points)), np.count_nonzero(share))
    if not n:
        raise UserError("the contour encloses not even one pixel.")
    order = np.argsort(-share, axis=None, kind="stable")[:n]
    mask = np.zeros((rows, columns), bool)
    rows_of, columns_of = np.unravel_index(order, share.shape)
    mask[first[1] + rows_of, first[0] + columns_of] = True
    return mask


def _read(case: Case, unknown: int | None) -> Volume:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dicom = read_dicom(case.image)
            pixels = np.asarray(dicom.pixel_array, np.float32)
            affine = _affine(dicom)
    except Exception as e:  # see nnunet_cardiac.dicom
        raise UserError(f"{case.image} cannot be read as DICOM ({reason(e)}): get it again, uncompressed.") from e
    if pixels.ndim != 2:
        raise UserError(f"{case.image} has {pixels.ndim} dimensions where a frame has 2.")
    assert case.label is not None  # frames without a contour of the cavity are no cases
    cavity = _fill(case.label, pixels.shape)
    segmentation, remarks = cavity.astype(np.uint8), []
    if case.more:
        (outer,) = case.more
        epicardium = _fill(outer, pixels.shape)
        missing = np.count_nonzero(cavity & ~epicardium)
        if epicardium.sum() <= cavity.sum() or missing > cavity.sum() / 2:
            raise UserError(f"{outer}, the outer contour, is not around the inner one, {case.label.name}.")
        if missing:
            remarks.append(f"{outer}: {missing} pixels of the cavity are outside; they are LV.")
        segmentation[epicardium & ~cavity] = 2
    elif unknown is not None:
        segmentation[~cavity] = unknown
    image = nib.Nifti1Image(pixels.T[..., None], affine)
    image.header.set_xyzt_units("mm")
    return Volume(image, segmentation.T[..., None], remarks)


def _fill(file: Path, shape: Sequence[int]) -> np.ndarray:
    try:
        return fill_polygon(read_contour(file), shape)
    except UserError as e:
        raise e if str(file) in str(e) else UserError(f"{file}: {e}") from e


def _affine(dicom: pydicom.Dataset) -> np.ndarray:
    """Of one slice; where nothing tells its place, it lies at the origin.

    Raises:
        ValueError: no spacing, or one that is not positive; or an orientation that is none
    """
    spacing = [float(v) for v in dicom.PixelSpacing]
    thickness = float(dicom.get("SpacingBetweenSlices") or dicom.get("SliceThickness") or 0)
    if min(*spacing, thickness) <= 0:
        raise ValueError(f"spacing {spacing[1]} x {spacing[0]} x {thickness} mm")
    directions = unit_vectors(dicom.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]))
    return dicom_affine(directions, dicom.get("ImagePositionPatient", [0, 0, 0]), spacing, thickness)
