"""Time of a prediction, by our command and by nnU-Net's."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cardiac.environment import folder
from nnunet_cardiac.inference.predict import Prediction, predict
from nnunet_cardiac.model import Model

NNUNET_PROCESSES = 3
"""Of each kind, as ``nnUNetv2_predict`` starts them."""


def time_prediction(
    model: Model,
    fold: int,
    cases: Sequence[str],
    device: str,
    place: Path,
    hand_over: Callable[[str, np.ndarray], np.ndarray] | None = None,
) -> Prediction:
    """Segments training cases with all stages of a model in one call; ``seconds`` tells how long that took.

    Args:
        model, fold: whose network
        cases: of the training cases
        device: "cuda", "cpu" or "mps"
        place: an empty folder for images and segmentations
        hand_over: see ``predict``
    """
    images = place / "images"
    images.mkdir()
    for files in image_files(model.dataset, cases):
        for file in files:
            shutil.copy(file, images)
    return predict(images, place / "segmentations", model, [fold], device=device, hand_over=hand_over)


def time_nnunet(
    model: Model, fold: int, cases: Sequence[str], device: str, output: Path, previous: Path | None = None
) -> float:
    """Seconds that ``nnUNetv2_predict`` takes for one stage, without starting Python and loading the model.

    Args:
        model, fold: whose network
        cases: of the training cases
        device: "cuda", "cpu" or "mps"
        output: folder for the segmentations, is made
        previous: folder of the previous stage's segmentations, for a cascaded stage
    """
    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.folder), (fold,))
    output.mkdir(parents=True)
    n = min(NNUNET_PROCESSES, len(cases))
    start = time.perf_counter()
    predictor.predict_from_files(
        [list(map(str, files)) for files in image_files(model.dataset, cases)],
        [str(output / case) for case in cases],
        num_processes_preprocessing=n, num_processes_segmentation_export=n,
        folder_with_segs_from_prev_stage=previous and str(previous),
    )  # fmt: skip
    return time.perf_counter() - start


def image_files(dataset: str, cases: Sequence[str]) -> list[list[Path]]:
    """The raw images of training cases, by channel."""
    raw = folder("nnUNet_raw") / dataset / "imagesTr"
    return [sorted(raw.glob(f"{case}_[0-9][0-9][0-9][0-9].*")) for case in cases]
