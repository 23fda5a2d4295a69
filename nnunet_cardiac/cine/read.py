"""Reading a patient's cine: a 4D NIfTI file, a folder of 3D frames, or DICOM with whatever else the study holds."""

import configparser
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.dicom import Frame, is_dicom, read_frames, read_pixels
from nnunet_cardiac.cine.study import LEAST_PHASES, LEAST_SLICES, LONGEST_CYCLE, UNEQUAL, Loop, Stack, find_short_axis
from nnunet_cardiac.dicom import Patient, Source, dicom_affine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.nifti import open_nifti, read_nifti
from nnunet_cardiac.texts import read_text

NIFTI = (".nii", ".nii.gz")
FAR, FEW, CHANGED = 1.5, 0.8, 1.3
"""What is flagged: slices so many times as far apart as usual, with fewer than this share of the phases, and beats that
are so many times as long as in another slice."""
LONG_STEP, UNSEEN = 1.8, 0.25
"""What is flagged: phases so many times as far apart as usual, and a share of the cycle before the first one and after
the last one that has no images. Triggered acquisitions miss the end of the cycle, up to a fifth of it."""
SHORTEST_CYCLE = 300
"""ms; where a file's times make a shorter cycle, or one longer than ``LONGEST_CYCLE``, they are something else."""


def read_cine(source: Path, series: Sequence[int] = ()) -> Cine:
    """The short-axis cine of a patient.

    Args:
        source: a 4D NIfTI file, a folder of 3D ones, a DICOM file or folder
        series: numbers of series of a DICOM study to choose from, see ``nnunet_cardiac.cine.study.table``

    Raises:
        UserError: there is none, or not enough of it
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give -i a file or a folder.")
    niftis = [source] if source.is_file() and source.name.endswith(NIFTI) else _niftis(source)
    if not niftis:
        return _read_dicom(source, series)
    if source.is_dir() and any(is_dicom(file) for file in source.rglob("*") if file.is_file()):
        cine = _read_dicom(source, series)
        return replace(cine, remarks=(*cine.remarks, f"{len(niftis)} NIfTI files beside the DICOM are left out."))
    return _read_nifti(niftis)


def _niftis(folder: Path) -> list[Path]:
    """NIfTI files of images in a folder, not of labels."""
    if not folder.is_dir():
        return []
    files = [file for file in sorted(folder.iterdir()) if file.name.endswith(NIFTI)]
    return [file for file in files if not re.search(r"(_gt|_seg|_labels?|segmentation)\.nii(\.gz)?$", file.name)]


def _read_nifti(files: Sequence[Path]) -> Cine:
    """Of several files the one with most phases; where none has several, all of them as frames in the order of their
    names."""
    shapes = {file: _shape(file) for file in files}
    longest = max(files, key=lambda file: shapes[file][3])
    if shapes[longest][3] > 1:
        voxels, image = read_nifti(longest)
        remarks = [f"{len(files) - 1} other NIfTI files beside it are left out."] if len(files) > 1 else []
        return _nifti_cine(voxels.reshape(shapes[longest]), image, "NIfTI", remarks, longest)
    frames = sorted(files, key=_natural)
    odd = [file for file in frames if shapes[file] != shapes[frames[0]]]
    if odd:
        raise UserError(
            f"{odd[0]} has {_by(shapes[odd[0]][:3])} voxels and {frames[0].name} {_by(shapes[frames[0]][:3])}: "
            "give a folder with the frames of one cine."
        )
    read = [read_nifti(file) for file in frames]
    _check_size(shapes[frames[0]][2], len(frames), str(frames[0].parent))
    voxels = np.stack([own.reshape(shapes[frames[0]][:3]) for own, _ in read], -1)
    if any(not np.allclose(image.affine, read[0][1].affine, atol=1e-3) for _, image in read):
        raise UserError(f"The frames in {frames[0].parent} do not lie in one place: their affines differ.")
    return _nifti_cine(voxels, read[0][1], f"{len(frames)} NIfTI frames", [], frames[0])


def _shape(file: Path) -> tuple[int, int, int, int]:
    shape = open_nifti(file).shape
    if len(shape) < 3 or any(n != 1 for n in shape[4:]):
        raise UserError(f"{file} has {len(shape)} dimensions ({_by(shape)}): a cine has 4, x, y, slices and phases.")
    x, y, z, t = (*shape, 1)[:4]
    return x, y, z, t


def _nifti_cine(voxels: np.ndarray, image: nib.Nifti1Image, origin: str, remarks: list[str], file: Path) -> Cine:
    n_slices, n_phases = voxels.shape[2:]
    _check_size(n_slices, n_phases, str(file))
    affine = np.array(image.affine, float)
    if not np.isfinite(affine).all() or min(np.linalg.norm(affine[:3, :3], axis=0)) <= 0:
        raise UserError(f"{file} has no spacing or place: its affine is {affine[:3].tolist()}.")
    zooms = image.header.get_zooms()
    step = float(zooms[3]) if len(zooms) > 3 else 0.0
    step *= {8: 1000, 24: 1e-3}.get(int(image.header["xyzt_units"]) & 56, 1)  # NIfTI-1's codes of s and µs
    times = None
    if SHORTEST_CYCLE <= step * n_phases <= LONGEST_CYCLE:
        times = step * np.arange(n_phases)
    else:
        remarks.append("The file does not tell the time between phases: rates are not known.")
    return Cine(
        voxels=np.ascontiguousarray(voxels.transpose(3, 2, 1, 0), np.float32),
        affine=affine,
        times=times,
        heart_rate=None if times is None else 60000 / (step * n_phases),
        heart_rate_is_derived=times is not None,
        patient=_acdc_patient(file.with_name("Info.cfg")),
        origin=f"{origin}, {n_slices} slices x {n_phases} phases",
        remarks=tuple(remarks),
    )


def _acdc_patient(file: Path) -> Patient:
    """Height and weight as ACDC's ``Info.cfg`` has them, in cm and kg."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(f"[info]\n{read_text(file)}")
        return Patient(height=parser.getfloat("info", "height") / 100, weight=parser.getfloat("info", "weight"))
    except (UserError, ValueError, configparser.Error):
        return Patient()


