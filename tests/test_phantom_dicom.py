import shutil
import subprocess
from collections import Counter

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, RLELossless

from nnunet_cardiac.phantom.dicom import LAYOUTS, write_study

SMALL = {"n_slices": 4, "n_phases": 6, "shape": (48, 40), "spacing": 5.6}
MIDDLE = 2
N = 24
"""Images of the cine."""


@pytest.fixture(scope="module", params=LAYOUTS)
def study(request, tmp_path_factory):
    return request.param, write_study(tmp_path_factory.mktemp("study"), request.param, **SMALL)


def headers(study):
    """Of the cine's files, in the order of acquisition."""
    files = dict.fromkeys(source.file for source in study.sources.values())
    return [pydicom.dcmread(file) for file in files]


def faulty(tmp_path, layout, *faults, **changes):
    return write_study(tmp_path, layout, faults=faults, others=False, **(SMALL | changes))


def position_and_time(source):
    dicom = pydicom.dcmread(source.file)
    if source.frame is None:
        return dicom.ImagePositionPatient, dicom.TriggerTime
    group = dicom.PerFrameFunctionalGroupsSequence[source.frame - 1]
    heart = group.CardiacSynchronizationSequence[0]
    return group.PlanePositionSequence[0].ImagePositionPatient, heart.NominalCardiacTriggerDelayTime


def test_every_source_has_the_pixels_place_and_time_of_its_phase_and_slice(study):
    layout, study = study
    assert study.labels.shape == study.images.shape == (6, 4, 48, 40) and set(study.sources) == set(np.ndindex(6, 4))
    for (t, z), source in study.sources.items():
        dicom = pydicom.dcmread(source.file)
        pixels = dicom.pixel_array if source.frame is None else dicom.pixel_array[source.frame - 1]
        assert np.array_equal(pixels, study.images[t, z])
        assert (dicom.SOPClassUID, dicom.SOPInstanceUID) == (source.sop_class, source.sop_instance)
        position, time = position_and_time(source)
        world = np.diag([-1, -1, 1, 1]) @ study.affine @ (0, 0, z, 1)
        assert np.allclose(position, world[:3], atol=1e-3) and np.allclose(position, study.positions[z])
        assert float(time) == pytest.approx(study.times[t], abs=0.01)


def test_plane_is_oblique_and_its_normal_points_from_apex_to_base(study):
    _, study = study
    directions = study.affine[:3, :3] / np.linalg.norm(study.affine[:3, :3], axis=0)
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-6) and np.linalg.det(directions) > 0
    assert (np.abs(directions) < 0.95).all()
    assert np.linalg.norm(study.affine[:3, :3], axis=0) == pytest.approx([5.6, 5.6, 10.0], abs=1e-5)
    right, anterior, superior = directions[:, 2]
    assert right > 0 and anterior < 0 and superior > 0  # nibabel's axes


def test_ge_has_one_series_numbered_slice_by_slice_from_the_base(tmp_path):
    study = faulty(tmp_path, "ge")
    images = headers(study)
    assert len(images) == N and {d.SOPClassUID for d in images} == {MRImageStorage}
    assert {d.SeriesInstanceUID for d in images} == set(study.series) and len(study.series) == 1
    by_number = sorted(images, key=lambda d: d.InstanceNumber)
    assert [d.InstanceNumber for d in by_number] == list(range(1, N + 1))
    places = [float(d.SliceLocation) for d in by_number]
    assert places == sorted(places, reverse=True) and [d.TemporalPositionIdentifier for d in by_number[:6]] == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip
    assert {(d.HeartRate, d.CardiacNumberOfImages) for d in images} == {(study.heart_rate, 6)}
    assert all(d.Manufacturer.startswith("GE") and "." not in d.filename.split("/")[-1] for d in images)


def test_siemens_has_a_series_for_each_slice(tmp_path):
    study = faulty(tmp_path, "siemens")
    images = headers(study)
    assert Counter(d.SeriesInstanceUID for d in images) == dict.fromkeys(study.series, 6) and len(study.series) == 4
    assert {d.SeriesDescription for d in images} == {f"cine_sax_{n}" for n in (1, 2, 3, 4)}
    assert all("SpacingBetweenSlices" not in d and "HeartRate" not in d for d in images)
    assert {int(d.NominalInterval) for d in images} == {round(60000 / study.heart_rate)}


