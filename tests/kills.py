"""Kills commands anywhere in their work, runs them again, and compares with a run that nothing disturbed.

``python tests/kills.py --kills 50 --seed 0`` goes through all commands that write; test_kills.py does a few.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import ext_trainer
from nnunet_cardiac.phantom.acdc import write_patients

DATASET = "Dataset027_ACDC"
CROCNET = ["-d", "27", "-tr", "nnUNetTrainerCroCNet", "-p", "nnUNetCroCNetPlans"]
FOLDERS = ("source", "raw", "preprocessed", "results", "models", "out")
MODULES = [f"nnunet_cardiac.{name}" for name in (
    "cli", "training.train", "planners.plan_and_preprocess", "inference.predict", "evaluation.evaluate",
    "evaluation.metrics", "evaluation.measure", "cine.run", "models.export", "benchmark.workflow", "benchmark.report",
    "cost.table", "dataset_conversion.acdc",
)]  # fmt: skip
CONTEXT = multiprocessing.get_context("forkserver")
TOO_LATE = "had ended"
PATIENCE = 15.0
"""Seconds that child processes have to end."""
PASSING = (".lock", ".partial", ".unreadable", ".png", ".log", ".begun", ".failed")
"""Endings of files that are no result."""
TIMED = ("debug.json", "training_cost.json", "cost.csv", "workflow.json")
"""Files in which there are times, and nothing else to compare."""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Args:
        arguments: with {root} for the folder that all of ``FOLDERS`` are in
        target: what it writes, in the root
        needs: what is there before, of ``FOLDERS``
        workers: processes for augmentation
    """

    arguments: str
    target: str
    needs: tuple[str, ...] = ("raw", "preprocessed", "results", "out")
    workers: int = 0


COMMANDS = {
    "convert": Command("convert acdc -i {root}/source --folds 2", "raw", ("source",)),
    "plan": Command(
        "plan_and_preprocess -d 27 -pl CroCNetPlanner --small 32 -c 2d -np 2", "preprocessed", ("raw",)
    ),
    "train": Command(
        f"train {' '.join(CROCNET)} -c 2d_cascade -f 0 -device cpu --budget 4", "results", ("raw", "preprocessed"), 2
    ),
    "predict": Command(
        f"predict -i {{root}}/raw/{DATASET}/imagesTr -o {{root}}/new {' '.join(CROCNET)} -c 2d_cascade -f 0 "
        "-device cpu --continue_prediction", "new",
    ),
    "evaluate": Command(
        f"evaluate -i {{root}}/out/segmentations -g {{root}}/raw/{DATASET}/labelsTr -o {{root}}/new -np 2", "new"
    ),
    "measure": Command(
        f"measure -i {{root}}/out/segmentations -g {{root}}/raw/{DATASET}/labelsTr -o {{root}}/new", "new"
    ),
    "cine": Command(
        f"cine -i {{root}}/source/training/patient001/patient001_4d.nii.gz -o {{root}}/new {' '.join(CROCNET)} -c 2d "
        "-f 0 -device cpu", "new", ("source", "preprocessed", "results"),
    ),
    "export": Command(
        f"models export {' '.join(CROCNET)} -c 2d_cascade -f 0 --name tiny -o {{root}}/tiny.zip --overwrite", "tiny.zip"
    ),
    "install": Command("models install {root}/out/tiny.zip --overwrite", "models"),
    "to_nnunet": Command("models to_nnunet tiny", "results", ("models", "out")),
    "cost": Command(
        "cost -d 27 --contenders nnunet_2d -device cpu --small 32 --steps 1 --cases 0 -o {root}/cost.csv", "cost.csv"
    ),
    "benchmark": Command(
        "benchmark -d 27 --contenders e2aunet -f 0 --baseline e2aunet -device cpu --cores 2 --budget 2 --small 32 "
        "-o {root}/new", "new", ("raw", "preprocessed"),
    ),
    "report": Command("report -i {root}/out/benchmark -o {root}/new", "new"),
}  # fmt: skip


