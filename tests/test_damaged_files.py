"""Damaged and hostile files: every command answers in sentences, and does the others.

``make test`` tries a few files of each kind, ``make fuzz`` thousands: ``FUZZ_SECONDS`` is the time for each command,
``FUZZ_FILES`` the number of files, ``FUZZ_FIRST`` the number of the first call.
"""

import os
import random
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fuzz_commands import MODEL, SLOW, THOROUGH, TRIALS, Bench, write_benchmark, write_sources
from fuzzing import fault
from mutations import JUNK, damage_json

from nnunet_cardiac.models.export import export
from nnunet_cardiac.phantom.dicom import write_study

FILES = int(os.environ.get("FUZZ_FILES", 0))
SECONDS = float(os.environ.get("FUZZ_SECONDS", 1e9 if FILES else 0.2))
FIRST = int(os.environ.get("FUZZ_FIRST", 0))


@pytest.fixture(scope="module")
def sources(trained_nnunet, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder)
    export(MODEL, folder / "model.zip", "tiny", folds=[0])
    voxels = np.random.default_rng(0).integers(0, 500, (9, 7, 4, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([8, 8, 10, 1])), folder / "cine.nii.gz")
    write_benchmark(folder / "benchmark", folder)
    return folder


@pytest.fixture(scope="module")
def kept() -> dict:
    """What trials of a command share: models that are loaded."""
    return {}


def test_damage_is_what_its_number_says(tmp_path):
    """Whatever was damaged before, and also where it is damaged several times, thousands of lists deep."""
    junk = repr(JUNK)
    for number in range(2000):
        (tmp_path / "x.json").write_text('{"a": {"b": [1, 2]}}')
        damage_json(tmp_path / "x.json", random.Random(number))
    assert repr(JUNK) == junk


@pytest.mark.parametrize("command", [name for name in TRIALS if THOROUGH or name not in SLOW])
def test_damaged_files(command, sources, kept, tmp_path):
    faults: dict[str, list[int]] = {}
    examples: dict[str, str] = {}
    calls = files = 0
    slowest = (0.0, FIRST)
    started = time.monotonic()
    secrets = write_study(tmp_path / "x", "ge", 1, "NOR", 3, 5, (24, 20), 10.0).identifiers
    while files < FILES or not FILES:
        if time.monotonic() - started > SECONDS and calls:
            break
        number = FIRST + calls
        place = tmp_path / f"trial_{number}"  # threads, in place of nnU-Net's processes, may still write there
        place.mkdir()
        with pytest.MonkeyPatch.context() as context:
            bench = Bench(sources, place, context)
            vars(bench).update(kept)
            bench.secrets = secrets
            trial = TRIALS[command](bench, random.Random(f"{command} {number}"))
            kept |= {key: value for key, value in vars(bench).items() if key in ("stages", "segmenter")}
            before = time.monotonic()
            found = fault(trial)
            slowest = max(slowest, (time.monotonic() - before, number))
            if found:
                kind = found.replace(str(place), "").split(": [")[0]
                faults.setdefault(kind, []).append(number)
                examples.setdefault(kind, found)
        shutil.rmtree(place, ignore_errors=True)
        calls += 1
        files += trial.n_files
    if FILES or SECONDS > 1:
        seconds = time.monotonic() - started
        print(f"\n{command}: {files} files in {calls} calls, {seconds:.0f} s, slowest {slowest[0]:.1f} s, {slowest[1]}")
        for found, numbers in sorted(faults.items(), key=lambda item: -len(item[1])):
            print(f"  {len(numbers)} times, {numbers[:3]}: {examples[found]}")
    assert not faults, f"{len(faults)} faults: {list(faults)[:3]}"
