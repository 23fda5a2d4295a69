"""What every architecture costs, beside nnU-Net's U-Nets planned for the same data and memory.

    python -m nnunet_cardiac.benchmark.architectures -d 27

prints a table: parameters, FLOPs of a slice, planned and measured memory of a training step, its time, and the time to
segment a volume, by nnU-Net's commands and by ours. Needs the data set's fingerprint and raw images, and no training:
the networks are as they are initialised, training steps are the trainers' own on random images, and a second stage is
shown the heart where the experts saw it, in training and in both ways to predict.
"""

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from tqdm import tqdm

from nnunet_cardiac.benchmark.contenders import Contender, choose
from nnunet_cardiac.benchmark.cost import flops_per_slice
from nnunet_cardiac.environment import dataset_name, ext_trainer, folder, load_plans
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference import predict as inference
from nnunet_cardiac.planners.plan_and_preprocess import augmentation_workers, find_planner
from nnunet_cardiac.planners.small import shrink
from nnunet_cardiac.training.cost import hardware, versions
from nnunet_cardiac.training.memory import CUDNN_BYTES, LiveStorage, training_memory

ARCHITECTURES = (
    "nnunet_2d", "nnunet_resenc_m", "e2aunet", "crocnet", "dadu", "halsrnet_whole_image", "halsrnet",
    "spatial_attention_unet",
)  # fmt: skip
CPU_BATCH = 2


