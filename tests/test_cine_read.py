"""Reading a patient's cine: what the phantoms wrote is what is read, in every layout and with every fault."""

import re
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest

from nnunet_cardiac.cine.dicom import pseudonym, read_frames
from nnunet_cardiac.cine.read import read_cine, with_size
from nnunet_cardiac.cine.study import find_short_axis, format_table, table
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.phantom.dicom import LAYOUTS, write_study

SIZE = {"n_slices": 5, "n_phases": 8, "shape": (48, 40), "spacing": 5.0}


@pytest.fixture
def study(tmp_path):
    def study(layout="ge", *faults, **more):
        return write_study(tmp_path / "study", layout, faults=faults, **SIZE | {"others": not faults} | more)

    return study


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(study, layout):
    """Among long axes, localizers, flow, late enhancement, a map and files that are no DICOM."""
    written = study(layout)
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    np.testing.assert_allclose(cine.affine, written.affine, atol=1e-3)
    np.testing.assert_allclose(cine.times, written.times, atol=0.5)
    assert cine.heart_rate == pytest.approx(written.heart_rate, rel=0.02)
    assert cine.patient == written.patient
    found = {(t, z): source for t, phase in enumerate(cine.sources) for z, source in enumerate(phase)}
    assert {k: (s.sop_instance, s.frame) for k, s in found.items()} == {
        k: (s.sop_instance, s.frame) for k, s in written.sources.items()
    }
    said = " ".join((cine.origin, *cine.remarks))
    assert "5 slices x 8 phases" in said and "other series of the study are left out" in said
    assert "files are no DICOM" in said
    assert not any(word in said for word in written.identifiers)


def test_a_slice_that_was_taken_twice(study):
    """The later take is the one that the technician wanted."""
    written = study("ge", "slice_twice")
    cine = read_cine(written.folder)
    others = [z for z in range(5) if z != 2]
    np.testing.assert_array_equal(cine.voxels[:, others], written.images[:, others])
    first_take = {source.sop_instance for (_, z), source in written.sources.items() if z == 2}
    assert not first_take & {phase[2].sop_instance for phase in cine.sources}
    assert "Slice 3 was taken 2 times" in " ".join(cine.remarks)


def test_a_second_take_of_slightly_longer_beats_is_no_part_of_the_first(study):
    """Its times differ from all of the first one's; the clock tells that it was another."""
    written = study("ge", "slice_twice", others=False)
    first_take = {source.sop_instance for source in written.sources.values()}
    for file in (file for file in written.folder.rglob("*") if file.is_file()):
        dicom = pydicom.dcmread(file)
        if dicom.SOPInstanceUID not in first_take:
            dicom.TriggerTime = f"{float(dicom.TriggerTime) * 1.03 + 1:.2f}"
            dicom.AcquisitionTime = "235900"
            dicom.save_as(file)
    cine = read_cine(written.folder)
    assert not first_take & {phase[2].sop_instance for phase in cine.sources}
    assert "Slice 3 was taken 2 times" in " ".join(cine.remarks)


@pytest.mark.parametrize("times", ["of one cycle", "over midnight"])
def test_one_take_in_two_parts_stays_one(study, times):
    """In two breath-holds, each of half the cycle, or over midnight."""
    written = study("ge", others=False, n_phases=12)

    def parts(dicom, t, z, n):
        dicom.AcquisitionDate = "20250101" if t < 6 or times == "of one cycle" else "20250102"
        late, early = ("110000", "110100") if times == "of one cycle" else ("235959.6", "000000.4")
        dicom.AcquisitionTime = late if t < 6 else early

    changed(written, parts)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_a_slice_of_more_even_phases_is_not_doubted(study):
    """Prospective gating in longer beats."""
    written = study("siemens", others=False, n_phases=20)

    def prospective(dicom, t, z, n):
        dicom.TriggerTime, dicom.NominalInterval = 40.0 * t, 850

    changed(written, prospective)
    for (t, z), source in written.sources.items():
        if z == 2 and t < 6:
            dicom = pydicom.dcmread(source.file)
            dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            dicom.TriggerTime, dicom.InstanceNumber = 800 + 40.0 * t, 100 + t
            if "TemporalPositionIdentifier" in dicom:
                dicom.TemporalPositionIdentifier = 21 + t
            dicom.save_as(source.file.with_name(f"more{t}"))
    cine = read_cine(written.folder)
    assert "Slice 3 has 26 phases" in " ".join(cine.remarks) and not cine.doubts


