"""One sentence with the way out, whatever happens to a command."""

import errno
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest
import safetensors
import torch

from nnunet_cardiac import cli
from nnunet_cardiac.cli import main
from nnunet_cardiac.dataset_conversion import conversion
from nnunet_cardiac.errors import UserError, sentence
from nnunet_cardiac.phantom.mnms2 import write_subjects


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "OUT/file")


NNUNET_WORKER = "One or more background workers are no longer alive. Exiting."
CHECKPOINT = "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0"
SENTENCES = {
    "Give -i a file.": UserError("Give -i a file."),
    "The GPU has too little memory: end what else": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
    "This machine has too little memory: end what else": MemoryError(),
    "or use fewer processes (-np": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "A worker process was killed, most likely because memory ran out": BrokenProcessPool("A process in the pool was"),
    "use fewer (-np, nnUNet_def_n_proc": RuntimeError(NNUNET_WORKER),
    "Weights or a preprocessed image cannot be written: make room": RuntimeError(CHECKPOINT),
    "OUT/file cannot be written or read (No space left on device): make room": os_error(errno.ENOSPC),
    "make room on the disk; what is finished stays": OSError("1000 requested and 0 written"),
    "(File too large): make room": os_error(errno.EFBIG),
    "a preprocessed image cannot be written": safetensors.SafetensorError("Error while serializing: I/O error"),
    "(File name too long): choose a shorter name": os_error(errno.ENAMETOOLONG),
    "(Read-only file system): check its permissions": os_error(errno.EROFS),
    "(No such file or directory): check whether its folder": os_error(errno.ENOENT),
}


@pytest.mark.parametrize("expected", SENTENCES)
def test_errors_and_their_way_out(expected, monkeypatch):
    error = SENTENCES[expected]

    def run(options):
        raise error

    monkeypatch.setattr(cli.env, "run", run)
    with pytest.raises(SystemExit) as exit_status:
        main(["env"])
    said = exit_status.value.code
    assert said.startswith("nnunet_cardiac: error: ") and expected in said
    assert "\n" not in said and (isinstance(error, UserError) or "what is finished stays" in said)


def test_an_error_of_ours_shows_where_it_is(monkeypatch):
    def run(options):
        raise ZeroDivisionError("division by zero")

    assert sentence(ZeroDivisionError("division by zero")) is None
    monkeypatch.setattr(cli.env, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["env"])


def test_a_worker_that_the_system_kills_is_said_and_what_is_finished_stays(tmp_path, monkeypatch):
    write_subjects(tmp_path / "source", range(1, 4))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    convert = ["convert", "mnms2", "-i", str(tmp_path / "source"), "--folds", "2", "-np", "1"]
    repair = conversion.repair_affine

    def killed_at_the_third(affine, file):
        if file.parent.name == "003":
            os.kill(os.getpid(), signal.SIGKILL)
        return repair(affine, file)

    with monkeypatch.context() as context, pytest.raises(SystemExit) as exit_status:
        context.setattr(conversion, "repair_affine", killed_at_the_third)
        main(convert)
    assert "A worker process was killed" in exit_status.value.code
    images = tmp_path / "Dataset032_MnM2_LA" / "imagesTr"
    kept = {file.name: file.stat().st_mtime_ns for file in images.iterdir()}
    assert len(kept) == 4 and not (images.parent / "dataset.json").exists()
    main(convert)
    assert len(list(images.iterdir())) == 6
    assert kept.items() <= {file.name: file.stat().st_mtime_ns for file in images.iterdir()}.items()
