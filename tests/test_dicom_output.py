import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from highdicom.seg import segread
from highdicom.sr import srread

from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.dicom_output import write_measurements, write_segmentations
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import INDICES
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.phantom.dicom import LAYOUTS, write_study

STRUCTURES = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
ED, ES = 0, 2
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CLEAN = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")


def analyse(study) -> Analysis:
    n_phases, n_slices = study.labels.shape[:2]
    sources = tuple(tuple(study.sources[t, z] for z in range(n_slices)) for t in range(n_phases))
    cine = Cine(study.images, study.affine, study.times, study.heart_rate, study.patient, "phantom", sources)
    indices = {name: 10.5 + i for i, name in enumerate(INDICES)} | {"LV_mass_ES_g": np.nan}
    return Analysis(
        cine, study.labels, Structures.named(STRUCTURES), pd.DataFrame(), ED, ES, indices,
        wall_thickness=np.where(np.arange(16) == 4, np.nan, np.arange(16) + 5.0), thickening=np.arange(16) + 30.0,
        flags=(
            Flag("Basal slice missing", "The uppermost slice shows 4 mL.", ("LV_EDV_mL",)),
            Flag("Fast heart", "112 beats a minute."),
        ),
        model={"name": "crocnet_acdc", "version": "7"},
    )  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS)
def written(request, tmp_path_factory):
    """Study, analysis, segmentations and report."""
    folder = tmp_path_factory.mktemp(request.param)
    study = write_study(folder / "in", request.param, n_slices=5, n_phases=5, shape=(48, 40), spacing=5.6, others=False)
    analysis = analyse(study)
    files = write_segmentations(analysis, folder / "out" / "segmentations")
    return study, analysis, files, write_measurements(analysis, folder / "out" / "report.dcm", files)


@pytest.fixture(scope="module")
def siemens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siemens")
    return write_study(folder, "siemens", n_slices=4, n_phases=4, shape=(48, 40), spacing=5.6, others=False)


def on_grid(places, values, study) -> np.ndarray:
    """Values at places in DICOM's world, on the grid of the phantom (Z, Y, X)."""
    indices = np.linalg.inv(LPS @ study.affine) @ np.column_stack([places, np.ones(len(places))]).T
    x, y, z = indices[:3].round().astype(int)
    assert np.allclose(indices[:3], (x, y, z), atol=0.02)
    grid = np.zeros(study.labels.shape[1:], int)
    grid[z, y, x] = values
    return grid


def shown(file: Path, study) -> np.ndarray:
    """A segmentation's labels (Z, Y, X), put together from what its frames say of themselves."""
    segmentation = segread(file)
    numbers = {s.SegmentNumber: STRUCTURES[s.TrackingID] for s in segmentation.SegmentSequence}
    (shared,) = segmentation.SharedFunctionalGroupsSequence
    along_row, along_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    rows, columns = shared.PixelMeasuresSequence[0].PixelSpacing
    places, values = [], []
    for frame, pixels in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True):
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        y, x = np.nonzero(pixels)
        places.append(corner + np.outer(x * columns, along_row) + np.outer(y * rows, along_column))
        values += [numbers[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber]] * len(x)
    return on_grid(np.concatenate(places), values, study)


def test_segmentations_show_the_labels_where_the_images_are(written):
    study, analysis, files, _ = written
    assert [file.name for file in files] == [f"phase_0{t}.dcm" for t in range(1, 6)]
    assert sorted(file.name for file in files[0].parent.iterdir()) == [file.name for file in files]
    for file, labels in zip(files, study.labels, strict=True):
        assert np.array_equal(shown(file, study), labels) and labels.any()


def test_highdicom_gives_the_volume_back(written):
    study, _, files, _ = written
    volume = segread(files[ES]).get_volume(combine_segments=True, allow_missing_positions=True)
    back = np.select([volume.array == number for number in (1, 2, 3)], (1, 2, 3))
    z, y, x = np.nonzero(back)
    world = volume.map_indices_to_reference(np.stack([z, y, x], 1))
    assert np.array_equal(on_grid(world, back[z, y, x], study), study.labels[ES])


