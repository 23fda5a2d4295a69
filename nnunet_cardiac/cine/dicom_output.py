"""What was found in a DICOM cine, as DICOM: a segmentation for each phase, and a structured report of the indices.

- Segmentations are binary, a segment for each structure, as more programs read those than label maps. A segmentation's
  frames lie where their source images lie, and refer to them.
- The report follows template TID 1500 (DICOM part 16). Indices have the codes of DICOM, LOINC or SNOMED CT;
  where there is none, the code is the index's name, in the private scheme 99NNUNETCARDIAC.
- All say that they are for research: ContentQualification, descriptions, and a comment in the report.

**Identifiers.** Names, numbers and dates of the patient and the study, institution and physicians are not in what is
written, unless they are to be kept. Sex, age, height and weight are. The UIDs of the study and of its series and images
are as well: without them nothing would refer to the images. Whoever has the images finds the patient by them; nobody
else does. In place of the patient's ID stands a pseudonym that is made from the study's UID, and so tells no more than
that. One made from the ID could be undone by trying all IDs. An archive that goes by the patient's ID files these
objects apart from the study; where that matters, keep the identifiers.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, MRImageStorage, generate_uid

from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.dicom import Patient, Source, read_dicom
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import INDICES
from nnunet_cardiac.files import written_whole
from nnunet_cardiac.system import versions
from nnunet_cardiac.texts import reason

RESEARCH_ONLY = "Research only, not for clinical use"
SCHEME = "99NNUNETCARDIAC"
"""Of codes that no public scheme has; they are the names of indices and structures."""
SEGMENTS = {
    "LV": ("Left ventricular cavity", codes.SCT.LeftVentricle),
    "RV": ("Right ventricular cavity", codes.SCT.RightVentricle),
    "MYO": ("Left ventricular myocardium", codes.SCT.LeftVentricleMyocardium),
}
"""Labels and codes by role. Of the ventricles' cavities, DICOM's context group 7152 has the ventricles alone."""
VENTRICLES = {"LV": codes.SCT.LeftVentricle, "RV": codes.SCT.RightVentricle}
CODES: dict[str, tuple[Code, Code | None]] = {
    "LV_EDV_mL": (codes.LN.LeftVentricularEDVolume, None),
    "LV_ESV_mL": (codes.LN.LeftVentricularESVolume, None),
    "LV_SV_mL": (codes.SCT.StrokeVolume, None),
    "LV_EF_percent": (codes.LN.LeftVentricularEjectionFractionByMR, None),
    "LV_CO_L_min": (codes.SCT.CardiacOutput, None),
    "LV_PER_mL_s": (codes.DCM.PeakEjectionRate, None),
    "LV_PFR_mL_s": (codes.DCM.PeakFillingRate, None),
    "LV_mass_g": (codes.LN.LeftVentricleMass, None),
    "LV_max_wall_thickness_mm": (codes.DCM.WallThickness, codes.SCT.Maximum),
    "LV_mean_wall_thickness_mm": (codes.DCM.WallThickness, codes.SCT.Mean),
    "LV_SV_index_mL_m2": (codes.SCT.StrokeIndex, None),
    "LV_CO_index_L_min_m2": (codes.SCT.CardiacIndex, None),
    "RV_EDV_mL": (codes.LN.RightVentricularEDVolume, None),
    "RV_ESV_mL": (codes.LN.RightVentricularESVolume, None),
    "RV_SV_mL": (codes.SCT.RightVentricularStrokeVolume, None),
    "RV_EF_percent": (codes.LN.RightVentricularEjectionFractionByMR, None),
    "RV_CO_L_min": (codes.SCT.RightVentricularCardiacOutput, None),
    "RV_PER_mL_s": (codes.DCM.PeakEjectionRate, None),
    "RV_PFR_mL_s": (codes.DCM.PeakFillingRate, None),
    "RV_SV_index_mL_m2": (codes.SCT.RightVentricularStrokeIndex, None),
    "RV_CO_index_L_min_m2": (codes.SCT.RightVentricularCardiacIndex, None),
}
"""Codes of indices, and how they were derived where the code does not tell."""
KEPT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
"""Identifiers that are copied where they are to be kept."""
SEGMENTATION_SERIES, REPORT_SERIES = 9001, 9002
"""Numbers of the series that are written."""


@dataclass(frozen=True)
class _Image:
    """A source image with the header of its file."""

    source: Source
    header: Dataset

    def group(self, keyword: str) -> Dataset:
        """The functional group of a frame, its own or shared; of an image of one frame, its header."""
        if self.source.frame is None:
            return self.header
        own = self.header.PerFrameFunctionalGroupsSequence[self.source.frame - 1]
        return (own if keyword in own else self.header.SharedFunctionalGroupsSequence[0])[keyword].value[0]


def _header(file: Path) -> Dataset:
    """
    Raises:
        UserError: the file was there when the study was read, and is not now
    """
    try:
        return read_dicom(file, stop_before_pixels=True, force=True)
    except Exception as e:
        raise UserError(f"{file} cannot be read any more ({reason(e)}): run the command again.") from e


class _Images:
    """The source images of a cine at some phases.

    Raises:
        UserError: the cine is not from DICOM, or a file has no UIDs of its study and series
    """

    def __init__(self, analysis: Analysis, phases: Sequence[int], keep_identifiers: bool):
        if analysis.cine.sources is None:
            raise UserError("Only a cine that came as DICOM can have DICOM objects made: this one is no DICOM.")
        self.sources = analysis.cine.sources
        files = {source.file for phase in phases for source in self.sources[phase]}
        self.headers = {file: _header(file) for file in files}
        for file, header in self.headers.items():
            if not header.get("StudyInstanceUID") or not header.get("SeriesInstanceUID"):
                raise UserError(
                    f"{file} has no StudyInstanceUID or SeriesInstanceUID: no DICOM object can refer to it."
                )
        self.first = self.of_phase(phases[0])[0]
        self.distance = analysis.cine.spacing[0]
        self.identity = _identity(self.first.header, analysis.cine.patient, keep_identifiers)

    def of_phase(self, phase: int) -> list[_Image]:
        """Of all slices."""
        return [_Image(source, self.headers[source.file]) for source in self.sources[phase]]

    def evidence(self, sop_class: str, sop_instance: str, series: str) -> Dataset:
        """What highdicom asks to know of an object that is referred to."""
        evidence = deepcopy(self.identity)
        evidence.SOPClassUID, evidence.SOPInstanceUID = UID(sop_class), UID(sop_instance)
        evidence.SeriesInstanceUID = UID(series)
        return evidence


def _identity(header: Dataset, patient: Patient, keep: bool) -> Dataset:
    """Attributes of the patient and the study: identifiers only if they are to be kept."""
    identity = Dataset()
    identity.StudyInstanceUID = header.StudyInstanceUID
    for keyword in ("PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(identity, keyword, "")
    identity.PatientID = "study-" + sha256(str(header.StudyInstanceUID).encode()).hexdigest()[:12]
    identity.ReferringPhysicianName, identity.PatientSex = "", patient.sex or ""
    if patient.age is not None:
        identity.PatientAge = f"{patient.age:03.0f}Y"
    if patient.height is not None:
        identity.PatientSize = f"{patient.height:.3g}"
    if patient.weight is not None:
        identity.PatientWeight = f"{patient.weight:.4g}"
    if keep:
        for keyword in KEPT:
            if keyword in header:
                setattr(identity, keyword, str(header[keyword].value))
    else:
        identity.PatientIdentityRemoved = "YES"
        identity.DeidentificationMethod = "Names, numbers, dates left out; UIDs kept, which may hold dates"
    return identity


def write_segmentations(analysis: Analysis, folder: Path, keep_identifiers: bool = False) -> list[Path]:
    """Writes a DICOM segmentation for each phase: ``phase_01.dcm`` and so on.

    All are one series of the study. A structure keeps its tracking UID over the phases. A source image that stands at
    several places of the stack, as it does where slices are unevenly spaced, is segmented once, where it was acquired.
    Frames in which a structure is not to be seen are left out.

    Args:
        analysis: of a cine that came as DICOM
        folder: of the files; created where it does not exist
        keep_identifiers: whether patient and study are named as in the source; see above

    Returns:
        files, by phase

    Raises:
        UserError: the cine is not from DICOM, or a file has no UIDs of its study and series
    """
    images = _Images(analysis, range(len(analysis.labels)), keep_identifiers)
    series, frame_of_reference = generate_uid(), images.first.header.get("FrameOfReferenceUID") or generate_uid()
    segments = _segments(analysis)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for phase in range(len(analysis.labels)):
        slices: dict[Source, int] = {}
        for z, source in enumerate(images.sources[phase]):
            slices.setdefault(source, z)
        labels = analysis.labels[phase, list(slices.values())]
        masks = np.stack([analysis.structures.mask(labels, name) for name in analysis.structures.values], -1)
        shown = [_Image(source, images.headers[source.file]) for source in slices]
        stand_ins = [_stand_in(images, image, series, frame_of_reference) for image in shown]
        moment = {analysis.ed: ", ED", analysis.es: ", ES"}.get(phase, "")
        segmentation = Segmentation(
            source_images=stand_ins,
            pixel_array=masks.astype(np.uint8),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=series,
            series_number=SEGMENTATION_SERIES,
            sop_instance_uid=generate_uid(),
            instance_number=phase + 1,
            content_label=f"PHASE_{phase + 1:02d}",
            content_description=f"Phase {phase + 1}{moment}. {RESEARCH_ONLY}",
            **_equipment(analysis, "Segmentation"),
        )
        _refer(segmentation, dict(zip((s.SOPInstanceUID for s in stand_ins), shown, strict=True)))
        files.append(_save(segmentation, folder / f"phase_{phase + 1:02d}.dcm"))
    return files


def _stand_in(images: _Images, image: _Image, series: str, frame_of_reference: str) -> Dataset:
    """A single-frame image of one series in a source image's place: highdicom takes no others, or all frames of one."""
    stand_in = images.evidence(MRImageStorage, generate_uid(), series)
    stand_in.Modality, stand_in.FrameOfReferenceUID = "MR", frame_of_reference
    stand_in.Rows, stand_in.Columns = image.header.Rows, image.header.Columns
    measures = image.group("PixelMeasuresSequence")
    stand_in.PixelSpacing = measures.PixelSpacing
    stand_in.SliceThickness = measures.get("SliceThickness") or f"{images.distance:.6g}"
    # one for all: highdicom compares them without tolerance
    stand_in.ImageOrientationPatient = images.first.group("PlaneOrientationSequence").ImageOrientationPatient
    stand_in.ImagePositionPatient = image.group("PlanePositionSequence").ImagePositionPatient
    return stand_in