def test_two_takes_that_nothing_tells_apart_are_doubted(study):
    cine = read_cine(study("ge", "slice_twice", "anonymised").folder)
    assert [title for title, _ in cine.doubts] == ["Too many phases"] and "16 images" in cine.doubts[0][1]


def test_phases_that_no_slice_has_are_doubted(study):
    written = study("ge", others=False, n_phases=24)
    assert not read_cine(written.folder).doubts
    for (t, _), source in written.sources.items():
        if 8 <= t <= 14:
            source.file.unlink()
    ((title, reason),) = read_cine(written.folder).doubts
    assert title == "Cycle not covered" and "between phases" in reason
    for (t, _), source in written.sources.items():
        if t < 8:
            source.file.unlink()
    ((title, reason),) = read_cine(written.folder).doubts
    assert title == "Cycle not covered" and "of the cycle's" in reason


@pytest.mark.parametrize("slices, n_beyond", [([4], 1), ([0, 1], 2), ([2], 0)])
def test_slices_beyond_the_ends_that_are_no_part_of_the_stack_are_told(study, slices, n_beyond):
    """Cut by two rows, as a technician may plan them again. Of a slice in between the gap tells."""
    written = study("ge", others=False)

    def lower(dicom, t, z, n):
        if z in slices:
            pixels = dicom.pixel_array[:-2]
            dicom.Rows, dicom.PixelData = pixels.shape[0], pixels.tobytes()

    changed(written, lower)
    doubts = dict(read_cine(written.folder).doubts)
    assert ("Slices left out" in doubts) == bool(n_beyond) and ("Slices missing" in doubts) == (not n_beyond)
    if n_beyond:
        assert doubts["Slices left out"].startswith(f"{n_beyond} cine slices beyond")
    (row,) = table(read_frames(written.folder)[0], find_short_axis(read_frames(written.folder)[0]))
    assert row.what == f"short-axis cine, {5 - len(slices)} of 5 slices"


def test_a_slice_that_lost_phases_keeps_the_others_in_their_places(study):
    """Without times, by the temporal positions."""
    written = study("ge", "no_trigger_times", others=False, n_phases=20)
    for (t, z), source in written.sources.items():
        if z == 2 and 6 <= t <= 8:
            source.file.unlink()
    there = [t for t in range(20) if not 6 <= t <= 8]
    np.testing.assert_array_equal(read_cine(written.folder).voxels[there], written.images[there])


def test_a_slice_with_fewer_phases_gets_the_nearest(study):
    written = study("siemens", "missing_phase")
    cine = read_cine(written.folder)
    missing = [t for t in range(8) if (t, 2) not in written.sources]
    assert len(missing) == 2
    for t in range(8):
        if t in missing:
            near = [np.array_equal(cine.voxels[t, 2], written.images[(t + d) % 8, 2]) for d in (-1, 1)]
            assert any(near)
        else:
            np.testing.assert_array_equal(cine.voxels[t, 2], written.images[t, 2])
    assert "Slice 3 has 6 phases where most have 8" in " ".join(cine.remarks)


def test_a_slice_of_longer_beats(study):
    """Its phases are those of the same share of the cycle."""
    written = study("siemens", "other_trigger_times")
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    np.testing.assert_allclose(cine.times, written.times, atol=0.5)


def test_slices_that_are_out_of_step(study):
    """Every slice stands for the way to its neighbours."""
    written = study("ge", "unequal_gaps", n_slices=7)
    cine = read_cine(written.folder)
    places = written.positions @ np.cross(*(written.affine[:3, i] / 5 * [-1, -1, 1] for i in (0, 1)))
    step = np.median(np.diff(places))
    assert cine.spacing[0] == pytest.approx(step, rel=0.1)
    assert cine.voxels.shape[1] == round((places[-1] - places[0]) / step) + 1 > 7
    for z in range(cine.voxels.shape[1]):
        place = places[0] + z * cine.spacing[0]
        nearest = np.flatnonzero(abs(places - place) < abs(places - place).min() + 1e-3)
        assert any(np.array_equal(cine.voxels[0, z], written.images[0, i]) for i in nearest)
    assert "mm apart" in " ".join(cine.remarks)


