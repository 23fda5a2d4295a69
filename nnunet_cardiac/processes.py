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
from contextlib import contextmanager, suppress

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


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, a signal raises ``Stopped`` in the main thread. What has not ended after ``GRACE``, or when another
    signal comes, is killed. Child processes of ``multiprocessing`` end with this process.

    Signals that are ignored, as SIGHUP is after nohup, stay so. Nothing happens inside another one, or in a thread.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) == _stop:
        yield
        return
    multiprocessing.util.register_after_fork(end_with_parent, lambda end: end())
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    for other in SIGNALS:
        signal.signal(other, lambda again, _: _kill_all(128 + again))
    timer = threading.Timer(GRACE, _kill_all, [128 + number])
    timer.daemon = True
    timer.start()
    raise Stopped(number)


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


def _kill_all(exit_status: int) -> None:
    kill_children()
    os._exit(exit_status)


def kill(processes: list[psutil.Process]) -> None:
    """Kills processes and all that they have started. None of them sees another one end.

    Python's resource trackers clean up behind them and end by themselves.
    """
    stopped: list[psutil.Process] = []
    found = processes
    while found:  # what is stopped starts nothing more
        for process in found:
            with suppress(psutil.Error):
                process.suspend()
        stopped += found
        found = [child for process in found for child in _children(process) if child not in stopped]
    for process in stopped:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stopped, timeout=5)


def _children(process: psutil.Process) -> list[psutil.Process]:
    children = []
    with suppress(psutil.Error):
        for child in process.children():
            with suppress(psutil.Error):  # it has ended
                if "resource_tracker" not in " ".join(child.cmdline()):
                    children.append(child)
    return children


def kill_children() -> None:
    """Kills all that this process has started, and what that has started."""
    kill(_children(psutil.Process()))


def kill_started(process: subprocess.Popen) -> None:
    """Kills a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        kill([psutil.Process(process.pid)])
    process.wait()


def main() -> None:
    """Runs the module that is named by the arguments, and ends as it ends."""
    process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
    signal.signal(signal.SIGTERM, lambda *_: kill_started(process))

    def follow() -> None:
        os.read(0, 1)  # not sys.stdin, which Python could not close at its end
        kill_started(process)

    threading.Thread(target=follow, daemon=True).start()
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
