"""Phantom data, planned and trained once for all tests that need it."""

import json
import os
from pathlib import Path

# before nnU-Net and PyTorch are imported; one thread for each of pytest's workers: more would wait for each other's
# cores, and could add up in another order from run to run
os.environ.update(nnUNet_n_proc_DA="0", nnUNet_def_n_proc="1", nnUNet_compile="f", OMP_NUM_THREADS="1")

import numpy as np
import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import ext_trainer
from nnunet_cardiac.phantom.acdc import write_patients

DATASET = "Dataset027_ACDC"
CASCADE = ("-d", "27", "-tr", "nnUNetTrainerCroCNet", "-p", "nnUNetCroCNetPlans", "-c", "2d_cascade")
DADU = ("-d", "27", "-tr", "nnUNetTrainerDADU", "-p", "nnUNetDADUPlans", "-c", "2d")
HALSR = ("-d", "27", "-tr", "nnUNetTrainerHALSRNet", "-p", "nnUNetHALSRNetPlans", "-c", "2d_cascade")
PLANNERS = {
    "ExperimentPlanner": "nnUNetPlans",
    "CroCNetPlanner": "nnUNetCroCNetPlans",
    "DADUPlanner": "nnUNetDADUPlans",
    "HALSRNetPlanner": "nnUNetHALSRNetPlans",
    "SpatialAttentionUNetPlanner": "nnUNetSpatialAttentionUNetPlans",
}
LOOKS = {"shape": (64, 56), "spacing": 4.2, "n_slices": 4}


@pytest.fixture(scope="session", autouse=True)
def nnunet_folders(tmp_path_factory) -> Path:
    """nnU-Net's three folders, set for the whole session."""
    root = tmp_path_factory.mktemp("nnunet")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / name).mkdir()
        os.environ[name] = str(root / name)
    os.environ["nnUNet_extTrainer"] = ext_trainer()
    return root


@pytest.fixture(scope="session", autouse=True)
def no_curves():
    """``progress.png`` stays empty: nnU-Net draws it after every epoch, which takes longer than these tests' epochs.

    A model's export wants it to be there.
    """
    with pytest.MonkeyPatch.context() as context:
        context.setattr(MetaLogger, "plot_progress_png", lambda logger, output: Path(output, "progress.png").touch())
        yield


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every run of a test."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module")
def augmentation_workers():
    """nnU-Net's planners fail on nnUNet_n_proc_DA=0; our command shields them, tests that call them need this."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv("nnUNet_n_proc_DA", "1")
        yield


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """A test's own, empty ``nnUNet_raw``."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    return folder


@pytest.fixture(scope="session")
def phantom_acdc(tmp_path_factory) -> Path:
    """Four training patients and one test patient in ACDC's layout; leave them as they are."""
    source = tmp_path_factory.mktemp("ACDC")
    write_patients(source / "training", range(1, 5), **LOOKS)
    write_patients(source / "testing", [101], **LOOKS)
    return source


@pytest.fixture(scope="session")
def dataset(phantom_acdc, nnunet_folders) -> Path:
    """The phantom in nnU-Net's raw format, with two folds."""
    main(["convert", "acdc", "-i", str(phantom_acdc), "--folds", "2"])
    return nnunet_folders / "nnUNet_raw" / DATASET


@pytest.fixture(scope="session")
def planned(dataset, nnunet_folders) -> Path:
    """Plans of nnU-Net and of our planners, with tiny networks; preprocessed."""
    folder = nnunet_folders / "nnUNet_preprocessed" / DATASET
    for planner, plans in PLANNERS.items():
        main(["plan_and_preprocess", "-d", "27", "-pl", planner, "--small"])
        shrink_further(folder / f"{plans}.json")
    return folder


def unet_arguments(conv_op, norm_op, features) -> dict:
    """What networks of n resolutions are built with: 3x3 convolutions, strides of 2, four classes."""
    dim, n = (2 if conv_op is torch.nn.Conv2d else 3), len(features)
    return {
        "n_stages": n, "features_per_stage": list(features), "conv_op": conv_op, "kernel_sizes": [[3] * dim] * n,
        "strides": [[1] * dim] + [[2] * dim] * (n - 1), "num_classes": 4, "n_conv_per_stage": [2] * n,
        "n_conv_per_stage_decoder": [2] * (n - 1), "norm_op": norm_op,
    }  # fmt: skip


def shrink_further(plans_file: Path) -> None:
    """A few features and batches of 2: nothing is learned, everything is run."""
    plans = json.loads(plans_file.read_text())
    for configuration in plans["configurations"].values():
        kwargs = configuration["architecture"]["arch_kwargs"]
        kwargs["features_per_stage"] = [max(2, f // 4) for f in kwargs["features_per_stage"]]
        configuration["batch_size"] = 2
    plans_file.write_text(json.dumps(plans))


@pytest.fixture(scope="session")
def trained(planned, nnunet_folders) -> Path:
    """CroCNet's and HALSR-Net's cascades on both folds, DADU and nnU-Net's baseline on one, for a few steps."""
    main(["train", *CASCADE, "-device", "cpu", "--budget", "4", "--npz"])
    main(["train", *HALSR, "-device", "cpu", "--budget", "4"])
    main(["train", *DADU, "-f", "0", "-device", "cpu", "--budget", "4"])
    main(["train", "-d", "27", "-c", "2d", "-f", "0", "-device", "cpu", "--budget", "4"])
    return nnunet_folders / "nnUNet_results" / DATASET