def run_command(command: Command, root: Path) -> None:
    """In a process of its own: what the console script does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script's background jobs ignore
    log = os.open(root / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    for name in ("raw", "preprocessed", "results"):
        (root / name).mkdir(exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(root / name)
    os.environ.update(
        nnUNet_extTrainer=ext_trainer(), NNUNET_CARDIAC_MODELS=str(root / "models"), nnUNet_compile="f",
        nnUNet_def_n_proc="1", nnUNet_n_proc_DA=str(command.workers), OMP_NUM_THREADS="1",
    )  # fmt: skip
    multiprocessing.set_start_method("fork", force=True)  # as it is for the console script
    contexts = multiprocessing.context._concrete_contexts
    contexts["spawn"] = contexts["fork"]  # or each of nnU-Net's workers would import everything once more
    main([argument.format(root=root) for argument in command.arguments.split()])


def start(command: Command, root: Path):
    (root / "output.log").touch()
    process = CONTEXT.Process(target=run_command, args=(command, root))
    process.start()
    return process


def finish(command: Command, root: Path) -> None:
    """Runs a command to its end.

    Raises:
        AssertionError: it fails
    """
    process = start(command, root)
    process.join()
    output = end_of_output(root)
    assert process.exitcode == 0, f"{command.arguments}: {process.exitcode}\n{output}"


def end_of_output(root: Path) -> str:
    return (root / "output.log").read_text()[-3000:]


def fresh(base: Path, root: Path, command: Command) -> Path:
    """A root with what a command needs."""
    root.mkdir()
    for name in command.needs:
        if (base / name).exists():
            shutil.copytree(base / name, root / name)
    return root


def kill(command: Command, root: Path, after: float, number: int) -> str:
    """Runs a command and sends it a signal; its children must end too.

    Args:
        after: seconds
        number: of the signal

    Returns:
        how it ended
    """
    process = start(command, root)
    process.join(after)
    if process.exitcode is not None:
        assert process.exitcode == 0, f"{command.arguments} ended with {process.exitcode}\n{end_of_output(root)}"
        return TOO_LATE
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, number)
    except (psutil.NoSuchProcess, ProcessLookupError):  # it ended at this very moment
        process.join(PATIENCE)
        return TOO_LATE
    began = time.monotonic()
    process.join(PATIENCE)
    seconds = time.monotonic() - began
    log = end_of_output(root)
    assert process.exitcode in (-number, 128 + number, 0), f"{command.arguments} ended with {process.exitcode}\n{log}"
    if process.exitcode == 128 + number:
        assert f"It was stopped by {signal.Signals(number).name}." in log
    _, alive = psutil.wait_procs([child for child in children if is_alive(child)], timeout=PATIENCE)
    alive = [child for child in alive if is_alive(child)]
    assert not alive, f"{command.arguments} left {alive} behind"
    return f"{process.exitcode} in {seconds:.1f} s, {len(children)} children"


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def contents(target: Path) -> dict[str, object]:
    """All results in a folder, or a file, in a form in which those of two runs are the same, if the paths of their
    roots are of the same length."""
    files = [target] if target.is_file() else [file for file in sorted(target.rglob("*")) if file.is_file()]
    found: dict[str, object] = {}
    for file in files:
        name = file.relative_to(target.parent).as_posix()
        if not (file.name.endswith(PASSING) or ".snakemake/" in name or file.name.startswith("training_log")):
            found[name] = content(file, name, target.parent)
    return found


def content(file: Path, name: str, root: Path) -> object:
    """What is to be the same in every run; True where there are times in it."""
    import blosc2
    import pandas as pd
    import torch

    if file.suffix == ".pth":
        weights = torch.load(file, map_location="cpu", weights_only=False)["network_weights"]
        return {key: value.numpy().tobytes() for key, value in weights.items()}
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            return {member: archive.read(member) for member in archive.namelist()}
    if file.suffix == ".b2nd":  # in which the same array is not always the same bytes
        return blosc2.open(urlpath=str(file), mode="r")[:].tobytes()
    if name == "cost.csv":
        table = pd.read_csv(file)
        measured = ["s per step", "images per s", "measured GB", "time, times row 1", "time over FLOPs"]
        return table.drop(columns=measured).to_csv()
    if file.name == "indices.json" and "key" in (record := json.loads(file.read_text())):
        return record | {"key": None}  # of the model's path and time
    if file.name in TIMED or "/jobs/" in name or "/logs/" in name or file.suffix in (".html", ".md", ".tex"):
        return True
    return file.read_bytes().replace(str(root).encode(), b"")


def differences(found: dict, expected: dict) -> list[str]:
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def build(base: Path) -> None:
    """What the commands need: everything made once, without a kill."""
    write_patients(base / "source" / "training", range(1, 5), cine=True, shape=(64, 56), spacing=4.2, n_slices=4)
    finish(COMMANDS["convert"], base)
    finish(COMMANDS["plan"], base)
    plan = Command("plan_and_preprocess -d 27 -pl ExperimentPlanner --small 32 -c 2d", "preprocessed")
    finish(plan, base)
    for file in (base / "preprocessed" / DATASET).glob("*lans.json"):
        plans = json.loads(file.read_text())
        for configuration in plans["configurations"].values():
            if "architecture" in configuration:
                kwargs = configuration["architecture"]["arch_kwargs"]
                kwargs["features_per_stage"] = [max(2, f // 4) for f in kwargs["features_per_stage"]]
                configuration["batch_size"] = 2
        file.write_text(json.dumps(plans))
    finish(COMMANDS["train"], base)
    (base / "out").mkdir()
    finish(COMMANDS["predict"], base)
    (base / "new").rename(base / "out" / "segmentations")
    finish(COMMANDS["export"], base)
    (base / "tiny.zip").rename(base / "out" / "tiny.zip")
    finish(COMMANDS["install"], base)
    finish(COMMANDS["benchmark"], base)
    (base / "new").rename(base / "out" / "benchmark")


def main_of_kills() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no kill after so many")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--base", type=Path, help="folder to keep what the commands need, for another time")
    options = parser.parse_args()
    began = time.monotonic()
    CONTEXT.set_forkserver_preload(MODULES)
    first = CONTEXT.Process(target=int)  # waits for the imports
    first.start()
    first.join()
    failures, done = [], 0
    with tempfile.TemporaryDirectory(prefix="kills_") as folder:
        place = Path(folder)
        base = options.base or place / "base"
        if not base.exists():
            base.mkdir()
            build(base)
        expected, lasted = {}, {}
        for name in options.commands:
            root = fresh(base, place / f"u{len(expected):02d}", COMMANDS[name])
            started = time.monotonic()
            finish(COMMANDS[name], root)
            lasted[name] = time.monotonic() - started
            expected[name] = contents(root / COMMANDS[name].target)
            print(f"{name:<10}undisturbed {lasted[name]:.1f} s, {len(expected[name])} files", flush=True)
        rng = random.Random(options.seed)
        for i in itertools.count():
            name = options.commands[i % len(options.commands)]
            number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
            after = rng.uniform(0, lasted[name])
            if done == options.kills or time.monotonic() - began > 60 * options.minutes:
                break
            root = fresh(base, place / f"{i:03d}", COMMANDS[name])
            try:
                how = kill(COMMANDS[name], root, after, number)
                if how != TOO_LATE:
                    done += 1
                    finish(COMMANDS[name], root)
                different = differences(contents(root / COMMANDS[name].target), expected[name])
                assert not different, f"{name} differs in {different}"
            except AssertionError as e:
                failures.append(f"{i} {name}: {e}")
                how = f"FAILED: {e}"
            shutil.rmtree(root)
            print(f"{done:>3} {name:<10}{signal.Signals(number).name} after {after:.1f} s: {how}", flush=True)
        print(f"{done} kills, {len(failures)} failures, {(time.monotonic() - began) / 60:.0f} minutes")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main_of_kills()
