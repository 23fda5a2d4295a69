"""Phantom studies as scanners write them: a short-axis cine in DICOM, and what else a study holds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from nnunet_cardiac.dicom import Patient, Source
from nnunet_cardiac.phantom.short_axis import LV, MYO, RV, ShortAxisPhantom

LAYOUTS = {
    "ge": "GE MEDICAL SYSTEMS",
    "siemens": "SIEMENS",
    "enhanced": "Philips Medical Systems",
}
"""Manufacturer by layout."""
FAULTS = {
    "slice_twice": "the middle slice was acquired twice, the second time later",
    "missing_phase": "the middle slice lacks two phases",
    "other_trigger_times": "the middle slice was acquired in beats that are 15 % longer, 20 ms later",
    "unequal_gaps": "from the middle slice on, slices are 6 mm farther away",
    "anonymised": "nothing about the patient, no times, no descriptions; instance numbers tell the order alone",
    "no_trigger_times": "no times after the R wave",
    "compressed": "RLE",
    "truncated": "one of the cine's files is cut off",
    "missing_spacing": "no PixelSpacing in the cine",
    "missing_orientation": "no ImageOrientationPatient in the cine",
    "two_patients": "the folder has a short-axis cine of another patient as well",
}
THICKNESS, GAP = 8.0, 2.0
"""mm."""
LATER, STRETCH, SHIFT = 20.0, 1.15, 6.0
"""Of the faults, ms, relative and mm."""
BLANKED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip
REMOVED = (
    "PatientAge", "PatientSize", "PatientWeight", "InstitutionName", "SeriesDescription", "ProtocolName", "TriggerTime",
    "NominalInterval", "HeartRate", "LowRRValue", "HighRRValue", "CardiacRRIntervalSpecified",
    "CardiacNumberOfImages", "AcquisitionTime", "TemporalPositionIdentifier", "NumberOfTemporalPositions",
)  # fmt: skip
"""What an anonymised study lacks."""
LACKING = {
    "no_trigger_times": "TriggerTime",
    "missing_spacing": "PixelSpacing",
    "missing_orientation": "ImageOrientationPatient",
}
"""Attributes of single frames by fault."""


@dataclass(frozen=True)
class PhantomStudy:
    """What was written, to compare with what is read.

    Args:
        folder: of all files
        images: (T, Z, Y, X) int16, slices from apex to base, which is along their normal
        labels: (T, Z, Y, X) uint8; 1 RV, 2 MYO, 3 LV
        affine: (4, 4), from indices (x, y, z) to nibabel's world, mm; with unequal gaps, of the first slices
        positions: (Z, 3), of each slice's first pixel in DICOM's world, mm
        times: (T,), ms from the R wave
        heart_rate: beats a minute
        patient: facts
        sources: by phase and slice; without those that a fault left out, and without a slice's second acquisition
        series: UIDs of the series that the cine is in
        identifiers: what must appear in no output: names, numbers, dates, the hospital
    """

    folder: Path
    images: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    positions: np.ndarray
    times: np.ndarray
    heart_rate: int
    patient: Patient
    sources: dict[tuple[int, int], Source]
    series: tuple[str, ...]
    identifiers: tuple[str, ...]


@dataclass(frozen=True)
class _Plane:
    """Directions along a row and along a column (2, 3), position of the first pixel, and pixel size; mm."""

    orientation: np.ndarray
    position: np.ndarray
    spacing: float

    def describe(self, dicom: Dataset) -> None:
        dicom.ImageOrientationPatient = [f"{v:.8f}" for v in self.orientation.ravel()]
        dicom.ImagePositionPatient = [f"{v:.5f}" for v in self.position]


def write_study(
    folder: Path,
    layout: str = "ge",
    seed: int = 0,
    group: str = "NOR",
    n_slices: int = 10,
    n_phases: int = 20,
    shape: tuple[int, int] = (192, 176),
    spacing: float = 1.6,
    faults: Sequence[str] = (),
    others: bool = True,
) -> PhantomStudy:
    """Writes a patient's study. The same arguments give the same files.

    - "ge": one series of all slices from base to apex and, within a slice, all phases; files without an ending in
      nested folders
    - "siemens": a series for each slice; files named after their UIDs
    - "enhanced": all slices and phases in one Enhanced MR object, as Philips writes it

    Args:
        folder: created where it does not exist
        layout: one of ``LAYOUTS``
        seed: of all that patients differ in
        group: of the heart, one of ``short_axis.GROUPS``
        n_slices, n_phases: of the cine
        shape: rows and columns, pixels
        spacing: pixel size, mm
        faults: some of ``FAULTS``
        others: also what else a study holds: cine in the long axis, localizers, flow, late enhancement, a map of T1, a
            screenshot, and a file that is no DICOM

    Raises:
        ValueError: an unknown layout or fault
    """
    if layout not in LAYOUTS or not set(faults) <= FAULTS.keys():
        raise ValueError(f"layout {layout!r} of {list(LAYOUTS)}, faults {list(faults)} of {list(FAULTS)}")
    study = _Study(folder, layout, seed, tuple(faults), shape, spacing)
    phantom = ShortAxisPhantom(group, seed, shape, spacing, n_slices, THICKNESS + GAP)
    es = round(0.36 * n_phases)
    cycle = [t / es if t <= es else (n_phases - t) / (n_phases - es) for t in range(n_phases)]
    frames = [phantom.frame(0.5 - 0.5 * np.cos(np.pi * contraction)) for contraction in cycle]
    images, labels = (np.stack(arrays) for arrays in zip(*frames, strict=True))
    sources, series, planes = study.write_cine(images)
    if others:
        study.write_others(images, labels, cycle)
    identifiers = study.identifiers
    if "two_patients" in faults:
        rest = [fault for fault in faults if fault != "two_patients"]
        another = write_study(folder, layout, seed + 1, group, n_slices, n_phases, shape, spacing, rest, others=False)
        identifiers += another.identifiers
    affine = np.eye(4)
    normal = np.cross(*planes[0].orientation)
    affine[:3, :3] = np.column_stack([*planes[0].orientation * spacing, normal * (THICKNESS + GAP)])
    affine[:3, 3] = planes[0].position
    return PhantomStudy(
        folder, images, labels, np.diag([-1.0, -1, 1, 1]) @ affine, np.stack([plane.position for plane in planes]),
        study.times(n_phases), study.heart_rate, study.patient, sources, series, identifiers,
    )  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """An image of the cine.

    Args:
        phase, slice: of the stack
        place: of its slice in the order of acquisition, from 0
        again: whether this is the slice's second acquisition
        pixels: (rows, columns)
        plane: where it is
        time: from the R wave, ms
        interval: between R waves, ms
    """

    phase: int
    slice: int
    place: int
    again: bool
    pixels: np.ndarray
    plane: _Plane
    time: float
    interval: float


class _Study:
    """Makes and writes the objects of one study."""

    def __init__(
        self, folder: Path, layout: str, seed: int, faults: tuple[str, ...], shape: tuple[int, int], spacing: float
    ):
        self.folder, self.layout, self.seed, self.faults = folder, layout, seed, faults
        self.shape, self.spacing = shape, spacing
        self.rng = np.random.default_rng([seed, 1])
        self.heart_rate = int(self.rng.integers(55, 86))
        self.patient = Patient(
            sex=("F", "M")[seed % 2],
            age=float(self.rng.integers(25, 80)),
            height=round(self.rng.normal(1.71, 0.08), 2),
            weight=round(self.rng.normal(76, 11), 1),
        )
        number = 70413 + 17 * seed
        self.identifiers: tuple[str, ...] = (
            f"Quillfeather{number}", "Ottoline", f"PID{number}", f"ACC{number}", f"19{45 + seed % 50}0317",
            "Saint Phantom Hospital", "Thistlewood",
        )  # fmt: skip
        self.instances = 0
        along_row, normal = np.array([[0.70, 0.65, -0.30], [-0.55, 0.60, 0.55]]) + self.rng.normal(0, 0.05, (2, 3))
        along_row = _unit(along_row)
        normal = _unit(normal - normal @ along_row * along_row)  # from apex to base
        self.orientation = np.stack([along_row, np.cross(normal, along_row)]).round(8)
        self.normal = np.cross(*self.orientation)
        self.centre = self.rng.normal((-40, -20, 10), 12)

    def uid(self, *names: object) -> UID:
        return generate_uid(entropy_srcs=["nnunet_cardiac", self.layout, str(self.seed), *map(str, names)])

    def times(self, n_phases: int) -> np.ndarray:
        """ms from the R wave."""
        return np.round(8 + np.arange(n_phases) * (60000 / self.heart_rate / n_phases), 2)

    def offset(self, z: int, n_slices: int) -> float:
        """From the middle of the stack along its normal, mm."""
        shift = SHIFT if "unequal_gaps" in self.faults and z >= n_slices // 2 else 0.0
        return (z - (n_slices - 1) / 2) * (THICKNESS + GAP) + shift

    def plane(self, orientation: np.ndarray, offset: float = 0.0) -> _Plane:
        """A plane through the heart, or ``offset`` mm from it along its normal."""
        rows, columns = self.shape
        middle = ((columns - 1) * orientation[0] + (rows - 1) * orientation[1]) / 2 * self.spacing
        return _Plane(orientation, (self.centre + offset * np.cross(*orientation) - middle).round(5), self.spacing)

    def object(self, series: int, description: str, sop_class: str = MRImageStorage) -> Dataset:
        """One more object: patient, study, series, equipment."""
        self.instances += 1
        name, given, number, accession, birth_date, hospital, physician = self.identifiers
        dicom = Dataset()
        dicom.file_meta = FileMetaDataset()
        dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = UID(sop_class)
        dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = self.uid("instance", self.instances)
        dicom.PatientName, dicom.PatientID = f"{name}^{given}", number
        dicom.PatientBirthDate, dicom.PatientSex = birth_date, self.patient.sex
        dicom.PatientAge = f"{self.patient.age:03.0f}Y"
        dicom.PatientSize, dicom.PatientWeight = self.patient.height, self.patient.weight
        dicom.StudyInstanceUID, dicom.SeriesInstanceUID = self.uid("study"), self.uid("series", series)
        dicom.StudyDate = dicom.SeriesDate = dicom.AcquisitionDate = dicom.ContentDate = "20240611"
        dicom.StudyTime = dicom.SeriesTime = dicom.AcquisitionTime = dicom.ContentTime = "101500"
        dicom.StudyID, dicom.AccessionNumber = "1", accession
        dicom.ReferringPhysicianName, dicom.InstitutionName = f"{physician}^{given}", hospital
        dicom.SeriesNumber, dicom.InstanceNumber, dicom.Modality = series, 1, "MR"
        dicom.SeriesDescription = dicom.ProtocolName = description
        dicom.Manufacturer, dicom.ManufacturerModelName = LAYOUTS[self.layout], "Phantom 1.5T"
        dicom.DeviceSerialNumber, dicom.SoftwareVersions = "1", "1"
        return dicom

    def mr(self, series: int, description: str, plane: _Plane, pixels: np.ndarray, instance: int, **more) -> Dataset:
        """An MR image of one frame, with ``more`` attributes."""
        dicom = self.object(series, description)
        dicom.ImageType, dicom.InstanceNumber, dicom.AcquisitionNumber = ["ORIGINAL", "PRIMARY", "M"], instance, 1
        dicom.FrameOfReferenceUID, dicom.PositionReferenceIndicator = self.uid("frame of reference"), ""
        dicom.PatientPosition, dicom.BodyPartExamined = "HFS", "HEART"
        dicom.ScanningSequence, dicom.SequenceVariant, dicom.ScanOptions = "GR", ["SK", "SS"], "CG"
        dicom.MRAcquisitionType, dicom.RepetitionTime, dicom.EchoTime = "2D", "3.1", "1.4"
        dicom.EchoTrainLength, dicom.FlipAngle, dicom.MagneticFieldStrength = 1, "50", "1.5"
        dicom.SliceThickness, dicom.SpacingBetweenSlices = str(THICKNESS), str(THICKNESS + GAP)
        dicom.PixelSpacing = [f"{plane.spacing:.6g}"] * 2
        plane.describe(dicom)
        dicom.SliceLocation = f"{plane.position @ np.cross(*plane.orientation):.3f}"
        _set_pixels(dicom, pixels)
        dicom.update(_dataset(**more))
        return dicom

    def save(self, dicom: Dataset) -> Path:
        """Writes an object in its place, compressed and anonymised where those are faults."""
        if "anonymised" in self.faults:
            for keyword in BLANKED:
                setattr(dicom, keyword, "")
            for keyword in REMOVED:
                dicom.pop(keyword, None)
            dicom.InstanceNumber = self.instances
        if "compressed" in self.faults:
            dicom.compress(RLELossless, generate_instance_uid=False)
        if self.layout == "siemens":
            file = self.folder / f"{dicom.SOPInstanceUID}.dcm"
        elif self.layout == "enhanced":
            file = self.folder / f"PA{self.seed:04d}" / "DICOM" / f"XX_{self.instances:04d}"
        else:
            series = f"SE{dicom.SeriesNumber:04d}"
            file = self.folder / f"PA{self.seed:04d}" / "ST0001" / series / f"IM{self.instances:04d}"
        file.parent.mkdir(parents=True, exist_ok=True)
        dicom.save_as(file, enforce_file_format=True)
        return file

    def write_cine(self, images: np.ndarray) -> tuple[dict[tuple[int, int], Source], tuple[str, ...], list[_Plane]]:
        """The short-axis cine (T, Z, Y, X): where its images are, in which series, and the slices' planes."""
        n_phases, n_slices = images.shape[:2]
        middle = n_slices // 2
        planes = [self.plane(self.orientation, self.offset(z, n_slices)) for z in range(n_slices)]
        order = list(product(reversed(range(n_slices)), range(n_phases), (False,)))
        if "slice_twice" in self.faults:
            order += product((middle,), range(n_phases), (True,))
        if "missing_phase" in self.faults:
            missing = range(n_phases // 3, n_phases // 3 + 2)
            order = [(z, t, again) for z, t, again in order if z != middle or t not in missing]
        frames = []
        for z, t, again in order:
            other = "other_trigger_times" in self.faults and z == middle
            stretch, later = (STRETCH, LATER) if other else (1.0, 0.0)
            noise = self.rng.normal(0, 0.02 * images.max(), self.shape) if again else 0
            frames.append(
                _Frame(
                    t, z, n_slices if again else n_slices - 1 - z, again, np.clip(images[t, z] + noise, 0, None),
                    planes[z], self.times(n_phases)[t] * stretch + later, 60000 / self.heart_rate * stretch,
                )
            )  # fmt: skip
        write = self._write_enhanced if self.layout == "enhanced" else self._write_single
        written = write(frames, n_phases)
        if "truncated" in self.faults:
            file = written[len(written) // 2].file
            file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
        sources = {(f.phase, f.slice): source for f, source in zip(frames, written, strict=True) if not f.again}
        numbers = sorted({self._series(frame) for frame in frames})
        return sources, tuple(self.uid("series", number) for number in numbers), planes

    def _series(self, frame: _Frame) -> int:
        """The number of the series that an image is in."""
        return 3 + frame.place if self.layout == "siemens" else 3

    def _write_single(self, frames: Sequence[_Frame], n_phases: int) -> list[Source]:
        """A file for each image."""
        written = []
        numbers: Counter[int] = Counter()
        for frame in frames:
            series = self._series(frame)
            numbers[series] += 1
            siemens = self.layout == "siemens"
            own: dict[str, Any] = (
                {}
                if siemens
                else {
                    "HeartRate": round(60000 / frame.interval), "TemporalPositionIdentifier": frame.phase + 1,
                    "NumberOfTemporalPositions": n_phases,
                }
            )  # fmt: skip
            dicom = self.mr(
                series, f"cine_sax_{frame.place + 1}" if siemens else "FIESTA SAX", frame.plane, frame.pixels,
                numbers[series], AcquisitionTime=f"11{frame.place:02d}00", AcquisitionNumber=frame.place + 1,
                TriggerTime=f"{frame.time:.2f}", NominalInterval=round(frame.interval), CardiacNumberOfImages=n_phases,
                **own,
            )  # fmt: skip
            if siemens:
                del dicom.SpacingBetweenSlices
            for fault, keyword in LACKING.items():
                if fault in self.faults:
                    delattr(dicom, keyword)
            written.append(Source(self.save(dicom), MRImageStorage, dicom.SOPInstanceUID))
        return written

    def _write_enhanced(self, frames: Sequence[_Frame], n_phases: int) -> list[Source]:
        """All images in one object."""
        dicom = self.object(3, "sBTFE_BH SA", EnhancedMRImageStorage)
        _describe_enhanced(dicom, self.uid("dimensions"))
        dicom.FrameOfReferenceUID, dicom.PositionReferenceIndicator = self.uid("frame of reference"), ""
        dicom.NumberOfFrames = len(frames)
        _set_pixels(dicom, np.stack([frame.pixels for frame in frames]))
        interval = 60000 / self.heart_rate
        dicom.CardiacRRIntervalSpecified = interval
        dicom.LowRRValue, dicom.HighRRValue = round(interval * 0.9), round(interval * 1.1)
        measures, orientation = Dataset(), Dataset()
        if "missing_spacing" not in self.faults:
            measures.PixelSpacing = [f"{self.spacing:.6g}"] * 2
        measures.SliceThickness, measures.SpacingBetweenSlices = str(THICKNESS), str(THICKNESS + GAP)
        frames[0].plane.describe(orientation)
        del orientation.ImagePositionPatient
        shared = dicom.SharedFunctionalGroupsSequence[0]
        shared.PixelMeasuresSequence = [measures]
        if "missing_orientation" not in self.faults:
            shared.PlaneOrientationSequence = [orientation]
        groups = []
        for frame in frames:
            group, position = Dataset(), Dataset()
            frame.plane.describe(position)
            del position.ImageOrientationPatient
            group.PlanePositionSequence = [position]
            stack, place = (2, 1) if frame.again else (1, frame.place + 1)
            began = f"2024061111{frame.place:02d}00"
            group.FrameContentSequence = [
                _dataset(
                    FrameAcquisitionDateTime=began, FrameReferenceDateTime=began, FrameAcquisitionDuration=40.0,
                    StackID=str(stack), InStackPositionNumber=place, TemporalPositionIndex=frame.phase + 1,
                    DimensionIndexValues=[stack, place, frame.phase + 1],
                )
            ]  # fmt: skip
            if not {"anonymised", "no_trigger_times"} & set(self.faults):
                group.CardiacSynchronizationSequence = [
                    _dataset(
                        NominalCardiacTriggerDelayTime=float(frame.time),
                        NominalCardiacTriggerTimePriorToRPeak=max(float(frame.interval - frame.time), 0.0),
                        RRIntervalTimeNominal=float(frame.interval),
                    )
                ]
            groups.append(group)
        dicom.PerFrameFunctionalGroupsSequence = groups
        file = self.save(dicom)
        return [Source(file, EnhancedMRImageStorage, dicom.SOPInstanceUID, i + 1) for i in range(len(frames))]

    def write_others(self, images: np.ndarray, labels: np.ndarray, cycle: Sequence[float]) -> None:
        """All but the short-axis cine, of single frames in every layout."""
        for dicom in self._others(images, labels, cycle):
            self.save(dicom)
        (self.folder / "VERSION.txt").write_text("This is no DICOM.\n")

    def _others(self, images: np.ndarray, labels: np.ndarray, cycle: Sequence[float]) -> Iterator[Dataset]:
        n_phases, n_slices = images.shape[:2]
        times = self.times(n_phases)
        along_row, along_column = self.orientation
        axial, coronal, sagittal = np.array(
            [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, -1]], [[0, 1, 0], [0, 0, -1]]], float
        )
        beat = {"NominalInterval": round(60000 / self.heart_rate), "CardiacNumberOfImages": n_phases}
        for i, (orientation, offset) in enumerate(product((axial, coronal, sagittal), (-15.0, 0.0, 15.0))):
            yield self.mr(1, "localizer", self.plane(orientation, offset), self._long_axis(0.0), i + 1, ScanOptions="")
        for series, name, orientation in (
            (41, "cine_2ch", np.stack([self.normal, along_column])),
            (42, "cine_4ch", np.stack([along_row, -self.normal])),
        ):
            for t, contraction in enumerate(cycle):
                yield self.mr(
                    series, name, self.plane(orientation), self._long_axis(contraction), t + 1,
                    TriggerTime=f"{times[t]:.2f}", **beat,
                )  # fmt: skip
        for kind, t in product("MP", range(n_phases)):
            magnitude = self._long_axis(cycle[t])
            velocity = 900 * np.sin(np.pi * cycle[t]) * (magnitude > 300) - 100
            yield self.mr(
                43 + (kind == "P"), "flow_aorta" + "_P" * (kind == "P"), self.plane(axial, 60.0),
                magnitude if kind == "M" else velocity, t + 1, ImageType=["ORIGINAL", "PRIMARY", kind],
                SequenceVariant="SP", TriggerTime=f"{times[t]:.2f}", **beat,
            )  # fmt: skip
        for z in range(n_slices):
            yield self.mr(
                45, "LGE_psir_sax", self.plane(self.orientation, self.offset(z, n_slices)),
                np.where(labels[0, z] == MYO, images[0, z] // 4, images[0, z]), z + 1, TriggerTime="650",
                ScanningSequence=["GR", "IR"], InversionTime="300",
            )  # fmt: skip
        for i, z in enumerate(sorted({0, n_slices // 2, n_slices - 1})):
            t1 = np.select([labels[0, z] == MYO, np.isin(labels[0, z], (LV, RV))], [980, 1550], 300)
            yield self.mr(
                46, "T1_map_moco", self.plane(self.orientation, self.offset(z, n_slices)), t1, i + 1,
                TriggerTime="600", ImageType=["DERIVED", "PRIMARY", "T1 MAP"],
            )  # fmt: skip
        screenshot = self.object(90, "screenshot", SecondaryCaptureImageStorage)
        screenshot.Modality, screenshot.ConversionType, screenshot.Laterality = "OT", "WSD", ""
        screenshot.ImageType, screenshot.PatientOrientation = ["DERIVED", "SECONDARY"], ""
        _set_pixels(screenshot, images[0, n_slices // 2])
        yield screenshot

    def _long_axis(self, contraction: float) -> np.ndarray:
        """A bright, beating ellipse on a dark ground, (rows, columns)."""
        rows, columns = self.shape
        y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
        distance = np.hypot(y / 0.5 / (1 - 0.1 * contraction), x / 0.25 / (1 - 0.35 * contraction))
        image = 120.0 + 500 * (distance < 1) + 60 * ((distance >= 1) & (distance < 1.4))
        return np.abs(image + self.rng.normal(0, 12, self.shape))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _set_pixels(dicom: Dataset, pixels: np.ndarray) -> None:
    """Pixels (rows, columns) or (frames, rows, columns); signed if any is negative."""
    signed = pixels.min() < 0
    dicom.Rows, dicom.Columns = pixels.shape[-2:]
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
    dicom.PixelRepresentation = int(signed)
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, 12 + 4 * int(signed), 11 + 4 * int(signed)
    low, high = (-32768, 32767) if signed else (0, 4095)
    dicom.PixelData = np.clip(np.rint(pixels), low, high).astype("<i2" if signed else "<u2").tobytes()
    dicom.WindowCenter, dicom.WindowWidth = str(int(pixels.max()) // 2), str(max(int(pixels.max()), 1))


def _describe_enhanced(dicom: Dataset, dimensions: UID) -> None:
    """What the standard asks of an Enhanced MR object besides its frames (part 3, A.36.2)."""
    kind: dict[str, Any] = {
        "PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "UNKNOWN",
    }  # fmt: skip
    root: dict[str, Any] = {
        **kind, "ImageType": ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"], 
        "PatientPosition": "HFS", "AcquisitionNumber": 1, "AcquisitionDateTime": "20240611110000",
        "AcquisitionDuration": 120.0, "ResonantNucleus": "1H", "KSpaceFiltering": "NONE",
        "MagneticFieldStrength": 1.5, "ApplicableSafetyStandardAgency": "IEC", "ContentQualification": "RESEARCH",
        "BurnedInAnnotation": "NO", "LossyImageCompression": "00", "PresentationLUTShape": "IDENTITY",
        "PulseSequenceName": "BTFE", "EchoPulseSequence": "GRADIENT", "MRAcquisitionType": "2D",
        "MultiPlanarExcitation": "NO", "PhaseContrast": "NO",
        "TimeOfFlightContrast": "NO", "SteadyStatePulseSequence": "FREE_PRECESSION", "EchoPlanarPulseSequence": "NO",
        "SaturationRecovery": "NO", "SpectrallySelectedSuppression": "NONE", "OversamplingPhase": "NONE",
        "GeometryOfKSpaceTraversal": "RECTILINEAR", "SegmentedKSpaceTraversal": "PARTIAL",
        "RectilinearPhaseEncodeReordering": "LINEAR", "NumberOfKSpaceTrajectories": 1,
        "CardiacSynchronizationTechnique": "RETROSPECTIVE", "CardiacSignalSource": "ECG",
        "CardiacBeatRejectionTechnique": "NONE", "IntervalsAcquired": 10,
        "IntervalsRejected": 0, "AcquisitionContextSequence": [],
    }  # fmt: skip
    groups: dict[str, dict[str, Any]] = {
        "MRImageFrameTypeSequence": {**kind, "FrameType": ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]},
        "MRTimingAndRelatedParametersSequence": {
            "RepetitionTime": "3.1", "FlipAngle": "50", "EchoTrainLength": 1, "RFEchoTrainLength": 0,
            "GradientEchoTrainLength": 1, "GradientOutputType": "DB_DT", "GradientOutput": 50.0,
            "OperatingModeSequence": [
                _dataset(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
                for kind in ("STATIC FIELD", "RF", "GRADIENT")
            ],
            "SpecificAbsorptionRateSequence": [
                _dataset(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.2)
            ],
        },
        "MRFOVGeometrySequence": {
            "InPlanePhaseEncodingDirection": "ROW", "MRAcquisitionFrequencyEncodingSteps": 128,
            "MRAcquisitionPhaseEncodingStepsInPlane": 128, "PercentSampling": "100", "PercentPhaseFieldOfView": "100",
        },
        "MREchoSequence": {"EffectiveEchoTime": 1.4},
        "MRModifierSequence": {
            "InversionRecovery": "NO", "FlowCompensation": "NONE", "Spoiling": "NONE", "T2Preparation": "NO",
            "SpectrallySelectedExcitation": "NONE", "SpatialPresaturation": "NONE", "PartialFourier": "NO",
            "ParallelAcquisition": "NO",
        },
        "MRImagingModifierSequence": {
            "MagnetizationTransfer": "NONE", "BloodSignalNulling": "NO", "Tagging": "NONE",
            "TransmitterFrequency": 63.87, "PixelBandwidth": "1000",
        },
        "MRReceiveCoilSequence": {
            "ReceiveCoilName": "Body", "ReceiveCoilManufacturerName": "", "ReceiveCoilType": "BODY",
            "QuadratureReceiveCoil": "YES",
        },
        "MRTransmitCoilSequence": {
            "TransmitCoilName": "Body", "TransmitCoilManufacturerName": "", "TransmitCoilType": "BODY",
        },
        "MRAveragesSequence": {"NumberOfAverages": "1"},
        "FrameAnatomySequence": {
            "FrameLaterality": "U", "AnatomicRegionSequence": [_code(codes.SCT.Heart)],
        },
        "PixelValueTransformationSequence": {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US"},
        "FrameVOILUTSequence": {"WindowCenter": "400", "WindowWidth": "800"},
    }  # fmt: skip
    for keyword, value in root.items():
        setattr(dicom, keyword, value)
    dicom.SharedFunctionalGroupsSequence = [_dataset(**{k: [_dataset(**group)] for k, group in groups.items()})]
    dicom.DimensionOrganizationSequence = [_dataset(DimensionOrganizationUID=dimensions)]
    dicom.DimensionIndexSequence = [
        _dataset(DimensionOrganizationUID=dimensions, DimensionIndexPointer=pointer, FunctionalGroupPointer=0x00209111)
        for pointer in (0x00209056, 0x00209057, 0x00209128)  # StackID, InStackPositionNumber, TemporalPositionIndex
    ]


def _dataset(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, deepcopy(value))
    return dataset


def _code(code: Any) -> Dataset:
    return _dataset(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)
