"""``nnunet_cardiac demo``: a real heart segmented and measured, then the whole way from data on disk to a report on
contenders, on phantom patients, on a CPU."""

import argparse
import importlib.util
import os
import shlex
import subprocess
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from nnunet_cardiac.cli.options import DEVICES, add_command
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.processes import GUARDED, kill_started

TRAINING_PATIENTS = range(1, 9)
TEST_PATIENTS = range(101, 104)
IMAGES: dict = {"shape": (48, 48), "spacing": 3.4, "n_slices": 6}
PATCH = 48
STEPS = 160
LEARNING_RATES = {"nnU-Net": 0.1, "CroCNet": 0.005}
"""Constant. Ten and fifty times the recipes', which are made for many thousand steps: in so few, networks as small as
these learn nothing with those, and every structure with these."""
DATASET = "27"
BASELINE = ("-d", DATASET, "-c", "2d", "-f", "0")
CROCNET = ("-d", DATASET, "-tr", "nnUNetTrainerCroCNet", "-p", "nnUNetCroCNetPlans", "-c", "2d_cascade", "-f", "0")


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "demo", run=run,
        help="a real heart segmented and measured, then all of the above on phantoms, on a laptop's CPU, in minutes",
        description="Segments a real heart and measures its cine with the model that comes with the package, then "
        "shows the whole way on synthetic patients: converts, plans and preprocesses them, trains nnU-Net's baseline "
        "and both stages of CroCNet briefly, compares them in a benchmark, segments and measures patients on whom no "
        "network was trained.",
        needs="Snakemake, for the benchmark: pip install 'nnunet-cardiac[benchmark]'",
        writes="FOLDER with everything in it: heart/heart.png, heart/cine/report.html, data, models, segmentations, "
        "benchmark/report/index.html",
        examples=("nnunet_cardiac demo", "nnunet_cardiac demo -o ~/nnunet_cardiac_demo -device cuda"),
    )  # fmt: skip
    p.add_argument("-o", type=Path, default=Path("demo"), metavar="FOLDER", help="where all goes, default demo")
    p.add_argument("-device", default="cpu", choices=DEVICES, help="default cpu")


def run(options: argparse.Namespace) -> None:
    """Shows everything."""
    demonstrate(output=options.o, device=options.device)


