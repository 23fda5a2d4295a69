import io
import re
import sys
import time
from collections.abc import Callable

import pytest

from nnunet_cardiac import progress as module
from nnunet_cardiac.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(capsys) -> Callable[[], str]:
    """What was written to standard error, which is no terminal here."""
    return lambda: capsys.readouterr().err


def test_a_log_gets_a_line_at_the_start_and_at_the_end(log):
    assert list(progress(range(1000), desc="Converting", unit="case")) == list(range(1000))
    text = log()
    first, last = text.splitlines()
    assert first.startswith("Converting: 0/1000 [")
    assert re.fullmatch(r"Converting: 1000/1000 \[00:00<00:00, .+case/s\]", last)
    assert "\r" not in text and text.endswith("\n")


def test_a_log_gets_a_line_now_and_then_in_between(log, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.1)
    start = time.monotonic()
    for _ in progress(range(30), desc="Slow"):
        time.sleep(0.01)
    lines = log().splitlines()
    assert 3 <= len(lines) <= 2 + (time.monotonic() - start) / 0.1
    assert all(re.match(r"Slow: \d+/30 \[", line) for line in lines)


def test_updates_by_hand_show_what_was_added_and_no_line_twice(log, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0)
    with progress(total=4, initial=2, desc="Training", unit="epoch") as bar:
        for dice in (0.5, 0.75):
            bar.set_postfix(dice=dice, refresh=False)
            bar.update()
    lines = log().splitlines()
    assert [line.split(" [")[0] for line in lines] == [f"Training: {n}/4" for n in (2, 3, 4)]
    assert "dice=0.75]" in lines[-1]


def test_steps_of_unknown_number_and_without_a_name(log):
    for _ in progress(iter(range(3))):
        pass
    assert log().splitlines()[-1].startswith("3/? [")


def test_a_bar_that_is_not_kept_leaves_no_last_line(log):
    for _ in progress(range(3), leave=False):
        pass
    assert len(log().splitlines()) == 1


def test_a_loop_that_breaks_tells_how_far_it_came(log):
    with pytest.raises(ValueError), progress(total=5, desc="Measuring") as bar:
        bar.update(2)
        raise ValueError
    assert log().splitlines()[-1].startswith("Measuring: 2/5 [")


def test_a_terminal_gets_tqdms_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in progress(range(3), desc="Converting"):
        pass
    assert "\rConverting: 100%|" in sys.stderr.getvalue()
