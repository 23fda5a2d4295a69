"""The short-axis cine in a study, found by geometry and time.

A *loop* is one slice position of one series over time. Loops of one study, orientation, matrix, pixel size, contrast
and about as many phases make a *stack*, whether one series has them all (GE, multi-frame objects), each has one
(Siemens) or each some (a breath-hold). A series that lies where another one does, or between its slices, is a stack of
its own; or where it has a single slice, at the same place and of beats as long, a second take of that slice.

Left out are velocities, real and imaginary parts, images of several echo or inversion times (maps), and of several
beats (perfusion, real time). Magnitudes that velocities were taken with make stacks of their own. Which of the stacks
that are left is the short axis, ``Stack.rank`` tells.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nnunet_cardiac.cine.dicom import Frame
from nnunet_cardiac.errors import UserError

LEAST_SLICES, LEAST_PHASES = 3, 5
"""Of a stack from which volumes over the cycle can be measured."""
LONGEST_CYCLE = 2000
"""ms: the longest beat, of 30 a minute."""
OF_ONE_BEAT = 1.3
"""Of the interval between R waves, that the images of one beat may cover: intervals differ from beat to beat."""
OF_SEVERAL_BEATS, OF_REAL_TIME = 0.3, 0.1
"""s between the acquisitions of neighbouring images, from which on each is of a beat of its own (perfusion), and up to
which, where nothing else tells the time, they are one after the other (real time)."""
OVER_THE_BEAT = 0.5
"""Of the interval between R waves: images over more of it are a cine, whenever they were acquired."""
RESTARTS = 2
"""How often the time from the R wave starts anew, in the order of acquisition, in images of several beats."""
BREAK, DAY = 5.0, 86400
"""s: between the acquisitions of neighbouring images of a slice, from which on it was taken again; of a day."""
SAME_PLACE = 1.0
"""mm along the normal, within which two loops are of the same slice; in the plane, from where on a shift is told."""
SAME_DIRECTION = 0.999
"""Cosine between normals that are parallel: 2.6 degrees."""
NEARLY_PARALLEL, UNEQUAL_ENDS, NEXT = 0.985, 0.5, 1.5
"""Cosine between normals, 10 degrees, and in slice distances how far a slice lies beyond another that would be the next
one of a stack."""
ALIKE = 1.6
"""How many times as many phases a slice may have as another of its stack."""
LONG_AXIS = np.array([0.63, -0.62, -0.46])
"""From the heart's base to its apex in DICOM's world: to the left, to the front and down. Rounded from the direction of
published short axes; it only decides between several stacks."""
ACROSS = 0.5
"""Squared cosine between a stack's normal and the long axis, from which on it is a short axis: within 45 degrees."""
UNEQUAL = 0.1
"""Share of the slice distance by which slices may be out of step."""
OVERLAP = 0.7
"""Of the slices' thickness: slices of two series that are closer belong to two stacks."""
ECHO_TIMES, INTERVALS, INTERVALS_OF_TAKES = 1.5, 1.6, 1.25
"""How many times as long echo times and beats of one stack may be, and beats of two takes of one slice."""
INTERVALS_OF_STRESS = 1.08
"""How many times as long beats of several slices' first takes are, on average, when the second ones are stress."""
SAME_TIMES = 1.05
"""How many times as long echo and inversion times of one cine may be."""
SPOILED = 30
"""Degrees of flip angle, up to which a gradient echo is a spoiled one (tagging, flow), not a balanced one."""
VELOCITIES, PARTS = {"P", "PHASE", "VELOCITY", "VELOCITY MAP", "PHASE MAP"}, {"R", "I", "REAL", "IMAGINARY"}
"""Image types, up to an underscore, of phases (velocities) and of parts of complex images."""
COPIES = {"ND", "DIS2D", "DIS3D", "NORM"}
"""Among a vendor's image types: not corrected and corrected for distortion, and for the coils' sensitivity. Series are
stored in several of these ways; a stack holds one."""