def test_enhanced_is_one_object(tmp_path):
    study = faulty(tmp_path, "enhanced")
    (dicom,) = headers(study)
    assert dicom.SOPClassUID == EnhancedMRImageStorage and dicom.NumberOfFrames == N
    (shared,) = dicom.SharedFunctionalGroupsSequence
    assert "PixelMeasuresSequence" in shared and "PlaneOrientationSequence" in shared
    contents = [frame.FrameContentSequence[0] for frame in dicom.PerFrameFunctionalGroupsSequence]
    assert [(c.StackID, c.InStackPositionNumber, c.TemporalPositionIndex) for c in contents] == [
        ("1", z, t) for z in range(1, 5) for t in range(1, 7)
    ]


def test_what_else_a_study_holds(study):
    layout, study = study
    found, planes, signed = {}, {}, {}
    for file in (file for file in study.folder.rglob("*") if file.is_file() and file.suffix != ".txt"):
        dicom = pydicom.dcmread(file)
        if dicom.SeriesInstanceUID not in study.series:
            name = dicom.SeriesDescription
            found[name] = found.get(name, 0) + 1
            signed[name] = bool(dicom.PixelRepresentation)
            if name != "screenshot":
                planes.setdefault(name, set()).add(tuple(dicom.ImagePositionPatient))
            else:
                assert "ImagePositionPatient" not in dicom and "PixelSpacing" not in dicom
    assert found == {
        "localizer": 9, "cine_2ch": 6, "cine_4ch": 6, "flow_aorta": 6, "flow_aorta_P": 6, "LGE_psir_sax": 4,
        "T1_map_moco": 3, "screenshot": 1,
    }  # fmt: skip
    assert {name: len(places) for name, places in planes.items()} == {
        "localizer": 9, "cine_2ch": 1, "cine_4ch": 1, "flow_aorta": 1, "flow_aorta_P": 1, "LGE_psir_sax": 4,
        "T1_map_moco": 3,
    }  # fmt: skip
    assert [name for name, is_signed in signed.items() if is_signed] == ["flow_aorta_P"]
    with pytest.raises(pydicom.errors.InvalidDicomError):
        pydicom.dcmread(study.folder / "VERSION.txt")


def test_facts_and_identifiers_are_in_the_files(study):
    _, study = study
    (dicom, *_) = headers(study)
    assert dicom.PatientSex == study.patient.sex and int(dicom.PatientAge[:3]) == study.patient.age
    assert (dicom.PatientSize, dicom.PatientWeight) == (study.patient.height, study.patient.weight)
    text = next(iter(study.sources.values())).file.read_bytes()
    assert all(identifier.encode() in text for identifier in study.identifiers)


def test_same_arguments_give_the_same_files(study, tmp_path):
    layout, study = study
    again = write_study(tmp_path / "again", layout, **SMALL)
    other = write_study(tmp_path / "other", layout, seed=1, **SMALL)
    content = {file.relative_to(study.folder): file.read_bytes() for file in study.folder.rglob("*") if file.is_file()}
    assert content == {f.relative_to(again.folder): f.read_bytes() for f in again.folder.rglob("*") if f.is_file()}
    assert not {s.sop_instance for s in study.sources.values()} & {s.sop_instance for s in other.sources.values()}
    assert not np.array_equal(study.images, other.images) and study.identifiers != other.identifiers