def _refer(segmentation: Segmentation, images: dict[str, _Image]) -> None:
    """Replaces references to stand-ins, by their UIDs, by those to the images that they stand for."""
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        if image := images.get(item.ReferencedSOPInstanceUID):  # else it was done for another segment
            _name(item, image.source)
            if image.source.frame is not None:
                item.ReferencedFrameNumber = image.source.frame
    series: dict[str, dict[str, Dataset]] = {}
    for image in images.values():
        item = series.setdefault(image.header.SeriesInstanceUID, {}).setdefault(image.source.sop_instance, Dataset())
        _name(item, image.source)
    segmentation.SourceImageSequence = [item for items in series.values() for item in items.values()]
    segmentation.ReferencedSeriesSequence = []
    for uid, items in series.items():
        referenced = Dataset()
        referenced.SeriesInstanceUID, referenced.ReferencedInstanceSequence = uid, list(items.values())
        segmentation.ReferencedSeriesSequence.append(referenced)


def _name(item: Dataset, source: Source) -> None:
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class, source.sop_instance


def _segments(analysis: Analysis) -> list[SegmentDescription]:
    """One for each structure, in their order."""
    model, model_version = _model(analysis)
    roles = {name: role for role, name in analysis.structures.roles.items()}
    segments = []
    for number, name in enumerate(analysis.structures.values, 1):
        label, code = SEGMENTS.get(roles.get(name, ""), (name, Code(name, SCHEME, name)))
        segments.append(
            SegmentDescription(
                segment_number=number,
                segment_label=label[:64],
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=code,
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=AlgorithmIdentificationSequence(
                    name=model, family=codes.DCM.ArtificialIntelligence, version=model_version, source="nnunet_cardiac"
                ),
                tracking_uid=generate_uid(),
                tracking_id=name[:64],
            )
        )
    return segments