@dataclass(frozen=True)
class Loop:
    """One slice position of one series over time: images in the order of time, no moment twice."""

    frames: tuple[Frame, ...]

    @property
    def place(self) -> float:
        """Along the normal, mm."""
        return _place(self.frames[0])

    @property
    def has_times(self) -> bool:
        """Whether each image has a time of its own."""
        times = [f.time for f in self.frames]
        return None not in times and len(set(times)) == len(times)

    @property
    def is_ordered(self) -> bool:
        """Whether something tells its images' order."""
        return len({_moment(frame) for frame in self.frames}) == len(self.frames)

    @property
    def is_of_one_beat(self) -> bool:
        """Whether its images cover one beat, and not one each of several, nor several one after the other."""
        times = [frame.time for frame in self.frames if frame.time is not None]
        interval = self.frames[0].interval
        covered = max(times) - min(times) if times else 0
        longest = OF_ONE_BEAT * interval if interval else LONGEST_CYCLE
        if covered > longest:
            return False
        clocks = [clock for frame in self.frames if (clock := _seconds(frame.order[1])) is not None]
        steps = np.diff(sorted(clocks))
        if len(steps) < LEAST_PHASES - 1 or len(clocks) < len(self.frames):
            return True
        step = float(np.median(steps))
        if not times and step < OF_REAL_TIME:
            return 1000 * step * len(steps) <= longest
        if self.has_times and interval and covered > OVER_THE_BEAT * interval:
            in_order = np.array(times)[np.argsort(clocks, kind="stable")]
            restarts = int((np.diff(in_order) < -OVER_THE_BEAT * interval).sum())
            return len(set(clocks)) < len(clocks) or restarts < RESTARTS
        return step < OF_SEVERAL_BEATS

    @property
    def is_of_one_contrast(self) -> bool:
        """Whether its images differ in time alone, and not in what a map is made of."""
        for name in ("echo_time", "inversion_time"):
            values = [value for frame in self.frames if (value := getattr(frame, name))]
            if values and max(values) > SAME_TIMES * min(values):
                return False
        return True

    @property
    def taken(self) -> tuple:
        """When it was acquired: the later, the larger."""
        return max(_acquisition(frame) for frame in self.frames)


@dataclass(frozen=True)
class Stack:
    """Loops behind each other, in the order of their places along the normal.

    Args:
        loops: one for each slice
        remarks: what was left out, in sentences
        of_flow: whether velocities were taken with it
        n_beyond: cine slices of the study that lie just beyond its ends and are none of it
    """

    loops: tuple[Loop, ...]
    remarks: tuple[str, ...] = ()
    of_flow: bool = False
    n_beyond: int = 0

    @property
    def n_phases(self) -> int:
        """That most slices have; of several counts the largest."""
        return _usual_length(self.loops)

    @property
    def n_images(self) -> int:
        """Of all slices and phases."""
        return sum(len(loop.frames) for loop in self.loops)

    @property
    def shift(self) -> float:
        """Of a slice against its neighbour, in their plane, mm at most."""
        places = [_in_plane(loop.frames[0]) for loop in self.loops]
        return max((float(np.linalg.norm(b - a)) for a, b in pairwise(places)), default=0.0)

    @property
    def is_large_enough(self) -> bool:
        """Whether it has the slices and phases of a cine."""
        return len(self.loops) >= LEAST_SLICES and self.n_phases >= LEAST_PHASES

    @property
    def is_cine(self) -> bool:
        """Whether there are enough slices and phases, of one beat, to measure volumes over the cycle."""
        return self.is_large_enough and not _why_no_cine(self.loops)

    @property
    def rank(self) -> tuple:
        """What is more probably the cine is larger: without velocities, it tells its times, has more images, is
        corrected, is balanced, or is later."""
        tells_times = sum(loop.has_times for loop in self.loops) > len(self.loops) / 2
        is_balanced = (self.loops[0].frames[0].flip_angle or 90) > SPOILED
        later = max(loop.taken for loop in self.loops)
        return not self.of_flow, tells_times, self.n_images, not self.is_distorted, is_balanced, later

    @property
    def is_distorted(self) -> bool:
        """Whether it is stored without a correction for distortion, where it is known."""
        return "ND" in self.loops[0].frames[0].image_type

    @property
    def lies_across(self) -> bool:
        """Whether it lies across the heart's usual long axis."""
        return float(self.loops[0].frames[0].normal @ LONG_AXIS) ** 2 >= ACROSS * float(LONG_AXIS @ LONG_AXIS)

    @property
    def series(self) -> list[str]:
        """UIDs of the series that its images are from."""
        return list(dict.fromkeys(frame.series for loop in self.loops for frame in loop.frames))


