"""Damaged files for every command, and what must hold for each: see ``Trial``.

A number decides what is damaged and how: ``trial("predict", 17, ...)`` is the same today and tomorrow.
"""

import ctypes
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from nnunet_cardiac.errors import UserError

SECONDS, MEMORY = 30, 4_000_000_000
"""That a call may take; bytes beyond those of a process that has imported everything."""


@dataclass
class Trial:
    """A call of a command on good and damaged files.

    Args:
        call: runs it; returns the problems that it tells
        done: the units (cases, patients, files) that have a result
        damaged: for each unit with a damaged file, the texts of which one must be in a message if it is not done
        good: the units that must be done whatever the others are like
        shared: names of damaged files that all units need; if one is named, nothing else need be done
        secrets: what must be in no message
        forbidden: what must not come to be
        unforeseen: how the command speaks of exceptions that no code expects
    """

    call: Callable[[], list[str]]
    done: Callable[[], set[str]]
    damaged: Mapping[str, tuple[str, ...]]
    good: set[str] = field(default_factory=set)
    shared: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    forbidden: Path | None = None
    unforeseen: str = "nobody foresaw"

    @property
    def n_files(self) -> int:
        return max(1, len(self.damaged) + len(self.shared))


class TooLong(BaseException):
    """A call takes longer than it may."""


def fault(trial: Trial) -> str | None:
    """What is wrong with how the command answers; None where it answers well."""
    out, err = StringIO(), StringIO()
    try:
        with _limits(), redirect_stdout(out), redirect_stderr(err):
            messages = trial.call()
    except UserError as e:
        messages = [str(e)]
    except TooLong as e:
        return f"takes longer than {SECONDS} s: {_where(e)}"
    except SystemExit as e:
        messages = [str(e)]
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return f"{type(e).__name__}: {_where(e)}: {' '.join(str(e).split())[:150]}"
    said = "\n".join([*messages, out.getvalue(), err.getvalue()])
    if trial.forbidden is not None and trial.forbidden.exists():
        trial.forbidden.rmdir()
        return "runs code of a file"
    if "Traceback (most recent call last)" in said:
        return f"prints a traceback: {said[said.find('Traceback') :].strip().splitlines()[-1][:150]}"
    if secret := next((secret for secret in trial.secrets if secret in said), None):
        return f"tells {secret}: {next(line for line in said.splitlines() if secret in line)[:300]}"
    if command := next((line for line in said.splitlines() if any(ord(c) < 32 and c not in "\t" for c in line)), None):
        return f"commands the terminal: {command!r:.300}"
    if unforeseen := next((message for message in messages if trial.unforeseen in message), None):
        return f"does not foresee: {unforeseen[:300]}"
    named = [name for name in trial.shared if any(name in message for message in messages)]
    done = trial.done()
    if not done and (trial.shared or not trial.good) and "; the first reason: " in said:
        return None  # where all fail, one says why
    for unit, names in trial.damaged.items():
        if unit not in done and not any(name in message for name in names for message in messages) and not named:
            return f"says nothing of {unit}: {messages}"
    if not named and trial.good - done:
        return f"does not do {min(trial.good - done)}: {messages}"
    return None


def _where(e: BaseException) -> str:
    """The project's innermost frame, and the innermost of all."""
    frames = traceback.extract_tb(e.__traceback__)
    root = str(Path(__file__).parents[1])
    ours = [
        f for f in frames if f.filename.startswith(root) and ".venv" not in f.filename and "/tests/" not in f.filename
    ]
    named = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in [*ours[-1:], *frames[-1:]]]
    return " <- ".join(dict.fromkeys(reversed(named)))


@contextmanager
def _limits() -> Iterator[None]:
    """Of time and memory."""

    def stop(number, frame):
        raise TooLong

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor's time: other processes do not count
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)  # for what waits
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
