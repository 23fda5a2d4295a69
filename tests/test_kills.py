"""Conversions that are stopped or killed and run again; ``make kills`` does this to all commands, many times."""

import random
import shutil
import signal
import time

from kills import COMMANDS, CONTEXT, contents, differences, finish, kill

from nnunet_cardiac.phantom.acdc import write_patients

CONTEXT.set_forkserver_preload(["nnunet_cardiac.cli", "nnunet_cardiac.dataset_conversion.mnms2"])  # test_conversion's


def test_what_is_stopped_or_killed_ends_with_its_workers_and_the_next_run_finishes_it(tmp_path):
    write_patients(tmp_path / "source" / "training", range(1, 5), shape=(64, 56), spacing=4.2, n_slices=4)
    convert = COMMANDS["convert"]
    finish(convert, tmp_path)  # the first one waits for imports
    expected = contents(tmp_path / "raw")
    assert len(expected) == 19
    shutil.rmtree(tmp_path / "raw")
    began = time.monotonic()
    finish(convert, tmp_path)
    seconds = time.monotonic() - began
    rng = random.Random(0)
    caught = []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        shutil.rmtree(tmp_path / "raw")
        caught.append(kill(convert, tmp_path, rng.uniform(0.3, 1) * seconds, number))
        finish(convert, tmp_path)
        assert differences(contents(tmp_path / "raw"), expected) == []
    assert any(how.startswith("-9") for how in caught) and any(how.startswith("1") for how in caught), caught