class Measurement:
    """One table: all architectures on one data set and one device.

    Args:
        dataset: ``DatasetNNN_NAME``, with a fingerprint
        device: for training steps and prediction
        gpu_memory_target: GB to plan for
        small: shrink the plans, patches of at most so many pixels
        batch_size: in place of the plans'
        n_steps: timed; a quarter of them comes before, to warm up
        cases: volumes to segment; none for no times of prediction
    """

    def __init__(
        self, dataset: str, device: torch.device, gpu_memory_target: float, small: int | None, batch_size: int | None,
        n_steps: int, cases: Sequence[str],
    ):  # fmt: skip
        self.dataset, self.device, self.gpu_memory_target, self.small = dataset, device, gpu_memory_target, small
        self.batch_size, self.n_steps, self.cases = batch_size, n_steps, cases

    def rows(self, contender: Contender) -> Iterator[dict]:
        """A row for each stage that leads to the contender's configuration.

        Raises:
            UserError: a memory target that is too small, or a configuration that the plans do not have
        """
        planner = find_planner(contender.planner)(
            self.dataset, gpu_memory_target_in_gb=self.gpu_memory_target, plans_name=contender.plans
        )
        planner.counts_memory = not self.small
        with silence(), augmentation_workers():
            plans = planner.plan_experiment()
            if self.small:
                plans = shrink(plans, self.small)
                save_json(plans, folder("nnUNet_preprocessed") / self.dataset / f"{contender.plans}.json")
        load_plans(self.dataset, contender.plans, contender.configuration)
        stages, name = [], contender.configuration
        while name is not None:
            trainer = self.trainer(contender, name)
            stages.insert(0, trainer)
            name = trainer.configuration_manager.previous_stage_name
        for n, trainer in enumerate(stages, 1):
            yield self.row(contender, trainer) | self.prediction(contender, stages[:n])

    def trainer(self, contender: Contender, configuration: str) -> nnUNetTrainer:
        """The contender's trainer of one stage, with its network as initialised, saved as if it had been trained."""
        torch.manual_seed(0)
        with silence():
            trainer = get_trainer_from_args(
                self.dataset, configuration, 0, contender.trainer, contender.plans, device=self.device
            )
            settings = trainer.configuration_manager.configuration
            settings["batch_size"] = self.batch_size or settings["batch_size"]
            images = Path(trainer.preprocessed_dataset_folder)
            images.mkdir(exist_ok=True)
            (images / "none.b2nd").touch()  # the trainer looks for the format of images that are not needed here
            trainer.initialize()
            trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            save_json(trainer.plans_manager.plans, os.path.join(trainer.output_folder_base, "plans.json"))
            save_json(trainer.dataset_json, os.path.join(trainer.output_folder_base, "dataset.json"))
            trainer.save_checkpoint(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
        return trainer

    def row(self, contender: Contender, trainer: nnUNetTrainer) -> dict:
        """Size, memory and time of a training step."""
        manager = trainer.configuration_manager
        planned = planned_memory(trainer)
        batch = random_batch(trainer)
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.network.train()
        seconds = []
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        for _ in tqdm(range(self.n_steps + max(3, self.n_steps // 4)), desc=f"{contender.name}: steps", leave=False):
            start = time.perf_counter()
            trainer.train_step(batch)  # returns the loss on the CPU, so it waits for the GPU
            seconds.append(time.perf_counter() - start)
        step = statistics.median(seconds[-self.n_steps :])
        if self.device.type == "cuda":
            measured = torch.cuda.max_memory_allocated()
        else:
            measured, planned = measured_memory(trainer, batch), planned - CUDNN_BYTES
        return {
            "architecture": contender.name,
            "configuration": trainer.configuration_name,
            "M parameters": sum(p.numel() for p in trainer.network.parameters()) / 1e6,
            "patch": " x ".join(map(str, manager.patch_size)),
            "batch": manager.batch_size,
            "planned GB": planned / 1e9,
            "measured GB": measured / 1e9,
            "s per step": step,
            "images per s": manager.batch_size / step,
        }

    def prediction(self, contender: Contender, stages: Sequence[nnUNetTrainer]) -> dict:
        """FLOPs of a slice in the last stage, and seconds per volume for all of them, nnU-Net's way and ours."""
        raw = folder("nnUNet_raw") / self.dataset
        last = stages[-1]
        model = (self.dataset, contender.trainer, contender.plans, last.configuration_name, [0])
        with silence():
            predictors = inference.load_stages(*model, "checkpoint_final.pth", self.device, True, 0.5)
        row = {"GFLOPs per slice": middle_flops(predictors[-1], raw, self.example) / 1e9}
        if not self.cases:
            return row
        ending = last.dataset_json["file_ending"]
        files = [sorted(map(str, (raw / "imagesTr").glob(f"{case}_????{ending}"))) for case in self.cases]
        with tempfile.TemporaryDirectory() as place:
            stock = 0.0
            for n, trainer in enumerate(stages):
                stock += self._stock(trainer, files, Path(place) / str(n), raw / "labelsTr" if n else None)
            images = Path(place) / "images"
            images.mkdir()
            for image in sum(files, []):
                (images / Path(image).name).symlink_to(image)
            experts = [raw / "labelsTr" / f"{case}{ending}" for case in sorted(self.cases)]
            reader = last.plans_manager.image_reader_writer_class()
            with experts_between_stages(experts, reader, len(stages) - 1), silence():
                ours = inference.predict(images, Path(place) / "ours", *model, device=self.device.type).seconds
        return row | {
            "s per volume, nnU-Net": stock / len(files),
            "s per volume": ours / len(files),
            "times faster": stock / ours,
        }

    @property
    def example(self) -> str:
        """The case of which a slice is counted."""
        cases = sorted((folder("nnUNet_raw") / self.dataset / "labelsTr").iterdir())
        return self.cases[0] if self.cases else cases[0].name.split(".")[0]

    def _stock(self, trainer: nnUNetTrainer, files: list, output: Path, previous: Path | None) -> float:
        """Seconds of ``nnUNetv2_predict`` for one stage, but for starting Python and loading the model."""
        with silence():
            predictor = nnUNetPredictor(device=self.device, allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
            output.mkdir()
            start = time.perf_counter()
            predictor.predict_from_files(
                files, [str(output / Path(f[0]).name.rsplit("_", 1)[0]) for f in files],
                num_processes_preprocessing=min(3, len(files)), num_processes_segmentation_export=min(3, len(files)),
                folder_with_segs_from_prev_stage=previous and str(previous),
            )  # fmt: skip
        return time.perf_counter() - start


def planned_memory(trainer: nnUNetTrainer) -> int:
    """Bytes that our planners expect a training step of the trainer's patch and batch to take on a GPU."""
    manager: ConfigurationManager = trainer.configuration_manager
    network = (
        manager.network_arch_class_name, manager.network_arch_init_kwargs, manager.network_arch_init_kwargs_req_import
    )  # fmt: skip
    heads = trainer.label_manager.num_segmentation_heads
    moments = 1 if isinstance(trainer.optimizer, torch.optim.SGD) else 2
    memory = training_memory(network, trainer.num_input_channels, heads, manager.patch_size, moments)
    return memory.of(manager.batch_size)


def measured_memory(trainer: nnUNetTrainer, batch: dict) -> int:
    """Bytes of all tensors that are alive at the peak of a training step, with the trainer's own loss and optimiser.

    In half precision, bfloat16 on the CPU; the trainer must have made a step before.
    """
    target = batch["target"]
    with LiveStorage() as memory:
        memory.add(*trainer.network.parameters(), *trainer.network.buffers())
        for state in trainer.optimizer.state.values():
            memory.add(*(value for value in state.values() if isinstance(value, torch.Tensor)))
        trainer.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = trainer.loss(trainer.network(batch["data"].clone()), target)
        loss.backward()
    return memory.peak


def random_batch(trainer: nnUNetTrainer) -> dict:
    """Noise and labels without sense; where a previous stage's heart is asked for, a box in the middle of the patch."""
    manager = trainer.configuration_manager
    n, patch = manager.batch_size, manager.patch_size
    n_classes = len(trainer.label_manager.all_labels)
    scales = trainer._get_deep_supervision_scales() or [[1] * len(patch)]
    sizes = [np.round(np.multiply(patch, scale)).astype(int).tolist() for scale in scales]
    target = [torch.randint(n_classes, (n, 1, *size), dtype=torch.int16) for size in sizes]
    data = torch.randn(n, trainer.num_input_channels, *patch)
    if trainer.is_cascaded:
        first_mask = trainer.num_input_channels - (trainer.label_manager.num_segmentation_heads - 1)
        data[:, first_mask:] = 0
        data[(slice(None), first_mask, *(slice(side * 3 // 8, side * 5 // 8 + 1) for side in patch))] = 1
    return {"data": data, "target": target if trainer.enable_deep_supervision else target[0]}


def middle_flops(stage: inference.StagePredictor, raw: Path, case: str) -> int:
    """FLOPs of a stage for the slice of ``case`` with the most foreground."""
    reader = stage.plans.image_reader_writer_class()
    ending = stage.dataset_json["file_ending"]
    image, properties = reader.read_images(sorted(map(str, (raw / "imagesTr").glob(f"{case}_????{ending}"))))
    labels, _ = reader.read_seg(str(raw / "labelsTr" / f"{case}{ending}"))
    preprocessor = stage.configuration.preprocessor_class(verbose=False)
    data, seg, _ = preprocessor.run_case_npy(
        image, labels, properties, stage.plans, stage.configuration, stage.dataset_json
    )
    z = int((seg[0] > 0).sum((1, 2)).argmax())
    return flops_per_slice(stage, data[:, z], seg[0, z])


@contextmanager
def experts_between_stages(labels: Sequence[Path], reader: BaseReaderWriter, n_stages: int) -> Iterator[None]:
    """The experts' segmentations in place of a first stage's, which takes its time nonetheless."""
    experts = iter([reader.read_seg(str(file))[0][0] for file in labels])
    segment, calls = inference.StagePredictor.segment, itertools.count()

    def segment_as_the_experts(self, *arguments):
        result, probabilities = segment(self, *arguments)
        is_first = n_stages and next(calls) % (n_stages + 1) == 0
        return (next(experts) if is_first else result), probabilities

    inference.StagePredictor.segment = segment_as_the_experts
    try:
        yield
    finally:
        inference.StagePredictor.segment = segment


@contextmanager
def silence() -> Iterator[None]:
    """nnU-Net prints plans, tables and progress."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def main(arguments: list[str] | None = None) -> None:
    """The command line. Exits with one sentence where the user can mend it."""
    parser = argparse.ArgumentParser(
        "nnunet_cardiac.benchmark.architectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-d", required=True, metavar="ID", help="data set, with a fingerprint (plan it once)")
    parser.add_argument(
        "--contenders", nargs="+", default=ARCHITECTURES, metavar="NAME",
        help=f"default {' '.join(ARCHITECTURES)}; the 3D ones are nnunet_3d e2aunet_3d crocnet_3d ...",
    )  # fmt: skip
    parser.add_argument("-gpu_memory_target", type=float, default=8, metavar="GB", help="to plan for, default 8")
    parser.add_argument("-device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--batch_size", type=int, metavar="N",
        help=f"of the training steps, default the planned one; {CPU_BATCH} without a GPU",
    )  # fmt: skip
    parser.add_argument("--small", type=int, metavar="PIXELS", help="plans shrunk for a CPU, to patches of so many")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="training steps that are timed, default 20")
    parser.add_argument("--cases", type=int, default=3, metavar="N", help="volumes to segment, default 3; 0 for none")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except UserError as e:
        sys.exit(f"architectures: error: {e}")


def measure(options: argparse.Namespace) -> None:
    """Prints the table."""
    os.environ["nnUNet_extTrainer"] = ext_trainer()
    dataset, device = dataset_name(options.d, "nnUNet_preprocessed"), torch.device(options.device)
    preprocessed = folder("nnUNet_preprocessed")
    fingerprint = preprocessed / dataset / "dataset_fingerprint.json"
    if not fingerprint.is_file():
        raise UserError(f"{fingerprint} is not there: run nnunet_cardiac plan_and_preprocess -d {options.d} first.")
    contenders = choose(options.contenders)
    labels = sorted((folder("nnUNet_raw") / dataset / "labelsTr").iterdir())
    cases = [file.name.split(".")[0] for file in labels[: options.cases]]
    batch_size = options.batch_size or (None if device.type == "cuda" else CPU_BATCH)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / dataset).mkdir()
        shutil.copy(fingerprint, Path(place) / dataset)
        before = {name: os.environ.get(name) for name in ("nnUNet_preprocessed", "nnUNet_results")}
        os.environ |= {"nnUNet_preprocessed": place, "nnUNet_results": os.path.join(place, "results")}
        os.mkdir(os.environ["nnUNet_results"])
        try:
            measurement = Measurement(
                dataset, device, options.gpu_memory_target, options.small, batch_size, options.steps, cases
            )
            for contender in tqdm(contenders, desc="Measuring", unit="architecture"):
                rows += measurement.rows(contender)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))
    print(
        f"\n{hardware(device)}; planned for {options.gpu_memory_target:g} GB; "
        f"prediction of {len(cases)} volumes, mirroring on; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
    )


if __name__ == "__main__":
    main()