def test_anonymised_tells_nothing_of_the_patient_and_no_times(tmp_path):
    for layout in LAYOUTS:
        study = write_study(tmp_path / layout, layout, faults=["anonymised"], **SMALL)
        numbers = []
        for file in (file for file in study.folder.rglob("*") if file.is_file()):
            text = file.read_bytes()
            assert not [identifier for identifier in study.identifiers if identifier.encode() in text]
        for dicom in headers(study):
            numbers.append(dicom.InstanceNumber)
            assert "TriggerTime" not in dicom and "SeriesDescription" not in dicom and "PatientSize" not in dicom
            assert all(
                "CardiacSynchronizationSequence" not in f for f in dicom.get("PerFrameFunctionalGroupsSequence", [])
            )
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slice_twice(tmp_path, layout):
    study = faulty(tmp_path, layout, "slice_twice")
    images = headers(study)
    if layout == "enhanced":
        (dicom,) = images
        places = [f.PlanePositionSequence[0].ImagePositionPatient for f in dicom.PerFrameFunctionalGroupsSequence]
        stored = dicom.pixel_array
    else:
        images = sorted(
            (pydicom.dcmread(f) for f in tmp_path.rglob("*") if f.is_file()), key=lambda d: d.AcquisitionTime
        )
        places, stored = [d.ImagePositionPatient for d in images], [d.pixel_array for d in images]
    assert len(places) == N + 6 and len(study.sources) == N and len(study.series) == (5 if layout == "siemens" else 1)
    same = [i for i, place in enumerate(places) if np.allclose(place, study.positions[MIDDLE])]
    assert len(same) == 12 and same[6:] == list(range(N, N + 6))  # again, and last
    difference = np.abs(stored[same[0]].astype(int) - stored[same[6]])
    assert 0 < difference.mean() < 0.1 * study.images.max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_phase(tmp_path, layout):
    study = faulty(tmp_path, layout, "missing_phase")
    assert set(np.ndindex(6, 4)) - set(study.sources) == {(2, MIDDLE), (3, MIDDLE)}
    n = headers(study)[0].NumberOfFrames if layout == "enhanced" else sum(f.is_file() for f in tmp_path.rglob("*"))
    assert n == N - 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_trigger_times(tmp_path, layout):
    study = faulty(tmp_path, layout, "other_trigger_times")
    times = np.array([[float(position_and_time(study.sources[t, z])[1]) for z in range(4)] for t in range(6)])
    assert times[:, [0, 1, 3]] == pytest.approx(np.repeat(study.times[:, None], 3, 1), abs=0.01)
    assert np.diff(times[:, MIDDLE]) == pytest.approx(1.15 * np.diff(study.times), abs=0.02)
    assert times[0, MIDDLE] > study.times[0] + 20
    if layout == "ge":
        rates = {z: pydicom.dcmread(study.sources[0, z].file).HeartRate for z in range(4)}
        assert rates[MIDDLE] == round(study.heart_rate / 1.15) and rates[0] == study.heart_rate


def test_unequal_gaps(tmp_path):
    study = faulty(tmp_path, "siemens", "unequal_gaps")
    assert np.linalg.norm(np.diff(study.positions, axis=0), axis=1) == pytest.approx([10, 16, 10], abs=1e-3)
    assert np.allclose(headers(study)[0].ImagePositionPatient, study.positions[3])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_attributes(tmp_path, layout):
    for fault, keyword, group in (
        ("missing_spacing", "PixelSpacing", "PixelMeasuresSequence"),
        ("missing_orientation", "ImageOrientationPatient", "PlaneOrientationSequence"),
        ("no_trigger_times", "TriggerTime", "CardiacSynchronizationSequence"),
    ):
        study = faulty(tmp_path / fault, layout, fault)
        for dicom in headers(study):
            assert keyword not in dicom
            if layout == "enhanced":
                (shared,) = dicom.SharedFunctionalGroupsSequence
                own = dicom.PerFrameFunctionalGroupsSequence[0]
                assert group not in own and (group not in shared or keyword not in shared[group][0])
            elif fault == "no_trigger_times":
                assert dicom.NominalInterval == round(60000 / study.heart_rate)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compressed_and_truncated(tmp_path, layout):
    study = faulty(tmp_path / "compressed", layout, "compressed")
    dicom = pydicom.dcmread(study.sources[1, 0].file)
    assert dicom.file_meta.TransferSyntaxUID == RLELossless
    frame = study.sources[1, 0].frame
    assert np.array_equal(dicom.pixel_array if frame is None else dicom.pixel_array[frame - 1], study.images[1, 0])
    study = faulty(tmp_path / "truncated", layout, "truncated")
    damaged = 0
    for file in {source.file for source in study.sources.values()}:
        try:
            np.asarray(pydicom.dcmread(file).pixel_array)
        except (ValueError, EOFError, AttributeError, OSError):
            damaged += 1
    assert damaged == 1


def test_two_patients(tmp_path):
    study = faulty(tmp_path, "ge", "two_patients")
    found = [pydicom.dcmread(f, stop_before_pixels=True) for f in tmp_path.rglob("*") if f.is_file()]
    assert Counter(d.PatientID for d in found).most_common() == [(study.identifiers[2], N), (study.identifiers[9], N)]
    assert len({d.StudyInstanceUID for d in found}) == 2


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="agfa"):
        write_study(tmp_path, "agfa")
    with pytest.raises(ValueError, match="coffee"):
        write_study(tmp_path, "ge", faults=["coffee"])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")
def test_follows_the_standard(study):
    _, study = study
    files = [file for file in study.folder.rglob("*") if file.is_file() and file.suffix != ".txt"]
    first_of_series = {pydicom.dcmread(f, stop_before_pixels=True).SeriesInstanceUID: f for f in files}
    for file in first_of_series.values():
        checked = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True)
        assert "MRImage" in checked.stderr or "EnhancedMR" in checked.stderr or "SCImage" in checked.stderr
        assert not [line for line in checked.stderr.splitlines() if line.startswith("Error")], file
