"""What a training step is said to take, against what it takes."""

import itertools
from itertools import accumulate

import pytest
import torch
from conftest import unet_arguments
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch.profiler import profile

from nnunet_cardiac.training.memory import CUDNN_BYTES, training_memory

OURS = {
    "E2AUNet": {},
    "CroCNetRefiner": {"crop_size": 2 * (48,), "crop_margin": 2 * (15,)},
    "DADU": {},
    "LVBoxRegressor": {"box_label": 1, "box_labels": [1, 2]},
    "HALSRNet": {"dropout_per_stage": [0.25, 0.3, 0.5]},
    "HALSRNet in the box": {"dropout_per_stage": [0.25, 0.3, 0.5], "crop_size": 2 * (48,), "crop_margin": 2 * (15,)},
    "SpatialAttentionUNet": {},
}
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
NETWORKS = [*itertools.product([*OURS, "PlainConvUNet"], (2, 3))]


def arguments(name, dim, features=(8, 16, 32)):
    """Class, arguments and input channels of a network, and a size of its input."""
    conv_op, norm_op = (nn.Conv2d, nn.BatchNorm2d) if dim == 2 else (nn.Conv3d, nn.BatchNorm3d)
    kwargs = unet_arguments(conv_op, norm_op, features) | {"conv_bias": True, "norm_op_kwargs": {}, "nonlin": nn.ReLU}
    kwargs |= {"nonlin_kwargs": {"inplace": True}} | OURS.get(name, {})
    del kwargs["num_classes"]
    if name == "LVBoxRegressor":
        del kwargs["n_conv_per_stage_decoder"]
    if "crop_size" in kwargs and dim == 3:
        kwargs |= {"crop_size": (8, 24, 24), "crop_margin": (2, 4, 4)}
    class_name = PLAIN if name == "PlainConvUNet" else f"nnunet_cardiac.networks.{name.split()[0]}"
    return (class_name, kwargs, ()), 4 if "crop_size" in kwargs else 1, (96, 64) if dim == 2 else (8, 48, 48)


@pytest.mark.parametrize("name, dim", [(name, dim) for name, dim in NETWORKS if name != "CroCNetRefiner"])
def test_grows_with_pixels_and_not_with_them_where_it_must_not(name, dim):
    network, channels, size = arguments(name, dim)
    network[1].pop("crop_size", None), network[1].pop("crop_margin", None)  # whole images
    small, large = training_memory(network, 1, 4, size), training_memory(network, 1, 4, [2 * s for s in size])
    assert large.of_sample == pytest.approx(small.of_sample * 2**dim, rel=0.03)
    assert large.fixed == pytest.approx(small.fixed, rel=0.05)


HALF_PRECISION = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Without it, the CPU's convolutions in half precision go a way that takes memory of its own."""


@pytest.mark.parametrize("name, dim", NETWORKS)
@pytest.mark.parametrize("batch", [2, 20])
def test_is_what_a_real_step_allocates(name, dim, batch):
    """Held against the allocations that PyTorch's profiler records of a step on real tensors."""
    network, channels, size = arguments(name, dim)
    model = get_network_from_plans(*network, channels, 4, allow_init=False, deep_supervision=False)
    parameters = sum(p.numel() for p in model.parameters())

    def step() -> None:
        x = torch.randn(batch, channels, *size)
        x[:, 1:] = 0
        x[(slice(None), slice(1, 2), *(slice(side // 2 - 2, side // 2 + 2) for side in size))] = 1  # a small heart
        with torch.autocast("cpu", torch.bfloat16, enabled=HALF_PRECISION):
            outputs = model(x)
        outputs.float().square().mean().backward()

    step()  # what libraries allocate once is no part of a step
    model.zero_grad(set_to_none=True)
    with profile(profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = max(accumulate(event.nbytes() for event in events)) + (4 + 8) * parameters
    planned = training_memory(network, channels, 4, size, half_precision=HALF_PRECISION).of(batch) - CUDNN_BYTES
    print(name, dim, batch, f"planned {planned / 1e6:.1f} MB, measured {peak / 1e6:.1f} MB")
    assert planned == pytest.approx(peak, rel=0.15)