def _natural(file: Path) -> list:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _check_size(n_slices: int, n_phases: int, where: str) -> None:
    if n_phases < 2:
        raise UserError(f"{where} holds one phase only: a cine has many; for single volumes there is predict.")
    if n_slices < LEAST_SLICES:
        raise UserError(f"{where} has {n_slices} slices: volumes need a stack of at least {LEAST_SLICES}.")
    if n_phases < LEAST_PHASES:
        raise UserError(f"{where} has {n_phases} phases: the cycle needs at least {LEAST_PHASES}.")


def read_study(source: Path) -> tuple[list[Frame], list[str], list[str]]:
    """All images of a DICOM study of one patient; what is to be said about the rest; problems with files' paths.

    Raises:
        UserError: there are none, or of several patients
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give -i a file or a folder.")
    frames, others, problems = read_frames(source)
    if not frames:
        more = f"; {problems[0]}" if problems else ""
        raise UserError(f"{source} holds no DICOM image{more}: give -i a patient's study.")
    patients = sorted({frame.patient for frame in frames if frame.patient and frame.modality == "MR"})
    if len(patients) > 1:
        raise UserError(
            f"{source} holds images of {len(patients)} patients (hashes of their IDs: {', '.join(patients)}): give -i "
            "one of them, or their folder with --cohort to do one after the other."
        )
    return frames, [f"{others} files are no DICOM: they are left out."] if others else [], problems


def _read_dicom(source: Path, series: Sequence[int]) -> Cine:
    frames, said, problems = read_study(source)
    pixels: dict[Source, np.ndarray] = {}
    try:
        stack = find_short_axis(frames, series)
    except UserError as e:
        raise UserError(" ".join([f"{source}:", *problems[:1], str(e)])) from e
    if series:
        frames = [frame for frame in frames if frame.series in stack.series]
    rest = len({frame.series for frame in frames} - set(stack.series))
    while True:  # until all that is wanted can be decoded
        remarks = list(said)
        grid = _even_slices(stack, remarks)
        chosen = _even_phases(stack, remarks)
        wanted = {frame.source: frame for own in chosen for frame in own if frame.source not in pixels}
        decoded, broken = read_pixels(list(wanted.values()))
        pixels |= decoded
        if not broken:
            break
        problems += broken
        lost = {source.file for source in wanted if source not in decoded}
        frames = [frame for frame in frames if frame.source.file not in lost]
        try:
            stack = find_short_axis(frames)
        except UserError as e:
            raise UserError(f"{broken[0]} Without it there is no short axis: {e}") from e
    if rest:
        remarks.append(f"{rest} other series of the study are left out; --list shows them.")
    if problems:
        remarks.append(f"{len(problems)} DICOM files cannot be read: they are left out.")
    remarks += stack.remarks
    voxels = np.stack([[pixels[chosen[i][t].source] for i in grid] for t in range(stack.n_phases)])
    times = _times(_reference(stack))
    if times is None:
        remarks.append("The images do not tell their times: phases are in the order of their numbers, rates unknown.")
    heart_rate, derived = _heart_rate(stack, times)
    identified = all(frame.is_identified for own in chosen for frame in own)
    if not identified:
        of_several = len({frame.study for frame in frames if frame.study}) > 1
        why = "are of several studies" if of_several else "have no UIDs of study and series"
        remarks.append(f"The images {why}: no DICOM objects can refer to them.")
    first = stack.loops[0].frames[0]
    numbers = sorted({f.series_number for loop in stack.loops for f in loop.frames if f.series_number is not None})
    named = f"series {numbers[0]}" if len(numbers) == 1 else f"{len(stack.series)} series"
    return Cine(
        voxels=voxels,
        affine=_affine(stack, len(grid)),
        times=times,
        heart_rate=heart_rate,
        heart_rate_is_derived=derived,
        doubts=_doubts(stack),
        shift=stack.shift,
        patient=first.facts,
        origin=f"DICOM, {f'{first.vendor}, ' if first.vendor else ''}{named}, {len(stack.loops)} slices x "
        f"{stack.n_phases} phases",
        sources=tuple(tuple(chosen[i][t].source for i in grid) for t in range(stack.n_phases)) if identified else None,
        remarks=tuple(remarks),
        problems=tuple(problems),
    )


def _reference(stack: Stack) -> Loop:
    """A slice with as many phases as most, and with times if any has them."""
    return max(stack.loops, key=lambda loop: (len(loop.frames) == stack.n_phases, loop.has_times))


def _times(loop: Loop) -> np.ndarray | None:
    return np.array([frame.time for frame in loop.frames], float) if loop.has_times else None


def _slice_distance(stack: Stack) -> float:
    return float(np.median(np.diff([loop.place for loop in stack.loops])))


def _doubts(stack: Stack) -> tuple[tuple[str, str], ...]:
    """What of a stack no number should be trusted for: a title and a sentence each."""
    doubts = []
    if not stack.lies_across:
        reason = "The stack does not lie across the heart's usual long axis: it is another view, or an unusual heart."
        doubts.append(("May be no short axis", reason))
    distance = _slice_distance(stack)
    steps = np.diff([loop.place for loop in stack.loops])
    if (far := steps > FAR * distance).any():
        reason = (
            f"Between slices are up to {steps.max():.0f} mm, where {distance:.0f} mm are usual: at {far.sum()} places "
            "slices are missing, for which their neighbours stand in."
        )
        doubts.append(("Slices missing", reason))
    fewest = min(stack.loops, key=lambda loop: len(loop.frames))
    if (n := len(fewest.frames)) < FEW * stack.n_phases:
        number = stack.loops.index(fewest) + 1
        reason = f"Slice {number} has {n} of {stack.n_phases} phases: for the others the nearest stand in."
        doubts.append(("Phases missing", reason))
    most = max(stack.loops, key=lambda loop: len(loop.frames))
    if FEW * (n := len(most.frames)) > stack.n_phases and not _is_even(most):
        reason = (
            f"Slice {stack.loops.index(most) + 1} has {n} images where most have {stack.n_phases}: it may have been "
            "taken twice, and its phases may be mixed."
        )
        doubts.append(("Too many phases", reason))
    if gap := _gap(_reference(stack)):
        doubts.append(("Cycle not covered", gap))
    if stack.n_beyond:
        reason = (
            f"{stack.n_beyond} cine slices beyond the stack's ends differ from it in matrix, pixels, direction or "
            "series, and are left out: volumes may lack them. --list shows all series."
        )
        doubts.append(("Slices left out", reason))
    beats = [interval for loop in stack.loops if (interval := loop.frames[0].interval)]
    if beats and max(beats) > CHANGED * min(beats):
        reason = (
            f"Beats are {min(beats):.0f} to {max(beats):.0f} ms long in different slices: images of one phase show the "
            "heart at different moments of its work."
        )
        doubts.append(("Heart rate changed", reason))
    return tuple(doubts)


def _is_even(loop: Loop) -> bool:
    """Whether its images have times at about the same distance, as those of one take."""
    times = _times(loop)
    steps = np.diff(times) if times is not None else np.zeros(1)
    return bool(0 < steps.max() <= LONG_STEP * steps.min())


def _gap(loop: Loop) -> str:
    """What part of the cycle has no images in any slice, in a sentence; "" where there is none."""
    times = _times(loop)
    if times is None:
        return ""
    steps = np.diff(times)
    usual = float(np.median(steps))
    if steps.max() > LONG_STEP * usual:
        return f"Up to {steps.max():.0f} ms lie between phases, where {usual:.0f} ms are usual: phases are missing."
    covered = float(times[-1] - times[0]) + usual
    interval = loop.frames[0].interval
    cycle = interval if interval and SHORTEST_CYCLE <= interval <= LONGEST_CYCLE else float(times[-1]) + usual
    if covered < (1 - UNSEEN) * cycle <= LONGEST_CYCLE:
        return f"The images show {covered:.0f} of the cycle's {cycle:.0f} ms: the others are missing."
    return ""


def _even_slices(stack: Stack, remarks: list[str]) -> list[int]:
    """Which slice stands at each place of an even grid: its own, or where slices are out of step the nearest."""
    places = np.array([loop.place for loop in stack.loops])
    distance = _slice_distance(stack)
    steps = np.diff(places)
    if (np.abs(steps - distance) <= UNEQUAL * distance).all():
        return list(range(len(places)))
    remarks.append(
        f"Slices are {steps.min():.1f} to {steps.max():.1f} mm apart: every {distance:.1f} mm the nearest one is used."
    )
    grid = places[0] + distance * np.arange(round((places[-1] - places[0]) / distance) + 1)
    return [int(np.abs(places - place).argmin()) for place in grid]


def _even_phases(stack: Stack, remarks: list[str]) -> list[list[Frame]]:
    """Each slice's image for each phase: where a slice has fewer or more than most, the nearest in the cycle."""
    reference = _reference(stack)
    targets, cycle = _moments(reference, None, stack.n_phases)
    chosen = []
    for number, loop in enumerate(stack.loops, 1):
        n = len(loop.frames)
        if n == stack.n_phases:
            chosen.append(list(loop.frames))
            continue
        remarks.append(
            f"Slice {number} has {n} phases where most have {stack.n_phases}: the nearest in the cycle are used."
        )
        moments, _ = _moments(loop, cycle if reference.has_times else None, stack.n_phases)
        apart = np.abs((moments - targets[:, None] + 0.5) % 1 - 0.5)
        chosen.append([loop.frames[i] for i in apart.argmin(1)])
    return chosen


