"""Baselines of matched cost: nnU-Net's residual encoder U-Net, as wide as another model costs.

nnU-Net's authors ask for it (Isensee et al., nnU-Net Revisited, MICCAI 2024): a gain over a baseline that costs less is
no gain of an architecture.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.texts import read_json
from nnunet_cardiac.training.memory import PlannedNetwork, training_memory

WIDTHS = range(2, 129)
"""Features of the first resolution, from which the best is chosen."""
WIDEST = 16
"""Times as many features has the widest resolution, as in nnU-Net's 2D plans (32 to 512)."""
MATCHED = "matched_to"
"""In a configuration of plans: to whom and how nearly. nnU-Net passes it over."""


def match(plans_file: str, configuration: str, model: str, other: PlansManager, stages: Sequence[str], by: str) -> None:
    """Gives the network of some plans the width at which it costs what another model costs; patch and batch are the
    other's too. Plans that are matched already are kept.

    Args:
        plans_file: of nnU-Net's residual encoder U-Net, whose data set has ``dataset.json`` beside them
        configuration: of these plans
        model: name of the other, for the record
        other: its plans
        stages: its configurations, first stage first; their costs are added, of memory the largest counts
        by: of ``COSTS``

    Raises:
        UserError: the plans are matched already, by something else
    """
    plans = read_json(Path(plans_file))
    own = plans["configurations"][configuration]
    if MATCHED in own:
        if own[MATCHED]["by"] != by:
            raise UserError(f"{plans_file} is matched by {own[MATCHED]['by']}, not by {by}: move it away.")
        return
    dataset_json = read_json(Path(plans_file).with_name("dataset.json"))
    channels, labels = len(dataset_json["channel_names"]), other.get_label_manager(dataset_json)
    first = other.get_configuration(stages[0])
    cost, together = COSTS[by], max if by == "memory" else sum
    if by == "flops" and (size := first.network_arch_init_kwargs.get("patch_size")):  # both at the one size it takes
        cost = partial(flops, size=size)
    own |= {"patch_size": list(first.patch_size), "batch_size": first.batch_size}
    own["architecture"]["arch_kwargs"] = _with_strides(own["architecture"]["arch_kwargs"], first)
    target = together(
        cost(
            other.get_configuration(name), channels + (i > 0) * len(labels.foreground_labels),
            labels.num_segmentation_heads,
        )
        for i, name in enumerate(stages)
    )  # fmt: skip

    def own_cost(width: int) -> int:
        return cost(ConfigurationManager(_widened(own, width)), channels, labels.num_segmentation_heads)

    wider = bisect_left(WIDTHS, target, key=own_cost)
    width = min(WIDTHS[max(0, wider - 1) : wider + 1], key=lambda width: abs(math.log(own_cost(width) / target)))
    record = {"model": model, "by": by, "its_cost": target, "own_cost": own_cost(width)}
    plans["configurations"] = {configuration: _widened(own, width) | {MATCHED: record}}
    save_json(plans, plans_file, sort_keys=False)


def _widened(configuration: dict, width: int) -> dict:
    """A configuration whose network has so many features at its first resolution."""
    changed = deepcopy(configuration)
    kwargs = changed["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [min(WIDEST * width, width * 2**i) for i in range(kwargs["n_stages"])]
    return changed


def _with_strides(kwargs: dict, first: ConfigurationManager) -> dict:
    """As many resolutions as the patch of the other allows, which its own plans tell."""
    n = len(first.network_arch_init_kwargs["strides"])
    blocks = (1, 3, 4, *[6] * n)[:n]
    return kwargs | {
        "n_stages": n,
        "strides": first.network_arch_init_kwargs["strides"],
        "kernel_sizes": [[3] * len(first.patch_size)] * n,
        "n_blocks_per_stage": list(blocks),
        "n_conv_per_stage_decoder": [1] * (n - 1),
    }


def parameters(configuration: ConfigurationManager, input_channels: int, output_channels: int) -> int:
    """Of the network."""
    with torch.device("meta"):
        network = PlannedNetwork.of(configuration).build(input_channels, output_channels)
    return sum(p.numel() for p in network.parameters())


def flops(
    configuration: ConfigurationManager, input_channels: int, output_channels: int, size: Sequence[int] | None = None
) -> int:
    """Of one pass over an image, by default of the data set's median size; where a network crops, in its middle."""
    network = PlannedNetwork.of(configuration)
    divisors = [math.prod(axis) for axis in zip(*network.arguments["strides"], strict=True)]
    if size is None:
        sides = zip(configuration.median_image_size_in_voxels, divisors, strict=True)
        size = [math.ceil(side / divisor) * divisor for side, divisor in sides]
    with FakeTensorMode(), torch.no_grad():
        model = network.build(input_channels, output_channels).eval()
        if isinstance(model, Network):
            model.look_nowhere()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, input_channels, *size))
    return counter.get_total_flops()


def memory(configuration: ConfigurationManager, input_channels: int, output_channels: int) -> int:
    """Bytes of a training step of the planned patch and batch."""
    step = training_memory(
        PlannedNetwork.of(configuration), input_channels, output_channels, configuration.patch_size
    )  # fmt: skip
    return step.of(configuration.batch_size)


COSTS: dict[str, Callable[[ConfigurationManager, int, int], int]] = {
    "flops": flops, "parameters": parameters, "memory": memory,
}  # fmt: skip
"""What can be matched."""
