"""Phantom data, planned and trained once for all tests that need it."""

import hashlib
import json
import multiprocessing.dummy
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import entry_points
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

# before nnU-Net and PyTorch are imported; one thread for each of pytest's workers: more would wait for each other's
# cores, and could add up in another order from run to run
os.environ.update(nnUNet_n_proc_DA="0", nnUNet_def_n_proc="1", nnUNet_compile="f", OMP_NUM_THREADS="1")

import nibabel as nib
import numpy as np
import pytest
import torch
from filelock import FileLock
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.inference import data_iterators
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.utilities import utils
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.architectures import ARCHITECTURES
from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import ext_trainer
from nnunet_cardiac.networks.heart_crop import heart_box
from nnunet_cardiac.networks.topology import Topology
from nnunet_cardiac.phantom.acdc import write_patients
from nnunet_cardiac.planners import network_planner
from nnunet_cardiac.training.memory import PlannedNetwork, StepMemory, training_memory

DATASET = "Dataset027_ACDC"
CASCADE = ("-d", "27", "-tr", "nnUNetTrainerCroCNet", "-p", "nnUNetCroCNetPlans", "-c", "2d_cascade")
DADU = ("-d", "27", "-tr", "nnUNetTrainerDADU", "-p", "nnUNetDADUPlans", "-c", "2d")
NNUNET = ("-d", "27", "-tr", "nnUNetTrainer", "-p", "nnUNetPlans", "-c", "2d")
HALSR = ("-d", "27", "-tr", "nnUNetTrainerHALSRNet", "-p", "nnUNetHALSRNetPlans", "-c", "2d_cascade")
PLANNERS = {architecture.planner: architecture.plans for architecture in ARCHITECTURES.values()}
"""Every planner and the plans that it writes; nnU-Net's own comes first."""
CLASSES = 4
"""Of the phantom in ACDC's layout, background included."""
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
def quick_nnunet():
    """What nnU-Net spends seconds on and no test looks at is left out, in pytest's own processes.

    - Its processes are threads: a process first imports PyTorch and nnU-Net.
    - Intensities of the foreground are drawn a few at a time, and not 100 million.
    - ``progress.png`` stays empty, which is drawn after every epoch. A model's export wants it to be there.

    nnU-Net's commands, each of which test_nnunet_commands.py runs in a process of its own, do all of it.
    """
    collect = DatasetFingerprintExtractor.collect_foreground_intensities

    def collect_few(segmentation, images, seed=1234, num_samples=1000):
        return collect(segmentation, images, seed, min(num_samples, 1000))

    with pytest.MonkeyPatch.context() as context:
        context.setattr(SpawnContext, "Pool", lambda self, processes: ThreadPool(processes))
        context.setattr(utils, "Pool", lambda processes: ThreadPool(1))
        threads = SimpleNamespace(get_context=lambda method: SimpleNamespace(Process=threading.Thread))
        context.setattr(data_iterators, "multiprocessing", threads)
        context.setattr(data_iterators, "Manager", multiprocessing.dummy.Manager)
        context.setattr(DatasetFingerprintExtractor, "collect_foreground_intensities", staticmethod(collect_few))
        context.setattr(MetaLogger, "plot_progress_png", lambda logger, output: Path(output, "progress.png").touch())
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all of pytest's workers write to."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def counted_once(shared_folder):
    """The memory of a network is counted once, however often and in whichever worker the network is planned."""

    def count(network, *sizes):
        key = json.dumps([network.class_name.split(".")[-1], network.arguments, sizes], default=int)
        file = shared_folder / f"memory_{hashlib.sha256(key.encode()).hexdigest()}.json"
        if not file.exists():
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(asdict(training_memory(network, *sizes))))
            partial.rename(file)
        return StepMemory(**json.loads(file.read_text()))

    with pytest.MonkeyPatch.context() as context:
        context.setattr(network_planner, "training_memory", count)
        yield


