"""Two processes at one target, file systems without locks, folders that cannot be written."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
from conftest import DADU, DATASET

from nnunet_cardiac import lock
from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.lock import held, locked, waiting

HOLD = """
import sys, time
from pathlib import Path
from nnunet_cardiac.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds ``tmp_path / "target"``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "target"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_says_who_holds_it_and_a_kill_lets_go_of_it(holder, tmp_path, capsys):
    target = tmp_path / "target"
    said = f"target is being written by process {holder.pid} on .+ since 20..-..-.. ..:..:..: wait for it with --wait, "
    with pytest.raises(UserError, match=said + "or choose another folder with -o"), locked(target):
        pytest.fail("it is held")
    done = []

    def wait() -> None:
        with waiting(), locked(target):
            done.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.3)
    assert not done
    holder.kill()
    thread.join(10)
    assert done and f"is being written by process {holder.pid} on" in capsys.readouterr().err
    assert not target.exists() or not any(target.iterdir())


def test_a_folder_that_the_first_takes_away_again_is_made_by_the_second(tmp_path):
    def wait() -> None:
        with waiting(), locked(tmp_path / "target"):
            (tmp_path / "target" / "done").touch()

    thread = threading.Thread(target=wait)
    with locked(tmp_path / "target"):
        thread.start()
        thread.join(0.3)
    thread.join(10)
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["done"]


def test_what_a_lock_file_says_does_not_command_a_terminal(tmp_path, capsys):
    def wait() -> None:
        with waiting(), locked(tmp_path):
            pass

    thread = threading.Thread(target=wait)
    with locked(tmp_path):
        with open(tmp_path / ".lock", "r+b") as file:
            file.seek(1)
            file.write(b"\x1b[2J somebody")
        thread.start()
        thread.join(0.3)
    thread.join(10)
    said = capsys.readouterr().err
    assert "somebody" in said and "\x1b" not in said


def test_nothing_stays_of_a_lock(tmp_path):
    with locked(tmp_path / "new" / "target"):
        assert [file.name for file in (tmp_path / "new" / "target").iterdir()] == [".lock"]
    assert not any(tmp_path.iterdir())
    with locked(tmp_path / "a" / "table.csv", is_file=True):
        (tmp_path / "a" / "table.csv").touch()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["table.csv"]
    (tmp_path / "a" / ".lock").write_text("left by a kill, and longer than what is written now" * 10)
    with locked(tmp_path / "a"), pytest.raises(UserError, match=f"process {os.getpid()} on"), locked(tmp_path / "a"):
        pytest.fail("it is held")


def test_a_target_that_vanishes_or_cannot_be_made(tmp_path):
    with locked(tmp_path / "target"):
        (tmp_path / "target" / ".lock").unlink()
        (tmp_path / "target").rmdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"target cannot be written \(Not a directory\): check its folder, or choose"):
        with locked(tmp_path / "file" / "target"):
            pytest.fail("it is no folder")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_the_work_is_done(number, tmp_path, monkeypatch, capsys):
    def acquire(self, *arguments, **options):
        Path(self.lock_file).touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.FileLock, "acquire", acquire)
    with locked(tmp_path / "target"), held(tmp_path / "other"):
        Path(tmp_path / "target" / "done").touch()
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["done"]
    with locked(tmp_path / "new" / "target"):
        pass
    assert not (tmp_path / "new").exists()
    assert "on a file system without locks: let no other process write to it." in capsys.readouterr().err


def test_the_library_leaves_what_the_holder_has_written():
    """Since 3.30; before, whoever tried emptied the file."""
    assert tuple(map(int, filelock.__version__.split(".")[:2])) >= (3, 30)


COMMANDS = {
    "convert acdc -i ACDC --folds 2": f"raw/{DATASET}",
    "plan_and_preprocess -d 27 --small": f"preprocessed/{DATASET}",
    f"train {' '.join(DADU)} -f 0 -device cpu": f"results/{DATASET}/nnUNetTrainerDADU__nnUNetDADUPlans__2d/fold_0",
    "predict -i IN -o OUT": "OUT",
    "evaluate -i IN -g IN -o OUT": "OUT",
    "measure -i IN -o OUT": "OUT",
    "cine -i IN -o OUT --cohort": "OUT",
    "report -i IN -o OUT": "OUT",
    "benchmark -d 27 --contenders nnunet_2d -device cpu -o OUT": "OUT",
    "cost -d 27 -o table.csv": "table.csv",
    "models export -d 27 -c 2d --name a -o a.zip": "a.zip",
    "models install a.zip": "models",
    "models to_nnunet cardiac": f"results/{DATASET}",
}
"""Every command that writes, and what it writes."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_who_writes_to_the_same_place(command, phantom_acdc, dataset, planned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, folder in (("raw", dataset.parent), ("preprocessed", planned.parent), ("ACDC", phantom_acdc)):
        (tmp_path / name).symlink_to(folder)
    (tmp_path / "results" / DATASET).mkdir(parents=True)
    (tmp_path / "IN").mkdir()
    monkeypatch.setenv("nnUNet_results", "results")
    monkeypatch.setenv("nnUNet_raw", "raw")
    monkeypatch.setenv("nnUNet_preprocessed", "preprocessed")
    monkeypatch.setenv("NNUNET_CARDIAC_MODELS", "models")
    target = Path(COMMANDS[command])
    with locked(target, is_file=bool(target.suffix)), pytest.raises(SystemExit) as exit_status:
        main(command.split())
    said = exit_status.value.code
    assert said.startswith("nnunet_cardiac: error: ") and said.count("\n") == 0
    assert f"{target} is being written by process {os.getpid()} on " in said and ": wait for it with --wait, or" in said