@pytest.mark.parametrize("layout", ["ge", "siemens"])
@pytest.mark.parametrize("fault", ["anonymised", "no_trigger_times"])
def test_without_times_the_numbers_tell_the_order(study, layout, fault):
    written = study(layout, fault)
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    assert cine.times is None and "do not tell their times" in " ".join(cine.remarks)


def test_compressed_pixels(study):
    written = study("ge", "compressed")
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_pixels_that_pydicom_cannot_decode_are_left_to_simpleitk(study, monkeypatch):
    written = study("ge")

    monkeypatch.setattr("nnunet_cardiac.cine.dicom._has_decoder", lambda dicom: False)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", None)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_one_broken_file_costs_one_image(study):
    written = study("ge", "truncated")
    cine = read_cine(written.folder)
    same = (cine.voxels == written.images).all((2, 3))
    assert np.count_nonzero(~same) == 1
    assert "1 DICOM files cannot be read" in " ".join(cine.remarks) and len(cine.problems) == 1
    assert not any(str(written.folder) in remark for remark in cine.remarks)


@pytest.mark.parametrize(
    "layout, fault, because",
    [
        ("ge", "missing_spacing", "images have no spacing (PixelSpacing)"),
        ("siemens", "missing_orientation", "images have no orientation (ImageOrientationPatient)"),
        ("enhanced", "truncated", "cannot be decoded"),
        ("ge", "two_patients", "images of 2 patients (hashes of their IDs: "),
    ],
)
def test_what_cannot_be_used_is_said(study, layout, fault, because):
    written = study(layout, fault)
    with pytest.raises(UserError, match="|".join(map(re.escape, because.split("|")))) as error:
        read_cine(written.folder)
    assert not any(word in str(error.value) for word in written.identifiers)


def test_a_study_without_a_short_axis_lists_what_it_has(study):
    written = study("ge")
    frames, _, _ = read_frames(written.folder)
    for frame in frames:
        if frame.series in written.series:
            frame.source.file.unlink(missing_ok=True)
    with pytest.raises(UserError, match="at least 3 parallel slices") as error:
        read_cine(written.folder)
    assert "cine of one plane" in str(error.value) and "What there is:" in str(error.value)


def test_series_can_be_chosen(study):
    written = study("ge")
    frames, _, _ = read_frames(written.folder)
    rows = table(frames, find_short_axis(frames))
    (short,) = [row.number for row in rows if row.what == "short-axis cine"]
    np.testing.assert_array_equal(read_cine(written.folder, [short]).voxels, written.images)
    with pytest.raises(UserError, match="at least 3 parallel slices"):
        read_cine(written.folder, [row.number for row in rows if row.number != short])
    with pytest.raises(UserError, match="There is no series 99"):
        read_cine(written.folder, [99])
    assert "short-axis cine" in format_table(rows)


def test_the_table_tells_what_each_series_is(study):
    frames, _, _ = read_frames(study("siemens").folder)
    kinds = [row.what for row in table(frames, find_short_axis(frames))]
    assert kinds.count("short-axis cine") == 5 and kinds.count("cine of one plane") == 3  # two long axes and a flow
    assert "no orientation" in kinds or any("no MR" in kind for kind in kinds)  # the secondary capture


def test_a_pseudonym_is_that_of_the_study_and_of_nothing_that_can_be_guessed(study, tmp_path):
    written = study("ge")
    name = pseudonym(written.folder)
    assert re.fullmatch(r"patient_[0-9a-f]{8}", name)
    shutil.move(written.folder, tmp_path / "elsewhere")
    assert pseudonym(tmp_path / "elsewhere") == name and pseudonym(tmp_path / "nothing") is None


