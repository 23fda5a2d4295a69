"""What DICOM files say about their images, without the pixels; and the pixels of those that are wanted."""

import os
import re
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import ImplicitVRLittleEndian

from nnunet_cardiac.dicom import SIZES, Patient, Source, read_dicom, unit_vectors
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import printable, reason

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
"""Of multi-frame objects: what holds for all frames, and for each."""
TAGS = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer", "ImageType",
    "SeriesDescription", "SeriesNumber", "InstanceNumber", "AcquisitionTime", "AcquisitionDateTime", "StudyDate",
    "AcquisitionDate", "InversionTime", "FlipAngle", "DimensionIndexSequence",
    "PatientID", "PatientName", "PatientSex", "PatientAge", "PatientBirthDate", "PatientSize", "PatientWeight",
    "TriggerTime", "NominalInterval", "HeartRate", "TemporalPositionIdentifier", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ScanningSequence", "SequenceVariant", "EchoTime",
    "EchoPulseSequence", "SteadyStatePulseSequence", *SIZES, SHARED, PER_FRAME,
)  # fmt: skip
CONTRAST = ("ScanningSequence", "SequenceVariant", "EchoPulseSequence", "SteadyStatePulseSequence")
"""Attributes with the names of the sequence: of single images, and of multi-frame objects."""
SALT = secrets.token_bytes(16)
"""Without it a hash of a number of few digits is found by trying all."""
OLDEST = 90
"""Years. It stands for all older ages too, of which there are so few that the age tells who it is."""
OVER_TIME = ("TemporalPositionIndex", "NominalCardiacTriggerDelayTime", "TriggerTime", "FrameAcquisitionDateTime")
"""Attributes of multi-frame objects whose place in the order of frames is the phase."""
FIRST_ELEMENTS = (b"\x00\x00", b"\x05\x00", b"\x08\x00")
"""Of group 8, with one of which a file without the preamble begins."""


@dataclass(frozen=True)
class Frame:
    """One image, as its header describes it; None where it does not.

    Args:
        source: where it is
        study: UID of the study that it is in
        series, series_number, description: of the series that it is in
        patient: a hash of who it is of; "" where nothing tells
        modality: "MR" and so on
        image_type: DICOM's; "M" or "P", for magnitude and phase, are among its values
        shape: rows, columns
        spacing: between rows and between columns, mm
        orientation: (2, 3), unit vectors along a row and along a column, in DICOM's world (left, posterior, superior)
        position: (3,), of the first pixel, mm
        time: from the R wave, ms
        interval: between R waves, ms
        order: what tells the order of images where time does not: temporal position, time of day of the acquisition
            (HHMMSS.FFFFFF), instance number
        day: of the acquisition, YYYYMMDD; "" where it is not told
        thickness: of the slice, mm
        contrast: names of the sequence, which tell cine from tagging or late enhancement
        echo_time, inversion_time: ms
        flip_angle: degrees
        facts: about the patient, that identify nobody
        vendor: of the scanner
    """

    source: Source
    study: str
    series: str
    series_number: int | None
    description: str
    patient: str
    modality: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    spacing: tuple[float, float] | None
    orientation: np.ndarray | None
    position: np.ndarray | None
    time: float | None
    interval: float | None
    order: tuple[int | None, str, int | None]
    day: str
    thickness: float | None
    contrast: frozenset[str]
    echo_time: float | None
    inversion_time: float | None
    flip_angle: float | None
    facts: Patient
    vendor: str

    @property
    def is_identified(self) -> bool:
        """Whether it has UIDs of its study and series, by which another object can refer to it."""
        return bool(self.study and self.series)

    @property
    def normal(self) -> np.ndarray:
        """(3,), of an image with an orientation."""
        assert self.orientation is not None
        return np.cross(*self.orientation)


