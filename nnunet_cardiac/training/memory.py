"""What a training step takes on a GPU, before there is one."""

import weakref
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeCopyMode,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_cardiac.networks.network import Network

CUDNN_BYTES = 80_000_000
"""Workspace of the convolutions, measured on an H200: the same to 25 MB for two networks at six patches and batches."""
PLANNED_MEMORY = "planned_memory_GB"
"""In a configuration of plans: what a training step of its patch and batch takes. nnU-Net passes it over."""
LOOKS_AT_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
"""What networks raise on tensors that have none."""
SAMPLES = (2, 12)
"""Batches of which the memory is counted; it grows linearly between and beyond them."""


class PlannedNetwork(NamedTuple):
    """A network as plans describe it."""

    class_name: str
    """Where it is imported from."""
    arguments: dict
    """``arch_kwargs``"""
    imports: Sequence[str]
    """Names of the arguments that are to be imported."""

    @classmethod
    def of(cls, configuration: ConfigurationManager) -> "PlannedNetwork":
        """That of a configuration."""
        return cls(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
        )

    def build(self, input_channels: int, output_channels: int) -> torch.nn.Module:
        """Without deep supervision, and with PyTorch's own initialisation."""
        return get_network_from_plans(*self, input_channels, output_channels, allow_init=False, deep_supervision=False)


def build_network(plans: PlansManager, dataset_json: dict, configuration_name: str) -> torch.nn.Module:
    """The network of a configuration of nnU-Net's plans, without weights."""
    configuration = plans.get_configuration(configuration_name)
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    return PlannedNetwork.of(configuration).build(channels, heads)


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a training step: ``fixed`` whatever the batch, and ``of_sample`` for each sample."""

    fixed: int
    of_sample: int

    def of(self, batch_size: int) -> int:
        """Bytes with a batch of so many."""
        return self.fixed + batch_size * self.of_sample

    def largest_batch(self, available: float) -> int:
        """The largest batch that ``available`` bytes hold; 0 or less where they hold none."""
        return int((available - self.fixed) // self.of_sample)


def training_memory(
    network: PlannedNetwork,
    input_channels: int,
    output_channels: int,
    patch_size: Sequence[int],
    moments: int = 2,
    half_precision: bool = True,
) -> StepMemory:
    """Memory of a training step.

    Counted, not estimated: forward and backward pass run on tensors without storage, and the storage that they would
    have is added up while it lives. bfloat16 on the CPU stands in for float16 on a GPU. torch.compile needs less. The
    few maps of auxiliary outputs are not in it. A network that crops is counted on its crop.

    Args:
        network: as in the plans
        input_channels, output_channels: of the network
        patch_size: pixels or voxels
        moments: numbers that the optimiser keeps for each parameter: Adam 2, SGD with momentum 1
        half_precision: mixed, as nnU-Net trains; False for float32

    Raises:
        whatever the network does where it cannot run on such tensors, which tell their shape but no values
    """
    built = network.build(input_channels, output_channels)  # with values, which some networks read as they are built
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        model = deepcopy(built)
    with mode:
        if isinstance(model, Network):
            model.look_nowhere()
        few, many = (_peak_of_a_step(model, (n, input_channels, *patch_size), half_precision) for n in SAMPLES)
    of_sample = (many - few) // (SAMPLES[1] - SAMPLES[0])
    parameters = sum(p.numel() for p in model.parameters())
    return StepMemory(few - SAMPLES[0] * of_sample + 4 * moments * parameters + CUDNN_BYTES, of_sample)


def prediction_memory(network: torch.nn.Module, input_channels: int, patch_size: Sequence[int]) -> int:
    """Bytes at the peak of a forward pass of one patch in float32, counted as in ``training_memory``.

    Args:
        network: with values; it is left as it is
        input_channels, patch_size: of its input

    Raises:
        LOOKS_AT_VALUES: it cannot be counted
        whatever the network raises of an input that it does not take
    """
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        model = deepcopy(network)
    with mode, torch.no_grad(), LiveStorage() as memory:
        if isinstance(model, Network):
            model.look_nowhere()
        memory.add(*model.parameters(), *model.buffers())
        model.eval()(torch.empty(1, input_channels, *patch_size))
    return memory.peak


def _peak_of_a_step(model: torch.nn.Module, shape: Sequence[int], half_precision: bool) -> int:
    model.zero_grad(set_to_none=True)
    with LiveStorage() as memory:
        memory.add(*model.parameters(), *model.buffers())
        with torch.autocast("cpu", torch.bfloat16, enabled=half_precision):
            outputs = model(torch.empty(shape))
        sum(output.float().square().mean() for output in tree_leaves(outputs)).backward()
    return memory.peak


class LiveStorage(TorchDispatchMode):
    """Adds up the storage of all tensors that operations return, for as long as they are alive.

    ``peak`` is the largest sum so far, in bytes.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known: weakref.WeakSet = weakref.WeakSet()

    def add(self, *tensors: torch.Tensor) -> None:
        """Counts the storage of tensors, each once. What was there before is for the caller to add."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self.known:
                self.known.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())

    def _change(self, n_bytes: int) -> None:
        self.live += n_bytes
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.add(*(leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)))
        return out