def test_every_frame_refers_to_the_image_of_its_phase_and_slice(written):
    study, _, files, _ = written
    for t, file in enumerate(files):
        segmentation = segread(file)
        for frame in segmentation.PerFrameFunctionalGroupsSequence:
            (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            (z,) = np.flatnonzero(np.linalg.norm(study.positions - np.array(place, float), axis=1) < 0.01)
            source = study.sources[t, int(z)]
            assert reference.ReferencedSOPInstanceUID == source.sop_instance
            assert reference.ReferencedSOPClassUID == source.sop_class
            assert reference.get("ReferencedFrameNumber") == source.frame
        images = {source.sop_instance for (phase, _), source in study.sources.items() if phase == t}
        assert {item.ReferencedSOPInstanceUID for item in segmentation.SourceImageSequence} == images
        series = segmentation.ReferencedSeriesSequence
        assert {item.SeriesInstanceUID for item in series} == set(study.series)
        assert {i.ReferencedSOPInstanceUID for item in series for i in item.ReferencedInstanceSequence} == images


def test_segments_are_coded_and_say_what_made_them(written):
    _, _, files, _ = written
    segmentations = [segread(file) for file in files]
    assert (
        len({s.SeriesInstanceUID for s in segmentations}) == 1 and len({s.SOPInstanceUID for s in segmentations}) == 5
    )
    first = segmentations[0]
    assert [(s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeValue) for s in first.SegmentSequence] == [
        ("Right ventricular cavity", "53085002"),
        ("Left ventricular myocardium", "49848007"),
        ("Left ventricular cavity", "87878005"),
    ]
    for segment in first.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("crocnet_acdc", "7")
    tracked = [[s.TrackingUID for s in segmentation.SegmentSequence] for segmentation in segmentations]
    assert all(uids == tracked[0] for uids in tracked) and len(set(tracked[0])) == 3
    assert "ED" in first.ContentDescription and "ES" in segmentations[ES].ContentDescription
    assert all("not for clinical use" in s.ContentDescription for s in segmentations)
    assert all(s.ContentQualification == "RESEARCH" and s.SegmentationType == "BINARY" for s in segmentations)


def test_stack_in_another_order_gives_the_same_segmentations(siemens, tmp_path):
    analysis = analyse(siemens)
    flipped = siemens.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])
    sources = tuple(phase[::-1] for phase in analysis.cine.sources)
    cine = replace(analysis.cine, voxels=siemens.images[:, ::-1], affine=flipped, sources=sources)
    files = write_segmentations(replace(analysis, cine=cine, labels=siemens.labels[:, ::-1]), tmp_path)
    assert np.array_equal([shown(file, siemens) for file in files], siemens.labels)


def test_image_that_stands_twice_in_the_stack_is_segmented_once(siemens, tmp_path):
    analysis = analyse(siemens)
    grid = [0, 1, 1, 2, 3]
    sources = tuple(tuple(phase[z] for z in grid) for phase in analysis.cine.sources)
    cine = replace(analysis.cine, voxels=siemens.images[:, grid], sources=sources)
    (file, *_) = write_segmentations(replace(analysis, cine=cine, labels=siemens.labels[:, grid]), tmp_path)
    assert np.array_equal(shown(file, siemens), siemens.labels[0]) and len(segread(file).SourceImageSequence) == 4


def test_phase_without_any_structure(siemens, tmp_path):
    labels = siemens.labels.copy()
    labels[1] = 0
    files = write_segmentations(replace(analyse(siemens), labels=labels), tmp_path)
    assert not segread(files[1]).pixel_array.any() and segread(files[2]).pixel_array.any()


def test_overlapping_structures_and_names_that_tell_nothing(siemens, tmp_path):
    structures = Structures.named({"background": 0, "heart": [1, 2, 3], "thing": 2})
    (file, *_) = write_segmentations(replace(analyse(siemens), structures=structures), tmp_path)
    segmentation = segread(file)
    assert [s.SegmentLabel for s in segmentation.SegmentSequence] == ["heart", "thing"]
    assert segmentation.SegmentsOverlap == "YES"
    code = segmentation.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("thing", "99NNUNETCARDIAC")
    numbers = np.array([f.SegmentIdentificationSequence[0].ReferencedSegmentNumber
                        for f in segmentation.PerFrameFunctionalGroupsSequence])  # fmt: skip
    pixels = segmentation.pixel_array
    assert pixels[numbers == 1].sum() == (siemens.labels[0] > 0).sum()
    assert pixels[numbers == 2].sum() == (siemens.labels[0] == 2).sum()