def _model(analysis: Analysis) -> tuple[str, str]:
    """Name and version of the model; where it tells no version, that of this package."""
    return analysis.model.get("name", "nnunet_cardiac")[:64], analysis.model.get("version", _own_version())[:64]


def _own_version() -> str:
    return versions()["nnunet-cardiac"]


def _equipment(analysis: Analysis, description: str) -> dict[str, Any]:
    """What wrote an object, and that it is for research."""
    return {
        "manufacturer": "nnunet_cardiac",
        "manufacturer_model_name": _model(analysis)[0],
        "software_versions": _own_version(),
        "device_serial_number": "none",
        "series_description": f"{description}. {RESEARCH_ONLY}",
        "content_qualification": "RESEARCH",
        "coding_schemes": [CodingSchemeIdentificationItem(SCHEME, name="Names of nnunet_cardiac's indices")],
        "specific_character_set": "ISO_IR 192",
    }


def _save(dicom: Dataset, file: Path) -> Path:
    with written_whole(file) as partial:
        dicom.save_as(partial, enforce_file_format=True)
    return file


def write_measurements(
    analysis: Analysis, file: Path, segmentations: Sequence[Path] = (), keep_identifiers: bool = False
) -> Path:
    """Writes the indices as a structured report (Comprehensive SR, TID 1500).

    A group of measurements for each ventricle, one for the segments of the wall where they were measured. All refer to
    the segmentations at end-diastole and end-systole, or to the source images. Indices that are not known are left out;
    those that a flag makes less certain have a comment with its reason.

    Args:
        analysis: of a cine that came as DICOM
        file: to write
        segmentations: as ``write_segmentations`` returned them; without them, the report refers to the images
        keep_identifiers: whether patient and study are named as in the source; see above

    Raises:
        UserError: the cine is not from DICOM, or a file has no UIDs of its study and series
    """
    moments = sorted({analysis.ed, analysis.es})
    images = _Images(analysis, moments, keep_identifiers)
    sources = [image for phase in moments for image in images.of_phase(phase)]
    evidence = [
        images.evidence(image.source.sop_class, image.source.sop_instance, image.header.SeriesInstanceUID)
        for image in sources
    ]
    references: dict[tuple[str, str], list[int]] = {}  # frames by class and instance
    if segmentations:
        for phase in moments:
            header = pydicom.dcmread(segmentations[phase], stop_before_pixels=True)
            references[header.SOPClassUID, header.SOPInstanceUID] = []
            evidence.insert(0, images.evidence(header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID))
    else:
        for source in dict.fromkeys(image.source for image in sources):
            frames = references.setdefault((source.sop_class, source.sop_instance), [])
            frames += [] if source.frame is None else [source.frame]
    model, model_version = _model(analysis)
    groups = [
        MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier=name),
            algorithm_id=AlgorithmIdentification(name=model, version=model_version),
            finding_sites=[FindingSite(site)],
            measurements=measurements,
            source_images=[
                SourceImageForMeasurementGroup(*uids, frames or None) for uids, frames in references.items()
            ],
        )
        for name, site, measurements in _measurements(analysis)
        if measurements
    ]
    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["nnunet_cardiac", _own_version()]),
        name="nnunet_cardiac",
        manufacturer_name="nnunet_cardiac",
        model_name=model,
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.SCT.CardiacMRI,
        imaging_measurements=groups,
    )
    comments = [
        f"{RESEARCH_ONLY}.",
        f"End-diastole is phase {analysis.ed + 1}, end-systole phase {analysis.es + 1}.",
        *(_words(flag) for flag in analysis.flags if not flag.indices),
    ]
    for comment in comments:
        content[0].ContentSequence.append(_comment(comment, RelationshipTypeValues.CONTAINS))
    report = ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_instance_uid=generate_uid(),
        series_number=REPORT_SERIES,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        is_complete=True,
        **_equipment(analysis, "Cardiac indices"),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    return _save(report, file)