@dataclass(frozen=True)
class SeriesRow:
    """A series of a study, as the table lists it.

    Args:
        number: from 1, in the table
        uid: of the series
        dicom_number: its number in the DICOM files
        description: as in the DICOM files
        modality: "MR" and so on
        n_images, n_slices, n_phases: images, positions, and images at most positions
        shape, spacing: rows and columns, mm between them; of the first image
        what: that it is, in words
    """

    number: int
    uid: str
    dicom_number: int | None
    description: str
    modality: str
    n_images: int
    n_slices: int
    n_phases: int
    shape: tuple[int, int]
    spacing: tuple[float, float] | None
    what: str


def table(frames: Sequence[Frame], chosen: Stack | None = None) -> list[SeriesRow]:
    """A row for each series, in the order of their numbers."""
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        series[frame.series].append(frame)
    rows = []
    ordered = sorted(series.items(), key=lambda item: (item[1][0].series_number or 0, item[0]))
    for number, (uid, own) in enumerate(ordered, 1):
        first = own[0]
        loops = [loop for group in _planes([frame for frame in own if _is_magnitude(frame)]) for loop in group]
        n_slices = len({round(loop.place) for loop in loops})
        n_phases = max((len(loop.frames) for loop in loops), default=0)
        own_stack = chosen if chosen is not None and uid in chosen.series else None
        rows.append(
            SeriesRow(
                number, uid, first.series_number, first.description, first.modality, len(own), n_slices, n_phases,
                first.shape, first.spacing, _what(own, loops, n_slices, n_phases, own_stack),
            )
        )  # fmt: skip
    return rows


def _what(frames: Sequence[Frame], loops: Sequence[Loop], n_slices: int, n_phases: int, chosen: Stack | None) -> str:
    first = frames[0]
    if chosen is not None:
        used = len({round(loop.place) for loop in chosen.loops if loop.frames[0].series == first.series})
        part = f", {used} of {n_slices} slices" if used < n_slices else ""
        return ("short-axis cine" if chosen.lies_across else "cine of an unusual direction") + part
    if first.modality != "MR":
        return f"no MR ({first.modality or 'no modality'})"
    for what, values in (("orientation", first.orientation), ("position", first.position), ("spacing", first.spacing)):
        if values is None:
            return f"no {what}"
    if not loops:
        return "velocities or parts of complex images"
    if n_phases < LEAST_PHASES:
        return "no cine"
    if why := _why_no_cine(loops):
        return f"images of {why}"
    return "cine of one plane" if n_slices == 1 else f"cine of {n_slices} planes"


def _why_no_cine(loops: Sequence[Loop]) -> str:
    """What most of them are of instead, as long as they may be; "" where they are a cine's."""
    if sum(loop.is_of_one_contrast for loop in loops) <= len(loops) / 2:
        return "several echo or inversion times, as for maps"
    if sum(loop.is_of_one_beat for loop in loops) <= len(loops) / 2:
        return "several beats, as in perfusion or real time"
    return ""


def find_short_axis(frames: Sequence[Frame], wanted: Sequence[int] = ()) -> Stack:
    """The short-axis cine of a study.

    Args:
        frames: of one patient
        wanted: numbers of series in ``table``, to choose from these alone

    Raises:
        UserError: there is none, with a table of what there is; its phases cannot be ordered; or a number that the
            table does not have
    """
    rows = table(frames)
    if unknown := sorted(set(wanted) - {row.number for row in rows}):
        raise UserError(f"There is no series {unknown[0]}: the study has {len(rows)}, see --list.")
    uids = {row.uid for row in rows if not wanted or row.number in wanted}
    wanted_frames = [frame for frame in frames if frame.series in uids]
    stacks = find_stacks(wanted_frames)
    cines = [stack for stack in stacks if stack.is_cine]
    studies = {frame.study for frame in wanted_frames if frame.modality == "MR"}
    if not cines and len(studies) > 1:  # as an anonymiser writes it that names every series' study anew
        cines = [s for s in find_stacks([replace(frame, study="") for frame in wanted_frames]) if s.is_cine]
    if not cines:
        raise UserError(f"{_why_none(stacks, frames)} What there is:\n{format_table(rows)}")
    cines = [stack for stack in cines if stack.lies_across] or cines
    most = max(len(stack.loops) for stack in cines)
    *cines, chosen = sorted(cines, key=lambda stack: (3 * len(stack.loops) > most, *stack.rank))
    if lost := [number for number, loop in enumerate(chosen.loops, 1) if not loop.is_ordered]:
        raise UserError(
            f"The phases of slice {lost[0]} cannot be ordered: its images have no trigger times, temporal positions or "
            "instance numbers that differ."
        )
    other = {uid for stack in cines for uid in stack.series} - set(chosen.series)
    others = [row.number for row in rows if row.uid in other]
    more = []
    if others:
        more.append(f"Series {', '.join(map(str, others))} of --list hold another stack of a cine: it is left out.")
    if len(studies) > 1:
        more.append(
            f"The images are of {len(studies)} studies: is it one patient at several times, or are they several?"
        )
    return replace(chosen, remarks=(*chosen.remarks, *more), n_beyond=_beyond(chosen, stacks))