def _moments(loop: Loop, cycle: float | None, n_phases: int) -> tuple[np.ndarray, float | None]:
    """Each image's share of the cycle, and the cycle's length in ms where times tell it.

    Args:
        loop: a slice
        cycle: ms, for a slice that does not tell its own; None where nobody does
        n_phases: of most slices
    """
    times = _times(loop)
    if times is None:
        positions = [frame.order[0] for frame in loop.frames if frame.order[0] is not None]
        if len(set(positions)) == len(loop.frames) < max(positions) <= n_phases:  # some are missing in between
            return (np.array(positions) - 1) / n_phases, None
        return np.arange(len(loop.frames)) / len(loop.frames), None
    length = loop.frames[0].interval or cycle or times[-1] - times[0] + float(np.median(np.diff(times)))
    return times / length, length


def _affine(stack: Stack, n_slices: int) -> np.ndarray:
    first = stack.loops[0].frames[0]
    assert first.orientation is not None and first.position is not None and first.spacing is not None
    distance = (stack.loops[-1].place - stack.loops[0].place) / (n_slices - 1)
    return dicom_affine(first.orientation, first.position, first.spacing, distance)


def _heart_rate(stack: Stack, times: np.ndarray | None) -> tuple[float | None, bool]:
    """Beats a minute: as the files have it, else from the times; and whether it is from these."""
    intervals = [frame.interval for loop in stack.loops for frame in loop.frames if frame.interval]
    if intervals and SHORTEST_CYCLE <= float(np.median(intervals)) <= LONGEST_CYCLE:
        return 60000 / float(np.median(intervals)), False
    if times is None:
        return None, False
    cycle = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
    return (60000 / cycle, True) if SHORTEST_CYCLE <= cycle <= LONGEST_CYCLE else (None, False)


def with_size(cine: Cine, height: float | None, weight: float | None) -> Cine:
    """The cine of a patient whose height (m) and weight (kg) were given; None leaves what the files have."""
    patient = cine.patient
    return replace(cine, patient=replace(patient, height=height or patient.height, weight=weight or patient.weight))
