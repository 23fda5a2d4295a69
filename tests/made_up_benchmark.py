"""A finished benchmark made up of random records, of any size: see ``make``.

As a program: ``python tests/made_up_benchmark.py FOLDER CONTENDERS [FOLDS [PATIENTS [SEEDS]]]``.

Its images and segmentations are links to a few files, so that ten thousand cases take little room.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.settings import Settings

DATASET = "Dataset027_ACDC"
LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
STRUCTURES = ("RV", "MYO", "LV")
GROUPS, VENDORS = ("NOR", "DCM", "HCM", "MINF", "RV"), ("Siemens", "Philips")
KINDS = 3
"""Different segmentations of an image: the ground truth and two predictions."""


def make(place: Path, names: Sequence[str], n_folds: int = 2, n_patients: int = 4, n_seeds: int = 1) -> BenchmarkFolder:
    """Writes it, and sets nnU-Net's folders.

    Args:
        place: where
        names: of built-in contenders
        n_folds, n_patients: how many; a patient has two cases
        n_seeds: how often everyone is trained
    """
    random = np.random.default_rng(0)
    for name in ("raw", "preprocessed", "results"):
        (place / name / DATASET).mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(place / name)
    patients = [f"patient{i:05}" for i in range(n_patients)]
    cases = pd.DataFrame(
        {
            "case": f"{patient}_{phase}",
            "patient": patient,
            "phase": phase,
            "group": GROUPS[i % 5],
            "vendor": VENDORS[i % 2],
        }
        for i, patient in enumerate(patients)
        for phase in ("ED", "ES")
    )
    pools = _write_images(place, list(cases["case"]))
    chosen = {name: contenders()[name] for name in names}
    benchmark = BenchmarkFolder(place / "benchmark")
    settings = Settings(
        DATASET, list(range(n_folds)), next(iter(chosen)), chosen, device="cpu", seeds=list(range(n_seeds))
    )
    benchmark.write_settings(settings)
    for k, contender in enumerate(chosen.values()):
        configurations = {c.configuration for c in chosen.values() if c.plans == contender.plans}
        previous = {c: "2d" if c.startswith("2d_cascade") else None for c in configurations | {"2d"}}
        cost = {"parameters": 1e5 * (k + 1), "flops_per_slice": 1e9 * (k + 1), "prediction_seconds_per_case": 1.0}
        benchmark.finish(Job("cost", settings.model(contender).name), cost)
        for seed in settings.seeds:
            model = settings.model(contender, seed)
            benchmark.finish(Job("plan", model.plans), {"previous_stages": previous, "configurations": [*previous]})
            for fold in settings.folds:
                part = cases[cases["patient"].isin(patients[fold::n_folds])]
                for stage in model.stages(previous):
                    record = {
                        "cost": _cost(k) | {"seed": seed, "plans": stage.plans, "configuration": stage.configuration},
                        "curve": _curve(random),
                    }
                    benchmark.finish(Job("train", stage.name, fold), record)
                benchmark.finish(Job("evaluate", model.name, fold), {"cases": len(part), "problems": []})
                _write_tables(benchmark.evaluation(model, fold), part, k, random)
                folder = benchmark.fold_folder(settings, model, fold)
                folder.mkdir(parents=True)
                (folder / "validation").symlink_to(pools[1 + k % (KINDS - 1)])
    return benchmark


def _cost(k: int) -> dict:
    return {
        "seconds": 3600.0 * (k + 1), "steps": 1000, "batch_size": 8, "peak_memory_GB": 4.0, "peak_memory_of": "GPU",
        "energy_kWh": 0.25, "hardware": "a GPU", "versions": {"python": "3.12"}, "budget": None, "initial_lr": 0.01,
        "seed": 0, "network": "Network", "features_per_stage": [16, 32, 64, 128], "spacing": [1.5, 1.4],
        "patch_size": [128, 112], "bfloat16": False, "chosen_on": None,
    }  # fmt: skip


def _curve(random: np.random.Generator) -> dict:
    return {"mean_fg_dice": (0.9 * (1 - np.exp(-np.arange(50) / 10)) + random.normal(0, 0.01, 50)).tolist()}


def _write_tables(output: Path, cases: pd.DataFrame, k: int, random: np.random.Generator) -> None:
    output.mkdir(parents=True)
    metrics = cases.loc[cases.index.repeat(len(STRUCTURES))].reset_index(drop=True)
    n = len(metrics)
    hard = np.repeat(np.random.default_rng(1).beta(2, 20, len(cases)), len(STRUCTURES))  # the same for all contenders
    dice = np.clip(1 - hard - random.beta(2, 30 + k, n), 0, 1)
    distance = 60 * (1 - dice)
    metrics["structure"] = np.tile(STRUCTURES, len(cases))
    metrics["state"] = "scored"
    for name, values in {
        "dice": dice, "jaccard": dice / (2 - dice), "hausdorff_mm": 2 * distance, "hausdorff95_mm": distance,
        "assd_mm": distance / 5, "precision": dice, "recall": dice, "f1": dice, "accuracy": 0.99 + dice / 100,
        "volume_error_mL": random.normal(0, 8, n),
    }.items():  # fmt: skip
        metrics[name] = values
    metrics.to_csv(output / "metrics.csv", index=False, float_format="%.7g")
    counts = {"LV_holes": 0, "implausible_slices": 1, "slices": 9}
    anatomy = [cases.assign(source=source, **counts) for source in ("prediction", "ground truth")]
    pd.concat(anatomy).to_csv(output / "anatomy.csv", index=False)
    patients = cases.drop_duplicates("patient")[["patient", "group", "vendor"]].set_index("patient")
    true = {"LV_EDV_mL": (150, 30), "LV_ESV_mL": (70, 25), "LV_EF_percent": (55, 10), "LV_mass_g": (120, 25),
            "RV_EDV_mL": (160, 30), "RV_ESV_mL": (80, 25), "RV_EF_percent": (50, 10)}  # fmt: skip
    reference = patients.assign(**{index: random.normal(*how, len(patients)) for index, how in true.items()})
    indices = reference.copy()
    indices[list(true)] += random.normal(1, 5, (len(patients), len(true)))
    reference.to_csv(output / "reference.csv", float_format="%.6g")
    indices.to_csv(output / "indices.csv", float_format="%.6g")


def _write_images(place: Path, cases: list[str]) -> list[Path]:
    """Writes a heart with its segmentations, and links to them; returns the folders of ground truth and predictions."""
    raw = place / "raw" / DATASET
    (raw / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    (raw / "imagesTr").mkdir()
    z, y, x = np.mgrid[:6, :64, :64]
    size = np.sqrt(1 - ((z - 2.5) / 4) ** 2)
    image = np.random.default_rng(2).normal(100, 10, z.shape)
    drawn = []
    for kind in range(KINDS):
        left, right = np.hypot(y - 32 - 2 * kind, x - 36), np.hypot(y - 32, x - 20 - kind)
        labels = np.where(right < 9 * size, 1, 0)
        labels = np.where(left < 14 * size, 2, labels)
        labels = np.where(left < 9 * size, 3, labels).astype(np.uint8)
        drawn.append(labels)
    image += 100 * np.isin(drawn[0], (1, 3))
    folders = [place / "preprocessed" / DATASET / "gt_segmentations", *(place / f"pool_{i}" for i in range(1, KINDS))]
    for array, folder, ending in [
        (image, raw / "imagesTr", "_0000"),
        *((a, f, "") for a, f in zip(drawn, folders, strict=True)),
    ]:
        folder.mkdir(parents=True, exist_ok=True)
        file = place / f"{folder.name}{ending}.nii.gz"
        sitk_image = sitk.GetImageFromArray(array.astype(np.float32 if ending else np.uint8))
        sitk_image.SetSpacing((1.5, 1.5, 10))
        sitk.WriteImage(sitk_image, str(file))
        for case in cases:
            (folder / f"{case}{ending}.nii.gz").symlink_to(file)
    return folders


if __name__ == "__main__":
    n_contenders, *sizes = map(int, sys.argv[2:])
    print(make(Path(sys.argv[1]), list(contenders())[:n_contenders], *sizes).path)