def _beyond(chosen: Stack, stacks: Sequence[Stack]) -> int:
    """How many cine slices, nearly parallel, lie just beyond the ends of the chosen stack, at places of their own.

    Those of other series that are a cine by themselves have a remark.
    """
    first = chosen.loops[0].frames[0]
    places = [loop.place for loop in chosen.loops]
    distance = float(np.median(np.diff(places)))
    found: list[float] = []
    others = [
        float(_centre(frame) @ first.normal)
        for stack in stacks
        if not stack.of_flow and (not stack.is_cine or set(stack.series) & set(chosen.series))
        for loop in stack.loops
        if len(loop.frames) >= LEAST_PHASES and not _why_no_cine([loop])
        for frame in loop.frames[:1]
        if frame.study == first.study and _alike(frame.interval, first.interval, INTERVALS_OF_TAKES)
        if ((frame.flip_angle or 90) > SPOILED) == ((first.flip_angle or 90) > SPOILED)
        if frame.normal @ first.normal > NEARLY_PARALLEL
    ]
    for near, sign in ((places[0], -1), (places[-1], 1)):
        for place in sorted(others, key=lambda place: sign * place):
            if UNEQUAL_ENDS * distance < sign * (place - near) <= NEXT * distance:
                found.append(place)
                near = place
    return len(found)


def _why_none(stacks: Sequence[Stack], frames: Sequence[Frame]) -> str:
    needed = f"a short-axis cine has at least {LEAST_SLICES} parallel slices of at least {LEAST_PHASES} phases."
    magnetic = [frame for frame in frames if frame.modality == "MR"]
    for what, name in (
        ("orientation", "ImageOrientationPatient"), ("position", "ImagePositionPatient"), ("spacing", "PixelSpacing"),
    ):  # fmt: skip
        if n := sum(getattr(frame, what) is None for frame in magnetic):
            return f"{n} of {len(magnetic)} images have no {what} ({name}), so they make no stack; {needed}"
    if stacks:
        largest = max(stacks, key=lambda stack: (stack.is_large_enough, len(stack.loops)))
        if largest.is_large_enough:
            why = _why_no_cine(largest.loops)
            return f"The largest stack's {largest.n_phases} images a slice are of {why}; {needed}"
        if len(largest.loops) >= LEAST_SLICES:
            return f"The largest stack has {largest.n_phases} phase{'s' * (largest.n_phases > 1)}; {needed}"
        return f"There are no more than {len(largest.loops)} parallel slices; {needed}"
    return f"No short axis was found; {needed}"