@pytest.fixture(autouse=True)
def own_folders():
    """What a command that runs in pytest's process sets for itself ends with the test: nnU-Net's folders above all."""
    before = {name: value for name, value in os.environ.items() if name.startswith("nnUNet_")}
    yield
    for name in [name for name in os.environ if name.startswith("nnUNet_")]:
        del os.environ[name]
    os.environ.update(before)


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
def once(shared_folder) -> Callable[[Path, list[str], Callable[[], object]], None]:
    """Makes folders that many tests need, once for all of pytest's workers.

    Called with a folder, the names of some of its subfolders and what makes them. The first worker to come makes them;
    the others wait for it, if they must, and get copies. So every worker has its own, and its tests may change them.
    """

    def once(folder: Path, names: list[str], make: Callable[[], object]) -> None:
        kept = shared_folder / folder.name / names[0]
        unfinished = kept.with_name(f"{kept.name}.unfinished")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{kept}.lock"):
            if kept.exists():
                shutil.copytree(kept, folder, dirs_exist_ok=True)
                return
            make()
            for name in names:
                shutil.copytree(folder / name, unfinished / name)
            unfinished.rename(kept)

    return once


@pytest.fixture(scope="session")
def phantom_acdc(tmp_path_factory) -> Path:
    """Four training patients and one test patient in ACDC's layout; leave them as they are."""
    source = tmp_path_factory.mktemp("ACDC")
    write_patients(source / "training", range(1, 5), **LOOKS)
    write_patients(source / "testing", [101], **LOOKS)
    return source


@pytest.fixture(scope="session")
def dataset(phantom_acdc, nnunet_folders, once) -> Path:
    """The phantom in nnU-Net's raw format, with two folds."""
    raw = nnunet_folders / "nnUNet_raw"
    once(raw, [DATASET], lambda: main(["convert", "acdc", "-i", str(phantom_acdc), "--folds", "2"]))
    return raw / DATASET


@pytest.fixture(scope="session")
def planned(dataset, nnunet_folders, once) -> Path:
    """Plans of nnU-Net and of our planners, with tiny networks; images preprocessed in 2D and in 3D."""
    preprocessed = nnunet_folders / "nnUNet_preprocessed"

    def plan() -> None:
        for planner, plans in PLANNERS.items():
            main(["plan_and_preprocess", "-d", "27", "-pl", planner, "--small", "-c", "2d", "3d_fullres"])
            shrink_further(preprocessed / DATASET / f"{plans}.json")

    once(preprocessed, [DATASET], plan)
    return preprocessed / DATASET


def heart_and_image_sizes(dataset: Path, scale_to: Sequence[float], first: int) -> tuple[np.ndarray, np.ndarray]:
    """At a spacing, rows and columns of the box around the labels from ``first`` on, in each slice with them (N, 2),
    and of the largest image."""
    hearts, largest = [], np.zeros(2)
    for file in sorted((dataset / "labelsTr").iterdir()):
        image = nib.load(file)
        scale = np.array(image.header.get_zooms())[1::-1] / scale_to  # of rows and columns, as SimpleITK has them
        labels = np.asanyarray(image.dataobj).transpose(2, 1, 0)
        largest = np.maximum(largest, np.round(np.array(labels.shape[1:]) * scale))
        boxes = [heart_box(np.ascontiguousarray(heart)) for heart in labels >= first]
        hearts += [[stop - start for start, stop in box] * scale for box in boxes if box]
    return np.array(hearts), largest


def run_nnunet(command: str, *arguments) -> None:
    """Runs one of nnU-Net's commands, ``nnUNetv2_...``, without a process of its own."""
    (entry_point,) = entry_points(group="console_scripts", name=command)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(sys, "argv", [command, *map(str, arguments)])
        context.setattr(multiprocessing, "cpu_count", lambda: 1)  # the commands take all cores
        entry_point.load()()


def predict_with_nnunet(images: Path, output: Path, model: tuple[str, ...], *more) -> None:
    """``nnUNetv2_predict``, without a process of its own."""
    device = ("-device", "cpu", "-npp", "1", "-nps", "1")
    run_nnunet("nnUNetv2_predict", "-i", images, "-o", output, *model, *device, *more)


