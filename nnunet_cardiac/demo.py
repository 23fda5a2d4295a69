"""The whole way from data on disk to a comparison, on phantom patients, on a CPU."""

import csv
import os
import shlex
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nnunet_cardiac.errors import UserError

TRAINING_PATIENTS = range(1, 9)
TEST_PATIENTS = range(101, 104)
STEPS = 400
LEARNING_RATE = 1e-3
PATCH = 64
DATASET = "27"
MODELS = {
    "nnU-Net 2d": ("nnUNetTrainer", "nnUNetPlans", "2d"),
    "E-2AUNet (stage 1)": ("nnUNetTrainerCroCNet", "nnUNetCroCNetPlans", "2d"),
    "CroCNet (both stages)": ("nnUNetTrainerCroCNet", "nnUNetCroCNetPlans", "2d_cascade"),
}
COLOURS = {"RV": "#e4572e", "MYO": "#f3c13a", "LV": "#2ec4b6"}


def run(output: Path, device: str = "cpu") -> None:
    """Makes, converts, plans, trains, segments and compares; everything lies in ``output`` afterwards.

    Args:
        output: a folder that is empty or does not exist
        device: "cpu", "cuda" or "mps"

    Raises:
        UserError: ``output`` has something in it
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give the demo another folder with -o, or delete it.")
    output.mkdir(parents=True, exist_ok=True)
    output = output.resolve()
    os.environ.update(
        nnUNet_raw=str(output / "nnUNet_raw"),
        nnUNet_preprocessed=str(output / "nnUNet_preprocessed"),
        nnUNet_results=str(output / "nnUNet_results"),
        nnUNet_n_proc_DA="0",
        nnUNet_def_n_proc="1",
        nnUNet_compile="f",
    )
    warnings.simplefilter("ignore")  # of libraries among each other
    start = time.monotonic()
    print(f"Everything goes to {output}, nnU-Net's three folders too; what nnU-Net prints goes to demo.log there.")
    with open(output / "demo.log", "w", buffering=1) as log:
        results = _steps(output, device, log)
    print(
        f"\nDone in {time.monotonic() - start:.0f} s. The networks learned for {STEPS} steps each: enough to see that "
        "everything works,\nnot to tell which is better. For that, train on real data for as long as the recipes say."
    )
    for name, path in results.items():
        print(f"  {name:<14}{path}")


def _steps(output: Path, device: str, log) -> dict[str, Path]:
    def say(text: str) -> None:
        print(f"\n{text}", flush=True)

    def command(*arguments: str) -> None:
        from nnunet_cardiac.cli import main

        arguments = [str(a) for a in arguments]
        line = f"  $ nnunet_cardiac {shlex.join(arguments)}"
        print(line.replace(f"{output}/", ""), flush=True)
        started = time.monotonic()
        with redirect_stdout(log):
            print(line)
            main(arguments)
        print(f"    {time.monotonic() - started:.0f} s", flush=True)

    say(f"1. {len(TRAINING_PATIENTS)} training and {len(TEST_PATIENTS)} test patients, synthetic, in ACDC's layout")
    from nnunet_cardiac.phantom.acdc import write_patients

    source = output / "phantom_ACDC"
    looks = {"shape": (104, 96), "spacing": 2.6, "n_slices": 7}
    write_patients(source / "training", TRAINING_PATIENTS, **looks)
    write_patients(source / "testing", TEST_PATIENTS, **looks)

    say("2. Conversion to nnU-Net's raw format, with two folds over the patients")
    command("convert", "acdc", "-i", source, "-d", DATASET, "--folds", "2")

    say("3. Plans and preprocessing: nnU-Net's own, and CroCNet's")
    command("plan_and_preprocess", "-d", DATASET, "-pl", "ExperimentPlanner", "--small", PATCH)
    command("plan_and_preprocess", "-d", DATASET, "-pl", "CroCNetPlanner", "--small", PATCH)

    say(f"4. Training for {STEPS} steps: nnU-Net's baseline; then CroCNet, stage 1 on all folds, stage 2 on one")
    print(f"  CroCNet learns at {LEARNING_RATE:g}, ten times the paper's rate, which is made for many thousand steps")
    for name, more in (("nnU-Net 2d", ()), ("CroCNet (both stages)", ("--initial_lr", LEARNING_RATE))):
        trainer, plans, configuration = MODELS[name]
        command(
            "train", "-d", DATASET, "-tr", trainer, "-p", plans, "-c", configuration, "-f", "0", "-device", device,
            "--budget", STEPS, "--unscaled_schedule", *more,
        )  # fmt: skip

    say("5. Segmentation of the test patients, one call for each model")
    dataset = output / "nnUNet_raw" / f"Dataset{DATASET:0>3}_ACDC"
    segmentations = {}
    for name, (trainer, plans, configuration) in MODELS.items():
        segmentations[name] = output / "segmentations" / f"{trainer}__{plans}__{configuration}"
        command(
            "predict", "-i", dataset / "imagesTs", "-o", segmentations[name], "-d", DATASET, "-tr", trainer,
            "-p", plans, "-c", configuration, "-f", "0", "-device", device,
        )  # fmt: skip

    say("6. Dice of the test patients, mean over cases")
    table = output / "dice.csv"
    _write_dice(dataset, segmentations, table)
    overlays = _write_overlays(dataset, segmentations, output / "overlays")
    return {"table": table, "overlays": overlays, "data": dataset, "models": output / "nnUNet_results"}


def _write_dice(dataset: Path, segmentations: dict[str, Path], table: Path) -> None:
    """Prints and writes the mean Dice of every structure for every model, as nnU-Net computes it."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    labels = {"RV": 1, "MYO": 2, "LV": 3}
    rows = [("model", *labels, "mean")]
    for name, folder in segmentations.items():
        cases = [
            compute_metrics(str(truth), str(folder / truth.name), SimpleITKIO(), list(labels.values()))["metrics"]
            for truth in sorted((dataset / "labelsTs").iterdir())
        ]
        dice = [float(np.nanmean([case[label]["Dice"] for case in cases])) for label in labels.values()]
        rows.append((name, *(f"{d:.3f}" for d in (*dice, np.mean(dice)))))
    for name, *values in rows:
        print(f"   {name:<24}" + "".join(f"{value:>8}" for value in values))
    with open(table, "w", newline="") as f:
        csv.writer(f).writerows(rows)


