"""Signals, and processes whose parent is gone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nnunet_cardiac import processes
from nnunet_cardiac.dataset_conversion import mnms2
from nnunet_cardiac.phantom.mnms2 import write_subjects
from nnunet_cardiac.processes import GUARDED, kill_started, worker_processes

COMMAND = """
import multiprocessing, subprocess, sys, time
from nnunet_cardiac import cli, processes
from nnunet_cardiac.lock import locked
from pathlib import Path

def run(options):
    with locked(Path(sys.argv[1])), processes.worker_processes(2, "fork") as pool:
        pool.submit(time.sleep, 60)
        multiprocessing.Process(target=time.sleep, args=(60,)).start()
        subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"])
        print("ready", flush=True)
        time.sleep(60)

cli.env.run = run
cli.main(["env"])
"""


@pytest.fixture
def command(tmp_path):
    """A command with children of all kinds, which are at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path / "target"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=10)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_all_its_children(number, command, tmp_path):
    while len(children := psutil.Process(command.pid).children(recursive=True)) < 5:
        time.sleep(0.01)
    command.send_signal(number)
    assert command.wait(15) == 128 + number
    assert survivors(children) == []
    assert command.stderr.read() == f"nnunet_cardiac: It was stopped by {number.name}.\n"
    assert not (tmp_path / "target").exists()


SWALLOWED = """
import os, signal
from nnunet_cardiac import cli

def run(options):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        raise ValueError("Invalid bounding box") from None

cli.env.run = run
cli.main(["env"])
"""


def test_an_error_that_a_library_makes_of_a_signal_is_the_signal():
    command = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert command.returncode == 143 and command.stderr == "nnunet_cardiac: It was stopped by SIGTERM.\n"


def test_workers_end_with_a_process_that_is_killed(command):
    children = psutil.Process(command.pid).children()
    workers = [child for child in children if child.name().startswith("python")]
    assert len(workers) >= 2
    command.kill()
    assert survivors(workers) == []
    for child in children:  # not started by us
        kill_tree(child)


def kill_tree(process: psutil.Process) -> None:
    if process.is_running():
        for child in [*process.children(recursive=True), process]:
            child.kill()


def test_a_guarded_module_ends_with_whoever_started_it_and_as_it_ends(tmp_path):
    quick = subprocess.Popen([*GUARDED, "platform"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert quick.wait() == 0 and quick.stdout.read()
    assert subprocess.Popen([*GUARDED, "no_such_module"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL).wait() == 1
    module = patient(tmp_path)
    children = psutil.Process(module.pid).children()
    module.stdin.close()  # as it is when this process dies
    module.wait(10)
    assert len(children) == 1 and survivors(children) == []


def test_a_guarded_module_that_is_killed_was_killed(tmp_path):
    """As for want of memory; the benchmark tells by which signal."""
    module = patient(tmp_path)
    psutil.Process(module.pid).children()[0].kill()
    assert module.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("interactive", [True, False])
def test_after_a_signal_only_who_lives_on_is_left_alone(monkeypatch, interactive):
    monkeypatch.setattr(processes, "GRACE", 0.2)
    monkeypatch.setattr(processes, "is_interactive", lambda: interactive)
    ended = []
    monkeypatch.setattr(processes, "_kill_all", ended.append)
    with pytest.raises(processes.Stopped), processes.stopped_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    time.sleep(0.4)
    assert ended == ([] if interactive else [128 + signal.SIGTERM])


def test_a_guarded_module_is_asked_to_end_by_ctrl_c(tmp_path):
    """As Snakemake is, which then takes back its jobs on a cluster."""
    module = patient(tmp_path)
    module.send_signal(signal.SIGINT)
    assert module.wait(10) == 7


PATIENT = """
import sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


def patient(folder: Path) -> subprocess.Popen:
    """A module that is guarded and waits to be ended."""
    (folder / "patient_module.py").write_text(PATIENT)
    module = subprocess.Popen(
        [*GUARDED, "patient_module"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )  # fmt: skip
    assert module.stdout.readline() == "ready\n"
    return module


def test_a_started_process_is_killed_with_all_that_it_has_started():
    process = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"])
    while len(children := psutil.Process(process.pid).children()) < 2:
        time.sleep(0.01)
    kill_started(process)
    assert process.returncode < 0 and survivors(children) == []


def test_a_pool_that_is_left_early_is_killed():
    with pytest.raises(KeyboardInterrupt), worker_processes(1, "fork") as pool:
        pool.submit(time.sleep, 600)
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == []


def test_conversion_works_with_spawned_workers(tmp_path, monkeypatch):
    """As on Windows and macOS."""
    write_subjects(tmp_path / "source", range(1, 3))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert mnms2.convert(tmp_path / "source", n_folds=2, n_processes=1).converted == 4
    finally:
        multiprocessing.set_start_method(before, force=True)
