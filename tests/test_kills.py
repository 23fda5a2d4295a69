"""Commands killed in their work and run again; ``make kills`` does this to all commands, many times."""

import shutil
import signal
import time
from pathlib import Path

import pytest
from kills import COMMANDS, Command, contents, differences, finish, kill


@pytest.fixture
def root(tmp_path, dataset, planned) -> Path:
    """What a training needs; the plans are those of all tests."""
    (tmp_path / "out").mkdir()
    for name, folder in (("raw", dataset), ("preprocessed", planned)):
        shutil.copytree(folder, tmp_path / name / folder.name)
    return tmp_path


def test_a_training_with_workers_that_is_stopped_and_killed_ends_as_an_undisturbed_one(root, tmp_path):
    training = Command(
        "train -d 27 -tr nnUNetTrainerDADU -p nnUNetDADUPlans -c 2d -f 0 -device cpu --budget 40", "results", workers=2
    )
    began = time.monotonic()
    finish(training, root)
    seconds = time.monotonic() - began
    expected = contents(root / "results")
    shutil.rmtree(root / "results")
    for share, number in ((0.3, signal.SIGKILL), (0.5, signal.SIGTERM)):
        how = kill(training, root, share * seconds, number)
        assert "children" in how
    finish(training, root)
    assert differences(contents(root / "results"), expected) == []
    assert any(name.endswith(".pth") for name in expected)


def test_a_prediction():
    assert COMMANDS