def changed(written, change, which=lambda dicom: True):
    """Rewrites the cine's files; ``change`` is given each, with its number in the order of slices and phases."""
    for number, ((t, z), source) in enumerate(sorted(written.sources.items(), key=lambda item: item[0][::-1])):
        dicom = pydicom.dcmread(source.file)
        change(dicom, t, z, number)
        dicom.save_as(source.file)


@pytest.mark.parametrize("share", [lambda z: z // 2, lambda z: z % 2, lambda z: int(z == 4)])
def test_a_stack_that_is_spread_over_several_series(study, share):
    """A breath-hold each, interleaved, or one slice that was done later."""
    written = study("ge", others=False, n_slices=6)
    uids = [pydicom.uid.generate_uid() for _ in range(3)]
    changed(written, lambda d, t, z, n: setattr(d, "SeriesInstanceUID", uids[share(z)]))
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def other_stack(written, folder, orientation, n_slices, n_phases, step=4.0, **attributes):
    """Another stack in the same study, made of copies of one image."""
    template = pydicom.dcmread(written.sources[0, 0].file)
    template.SeriesInstanceUID = pydicom.uid.generate_uid()
    template.ImageOrientationPatient = orientation
    normal = np.cross(orientation[:3], orientation[3:])
    folder.mkdir()
    for z in range(n_slices):
        for t in range(n_phases):
            template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            template.ImagePositionPatient = [float(f"{v:.4f}") for v in z * step * normal]
            template.InstanceNumber, template.TriggerTime = z * n_phases + t + 1, 30.0 * t
            template.TemporalPositionIdentifier = t + 1
            for name, value in attributes.items():
                setattr(template, name, value(t) if callable(value) else value)
            template.save_as(folder / f"{z}_{t}")


@pytest.mark.parametrize(
    "orientation, phases, attributes",
    [
        ([1, 0, 0, 0, 1, 0], 20, {}),  # axial, as for a congenital heart or a 4D flow
        ([0, 1, 0, 0, 0, -1], 20, {}),  # sagittal
        (None, 20, {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}),  # as one vendor marks velocities
        (None, 20, {"AcquisitionTime": lambda t: f"1200{t:02d}.0", "TriggerTime": 120.0}),  # perfusion: a beat for each
        (None, 20, {"TriggerTime": lambda t: 200.0 * t}),  # real time, over several beats
        (None, 20, {"EchoTime": lambda t: 2.0 + 2 * t}),  # for a map of T2*
        (None, 20, {"InversionTime": lambda t: 100.0 + 80 * t}),  # for a map of T1
    ],
)
def test_larger_stacks_that_are_no_short_axis(study, orientation, phases, attributes):
    written = study("ge", others=False)
    own = pydicom.dcmread(written.sources[0, 0].file).ImageOrientationPatient
    other_stack(written, written.folder / "more", orientation or list(own), 12, phases, **attributes)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_a_spoiled_gradient_echo_of_all_slices_is_not_the_cine(study):
    """Tagging, for instance, though it comes later."""
    written = study("ge", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "FlipAngle", 60))
    taken_again(written, range(5), FlipAngle=12, SequenceVariant="SP", AcquisitionTime="235900")
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def taken_again(written, slices, one_series=True, factor=2, **attributes):
    """Slices once more, as series of their own, brighter, and with other attributes."""
    uids = [pydicom.uid.generate_uid() for _ in written.positions]
    (written.folder / "again").mkdir(exist_ok=True)
    for (t, z), source in written.sources.items():
        if z in slices:
            dicom = pydicom.dcmread(source.file)
            dicom.SeriesInstanceUID = uids[0 if one_series else z]
            dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            dicom.PixelData = (dicom.pixel_array * factor).astype(dicom.pixel_array.dtype).tobytes()
            for name, value in attributes.items():
                setattr(dicom, name, value)
            dicom.save_as(written.folder / "again" / f"{t}_{z}_{dicom.SOPInstanceUID[-6:]}")


@pytest.mark.parametrize("slices", [range(5), [0], [1, 3]])
def test_of_takes_of_unknown_time_the_one_of_the_larger_number_is_used(study, slices):
    """One series for each slice, times alike: never a mixture."""
    written = study("siemens", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "AcquisitionTime", "120000"))
    taken_again(written, slices, one_series=False, SeriesNumber=99)
    cine = read_cine(written.folder)
    for z in range(5):
        np.testing.assert_array_equal(cine.voxels[:, z], written.images[:, z] * (2 if z in slices else 1))
    numbers = ", ".join(str(z + 1) for z in slices)
    assert f"{numbers} w" in " ".join(cine.remarks) and " ".join(cine.remarks).count("taken 2 times") == 1