def _measurements(analysis: Analysis) -> list[tuple[str, Code, list[Measurement]]]:
    """By group: its name, where it was measured, and what."""
    groups = []
    for ventricle, site in VENTRICLES.items():
        own = []
        for name, value in analysis.indices.items():
            if name.startswith(f"{ventricle}_") and np.isfinite(value):
                code, derivation = CODES.get(name, (_private(name, INDICES[name].title), None))
                measurement = Measurement(code, value, _unit(INDICES[name].unit), derivation=derivation)
                own.append(_flagged(measurement, analysis.flagged(name)))
        groups.append((ventricle, site, own))
    thickening = _private("wall_thickening_percent", "Wall thickening from end-diastole to end-systole")
    wall = CodedConcept.from_code(codes.DCM.WallThickness)
    for what, unit, values, mean in (
        (wall, "mm", analysis.wall_thickness, "LV_mean_wall_thickness_mm"),
        (thickening, "%", analysis.thickening, "LV_mean_thickening_percent"),
    ):
        if values is not None:
            own = [
                _flagged(
                    Measurement(name=what, value=float(value), unit=_unit(unit), finding_sites=[FindingSite(segment)]),
                    analysis.flagged(mean),
                )
                for segment, value in zip(AHA, values, strict=True)
                if np.isfinite(value)
            ]
            groups.append((f"AHA segments, {unit}", codes.SCT.LeftVentricleMyocardium, own))
    return groups


