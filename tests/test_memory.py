"""What a training step is said to take, against what it takes."""

from itertools import accumulate

import pytest
import torch
from conftest import CLASSES, NetworkCase
from torch.profiler import profile

from nnunet_cardiac.architectures import ARCHITECTURES
from nnunet_cardiac.networks.topology import shrink_topology
from nnunet_cardiac.training.memory import CUDNN_BYTES, StepMemory, training_memory

IN_3D = [
    (a.plans, name)
    for a in ARCHITECTURES.values()
    for name in a.configurations
    if name.startswith("3d") and a.planner != "MonaiPlanner"
]
IN_2D = [(plans, name.removesuffix("_fullres").replace("3d", "2d")) for plans, name in IN_3D]
FEATURES = [8, 16, 32]
SIZES = {2: {"patch": [96, 64], "crop_size": [48, 48], "crop_margin": [15, 15]},
         3: {"patch": [8, 48, 48], "crop_size": [8, 24, 24], "crop_margin": [2, 4, 4]}}  # fmt: skip
"""Of images and crops, by dimensions: small, and large enough for a step to take more than the bookkeeping."""


@pytest.fixture(
    scope="module", params=[*IN_2D, *(pytest.param(c, marks=pytest.mark.slow) for c in IN_3D)], ids="-".join
)
def case(network_case, request) -> NetworkCase:
    """A network of every kind that plans have, nnU-Net's own included, in a size that is worth measuring."""
    case = network_case(*request.param)
    sizes = SIZES[len(case.patch_size)]
    arguments = shrink_topology(case.arguments, len(FEATURES), 1) | {"features_per_stage": FEATURES}
    arguments |= {key: sizes[key] for key in ("crop_size", "crop_margin") if key in arguments}
    return case.changed(arguments, sizes["patch"])


HALF_PRECISION = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Without it, the CPU's convolutions in half precision go a way that takes memory of its own."""


def count(case: NetworkCase, size: list[int]) -> StepMemory:
    return training_memory(case.planned, case.input_channels, CLASSES, size, half_precision=HALF_PRECISION)


@pytest.fixture(scope="module")
def counted(case) -> StepMemory:
    return count(case, case.patch_size)


def test_grows_with_the_pixels_that_are_computed_on(case, counted):
    larger = count(case, [2 * side for side in case.patch_size])
    assert larger.fixed == pytest.approx(counted.fixed, rel=0.05)
    factor = 2 ** len(case.patch_size)
    if "crop_size" in case.arguments:  # the whole image is read and written, and no more
        assert counted.of_sample < larger.of_sample < 0.8 * factor * counted.of_sample
    else:
        assert larger.of_sample == pytest.approx(counted.of_sample * factor, rel=0.03)


def test_is_what_a_real_step_allocates(case, counted):
    """Held against the allocations that PyTorch's profiler records of a step on real tensors."""
    network = case.build()
    parameters = sum(p.numel() for p in network.parameters())

    def step(x: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=HALF_PRECISION):
            outputs = network(x)
        outputs.float().square().mean().backward()

    step(case.images(2))  # what libraries allocate once is no part of a step
    for batch in (2, 12):
        network.zero_grad(set_to_none=True)
        x = case.images(batch)
        with profile(profile_memory=True) as profiler:
            step(x.clone())
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        peak = max(accumulate(event.nbytes() for event in events)) + (4 + 8) * parameters
        planned = counted.of(batch) - CUDNN_BYTES
        print(f"batch {batch}: planned {planned / 1e6:.1f} MB, measured {peak / 1e6:.1f} MB")
        assert planned == pytest.approx(peak, rel=0.15)
