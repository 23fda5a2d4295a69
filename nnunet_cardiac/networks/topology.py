"""The sizes of a network, as nnU-Net's plans give them: what every network here takes as ``**topology``."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dynamic_network_architectures.building_blocks.helper import maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from torch import nn

ConvOp: TypeAlias = Callable[..., nn.Module]
"""``nn.Conv2d`` or ``nn.Conv3d``, as what a network needs of them: something that builds a convolution."""


@dataclass(frozen=True)
class Topology:
    """Resolutions of an encoder-decoder, and the operations that it is made of.

    The names are nnU-Net's. A list has an entry for each stage, highest resolution first; the decoder's has one less,
    lowest resolution first.

    Args:
        n_stages: resolutions, the full one included
        features_per_stage: channels at each
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        kernel_sizes: of the convolutions at each resolution
        strides: of the downsampling that leads to each resolution; the first is 1
        n_conv_per_stage: convolutions of each encoder stage
        n_conv_per_stage_decoder: convolutions of each decoder stage; empty for a network without a decoder
        conv_bias: whether convolutions have a bias
        norm_op, norm_op_kwargs: normalisation; all papers here: batch norm
        dropout_op, dropout_op_kwargs: dropout behind convolutions; none by default
        nonlin, nonlin_kwargs: activation; all papers here: ReLU

    Raises:
        ValueError: a list does not have the length that ``n_stages`` asks for, or the first stride is not 1
    """

    n_stages: int
    features_per_stage: Sequence[int]
    conv_op: ConvOp
    kernel_sizes: Sequence[Any]
    strides: Sequence[Any]
    n_conv_per_stage: Sequence[int]
    n_conv_per_stage_decoder: Sequence[int] = ()
    conv_bias: bool = True
    norm_op: type[nn.Module] = nn.BatchNorm2d
    norm_op_kwargs: dict | None = None
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: dict | None = None
    nonlin: type[nn.Module] | None = nn.ReLU
    nonlin_kwargs: dict | None = None

    def __post_init__(self):
        for name in ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"):
            if len(getattr(self, name)) != self.n_stages:
                raise ValueError(
                    f"{name} needs one entry for each of n_stages = {self.n_stages}, got {getattr(self, name)}."
                )
        if self.n_conv_per_stage_decoder and len(self.n_conv_per_stage_decoder) != self.n_stages - 1:
            raise ValueError(
                f"n_conv_per_stage_decoder needs {self.n_stages - 1} entries, got {self.n_conv_per_stage_decoder}."
            )
        for name in ("kernel_sizes", "strides"):
            per_axis = [list(maybe_convert_scalar_to_list(self.conv_op, value)) for value in getattr(self, name)]
            object.__setattr__(self, name, per_axis)
        if any(s != 1 for s in self.strides[0]):
            raise ValueError(
                f"The first stride must be 1: the first stage keeps full resolution. Got {self.strides[0]}."
            )

    @property
    def dim(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def divisible_by(self) -> list[int]:
        """What the sides of an input must be multiples of, so that every stride divides its map."""
        return [math.prod(axis) for axis in zip(*self.strides, strict=True)]

    @property
    def operations(self) -> dict[str, Any]:
        """Bias, normalisation, dropout and activation, as keywords of ``ConvDropoutNormReLU`` and its stacks."""
        return {
            "conv_bias": self.conv_bias,
            "norm_op": self.norm_op,
            "norm_op_kwargs": self.norm_op_kwargs,
            "dropout_op": self.dropout_op,
            "dropout_op_kwargs": self.dropout_op_kwargs,
            "nonlin": self.nonlin,
            "nonlin_kwargs": self.nonlin_kwargs,
        }

    def conv(
        self, input_channels: int, output_channels: int, kernel_size: int | Sequence[int], stride=1, **changes
    ) -> ConvDropoutNormReLU:
        """A convolution with what comes behind it; ``changes`` replace ``conv_op`` and some of ``operations``."""
        operations = {"conv_op": self.conv_op} | self.operations | changes
        return ConvDropoutNormReLU(
            input_channels=input_channels, output_channels=output_channels, kernel_size=kernel_size, stride=stride,
            **operations,
        )  # fmt: skip

    def convs(
        self, n_convs: int, input_channels: int, stage: int, stride=1, nonlin_first: bool = False, **changes
    ) -> StackedConvBlocks:
        """``n_convs`` convolutions at the width and with the kernel of a stage, the first with ``stride``."""
        return StackedConvBlocks(
            n_convs, self.conv_op, input_channels, self.features_per_stage[stage], self.kernel_sizes[stage], stride,
            nonlin_first=nonlin_first, **(self.operations | changes),
        )  # fmt: skip

    def map_sizes(self, input_size: Sequence[int]) -> list[list[int]]:
        """Spatial size of every stage's map for an input of ``input_size`` pixels.

        Raises:
            ValueError: ``input_size`` does not have the network's number of dimensions
        """
        if len(input_size) != self.dim:
            raise ValueError(f"input_size is the image's size without batch and channels, got {tuple(input_size)}.")
        size, sizes = list(input_size), []
        for stride in self.strides:
            size = [side // s for side, s in zip(size, stride, strict=True)]
            sizes.append(size)
        return sizes


def shrink_topology(arguments: Mapping[str, Any], n_stages: int, divide_features: int) -> dict[str, Any]:
    """A network's arguments in plans, for a smaller network of the same kind.

    By the names that nnU-Net's networks and ours share: lists called ``..._per_stage``, ``kernel_sizes`` and
    ``strides`` have an entry for each stage, those called ``..._per_stage_decoder`` one less. The first are kept, of
    ``dropout_per_stage`` the bottom's as well.

    Args:
        arguments: ``arch_kwargs`` of plans
        n_stages: resolutions that are kept at most
        divide_features: the widths are divided by this
    """
    shrunk = dict(arguments)
    shrunk["n_stages"] = n = min(arguments["n_stages"], n_stages)
    for name, value in arguments.items():
        if name in ("kernel_sizes", "strides") or name.endswith("_per_stage"):
            shrunk[name] = list(value)[:n]
            if name == "dropout_per_stage":
                shrunk[name][-1] = value[-1]
        elif name.endswith("_per_stage_decoder"):
            shrunk[name] = list(value)[: n - 1]
    shrunk["features_per_stage"] = [f // divide_features for f in shrunk["features_per_stage"]]
    return shrunk
