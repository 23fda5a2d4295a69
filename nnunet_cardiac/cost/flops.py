"""FLOPs of a network."""

from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import StagePredictor


@dataclass(frozen=True)
class ExampleSlice:
    """A preprocessed slice, and where the experts saw the heart in it.

    Args:
        case: that it is of
        image: (C, H, W)
        labels: (H, W)
    """

    case: str
    image: np.ndarray
    labels: np.ndarray


def example_slice(dataset: str, stage: StagePredictor, case: str) -> ExampleSlice:
    """The slice of a training case with the most foreground, as the stage's images are preprocessed.

    Args:
        dataset: ``DatasetNNN_NAME``
        stage: whose configuration says how
        case: of the training cases

    Raises:
        UserError: it is not preprocessed
    """
    place = folder("nnUNet_preprocessed") / dataset
    data_folder = str(place / stage.configuration.data_identifier)
    dataset_class = infer_dataset_class(data_folder)
    if case not in dataset_class.get_identifiers(data_folder):
        raise UserError(
            f"{data_folder} has no {case}: preprocess it, or see how files end in {place / 'dataset.json'}."
        )
    image, labels, *_ = dataset_class(data_folder, [case]).load_case(case)
    image, labels = np.asarray(image), np.asarray(labels)[0]
    z = int((labels > 0).sum((1, 2)).argmax())
    return ExampleSlice(case, image[:, z], labels[z])


def flops_per_slice(stage: StagePredictor, example: ExampleSlice) -> int:
    """FLOPs of one stage for one slice, in one pass: no mirroring, no overlapping tiles; 3D: its share of a patch.

    Counted by PyTorch for convolutions and matrix products, a multiplication and an addition as two. A cascaded stage
    finds the heart where the experts saw it. A network of one size gets the slice padded or cut to it.

    Args:
        stage: its network
        example: what it sees
    """
    network, manager = stage.network, stage.predictor.label_manager
    channels = [example.image.astype(np.float32)]
    if stage.configuration.previous_stage_name is not None:
        channels.append(convert_labelmap_to_one_hot(example.labels, manager.foreground_labels, np.float32))
    x = torch.from_numpy(np.concatenate(channels))[None]
    slices, patch = 1, stage.configuration.patch_size
    if len(patch) == 3:
        slices = patch[0]
        x = x[:, :, None].expand(-1, -1, slices, -1, -1)
    missing = [size - side for side, size in zip(x.shape[2:], stage.input_size(x.shape[2:]), strict=True)]
    x = torch.nn.functional.pad(x, [n for m in reversed(missing) for n in (0, m)])
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x.to(device))
    return counter.get_total_flops() // slices