def read_frames(source: Path) -> tuple[list[Frame], int, list[str]]:
    """Every image in the DICOM files of a folder, of any depth, or in one file.

    Returns:
        images; number of files that are no DICOM; problems in sentences, of files that are DICOM and cannot be read
    """
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    frames: list[Frame] = []
    others, problems = 0, []
    tags = [tag for keyword in TAGS if (tag := tag_for_keyword(keyword)) is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that do not follow the standard
        for file in progress(files, desc="Reading DICOM headers", unit="file", leave=False):
            if not is_dicom(file):
                others += 1
                continue
            try:
                header = read_dicom(file, stop_before_pixels=True, specific_tags=tags, force=True)
                frames.extend(_frames(header, file))
            except Exception as e:  # see nnunet_cardiac.dicom
                problems.append(f"{file} cannot be read as DICOM ({reason(e)}): it is left out.")
    return frames, others, problems


def is_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM does, with or without the preamble of part 10."""
    try:
        with open(file, "rb") as opened:
            beginning = opened.read(132)
    except OSError:
        return False
    return beginning[128:] == b"DICM" or (beginning[:2] == b"\x08\x00" and beginning[2:4] in FIRST_ELEMENTS)


def _frames(header: Dataset, file: Path) -> Iterator[Frame]:
    if "Rows" not in header or "SOPInstanceUID" not in header:
        return  # no image: a report, a directory
    shared = _first(header, SHARED)
    per_frame = header.get(PER_FRAME)
    common: dict[str, Any] = {
        "study": str(header.get("StudyInstanceUID", "")),
        "series": str(header.get("SeriesInstanceUID", "")),
        "series_number": _integer(header.get("SeriesNumber")),
        "description": printable(str(header.get("SeriesDescription", ""))),
        "patient": _identity(header),
        "modality": printable(str(header.get("Modality", ""))),
        "shape": (int(header.Rows), int(header.Columns)),
        "contrast": frozenset(word for keyword in CONTRAST for word in _values(header.get(keyword)) if word),
        "facts": _facts(header),
        "vendor": _vendor(str(header.get("Manufacturer", ""))),
    }
    uids = str(header.get("SOPClassUID", "")), str(header.SOPInstanceUID)
    if not per_frame or "ImagePositionPatient" in header:  # some files of one image have an empty item for it
        rate = _number(header.get("HeartRate"))
        interval = _number(header.get("NominalInterval")) or (60000 / rate if rate else None)
        yield Frame(
            source=Source(file, *uids),
            image_type=tuple(str(v) for v in header.get("ImageType", ())),
            spacing=_spacing(header),
            orientation=_orientation(header),
            position=_vector(header.get("ImagePositionPatient"), 3),
            time=_number(header.get("TriggerTime")),
            interval=interval,
            order=(
                _integer(header.get("TemporalPositionIdentifier")),
                _clock(header),
                _integer(header.get("InstanceNumber")),
            ),
            day=_day(header),
            thickness=_number(header.get("SliceThickness")),
            echo_time=_number(header.get("EchoTime")),
            inversion_time=_number(header.get("InversionTime")),
            flip_angle=_number(header.get("FlipAngle")),
            **common,
        )
        return
    over_time = _index_over_time(header)
    for number, own in enumerate(per_frame, 1):

        def group(name: str, own: Dataset = own) -> Dataset:
            return _first(own, name) or _first(shared, name) or Dataset()

        content, heart = group("FrameContentSequence"), group("CardiacSynchronizationSequence")
        measures = group("PixelMeasuresSequence")
        inversion = _values(group("MRModifierSequence").get("InversionTimes"))
        yield Frame(
            source=Source(file, *uids, number),
            image_type=tuple(str(v) for v in group("MRImageFrameTypeSequence").get("FrameType", ()))
            or tuple(str(v) for v in header.get("ImageType", ())),
            spacing=_spacing(measures),
            orientation=_orientation(group("PlaneOrientationSequence")),
            position=_vector(group("PlanePositionSequence").get("ImagePositionPatient"), 3),
            time=_number(heart.get("NominalCardiacTriggerDelayTime")) if heart else _number(header.get("TriggerTime")),
            interval=_number(heart.get("RRIntervalTimeNominal")),
            order=(_temporal_position(content, over_time), _clock(content) or _clock(header), number),
            day=_day(content) or _day(header),
            thickness=_number(measures.get("SliceThickness")),
            echo_time=_number(group("MREchoSequence").get("EffectiveEchoTime")),
            inversion_time=_number(inversion[0] if inversion else None),
            flip_angle=_number(group("MRTimingAndRelatedParametersSequence").get("FlipAngle")),
            **common,
        )


def _index_over_time(header: Dataset) -> int | None:
    """Which of a multi-frame object's indices of a frame tells its phase."""
    tags = [tag_for_keyword(keyword) for keyword in OVER_TIME]
    pointers = [item.get("DimensionIndexPointer") for item in header.get("DimensionIndexSequence") or ()]
    return next((i for i, pointer in enumerate(pointers) if pointer in tags), None)


def _temporal_position(content: Dataset, over_time: int | None) -> int | None:
    position = _integer(content.get("TemporalPositionIndex"))
    if position is None and over_time is not None:
        indices = _values(content.get("DimensionIndexValues"))
        return _integer(indices[over_time]) if over_time < len(indices) else None
    return position


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


def _values(value: Any) -> list:
    """Of an attribute that may have several."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _clock(dataset: Dataset) -> str:
    """When an image was acquired: the time of day, HHMMSS.FFFFFF."""
    if dataset.get("AcquisitionTime"):
        return str(dataset.AcquisitionTime)
    return re.split("[+-]", _date_and_time(dataset)[8:])[0]  # without the date and the time zone


def _day(dataset: Dataset) -> str:
    """When an image was acquired: YYYYMMDD."""
    return str(dataset.get("AcquisitionDate") or _date_and_time(dataset)[:8])


def _date_and_time(dataset: Dataset) -> str:
    keywords = ("FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionDateTime")
    return next((str(dataset[keyword].value) for keyword in keywords if dataset.get(keyword)), "")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _vector(value: Any, n: int) -> np.ndarray | None:
    try:
        vector = np.array([float(v) for v in value])
    except (TypeError, ValueError):
        return None
    return vector if vector.shape == (n,) and np.isfinite(vector).all() else None


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    spacing = _vector(dataset.get("PixelSpacing"), 2)
    return None if spacing is None or spacing.min() <= 0 else (float(spacing[0]), float(spacing[1]))


def _orientation(dataset: Dataset) -> np.ndarray | None:
    vector = _vector(dataset.get("ImageOrientationPatient"), 6)
    if vector is None:
        return None
    try:
        return unit_vectors(vector)
    except ValueError:
        return None


def _identity(header: Dataset) -> str:
    """A hash of the patient's ID, or of the name where there is none; another one in every run."""
    who = (str(header.get("PatientID", "")).strip() or str(header.get("PatientName", "")).strip("^ ")).casefold()
    return sha256(SALT + who.encode()).hexdigest()[:8] if who else ""


def pseudonym(source: Path) -> str | None:
    """A name for a study from which nobody can tell the patient: a hash of its UID; None where there is no DICOM."""
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for file in files:
        if is_dicom(file):
            try:
                tags = [tag for keyword in ("StudyInstanceUID", "Modality") if (tag := tag_for_keyword(keyword))]
                header = read_dicom(file, stop_before_pixels=True, specific_tags=tags, force=True)
            except Exception:  # it is named when its images are read
                continue
            if header.get("Modality") == "MR":
                who = str(header.get("StudyInstanceUID", "")) or sha256(file.read_bytes()).hexdigest()
                return f"patient_{sha256(who.encode()).hexdigest()[:8]}"
    return None


def _facts(header: Dataset) -> Patient:
    sex = str(header.get("PatientSex", "")).upper()
    height, weight = _number(header.get("PatientSize")), _number(header.get("PatientWeight"))
    if height is not None and height > 3:  # written in cm, against the standard
        height /= 100
    return Patient(
        sex=sex if sex in ("F", "M") else None,
        age=_age(header),
        height=height if height and 0.3 < height < 2.5 else None,
        weight=weight if weight and 2 < weight < 400 else None,
    )


def _age(header: Dataset) -> float | None:
    """Years, as written or from birth to the study."""
    written = str(header.get("PatientAge", ""))
    age = _number(written[:-1]) if written[-1:] == "Y" else None
    if age is None:
        try:
            born, seen = (int(str(header.get(keyword, ""))[:8]) for keyword in ("PatientBirthDate", "StudyDate"))
        except ValueError:
            return None
        age = float((seen - born) // 10000)
    return min(age, OLDEST) if 0 <= age < 130 else None


def _vendor(manufacturer: str) -> str:
    for vendor in ("GE", "Siemens", "Philips", "Canon", "Toshiba", "United Imaging", "Hitachi"):
        if manufacturer.lower().startswith(vendor.lower()):
            return vendor
    return ""


def read_pixels(frames: Sequence[Frame]) -> tuple[dict[Source, np.ndarray], list[str]]:
    """Pixels of images, rescaled as their files say. Each file is opened once.

    Returns:
        (rows, columns) float32 by source, of images that can be decoded; problems in sentences, of files that cannot
    """
    wanted: dict[Path, list[Frame]] = {}
    for frame in frames:
        wanted.setdefault(frame.source.file, []).append(frame)
    pixels: dict[Source, np.ndarray] = {}
    problems = []
    for file, own in progress(wanted.items(), desc="Reading images", unit="file", leave=False):
        try:
            stack = _decode(file)
            several = stack.ndim == 3  # an enhanced object may hold one frame
            images = {f.source: stack[(f.source.frame or 1) - 1] if several else stack for f in own}
            if any(image.shape != f.shape for f, image in zip(own, images.values(), strict=True)):
                raise ValueError(f"its pixels are {stack.shape}, not {own[0].shape}")
            pixels |= images
        except Exception as e:  # see nnunet_cardiac.dicom
            problems.append(f"{file} cannot be decoded ({reason(e)}): it is left out.")
    return pixels, problems


def _decode(file: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dicom = read_dicom(file, force=True)
        slopes, intercepts = np.array([_rescale(group) for group in _rescale_groups(dicom)], np.float32).T
        if len(slopes) > 1:
            slopes, intercepts = slopes[:, None, None], intercepts[:, None, None]
        if not _has_decoder(dicom):  # JPEG lossless and others, which pydicom needs more packages for
            stored = np.asarray(_decode_with_gdcm(file), np.float32)  # all frames rescaled as the first one
            return stored if len(slopes) == 1 else (stored - intercepts[0]) / slopes[0] * slopes + intercepts
        stored = dicom.pixel_array.astype(np.float32)
        if dicom.get("PhotometricInterpretation") == "MONOCHROME1":  # small values are bright
            stored = (-1 if dicom.PixelRepresentation else 2**dicom.BitsStored - 1) - stored
    return stored * slopes + intercepts


def _has_decoder(dicom: Dataset) -> bool:
    syntax = dicom.file_meta.get("TransferSyntaxUID") if hasattr(dicom, "file_meta") else None
    if syntax is None:  # no preamble
        dicom.file_meta = dicom.file_meta if hasattr(dicom, "file_meta") else FileMetaDataset()
        dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        return True
    try:
        return get_decoder(syntax).is_available if syntax.is_compressed else True
    except NotImplementedError:
        return False


def _rescale_groups(dicom: Dataset) -> list[Dataset]:
    """Where slope and intercept stand: for all frames, or for each of a multi-frame object."""
    shared = _first(_first(dicom, SHARED), "PixelValueTransformationSequence")
    own = [_first(frame, "PixelValueTransformationSequence") for frame in dicom.get(PER_FRAME) or ()]
    if any(own) and "ImagePositionPatient" not in dicom:
        return [group or shared or Dataset() for group in own]
    return [shared or dicom]


def _rescale(group: Dataset) -> tuple[float, float]:
    slope, intercept = _number(group.get("RescaleSlope")), _number(group.get("RescaleIntercept"))
    return slope or 1.0, intercept or 0.0


def _decode_with_gdcm(file: Path) -> np.ndarray:
    """What SimpleITK reads, already rescaled, and bright where large: (rows, columns), or (frames, rows, columns)."""
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(file)))
    return voxels[0] if voxels.shape[0] == 1 else voxels