def test_images_without_frame_of_reference_or_thickness(tmp_path):
    study = write_study(tmp_path / "in", "ge", n_slices=3, n_phases=3, shape=(48, 40), spacing=5.6, others=False)
    for source in study.sources.values():
        dicom = pydicom.dcmread(source.file)
        del dicom.FrameOfReferenceUID, dicom.SliceThickness
        dicom.save_as(source.file)
    files = write_segmentations(analyse(study), tmp_path / "out")
    assert np.array_equal([shown(file, study) for file in files], study.labels)
    thickness = segread(files[0]).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    assert thickness == 10 and len({segread(file).FrameOfReferenceUID for file in files}) == 1


def test_report_holds_the_indices_with_codes_and_units(written):
    study, analysis, _, report = written
    groups = srread(report).content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["LV", "RV", "AHA segments, mm", "AHA segments, %"]
    measured = {
        (group.tracking_identifier, m.name.value, m.derivation and m.derivation.value): (m.value, m.unit.value)
        for group in groups[:2]
        for m in group.get_measurements()
    }
    assert len(measured) == len(INDICES) - 1  # one is not known
    for key, name, unit in (
        (("LV", "8821-1", None), "LV_EDV_mL", "mL"),
        (("LV", "8823-7", None), "LV_ESV_mL", "mL"),
        (("LV", "90096001", None), "LV_SV_mL", "mL"),
        (("LV", "8811-2", None), "LV_EF_percent", "%"),
        (("LV", "82799009", None), "LV_CO_L_min", "L/min"),
        (("LV", "18087-7", None), "LV_mass_g", "g"),
        (("LV", "122445", "56851009"), "LV_max_wall_thickness_mm", "mm"),
        (("LV", "122445", "373098007"), "LV_mean_wall_thickness_mm", "mm"),
        (("LV", "LV_EDV_index_mL_m2", None), "LV_EDV_index_mL_m2", "mL/m2"),
        (("RV", "8822-9", None), "RV_EDV_mL", "mL"),
        (("RV", "8818-7", None), "RV_EF_percent", "%"),
        (("RV", "429483009", None), "RV_SV_mL", "mL"),
        (("RV", "427990004", None), "RV_CO_index_L_min_m2", "L/min/m2"),
    ):
        assert measured[key] == (pytest.approx(analysis.indices[name]), unit), name
    assert ("LV", "LV_mass_ES_g", None) not in measured
    sites = [group.finding_sites[0].value.value for group in groups]
    assert sites == ["87878005", "53085002", "49848007", "49848007"]


def test_report_has_the_segments_of_the_wall(written):
    _, analysis, _, report = written
    *_, thickness, thickening = srread(report).content.get_image_measurement_groups()
    by_site = {m.finding_sites[0].value.value: m.value for m in thickness.get_measurements()}
    assert (
        len(by_site) == 15 and by_site["264850008"] == 5 and by_site["264853005"] == 20
    )  # basal anterior, apical lateral
    assert "396652009" not in by_site  # basal inferolateral, not known
    assert [m.value for m in thickening.get_measurements()] == list(analysis.thickening)


def comments(dataset) -> list[str]:
    items = dataset.get("ContentSequence", [])
    return [
        str(i.TextValue) for i in items if i.ValueType == "TEXT" and i.ConceptNameCodeSequence[0].CodeValue == "121106"
    ]


def test_report_marks_what_is_uncertain_and_what_it_is_for(written):
    _, _, _, report = written
    dicom = srread(report)
    assert comments(dicom) == [
        "Research only, not for clinical use.",
        "End-diastole is phase 1, end-systole phase 3.",
        "Fast heart: 112 beats a minute.",
    ]
    assert dicom.ContentQualification == "RESEARCH" and dicom.VerificationFlag == "UNVERIFIED"
    flagged = {}
    for group in dicom.content.get_image_measurement_groups():
        for measurement in group.get_measurements():
            if found := comments(measurement[0]):
                flagged[measurement.name.value] = found
    assert flagged == {"8821-1": ["Basal slice missing: The uppermost slice shows 4 mL."]}


def references(report) -> list[set]:
    """By group: instances and frames."""
    groups = srread(report).content.get_image_measurement_groups()
    items = [[i.ReferencedSOPSequence[0] for i in g[0].ContentSequence if i.ValueType == "IMAGE"] for g in groups]
    return [{(i.ReferencedSOPInstanceUID, str(i.get("ReferencedFrameNumber"))) for i in own} for own in items]