def test_takes_of_the_next_day_are_later(study):
    written = study("siemens", others=False)

    def late(dicom, t, z, n):
        dicom.AcquisitionDate, dicom.AcquisitionTime = "20250101", "235900"

    changed(written, late)
    taken_again(written, [2], one_series=False, AcquisitionDate="20250102", AcquisitionTime="000100", SeriesNumber=1)
    np.testing.assert_array_equal(read_cine(written.folder).voxels[:, 2], written.images[:, 2] * 2)


def test_some_slices_of_faster_beats_do_not_replace_those_at_rest(study):
    """Stress: one series for each slice, at the places of the slices at rest."""
    written = study("siemens", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "NominalInterval", 1000))
    taken_again(written, [1, 2, 3], one_series=False, NominalInterval=850, AcquisitionTime="235900", SeriesNumber=99)
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    assert (
        "Slices 2, 3, 4 were taken 2 times: the first complete take is used, as later beats are faster." in cine.remarks
    )


@pytest.mark.parametrize("parts", [("R", "I"), ("P",), ("R", "I", "P")])
def test_phases_and_parts_of_complex_images_beside_the_magnitude(study, parts):
    """One vendor stores them in the cine's own series."""
    written = study("ge", others=False)
    (uid,) = written.series
    changed(written, lambda d, t, z, n: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]))
    for part in parts:
        image_type = ["ORIGINAL", "PRIMARY", f"{part}_FFE", part, "FFE"]
        taken_again(written, range(5), factor=0, ImageType=image_type, SeriesInstanceUID=uid, InstanceNumber=500)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_the_magnitude_of_a_flow_measurement_is_no_slice(study):
    """Parallel to the stack, above its base, with its sequence's names and matrix; velocities have the same place."""
    written = study("siemens", others=False)
    before, last = (np.array(pydicom.dcmread(written.sources[0, z].file).ImagePositionPatient) for z in (3, 4))
    place = [float(f"{v:.4f}") for v in 2 * last - before]
    flow = {"ImagePositionPatient": place, "AcquisitionTime": "130000"}
    uids = [pydicom.uid.generate_uid() for _ in "MP"]
    for uid, part in zip(uids, "MP", strict=True):
        image_type = ["ORIGINAL", "PRIMARY", part]
        taken_again(written, [4], ImageType=image_type, SeriesInstanceUID=uid, SeriesNumber=77, **flow)
    assert len(table(read_frames(written.folder)[0])) == 7
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_slices_that_overlap(study):
    written = study("siemens", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "SliceThickness", 13.5))  # every 10 mm
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


