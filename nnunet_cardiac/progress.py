"""Progress on standard error: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def progress(
    iterable: Iterable | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    leave: bool = True,
    initial: int = 0,
) -> tqdm:
    """A bar of tqdm's. Where standard error is no terminal, whole lines: at the start, every 30 s or so, at the end.

    Args:
        iterable: what is walked through; None to call ``update`` by hand
        total: steps in all; None for the length of ``iterable``
        desc: what is going on
        unit: what a step is
        leave: keep the bar, or write the last line, at the end
        initial: steps that were done before

    Returns:
        to iterate over, or to use as a context with ``update`` and ``set_postfix``
    """
    how: dict = {}
    if not sys.stderr.isatty():
        how = {
            "file": _WholeLines(sys.stderr),
            "mininterval": SECONDS_BETWEEN_LINES,
            "miniters": 1,  # tqdm would guess how many steps fit into the interval, and miss slow ones
            "position": 0,
            "bar_format": ("{desc}: " if desc else "")
            + "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        }
    return tqdm(iterable, total=total, desc=desc, unit=unit, leave=leave, initial=initial, **how)


class _WholeLines:
    """Makes a line of each update, where tqdm returns to the beginning of the last one and writes over it."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.last = ""

    def write(self, text: str) -> None:
        line = text.strip()  # of the carriage return, and of blanks over a longer last update
        done = line.partition(" [")[0]  # at the end, tqdm says once more what it has said
        if done and done != self.last:
            self.stream.write(f"{line}\n")
            self.last = done

    def flush(self) -> None:
        self.stream.flush()