def test_report_refers_to_segmentations_and_images_of_end_diastole_and_end_systole(written, tmp_path):
    study, analysis, files, report = written
    segmentations = {segread(files[t]).SOPInstanceUID for t in (ED, ES)}
    assert references(report) == [{(uid, "None") for uid in segmentations}] * 4
    images = {source.sop_instance for (t, _), source in study.sources.items() if t in (ED, ES)}
    evidence = srread(report).get_evidence()
    assert {instance for _, _, instance, _ in evidence} == segmentations | images
    assert {series for _, series, _, _ in evidence} == {*study.series, segread(files[0]).SeriesInstanceUID}
    bare = write_measurements(analysis, tmp_path / "bare.dcm")
    assert [{uid for uid, _ in group} for group in references(bare)] == [images] * 4
    if study.sources[0, 0].frame is not None:
        ((_, frames),) = references(bare)[0]
        assert set(map(int, frames.strip("[]").split(","))) == {
            source.frame for (t, _), source in study.sources.items() if t in (ED, ES)
        }


def test_no_identifier_is_written_unless_asked_for(written, tmp_path):
    study, analysis, files, report = written
    source = pydicom.dcmread(study.sources[0, 0].file)
    for file in (*files, report):
        text, dicom = file.read_bytes(), pydicom.dcmread(file)
        assert not [identifier for identifier in study.identifiers if identifier.encode() in text], file
        assert (dicom.PatientIdentityRemoved, dicom.StudyDate, dicom.StudyInstanceUID) == (
            "YES", "", source.StudyInstanceUID,
        )  # fmt: skip
        assert (dicom.PatientSex, float(dicom.PatientSize)) == (study.patient.sex, study.patient.height)
    assert len({pydicom.dcmread(file).PatientID for file in (*files, report)}) == 1
    kept = write_segmentations(analysis, tmp_path, keep_identifiers=True)
    for file in (kept[0], write_measurements(analysis, tmp_path / "report.dcm", kept, keep_identifiers=True)):
        dicom = pydicom.dcmread(file)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID"):
            assert dicom[keyword].value == source[keyword].value != "", keyword
        assert "PatientIdentityRemoved" not in dicom


def test_cine_that_was_no_dicom(siemens, tmp_path):
    analysis = analyse(siemens)
    nifti = replace(analysis, cine=replace(analysis.cine, sources=None))
    for write in (write_segmentations, write_measurements):
        with pytest.raises(UserError, match="no DICOM"):
            write(nifti, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_images_without_study(tmp_path):
    study = write_study(tmp_path / "in", "ge", n_slices=2, n_phases=3, shape=(48, 40), spacing=5.6, others=False)
    file = study.sources[ES, 1].file
    dicom = pydicom.dcmread(file)
    del dicom.StudyInstanceUID
    dicom.save_as(file)
    for write in (write_segmentations, write_measurements):
        with pytest.raises(UserError, match=f"{file.name} has no StudyInstanceUID"):
            write(analyse(study), tmp_path / "out")


@CLEAN
def test_follows_the_standard(written, siemens, tmp_path):
    _, analysis, files, report = written
    kept = write_segmentations(analysis, tmp_path, keep_identifiers=True)
    empty = write_segmentations(replace(analyse(siemens), labels=np.zeros_like(siemens.labels)), tmp_path / "empty")
    bare = write_measurements(analysis, tmp_path / "bare.dcm", keep_identifiers=True)
    for file in (files[ED], files[ES], report, kept[1], empty[0], bare):
        checked = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True)
        assert {"Segmentation", "ComprehensiveSR"} & set(checked.stderr.split())
        assert not [line for line in checked.stderr.splitlines() if line.startswith("Error")], file


def test_a_source_that_was_lost_meanwhile_is_named(tmp_path):
    study = write_study(tmp_path / "in", "siemens", n_slices=3, n_phases=4, shape=(48, 40), others=False)
    analysis, file = analyse(study), study.sources[ED, 1].file
    file.unlink()
    with pytest.raises(UserError, match=rf"{file.name} cannot be read any more .*: run the command again"):
        write_measurements(analysis, tmp_path / "report.dcm")