@pytest.mark.parametrize("has_decoder", [True, False])
def test_small_values_that_are_bright(study, monkeypatch, has_decoder):
    """For pydicom, and for SimpleITK, which inverts them of itself."""
    written = study("ge", others=False)
    monkeypatch.setattr("nnunet_cardiac.cine.dicom._has_decoder", lambda dicom: has_decoder)

    def inverted(dicom, t, z, n):
        dicom.PhotometricInterpretation = "MONOCHROME1"
        dicom.PixelData = (2**dicom.BitsStored - 1 - dicom.pixel_array).astype(dicom.pixel_array.dtype).tobytes()

    changed(written, inverted)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_frames_of_a_multi_frame_object_in_the_order_of_their_indices(study):
    """Where they have neither times nor temporal positions, in any order."""
    written = study("enhanced", others=False)
    (file,) = {source.file for source in written.sources.values()}
    dicom = pydicom.dcmread(file)
    frames = list(dicom.PerFrameFunctionalGroupsSequence)
    order = np.random.default_rng(0).permutation(len(frames))
    pixels = dicom.pixel_array
    of_frame = {source.frame: (z, t) for (t, z), source in written.sources.items()}
    pointers = [pydicom.Dataset() for _ in range(2)]
    for pointer, keyword in zip(pointers, ("InStackPositionNumber", "TemporalPositionIndex"), strict=True):
        pointer.DimensionIndexPointer = pydicom.datadict.tag_for_keyword(keyword)
    dicom.DimensionIndexSequence = pointers
    for number, frame in enumerate(frames, 1):
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [n + 1 for n in of_frame[number]]
        for keyword in ("TemporalPositionIndex", "FrameAcquisitionDateTime", "FrameReferenceDateTime"):
            if keyword in content:
                del content[keyword]
        if "CardiacSynchronizationSequence" in frame:
            del frame.CardiacSynchronizationSequence
    dicom.PerFrameFunctionalGroupsSequence = [frames[i] for i in order]
    dicom.PixelData = pixels[order].tobytes()
    dicom.save_as(file)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_ids_that_differ_in_how_they_are_written_are_of_one_patient(study):
    written = study("ge", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "PatientID", "abc 1 " if z % 2 else "ABC 1"))
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_a_longer_series_of_one_slice_does_not_take_the_slices_place(study):
    """Tagging, for instance."""
    written = study("ge", others=False)
    own = pydicom.dcmread(written.sources[0, 2].file)
    other_stack(written, written.folder / "tags", list(own.ImageOrientationPatient), 1, 16, SeriesTime="230000")
    for file in (written.folder / "tags").iterdir():
        dicom = pydicom.dcmread(file)
        dicom.ImagePositionPatient = own.ImagePositionPatient
        dicom.save_as(file)
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_times_that_are_all_alike_are_none(study):
    written = study("ge", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "TriggerTime", 0.0))
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    assert cine.times is None


@pytest.mark.parametrize("fault", [(), ("no_trigger_times",)])
def test_a_study_that_was_copied_twice(study, fault):
    written = study("ge", *fault, others=False)
    shutil.copytree(written.folder, written.folder / "again")
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def test_phases_that_nothing_orders_are_refused(study):
    written = study("ge", "anonymised", others=False)
    changed(written, lambda d, t, z, n: setattr(d, "InstanceNumber", 1))
    with pytest.raises(UserError, match="cannot be ordered"):
        read_cine(written.folder)


def test_a_lost_phase_of_a_cycle_that_is_not_covered(study):
    """Prospective gating: images end before the next beat; each phase that is there stays where it is."""
    written = study("ge", others=False)

    def prospective(dicom, t, z, n):
        dicom.NominalInterval, dicom.HeartRate, dicom.TriggerTime = 1000, 60, 40.0 * t

    changed(written, prospective)
    written.sources[7, 2].file.unlink()
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels[:7], written.images[:7])
    np.testing.assert_array_equal(cine.voxels[7, 2], written.images[6, 2])
    assert cine.heart_rate == pytest.approx(60)


def test_a_heart_rate_that_is_derived_says_so(study):
    written = study("ge", others=False)

    def silent(dicom, t, z, n):
        del dicom.NominalInterval, dicom.HeartRate

    changed(written, silent)
    cine = read_cine(written.folder)
    assert cine.heart_rate is not None and cine.heart_rate_is_derived


def test_pixels_that_are_cut_short_are_not_made_up(study):
    written = study("ge", others=False)

    def short(dicom, t, z, n):
        if n == 3:
            dicom.PixelData = dicom.PixelData[:100]

    changed(written, short)
    assert len(read_cine(written.folder).problems) == 1


def test_slices_that_are_shifted_in_their_plane_are_told(study):
    written = study("ge", others=False)

    def shifted(dicom, t, z, n):
        if z > 2:
            along = np.array(dicom.ImageOrientationPatient[:3], float)
            dicom.ImagePositionPatient = list(np.array(dicom.ImagePositionPatient, float) + 20 * along)

    changed(written, shifted)
    cine = read_cine(written.folder)
    assert "shifted by up to 20 mm" in " ".join(cine.remarks) and cine.shift == pytest.approx(20, abs=0.1)