AHA = tuple(
    getattr(codes.SCT, f"LeftVentricle{level}{wall}Segment")
    for level, walls in (
        ("Basal", ("Anterior", "Anteroseptal", "Inferoseptal", "Inferior", "Inferolateral", "Anterolateral")),
        ("Mid", ("Anterior", "Anteroseptal", "Inferoseptal", "Inferior", "Inferolateral", "Anterolateral")),
        ("Apical", ("Anterior", "Septal", "Inferior", "Lateral")),
    )
    for wall in walls
)
"""Segments 1 to 16."""


def _private(name: str, title: str) -> CodedConcept:
    return CodedConcept(name, SCHEME, title[:64])


def _unit(unit: str) -> CodedConcept:
    """As UCUM has it."""
    return CodedConcept(unit.replace("²", "2"), "UCUM", unit.replace("²", "2"))


def _flagged(measurement: Measurement, flags: Sequence[Flag]) -> Measurement:
    for flag in flags:
        number = measurement[0]
        if "ContentSequence" not in number:
            number.ContentSequence = []
        number.ContentSequence.append(_comment(_words(flag), RelationshipTypeValues.HAS_PROPERTIES))
    return measurement


def _words(flag: Flag) -> str:
    return f"{flag.title}: {flag.reason}"


def _comment(text: str, relationship: RelationshipTypeValues) -> TextContentItem:
    return TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=relationship)
