"""What every encoder-decoder network here has in common: nnU-Net's lists and its decoder's expectations."""

from collections.abc import Sequence

import numpy as np
from dynamic_network_architectures.building_blocks.helper import maybe_convert_scalar_to_list
from torch import nn
from torch.nn.modules.conv import _ConvNd


class UNetEncoder(nn.Module):
    """Checks the lists of the plans and keeps what dynamic_network_architectures' ``UNetDecoder`` reads.

    Subclasses build the layers; arguments are those of ``E2AUNet``.

    Raises:
        ValueError: a list has not one entry for each stage, or the first stride is not 1
    """

    def __init__(
        self,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[_ConvNd],
        kernel_sizes: Sequence,
        strides: Sequence,
        n_conv_per_stage: Sequence[int],
        conv_bias: bool,
        norm_op: type[nn.Module],
        norm_op_kwargs: dict | None,
        dropout_op: type[nn.Module] | None,
        dropout_op_kwargs: dict | None,
        nonlin: type[nn.Module],
        nonlin_kwargs: dict | None,
    ):
        super().__init__()
        lists = {"features_per_stage": features_per_stage, "kernel_sizes": kernel_sizes, "strides": strides}
        for name, values in (lists | {"n_conv_per_stage": n_conv_per_stage}).items():
            if len(values) != n_stages:
                raise ValueError(f"{name} needs one entry for each of n_stages = {n_stages}, got {values}.")
        self.strides = [maybe_convert_scalar_to_list(conv_op, s) for s in strides]
        if any(s != 1 for s in self.strides[0]):
            raise ValueError(f"The first stride must be 1: the first stage keeps full resolution. Got {strides[0]}.")
        self.divisible_by = np.prod(self.strides, axis=0).tolist()
        """What the sides of an input must be multiples of."""
        self.output_channels = list(features_per_stage)
        self.kernel_sizes = [maybe_convert_scalar_to_list(conv_op, k) for k in kernel_sizes]
        self.conv_op, self.conv_bias = conv_op, conv_bias
        self.norm_op, self.norm_op_kwargs = norm_op, norm_op_kwargs
        self.nonlin, self.nonlin_kwargs = nonlin, nonlin_kwargs
        self.dropout_op, self.dropout_op_kwargs = dropout_op, dropout_op_kwargs

    def check_input_size(self, size: Sequence[int]) -> None:
        """
        Args:
            size: of the image, without batch and channels

        Raises:
            ValueError: a side that the strides do not divide, so that decoder and skips would not fit
        """
        if any(side % divisor for side, divisor in zip(size, self.divisible_by, strict=True)):
            raise ValueError(
                f"An input of {' x '.join(map(str, size))} does not fit {len(self.strides)} stages: the sides must be "
                f"multiples of {' x '.join(map(str, self.divisible_by))}."
            )

    def map_sizes(self, input_size: Sequence[int]) -> list[list[int]]:
        """Spatial size of every stage's map for an input of ``input_size`` pixels.

        Raises:
            ValueError: ``input_size`` has not the network's number of dimensions
        """
        if len(input_size) != len(self.strides[0]):
            raise ValueError(f"input_size is the image's size without batch and channels, got {tuple(input_size)}.")
        sizes = []
        for stride in self.strides:
            input_size = [i // s for i, s in zip(input_size, stride, strict=True)]
            sizes.append(input_size)
        return sizes


def freeze_auxiliary_outputs(decoder: nn.Module) -> None:
    """For decoders without deep supervision: their auxiliary outputs exist, so that weights load either way, but a
    parameter that wants a gradient and gets none would stop distributed training."""
    decoder.seg_layers[:-1].requires_grad_(False)