def demonstrate(output: Path, device: str = "cpu") -> None:
    """Makes, converts, plans, trains, compares, segments and measures; everything lies in ``output`` afterwards.

    Args:
        output: a folder that is empty or does not exist
        device: "cpu", "cuda" or "mps"

    Raises:
        UserError: ``output`` has something in it, or Snakemake is not installed
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UserError(
            "The demo ends with a benchmark, which runs on Snakemake: pip install 'nnunet-cardiac[benchmark]'."
        )
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file: give the demo a folder with -o.")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give the demo another folder with -o, or delete it.")
    output.mkdir(parents=True, exist_ok=True)
    output = output.resolve()
    benchmark = output / "benchmark"
    os.environ.update(
        nnUNet_raw=str(output / "nnUNet_raw"),
        nnUNet_preprocessed=str(output / "nnUNet_preprocessed"),
        nnUNet_results=str(output / "nnUNet_results"),
        nnUNet_n_proc_DA="0",
        nnUNet_def_n_proc="1",
        nnUNet_compile="f",
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small are slower with two
    warnings.simplefilter("ignore")  # of libraries among each other
    start = time.monotonic()
    print(f"Everything is written to {output}; what nnU-Net prints, to demo.log there.")
    with open(output / "demo.log", "w", buffering=1) as log:
        _steps(output, benchmark, device, log)
    print(
        f"\nDone in {time.monotonic() - start:.0f} s. {STEPS} steps show that everything works, not which network is "
        "better: for that,\ntrain on real data for as long as the recipes say.\n"
        f"\nThe heart: {output / 'heart' / 'cine' / 'report.html'}"
        f"\nThe benchmark: {benchmark / 'report' / 'index.html'}"
    )


def _steps(output: Path, benchmark: Path, device: str, log: TextIO) -> None:
    def say(text: str) -> None:
        print(f"\n{text}", flush=True)

    def announce(arguments: list[str], end: str = "") -> None:
        print(f"  $ nnunet_cardiac {shlex.join(arguments)}{end}".replace(f"{output}/", ""), flush=True)

    def command(*words: str | float | Path, show: bool = False) -> None:
        from nnunet_cardiac.cli import main

        arguments = [str(word) for word in words]
        announce(arguments)
        started = time.monotonic()
        if show:
            main(arguments)
        else:
            with redirect_stdout(log), redirect_stderr(log):
                print(f"$ nnunet_cardiac {shlex.join(arguments)}")
                main(arguments)
        print(f"    {time.monotonic() - started:.0f} s", flush=True)

    say("1. A real heart, segmented with the model that comes with the package; beside it, the experts' contours")
    from nnunet_cardiac import examples

    heart = output / "heart"
    examples.write_volumes(heart / "images", heart / "experts")
    command("predict", "-i", heart / "images", "-o", heart / "segmentations", "-device", device)
    command(
        "evaluate", "-i", heart / "segmentations", "-g", heart / "experts", "-o", heart, "--labels",
        f"LV={examples.LV}", "-np", 1, show=True,
    )  # fmt: skip
    examples.draw(heart / "segmentations", heart / "heart.png")
    print(f"  Look at {heart / 'heart.png'}.")

    say("2. The same heart's whole cine: end-diastole and end-systole found, volumes, indices, a page to look at")
    command("cine", "-i", examples.FOLDER, "-o", heart / "cine", "-device", device)
    print(f"  Open {heart / 'cine' / 'report.html'}.")

    say(f"3. {len(TRAINING_PATIENTS)} training and {len(TEST_PATIENTS)} test patients, synthetic, in ACDC's layout")
    from nnunet_cardiac.phantom.acdc import write_patients

    source = output / "phantom_ACDC"
    write_patients(source / "training", TRAINING_PATIENTS, **IMAGES)
    write_patients(source / "testing", TEST_PATIENTS, **IMAGES)

    say("4. Conversion to nnU-Net's raw format, with two folds over the patients")
    command("convert", "acdc", "-i", source, "-d", DATASET, "--folds", 2)

    say("5. Plans and preprocessing: nnU-Net's own, and CroCNet's")
    for planner in ("ExperimentPlanner", "CroCNetPlanner"):
        command("plan_and_preprocess", "-d", DATASET, "-pl", planner, "--small", PATCH)

    say("6. Training: nnU-Net's baseline and, beside it, CroCNet: stage 1 on both folds, then stage 2 on one")
    rows, columns = IMAGES["shape"]
    print(
        f"  Chosen so that small networks learn in a minute: {rows} x {columns} pixels of {IMAGES['spacing']} mm, "
        f"{STEPS} steps, constant\n  learning rates of {LEARNING_RATES['nnU-Net']} and {LEARNING_RATES['CroCNet']}."
    )
    brief = ["-device", device, "--budget", str(STEPS), "--unscaled_schedule", "--initial_lr"]
    baseline = ["train", *BASELINE, *brief, str(LEARNING_RATES["nnU-Net"])]
    announce(baseline, end=" &")
    with open(output / "demo_baseline.log", "w") as baseline_log:
        beside = subprocess.Popen(
            [*GUARDED, "nnunet_cardiac", *baseline],
            stdin=subprocess.PIPE, stdout=baseline_log, stderr=baseline_log, start_new_session=True,
        )  # fmt: skip
        try:
            command("train", *CROCNET, *brief, LEARNING_RATES["CroCNet"])
        except BaseException:
            kill_started(beside)
            raise
        finally:
            beside.wait()
    if beside.returncode:
        raise UserError(f"The baseline's training failed: see {baseline_log.name}.")

    say("7. Benchmark: what is trained is used as it is; evaluation, cost, report")
    command(
        "benchmark", "-d", DATASET, "--contenders", "nnunet_2d", "e2aunet", "crocnet", "-f", 0, "-device", device,
        "-o", benchmark, show=True,
    )  # fmt: skip

    say("8. The test patients, on whom no network was trained: segmented by both stages of CroCNet, compared, measured")
    raw = output / "nnUNet_raw" / f"Dataset{DATASET:0>3}_ACDC"
    predictions, truth, results = output / "segmentations", raw / "labelsTs", output / "test_patients"
    command("predict", "-i", raw / "imagesTs", "-o", predictions, *CROCNET, "-device", device)
    command("evaluate", "-i", predictions, "-g", truth, "-o", results, "-np", 1)
    command("measure", "-i", predictions, "-g", truth, "-o", results)
