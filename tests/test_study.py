"""Which images of a study are the short-axis cine: of headers alone, as several vendors and hospitals write them."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from nnunet_cardiac.cine.dicom import Frame
from nnunet_cardiac.cine.read import _doubts
from nnunet_cardiac.cine.study import find_short_axis
from nnunet_cardiac.dicom import Patient, Source
from nnunet_cardiac.errors import UserError

ACROSS = np.array([[0.7, 0.65, -0.3], [-0.53, 0.2, -0.82]])
ACROSS[1] -= ACROSS[1] @ ACROSS[0] / (ACROSS[0] @ ACROSS[0]) * ACROSS[0]
ACROSS /= np.linalg.norm(ACROSS, axis=1, keepdims=True)
AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
PLACES = 10.0 * np.arange(10)
NUMBER = count()


def series(name, places=PLACES, n_phases=20, interval=900.0, clock="110000", orientation=ACROSS, **changes):
    """Images of one series, phases after each other; a change may be a function of the phase."""
    frames = []
    for place in places:
        for t in range(n_phases):
            number = next(NUMBER)
            frame = Frame(
                source=Source(Path(f"{number}.dcm"), "1.2", f"1.2.{number}"), study="1", series=name, series_number=3,
                description="", patient="p", modality="MR", image_type=("ORIGINAL", "PRIMARY", "M"), shape=(208, 256),
                spacing=(1.4, 1.4), orientation=orientation, position=place * np.cross(*orientation),
                time=interval and t * interval / n_phases, interval=interval, order=(t + 1, clock, t + 1), day="",
                thickness=8.0, contrast=frozenset({"GR", "SS"}), echo_time=1.4, inversion_time=None, flip_angle=None,
                facts=Patient(), vendor="",
            )  # fmt: skip
            frames.append(replace(frame, **{k: v(t) if callable(v) else v for k, v in changes.items()}))
    return frames


def of_each_slice(prefix, places=PLACES, minute=0, **changes):
    """As one vendor writes it: a series for each slice, one after the other."""
    frames = []
    for i, place in enumerate(places):
        frames += series(f"{prefix}{i:02d}", [place], clock=f"11{minute + i:02d}00", **changes)
    return frames


def places_of(stack):
    return [round(loop.place, 1) for loop in stack.loops]


def series_of(stack):
    return {frame.series for loop in stack.loops for frame in loop.frames}


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_a_stack_that_is_taken_again_a_little_shifted_is_another_one(shift):
    stack = find_short_axis(series("a") + series("b", PLACES + shift, clock="113000"))
    assert series_of(stack) == {"b"} and places_of(stack) == list(PLACES + shift)
    assert "another stack of a cine" in " ".join(stack.remarks)
    each = find_short_axis(of_each_slice("a") + of_each_slice("b", PLACES + shift, 30))
    assert len(each.loops) == len(PLACES) and all(name.startswith("b") for name in series_of(each))


def test_slices_of_several_breath_holds_are_one_stack():
    stack = find_short_axis(series("odd", PLACES[::2]) + series("even", PLACES[1::2], clock="110100"))
    assert places_of(stack) == list(PLACES)


def test_studies_are_not_mixed_unless_nothing_else_is_there():
    two = series("a", PLACES[:5]) + series("b", PLACES[5:], study="2", clock="120000")
    stack = find_short_axis(two)
    assert series_of(stack) == {"b"} and "of 2 studies" in " ".join(stack.remarks)
    each = [replace(frame, study=frame.series) for frame in of_each_slice("a")]  # as an anonymiser names them
    assert places_of(find_short_axis(each)) == list(PLACES)


@pytest.mark.parametrize(
    "changes",
    [
        {"interval": 430.0},  # under stress
        {"contrast": frozenset({"GR", "SP"})},  # tagging, flow
        {"echo_time": 4.0},
    ],
)
@pytest.mark.parametrize("prefix", ["z", "A"])  # sorted behind the others, and before
def test_other_images_of_three_slices_do_not_take_their_places(changes, prefix):
    rest = of_each_slice("a")
    stack = find_short_axis(rest + of_each_slice(prefix, PLACES[[3, 6, 9]], 40, **changes))
    assert all(name.startswith("a") for name in series_of(stack)) and places_of(stack) == list(PLACES)


def test_a_slice_that_is_taken_again_is_used():
    stack = find_short_axis(of_each_slice("a") + of_each_slice("b", PLACES[[4]], 40, interval=950.0))
    assert "b00" in series_of(stack) and "a04" not in series_of(stack)


def test_copies_with_and_without_corrections_are_not_mixed():
    frames = []
    for i, place in enumerate(PLACES):
        for j, kind in enumerate(("ND", "DIS2D")[:: 1 if i % 2 else -1]):
            name = f"{i}.{j}"
            frames += series(name, [place], clock=f"11{i:02d}00", image_type=("ORIGINAL", "PRIMARY", "M", kind))
    stack = find_short_axis(frames)
    assert {frame.image_type[3] for loop in stack.loops for frame in loop.frames} == {"DIS2D"}


def test_beats_are_told_by_the_clock_where_times_do_not():
    cine = series("cine", n_phases=20, time=lambda t: 8 + 40.0 * t, order=lambda t: (t + 1, "110000", t + 1))
    perfusion = series(
        "perfusion", PLACES[:4], 60, time=120.0, order=lambda t: (t + 1, f"12{t // 60:02d}{t % 60:02d}", t)
    )
    assert series_of(find_short_axis(cine + perfusion)) == {"cine"}


def test_real_time_whose_times_begin_anew_with_each_beat_is_no_cine():
    def of_several_beats(t):
        return t + 1, f"1100{t * 0.04:09.6f}", t + 1

    frames = series("real time", n_phases=66, time=lambda t: (t * 40.0 + t // 22) % 880, order=of_several_beats)
    with pytest.raises(UserError, match="66 images a slice are of several beats"):
        find_short_axis(frames)
    assert find_short_axis(series("cine", n_phases=22, time=lambda t: t * 40.0, order=of_several_beats))


def at(seconds):
    """Of a phase: its place in the order, its time of day, its number; acquired so many seconds after each other."""
    return lambda t: (None, f"1100{t * seconds:09.6f}", t + 1)


@pytest.mark.parametrize(
    "changes, why",
    [
        (
            {"n_phases": 60, "interval": None, "order": at(0.045)},
            "several beats, as in perfusion or real",
        ),
        ({"echo_time": lambda t: 2.0 + 2 * t}, "several echo or inversion times, as for maps"),
        ({"inversion_time": lambda t: 100.0 + 80 * t, "time": lambda t: 600.0 + t}, "several echo or inversion times"),
    ],
)
def test_stacks_that_are_no_cine_even_alone(changes, why):
    with pytest.raises(UserError, match=f"images a slice are of {why}"):
        find_short_axis(series("a", **changes))


@pytest.mark.parametrize("seconds", [0.04, 0.25])
def test_without_times_a_cine_is_one_however_its_acquisition_was_timed(seconds):
    """A beat, or a whole breath-hold; the clock may pass midnight."""
    assert find_short_axis(series("a", interval=None, order=at(seconds)))
    late = [(None, f"{'235959' if t < 10 else '000000'}.{t * 40 % 1000:06d}", t + 1) for t in range(20)]
    assert find_short_axis(series("a", interval=None, order=lambda t: late[t]))


def test_of_two_stacks_the_one_that_tells_its_times_is_preferred():
    """Perfusion of which nothing tells the beats, with more images; and real time, which the clock alone tells."""
    untold = series("untold", PLACES[:8], 80, interval=None, order=lambda t: (None, "113000", t + 1))
    real_time = series("real time", PLACES, 60, interval=None, order=at(0.045))
    assert series_of(find_short_axis(series("cine") + untold + real_time)) == {"cine"}


def test_three_slices_with_times_are_not_preferred_to_ten_without():
    cine = series("cine", interval=None)
    assert series_of(find_short_axis(cine + series("tags", PLACES[[2, 5, 8]], n_phases=20, echo_time=4.0))) == {"cine"}


PHASE = ("ORIGINAL", "PRIMARY", "P")


@pytest.mark.parametrize("places", [PLACES, PLACES[:4]])
def test_a_cine_of_which_phases_are_stored_too_stays_whole(places):
    stack = find_short_axis(series("cine") + series("cine", places, image_type=PHASE))
    assert places_of(stack) == list(PLACES)


def test_a_flow_measurement_at_a_slice_s_place_takes_nothing_from_the_cine():
    """Where clocks are blanked, too; and a larger one of all slices comes after the cine."""
    for clock in ("113000", ""):
        cine = series("cine", clock="110000" if clock else "")
        for places in (PLACES[[4]], PLACES[[4]] + 50):
            flow = [
                series(f"flow {n}", places, clock=clock, image_type=("", "", n), contrast=frozenset()) for n in "MP"
            ]
            assert places_of(find_short_axis(sum(flow, cine))) == list(PLACES)
    flow = [series(f"flow {n}", n_phases=30, clock="113000", image_type=("", "", n), echo_time=2.6) for n in "MP"]
    assert series_of(find_short_axis(sum(flow, series("cine")))) == {"cine"}


def test_stress_does_not_replace_slices_at_rest_but_a_calmer_take_does():
    rest = of_each_slice("a", interval=900.0)
    for interval, prefix in ((760.0, "a"), (1050.0, "b")):
        again = of_each_slice("b", PLACES[[3, 6, 9]], 40, interval=interval)
        stack = find_short_axis(rest + again)
        assert {loop.frames[0].series[0] for loop in stack.loops if loop.place in PLACES[[3, 6, 9]]} == {prefix}
    aborted = of_each_slice("0", PLACES[[3]], n_phases=13)
    stack = find_short_axis(aborted + rest + of_each_slice("b", PLACES[[3, 6, 9]], 40, interval=760.0))
    assert {len(loop.frames) for loop in stack.loops} == {20} and series_of(stack).isdisjoint({"000"})


def test_one_missing_time_does_not_move_an_image():
    frames = [replace(f, time=None) if f.order[0] == 5 else f for f in series("a")]
    stack = find_short_axis(frames)
    assert [frame.order[0] for frame in stack.loops[0].frames] == list(range(1, 21))


def titles(frames):
    return [title for title, _ in _doubts(find_short_axis(frames))]


def test_what_numbers_should_not_be_trusted_for():
    assert titles(series("a")) == []
    assert titles(series("a", orientation=AXIAL)) == ["May be no short axis"]
    assert titles(series("a", np.delete(PLACES, [3, 4, 5]))) == ["Slices missing"]
    few = [frame for frame in series("a") if frame.order[0] < 12 or not 35 < frame.position @ frame.normal < 45]
    assert titles(few) == ["Phases missing"]
    assert titles(of_each_slice("a", PLACES[:5]) + of_each_slice("b", PLACES[5:], 30, interval=1250.0)) == [
        "Heart rate changed"
    ]