def _write_overlays(dataset: Path, segmentations: dict[str, Path], folder: Path) -> Path:
    """A picture of each test case: expert and models side by side, on a basal, a middle and an apical slice."""
    import SimpleITK as sitk

    def read(path: Path) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))

    folder.mkdir()
    for truth_file in sorted((dataset / "labelsTs").iterdir()):
        case = truth_file.name.removesuffix(".nii.gz")
        image = read(dataset / "imagesTs" / f"{case}_0000.nii.gz")
        columns = {"phantom's truth": read(truth_file)}
        columns |= {name: read(path / truth_file.name) for name, path in segmentations.items()}
        heart = np.flatnonzero(columns["phantom's truth"].any((1, 2)))
        slices = [heart[round(share * (len(heart) - 1))] for share in (0.8, 0.5, 0.2)]
        figure = Figure(figsize=(2.6 * len(columns), 2.7 * len(slices)), layout="constrained")
        axes = figure.subplots(len(slices), len(columns))
        for row, z in enumerate(slices):
            for column, (name, segmentation) in enumerate(columns.items()):
                ax = axes[row, column]
                ax.imshow(image[z], cmap="gray", vmax=np.percentile(image, 99.5))
                for label, colour in enumerate(COLOURS.values(), 1):
                    if (segmentation[z] == label).any():
                        ax.contour(segmentation[z] == label, [0.5], colors=[colour], linewidths=1.2)
                ax.set_axis_off()
                if row == 0:
                    ax.set_title(name, fontsize=9)
        figure.suptitle(f"{case}  (" + ", ".join(COLOURS) + " in red, yellow, cyan)", fontsize=9)
        figure.savefig(folder / f"{case}.png", dpi=110)
    return folder