def format_table(rows: Sequence[SeriesRow]) -> str:
    """The rows as text."""
    from tabulate import tabulate

    cells = [
        [
            row.number, row.dicom_number, row.description[:28], row.modality, row.n_images, row.n_slices, row.n_phases,
            f"{row.shape[0]} x {row.shape[1]}", f"{row.spacing[0]:.2f}" if row.spacing else "-", row.what,
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["#", "series", "description", "", "images", "slices", "phases", "matrix", "mm", "what it is"]
    return str(tabulate(cells, titles, missingval="-"))


def find_stacks(frames: Sequence[Frame]) -> list[Stack]:
    """All stacks of a study, those of single slices among them."""
    return [
        replace(_stack(loops), of_flow=of_flow)
        for of_flow, own in _by_flow(frames).items()
        for plane in _planes(own)
        for loops in _joined(plane)
    ]


def _by_flow(frames: Sequence[Frame]) -> dict[bool, list[Frame]]:
    """Magnitudes; those of series with velocities of all their images on their own."""
    velocities = {_acquired_with(frame) for frame in frames if _types(frame) & VELOCITIES} - {None}
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        if _is_magnitude(frame):
            series[frame.series].append(frame)
    found: dict[bool, list[Frame]] = {False: [], True: []}
    for own in series.values():
        found[all(_acquired_with(frame) in velocities for frame in own)] += own
    return found


def _joined(loops: Sequence[Loop]) -> list[list[Loop]]:
    """Loops of parallel planes, those of one stack together."""
    by_series: dict[str, list[Loop]] = defaultdict(list)
    for loop in loops:
        by_series[loop.frames[0].series].append(loop)
    stacks: list[list[Loop]] = []
    for own in sorted(by_series.values(), key=lambda own: (-len(own), min(loop.taken for loop in own))):
        for stack in stacks:
            if _is_part(own, stack):
                stack += own
                break
        else:
            stacks.append(own)
    return stacks


def _is_part(series: Sequence[Loop], stack: Sequence[Loop]) -> bool:
    """Whether a series is a part of a stack, or a second take of a slice of it."""
    own, its = series[0].frames[0], stack[0].frames[0]
    if own.study != its.study or COPIES & set(own.image_type) != COPIES & set(its.image_type):
        return False
    if own.contrast != its.contrast and own.contrast and its.contrast:
        return False
    if not _alike(_usual_length(series), _usual_length(stack), ALIKE):
        return False
    if not _alike(own.echo_time, its.echo_time, ECHO_TIMES) or not _alike(own.interval, its.interval, INTERVALS):
        return False
    apart = {abs(loop.place - other.place): other for loop in series for other in stack}
    closest = min(apart)
    if closest <= SAME_PLACE:
        takes_one_again = len({round(loop.place) for loop in series}) == 1
        return takes_one_again and _alike(own.interval, apart[closest].frames[0].interval, INTERVALS_OF_TAKES)
    return own.thickness is None or closest >= OVERLAP * own.thickness


def _alike(a: float | None, b: float | None, times: float) -> bool:
    """Whether neither of two numbers is more than so many times the other; yes where one is not known."""
    return not a or not b or 1 / times <= a / b <= times


def _usual_length(loops: Sequence[Loop]) -> int:
    counts = Counter(len(loop.frames) for loop in loops)
    return max(counts, key=lambda n: (counts[n], n))


def _planes(frames: Sequence[Frame]) -> list[list[Loop]]:
    """Loops, those of one orientation, matrix and pixel size together; a file that is there twice counts once."""
    groups: list[tuple[Frame, list[Frame]]] = []
    for frame in {(frame.source.sop_instance, frame.source.frame): frame for frame in frames}.values():
        if frame.modality != "MR" or frame.orientation is None or frame.position is None or frame.spacing is None:
            continue
        for first, group in groups:
            if _same_plane(first, frame):
                group.append(frame)
                break
        else:
            groups.append((frame, [frame]))
    return [_loops(group) for _, group in groups]


def _is_magnitude(frame: Frame) -> bool:
    return not _types(frame) & (VELOCITIES | PARTS)


def _types(frame: Frame) -> set[str]:
    return {word.upper().split("_")[0] for word in frame.image_type[2:]}


def _acquired_with(frame: Frame) -> tuple | None:
    """The same for the magnitude and the velocity of one acquisition, and for no other; None where it is not told."""
    if frame.position is None or not frame.order[1]:
        return None
    return frame.study, frame.shape, tuple(np.round(frame.position, 1) + 0.0), frame.echo_time, frame.order[1]


def _same_plane(a: Frame, b: Frame) -> bool:
    if a.shape != b.shape or a.spacing is None or b.spacing is None or not np.allclose(a.spacing, b.spacing, rtol=0.01):
        return False
    assert a.orientation is not None and b.orientation is not None
    return bool(((a.orientation * b.orientation).sum(1) > SAME_DIRECTION).all())


def _loops(frames: Sequence[Frame]) -> list[Loop]:
    """Of frames in parallel planes: those of each series and place, in order; a second take is a loop of its own."""
    places: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda frame: (frame.series, _place(frame))):
        before = places[-1][-1] if places else None
        if before is None or before.series != frame.series or _place(frame) - _place(before) > SAME_PLACE:
            places.append([])
        places[-1].append(frame)
    loops = []
    for own in places:
        times = {frame.time for frame in own}
        if len(times) == 1 or None in times:  # as anonymisers write it, nothing; or no order of all
            own = [replace(frame, time=None) for frame in own]
        for sitting in _sittings(own):
            takes: list[list[Frame]] = []
            for frame in sitting:
                moment = frame.time if frame.time is not None else frame.order[0]
                for take in takes:  # the first that has no image of that moment yet
                    if moment is None or all(moment != (o.time if o.time is not None else o.order[0]) for o in take):
                        take.append(frame)
                        break
                else:
                    takes.append([frame])
            loops += [Loop(tuple(sorted(take, key=_moment))) for take in takes]
    return loops


def _sittings(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Images of one place in the order of acquisition, those before and after a break apart where both are a cine's."""
    ordered = sorted(frames, key=_acquisition)
    clocks = [_seconds(frame.order[1]) for frame in ordered]
    parts = [[ordered[0]]]
    for before, clock, frame in zip(clocks, clocks[1:], ordered[1:], strict=False):
        if before is not None and clock is not None and (clock - before) % DAY > BREAK:
            parts.append([])
        parts[-1].append(frame)
    times = [[frame.time for frame in part if frame.time is not None] for part in parts]
    one_after_the_other = all(times) and any(max(a) < min(b) or max(b) < min(a) for a, b in pairwise(times))
    return parts if min(map(len, parts)) >= LEAST_PHASES and not one_after_the_other else [ordered]


def _place(frame: Frame) -> float:
    assert frame.position is not None
    return float(frame.position @ frame.normal)


def _centre(frame: Frame) -> np.ndarray:
    """Of an image, in the patient's mm."""
    assert frame.position is not None and frame.orientation is not None and frame.spacing is not None
    halves = [(n - 1) / 2 * step for n, step in zip(frame.shape[::-1], frame.spacing[::-1], strict=True)]
    return frame.position + halves @ frame.orientation


def _acquisition(frame: Frame) -> tuple:
    temporal, clock, instance = frame.order
    return (
        frame.day,
        clock,
        frame.series_number or 0,
        instance if instance is not None else 0,
        temporal if temporal is not None else 0,
    )


def _moment(frame: Frame) -> tuple:
    temporal, clock, instance = frame.order
    none = float("inf")
    return (
        frame.time if frame.time is not None else none,
        temporal if temporal is not None else none,
        instance if instance is not None else none,
        clock,
    )


def _seconds(clock: str) -> float | None:
    """Of DICOM's time of day, HHMMSS.FFFFFF."""
    try:
        return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + float(clock[4:])
    except ValueError:
        return None


def _stack(loops: Sequence[Loop]) -> Stack:
    """One loop for each place: of several those as long as most others, of these the last that was taken."""
    usual = _usual_length(loops)
    places: list[list[Loop]] = []
    for loop in sorted(loops, key=lambda loop: loop.place):
        if places and loop.place - places[-1][0].place <= SAME_PLACE:
            places[-1].append(loop)
        else:
            places.append([loop])
    again = [same for same in places if len(same) > 1]
    is_stress = len(places) > len(again) >= LEAST_SLICES and _are_of_faster_beats(again)
    remarks, chosen = [], []
    for same in places:
        fewest = min(abs(len(loop.frames) - usual) for loop in same)
        complete = [loop for loop in same if abs(len(loop.frames) - usual) == fewest]
        chosen.append((min if is_stress else max)(complete, key=lambda loop: loop.taken))
    for n in sorted({len(same) for same in again}):
        numbers = [str(number) for number, same in enumerate(places, 1) if len(same) == n]
        which = f"Slice {numbers[0]} was" if len(numbers) == 1 else f"Slices {', '.join(numbers)} were"
        used = "first complete take is used, as later beats are faster" if is_stress else "last complete take is used"
        remarks.append(f"{which} taken {n} times: the {used}.")
    first = chosen[0].frames[0]
    shifts = [_in_plane(loop.frames[0]) - _in_plane(first) for loop in chosen]
    if (farthest := max(float(np.linalg.norm(shift)) for shift in shifts)) > SAME_PLACE:
        remarks.append(f"Slices are shifted by up to {farthest:.0f} mm in their plane; in the NIfTI file they are not.")
    return Stack(tuple(chosen), tuple(remarks))


def _are_of_faster_beats(places: Sequence[Sequence[Loop]]) -> bool:
    """Whether slices that were taken again were so at a higher heart rate, as in stress."""
    ratios = []
    for loops in places:
        first, *_, last = (loop.frames[0].interval for loop in sorted(loops, key=lambda loop: loop.taken))
        if first and last:
            ratios.append(first / last)
    return bool(ratios) and float(np.median(ratios)) > INTERVALS_OF_STRESS


def _in_plane(frame: Frame) -> np.ndarray:
    """Where the first pixel is, without the way along the normal, mm."""
    assert frame.position is not None
    return frame.position - _place(frame) * frame.normal
