"""What a network costs."""

import json

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.environment import folder
from nnunet_cardiac.inference.predict import StagePredictor


def middle_slice(
    dataset: str, plans: PlansManager, configuration: ConfigurationManager, fold: int
) -> tuple[str, np.ndarray, np.ndarray]:
    """Of the fold's first validation case, preprocessed, the slice with the most foreground.

    Returns:
        the case, the image (C, H, W) and the experts' labels (H, W)
    """
    preprocessed = folder("nnUNet_preprocessed") / dataset
    case = json.loads((preprocessed / "splits_final.json").read_text())[fold]["val"][0]
    data_folder = str(preprocessed / configuration.data_identifier)
    image, labels, *_ = infer_dataset_class(data_folder)(data_folder, [case]).load_case(case)
    image, labels = np.asarray(image), np.asarray(labels)[0]
    z = int((labels > 0).sum((1, 2)).argmax())
    return case, image[:, z], labels[z]


def flops_per_slice(stage: StagePredictor, image: np.ndarray, labels: np.ndarray) -> int:
    """FLOPs of one stage for one slice, in one pass: no mirroring, no overlapping tiles; 3D: its share of a patch.

    Counted by PyTorch for convolutions and matrix products, a multiplication and an addition as two. A cascaded stage
    finds the heart where the experts saw it.

    Args:
        stage: its network
        image: (C, H, W)
        labels: (H, W)
    """
    network, manager = stage.predictor.network, stage.predictor.label_manager
    channels = [image.astype(np.float32)]
    if stage.configuration.previous_stage_name is not None:
        channels.append(convert_labelmap_to_one_hot(labels, manager.foreground_labels, np.float32))
    x = torch.from_numpy(np.concatenate(channels))[None]
    patch = stage.configuration.patch_size
    strides = np.prod(stage.configuration.network_arch_init_kwargs["strides"], axis=0)
    divisors = getattr(getattr(network, "encoder", None), "divisible_by", strides)  # ours say what fits them
    slices = 1
    if len(patch) == 3:
        slices = patch[0]
        x = x[:, :, None].expand(-1, -1, slices, -1, -1)
    missing = [(-size) % int(divisor) for size, divisor in zip(x.shape[2:], divisors, strict=True)]
    x = torch.nn.functional.pad(x, [n for m in reversed(missing) for n in (0, m)])
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x.to(device))
    return counter.get_total_flops() // slices