def test_without_uids_of_the_study_there_is_a_cine_but_no_sources(study):
    written = study("ge", others=False)

    def nameless(dicom, t, z, n):
        del dicom.StudyInstanceUID

    changed(written, nameless)
    cine = read_cine(written.folder)
    assert cine.sources is None and "have no UIDs of study and series: no DICOM objects can" in " ".join(cine.remarks)


def test_of_several_studies_there_is_a_cine_but_no_sources(study):
    """Each series in one of its own, as an anonymiser may write them."""
    written = study("siemens", others=False)
    studies = [pydicom.uid.generate_uid() for _ in range(5)]
    changed(written, lambda d, t, z, n: setattr(d, "StudyInstanceUID", studies[z]))
    cine = read_cine(written.folder)
    np.testing.assert_array_equal(cine.voxels, written.images)
    assert cine.sources is None and "are of several studies: no DICOM objects can" in " ".join(cine.remarks)


def test_a_header_that_is_cut_anywhere_is_one_file_less(study):
    written = study("ge", others=False)
    content = written.sources[0, 0].file.read_bytes()
    for length in range(140, 1500, 37):
        written.sources[0, 0].file.write_bytes(content[:length])
        assert len(read_frames(written.folder)[0]) in (39, 40)


def test_frames_of_a_multi_frame_object_are_rescaled_each(study, monkeypatch):
    written = study("enhanced", others=False)
    (file,) = {source.file for source in written.sources.values()}
    dicom = pydicom.dcmread(file)
    for number, frame in enumerate(dicom.PerFrameFunctionalGroupsSequence, 1):
        item = pydicom.Dataset()
        item.RescaleSlope, item.RescaleIntercept = number, 5
        frame.PixelValueTransformationSequence = [item]
    if "PixelValueTransformationSequence" in dicom.SharedFunctionalGroupsSequence[0]:
        del dicom.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dicom.save_as(file)
    cine = read_cine(written.folder)
    for (t, z), source in written.sources.items():
        np.testing.assert_allclose(cine.voxels[t, z], written.images[t, z] * float(source.frame) + 5)
    # where pydicom cannot decode them: GDCM rescales all frames as the first
    monkeypatch.setattr("nnunet_cardiac.cine.dicom._has_decoder", lambda dicom: False)
    monkeypatch.setattr(
        "nnunet_cardiac.cine.dicom._decode_with_gdcm", lambda file: pydicom.dcmread(file).pixel_array * 1.0 + 5
    )
    np.testing.assert_allclose(read_cine(written.folder).voxels, cine.voxels)


def test_multi_frame_objects_of_one_frame_each(study):
    written = study("enhanced", others=False)
    (file,) = {source.file for source in written.sources.values()}
    dicom = pydicom.dcmread(file)
    frames, pixels = list(dicom.PerFrameFunctionalGroupsSequence), dicom.pixel_array
    file.unlink()
    dicom.NumberOfFrames = 1
    for i, frame in enumerate(frames):
        dicom.PerFrameFunctionalGroupsSequence, dicom.PixelData = [frame], pixels[i].tobytes()
        dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dicom.save_as(file.with_name(f"{i}.dcm"))
    np.testing.assert_array_equal(read_cine(written.folder).voxels, written.images)


def nifti(file, voxels, spacing=(1.5, 1.5, 8, 40), unit="msec"):
    image = nib.Nifti1Image(voxels, np.diag([*spacing[:3], 1]))
    image.header.set_xyzt_units("mm", unit)
    if voxels.ndim > 3:
        image.header["pixdim"][4] = spacing[3]
    nib.save(image, file)
    return file


VOXELS = np.random.default_rng(0).integers(0, 500, (12, 10, 4, 20)).astype(np.int16)


def test_a_4d_nifti(tmp_path):
    cine = read_cine(nifti(tmp_path / "patient.nii.gz", VOXELS))
    np.testing.assert_array_equal(cine.voxels, VOXELS.transpose(3, 2, 1, 0))
    assert cine.spacing == pytest.approx((8, 1.5, 1.5)) and cine.heart_rate == pytest.approx(75)
    np.testing.assert_allclose(cine.times, 40 * np.arange(20))
    assert cine.sources is None and "patient" not in cine.origin