@dataclass
class NetworkCase:
    """A network of plans, and what it is shown.

    Args:
        planned: as in the plans
        patch_size: pixels or voxels
        sees_masks: whether there is a previous stage
    """

    planned: PlannedNetwork
    patch_size: list[int]
    sees_masks: bool

    @property
    def arguments(self) -> dict:
        return self.planned.arguments

    @property
    def input_channels(self) -> int:
        return CLASSES if self.sees_masks else 1

    def changed(self, arguments: dict, patch_size: list[int] | None = None) -> "NetworkCase":
        return replace(
            self, planned=self.planned._replace(arguments=arguments), patch_size=patch_size or self.patch_size
        )

    def build(self, deep_supervision: bool = False) -> torch.nn.Module:
        """As nnU-Net builds and initialises it for a training."""
        return get_network_from_plans(*self.planned, self.input_channels, CLASSES, True, deep_supervision)

    def images(self, n: int = 2, size: Sequence[int] | None = None) -> torch.Tensor:
        """Noise and, where there is a previous stage, one-hot masks of a heart in the middle."""
        size = size or self.patch_size
        x = torch.zeros(n, self.input_channels, *size)
        x[:, 0] = torch.randn(n, *size)
        heart = tuple(slice(side // 2 - side // 8, side // 2 + side // 8 + 1) for side in size[:-1])
        for label in range(1, self.input_channels):
            start = size[-1] // 2 - 8 + 4 * label
            x[(slice(None), label, *heart, slice(start, start + 4))] = 1
        return x


@pytest.fixture(scope="session")
def network_case(planned) -> Callable[[str, str], NetworkCase]:
    """Reads a network from the session's plans, given their name and a configuration's."""

    def network_case(plans: str, name: str) -> NetworkCase:
        configuration = PlansManager(json.loads((planned / f"{plans}.json").read_text())).get_configuration(name)
        sees_masks = configuration.previous_stage_name is not None
        return NetworkCase(PlannedNetwork.of(configuration), configuration.patch_size, sees_masks)

    return network_case


def unet_arguments(conv_op, norm_op, features) -> dict:
    """What networks of n resolutions are built with: 3x3 convolutions, strides of 2, four classes."""
    dim, n = (2 if conv_op is torch.nn.Conv2d else 3), len(features)
    return {
        "n_stages": n, "features_per_stage": list(features), "conv_op": conv_op, "kernel_sizes": [[3] * dim] * n,
        "strides": [[1] * dim] + [[2] * dim] * (n - 1), "num_classes": 4, "n_conv_per_stage": [2] * n,
        "n_conv_per_stage_decoder": [2] * (n - 1), "norm_op": norm_op,
    }  # fmt: skip


def topology_of(*arguments, **changes) -> Topology:
    """The topology of ``unet_arguments``; ``changes`` replace some of it."""
    kwargs = unet_arguments(*arguments) | changes
    del kwargs["num_classes"]
    return Topology(**kwargs)


def shrink_further(plans_file: Path) -> None:
    """A few features and batches of 2: nothing is learned, everything is run."""
    plans = json.loads(plans_file.read_text())
    for configuration in plans["configurations"].values():
        kwargs = configuration["architecture"]["arch_kwargs"]
        kwargs["features_per_stage"] = [max(2, f // 4) for f in kwargs["features_per_stage"]]
        configuration["batch_size"] = 2
    plans_file.write_text(json.dumps(plans))


def train_once(once, results: Path, model: tuple[str, ...], configurations: list[str], *more: str) -> Path:
    """Trains a model and the stages before it for a few steps; returns the data set's folder in ``nnUNet_results``."""
    _, _, _, trainer, _, plans, _, _ = model
    folders = [f"{trainer}__{plans}__{configuration}" for configuration in configurations]
    once(results / DATASET, folders, lambda: main(["train", *model, "-device", "cpu", "--budget", "4", *more]))
    return results / DATASET


@pytest.fixture(scope="session")
def results_folder(planned, nnunet_folders) -> Path:
    """``nnUNet_results``, with everything there that trainings need."""
    return nnunet_folders / "nnUNet_results"


@pytest.fixture(scope="session")
def trained_crocnet(results_folder, once) -> Path:
    """CroCNet's cascade on both folds."""
    return train_once(once, results_folder, CASCADE, ["2d", "2d_cascade"], "--npz")


@pytest.fixture(scope="session")
def trained_halsr_net(results_folder, once) -> Path:
    """HALSR-Net's box and the inside of it, on both folds."""
    return train_once(once, results_folder, HALSR, ["2d_roi", "2d_cascade"])


@pytest.fixture(scope="session")
def trained_dadu(results_folder, once) -> Path:
    """DADU on one fold."""
    return train_once(once, results_folder, DADU, ["2d"], "-f", "0")


@pytest.fixture(scope="session")
def trained_nnunet(results_folder, once) -> Path:
    """nnU-Net's baseline on one fold."""
    return train_once(once, results_folder, NNUNET, ["2d"], "-f", "0")
