"""The end of processes: a signal ends a command with all that it has started, and nothing outlives who started it.

``python -m nnunet_cardiac.processes MODULE ...`` runs a module in a process that is killed, with all that it has
started, as soon as standard input is closed: where that is a pipe, when the process dies that holds its other end.
"""

import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache

import psutil

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
"""That end a command. Windows knows the first two and the last."""
GRACE = 8.0
"""Seconds to leave everything in order after a signal; schedulers and containers wait longer before they kill."""
GUARDED = [sys.executable, "-m", "nnunet_cardiac.processes"]
"""Command in front of a module's name that ends the module with this process, with a pipe as standard input."""


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end.

    Args:
        number: of the signal
    """

    def __init__(self, number: int):
        super().__init__(f"It was stopped by {signal.Signals(number).name}.")
        self.exit_status = 128 + number


_received: list[Stopped] = []
_timers: list[threading.Timer] = []


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, a signal raises ``Stopped`` in the main thread. What has not ended after ``GRACE``, or when another
    signal comes, is killed. Child processes of ``multiprocessing`` end with this process.

    Signals that are ignored, as SIGHUP is after nohup, stay so. Nothing happens inside another one, or in a thread.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) == _stop:
        yield
        return
    _tell_children()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    _received.clear()
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    except Exception as e:
        if _received:  # of which a library has made an error of its own, as Matplotlib does
            raise _received[0] from e
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if is_interactive():  # what comes after the command is not its business
            while _timers:
                _timers.pop().cancel()


def is_interactive() -> bool:
    """Whether this process goes on when a command has ended: a notebook's, or a prompt of Python's."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


@cache
def _tell_children() -> None:
    """Once, that processes of ``multiprocessing`` end with this one; those that are forked, whoever starts them."""
    multiprocessing.util.register_after_fork(end_with_parent, lambda end: end())


def _stop(number: int, frame: object) -> None:
    for other in SIGNALS:
        if signal.getsignal(other) == _stop:
            signal.signal(other, lambda again, _: _kill_all(128 + again))
    stopped = Stopped(number)
    _received.append(stopped)

    def insist() -> None:
        print(f"nnunet_cardiac: {stopped}", file=sys.stderr, flush=True)
        _kill_all(stopped.exit_status)

    timer = threading.Timer(GRACE, insist)
    timer.daemon = True
    timer.start()
    _timers.append(timer)
    raise stopped


def end_with_parent() -> None:
    """Ends this process of ``multiprocessing``, and all that it has started, when its parent is gone; it leaves Ctrl-C
    to its parent. Does nothing in other processes."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def follow() -> None:
        parent.join()
        _kill_all(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def worker_processes(n: int, start_method: str | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool that ends with this process. When it is left by an exception, its workers are killed.

    Args:
        n: processes
        start_method: of ``multiprocessing``; None for the system's own
    """
    before = multiprocessing.active_children()
    with ProcessPoolExecutor(n, multiprocessing.get_context(start_method), initializer=end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            for worker in multiprocessing.active_children():
                if worker not in before:
                    worker.kill()
            raise


def _kill_all(exit_status: int) -> None:
    kill_children()
    os._exit(exit_status)


def kill_children() -> None:
    """Kills all that this process has started, and what that has started."""
    psutil.wait_procs(_kill(psutil.Process(), _descendants(psutil.Process())), timeout=5)


def interrupt(process: subprocess.Popen) -> None:
    """Asks a process to end as by Ctrl-C; on Windows, which has no such signal for others, nothing happens."""
    with suppress(ValueError):
        process.send_signal(signal.SIGINT)


def kill_started(process: subprocess.Popen) -> None:
    """Kills a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid)
        _kill(started, [started])
    process.wait()


def _kill(root: psutil.Process, victims: list[psutil.Process]) -> list[psutil.Process]:
    """Kills what a process has started, and ``victims`` with it; returns all of them. None sees another one end.

    Python's resource trackers clean up behind them and end by themselves.
    """
    stopped: list[psutil.Process] = []
    while victims:  # what is stopped starts nothing more
        for victim in victims:
            with suppress(psutil.Error):
                victim.suspend()
        stopped += victims
        victims = [child for child in _descendants(root) if child not in stopped]
    for victim in stopped:
        with suppress(psutil.Error):
            victim.kill()
    return stopped


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    found = []
    with suppress(psutil.Error):
        for child in process.children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                if "resource_tracker" not in " ".join(child.cmdline()):
                    found.append(child)
    return found


def main() -> None:
    """Runs the module that is named by the arguments, and ends as it ends."""
    signal.signal(signal.SIGINT, lambda *_: interrupt(process))
    signal.signal(signal.SIGTERM, lambda *_: kill_started(process))
    process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], stdin=subprocess.DEVNULL)

    def follow() -> None:
        os.read(0, 1)  # not sys.stdin, which Python could not close at its end
        kill_started(process)

    threading.Thread(target=follow, daemon=True).start()
    status = process.wait()
    if status < 0:
        with suppress(OSError):  # SIGKILL cannot be answered
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