@pytest.mark.parametrize("step, unit, known", [(0.04, "sec", True), (1, "sec", False), (0, "msec", False)])
def test_the_time_between_phases_is_believed_where_it_can_be(tmp_path, step, unit, known):
    cine = read_cine(nifti(tmp_path / "a.nii", VOXELS, (1.5, 1.5, 8, step), unit))
    assert (cine.times is not None) == known
    assert ("rates are not known" in " ".join(cine.remarks)) != known


def test_a_folder_as_acdc_has_it(tmp_path):
    """The 4D file is taken, frames and labels are not; height and weight are those of Info.cfg."""
    nifti(tmp_path / "patient001_4d.nii.gz", VOXELS)
    for name in ("patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"):
        nifti(tmp_path / name, VOXELS[..., 0])
    (tmp_path / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    cine = read_cine(tmp_path)
    assert cine.voxels.shape == (20, 4, 10, 12)
    assert cine.patient.height == pytest.approx(1.84) and cine.patient.weight == 95
    assert cine.patient.body_surface == pytest.approx(np.sqrt(184 * 95 / 3600))


def test_a_folder_of_frames_in_the_order_of_their_numbers(tmp_path):
    for t in range(20):
        nifti(tmp_path / f"²{t + 1}.nii.gz", VOXELS[..., t])
    (tmp_path / "Info.cfg").write_text("Height: 184.0\nWeight: 95.0\n")
    cine = read_cine(tmp_path)
    np.testing.assert_array_equal(cine.voxels, VOXELS.transpose(3, 2, 1, 0))
    assert cine.patient.weight == 95
    nifti(tmp_path / "²3.nii.gz", VOXELS[:-1, ..., 2])
    with pytest.raises(UserError, match="²3.nii.gz has 11 x 10 x 4 voxels"):
        read_cine(tmp_path)


def test_too_few_frames_are_the_folders(tmp_path):
    for t in range(2):
        nifti(tmp_path / f"{t}.nii.gz", VOXELS[..., t])
    with pytest.raises(UserError, match=rf"{tmp_path} has 2 phases"):
        read_cine(tmp_path)


@pytest.mark.parametrize(
    "voxels, because",
    [
        (VOXELS[..., 0], "one phase only"),
        (VOXELS[:, :, :2], "has 2 slices"),
        (VOXELS[..., :3], "has 3 phases"),
        (VOXELS[:, :, 0, 0], "has 2 dimensions"),
        (np.stack([VOXELS] * 2, -1), "has 5 dimensions"),
    ],
)
def test_niftis_that_are_no_cine(tmp_path, voxels, because):
    with pytest.raises(UserError, match=because):
        read_cine(nifti(tmp_path / "a.nii.gz", voxels))


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(UserError, match="cannot be read as NIfTI"):
        read_cine(tmp_path)
    (tmp_path / "a.nii.gz").unlink()
    (tmp_path / "a.txt").write_text("no image")
    with pytest.raises(UserError, match="holds no DICOM image"):
        read_cine(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_cine(tmp_path / "nowhere")


def test_height_and_weight_that_are_given_count(tmp_path):
    cine = read_cine(nifti(tmp_path / "a.nii", VOXELS))
    assert with_size(cine, 1.8, None).patient.height == 1.8
    assert with_size(cine, 1.8, 80).patient.body_surface == pytest.approx(2.0)
    assert cine.patient.body_surface is None


def test_a_deep_folder_with_other_files(study, tmp_path):
    """Files without meaning are passed over by their first bytes."""
    written = study("ge")
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    shutil.move(written.folder, deep)
    for i in range(200):
        (deep / f"{i}.bin").write_bytes(b"\0" * 200)
    cine = read_cine(tmp_path / "a")
    np.testing.assert_array_equal(cine.voxels, written.images)
    assert re.search(r"2\d\d files are no DICOM", " ".join(cine.remarks))
