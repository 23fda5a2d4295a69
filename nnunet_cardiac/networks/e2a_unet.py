"""E-2AUNet, the first stage of CroCNet (Khan et al., ISBI 2024, section 3.1).

Patch embedding at full resolution; encoder stages of a conv block and an E-2A block with strided convolutions between
them; decoder stages of upsampling, concatenation, conv block and E-2A block; 1x1 convolution to the classes.

Decided here, where the paper is silent: embedding and conv blocks are two 3x3 convolutions each, with batch norm and
ReLU; the map behind the last downsampling goes to the decoder as it is. The paper's sigmoids belong to the loss:
nnU-Net takes the argmax of the logits, which is the argmax of their sigmoids too.
"""

from collections.abc import Sequence

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nnunet_cardiac.networks.e2a import E2A, E2ABlock


class EmbeddingEncoder(nn.Module):
    """The convolutions that both stages of CroCNet have in their encoders: embedding, conv blocks, downsamplings.

    Subclasses add the attention and say in ``forward`` where it stands. Attributes are those that
    dynamic_network_architectures' ``UNetDecoder`` reads from an encoder; arguments are those of ``E2AUNet``.

    Raises:
        ValueError: a list has not one entry for each stage, or the first stride is not 1
    """

    def __init__(
        self,
        input_channels: int,
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
        if any(s != 1 for s in maybe_convert_scalar_to_list(conv_op, strides[0])):
            raise ValueError(f"The first stride must be 1: the embedding keeps full resolution. Got {strides[0]}.")
        operations = (norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs)

        def conv_block(n_convs: int, channels: int, s: int) -> StackedConvBlocks:
            return StackedConvBlocks(
                n_convs, conv_op, channels, features_per_stage[s], kernel_sizes[s], 1, conv_bias, *operations
            )

        self.embedding = conv_block(n_conv_per_stage[0], input_channels, 0)
        self.conv_blocks = nn.ModuleList(
            conv_block(n_conv_per_stage[s], features_per_stage[s], s) for s in range(n_stages - 1)
        )
        self.downsamplings = nn.ModuleList(
            ConvDropoutNormReLU(
                conv_op, features_per_stage[s - 1], features_per_stage[s], kernel_sizes[s], strides[s], conv_bias,
                norm_op, norm_op_kwargs,
            )
            for s in range(1, n_stages)
        )  # fmt: skip
        self.output_channels = list(features_per_stage)
        self.strides = [maybe_convert_scalar_to_list(conv_op, s) for s in strides]
        self.kernel_sizes, self.conv_op, self.conv_bias = kernel_sizes, conv_op, conv_bias
        self.norm_op, self.norm_op_kwargs = norm_op, norm_op_kwargs
        self.nonlin, self.nonlin_kwargs = nonlin, nonlin_kwargs
        self.dropout_op, self.dropout_op_kwargs = dropout_op, dropout_op_kwargs

    def map_sizes(self, input_size: Sequence[int]) -> list[list[int]]:
        """Spatial size of every stage's map for an input of ``input_size`` pixels."""
        sizes = []
        for stride in self.strides:
            input_size = [i // s for i, s in zip(input_size, stride, strict=True)]
            sizes.append(input_size)
        return sizes

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Elements that the convolutions write for one sample of ``input_size`` pixels."""
        sizes = self.map_sizes(input_size)
        total = self.embedding.compute_conv_feature_map_size(sizes[0])
        for conv_block, downsampling, size in zip(self.conv_blocks, self.downsamplings, sizes, strict=False):
            total += conv_block.compute_conv_feature_map_size(size)
            total += downsampling.compute_conv_feature_map_size(size)
        return total


class E2AEncoder(EmbeddingEncoder):
    """Conv block and E-2A block in every stage but the last, which is reached by downsampling alone."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.e2a_blocks = nn.ModuleList(
            E2ABlock(E2A(f, self.conv_op), f, self.conv_op, self.norm_op, self.norm_op_kwargs)
            for f in self.output_channels[:-1]
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, \\*spatial) to one map for each stage, highest resolution first."""
        x = self.embedding(x)
        maps = []
        for conv_block, e2a_block, downsampling in zip(
            self.conv_blocks, self.e2a_blocks, self.downsamplings, strict=True
        ):
            maps.append(e2a_block(conv_block(x)))
            x = downsampling(maps[-1])
        return [*maps, x]


class E2AUNetDecoder(UNetDecoder):
    """nnU-Net's decoder with an E-2A block behind every conv block.

    As there, the auxiliary outputs exist with deep supervision off too, so that weights load either way. They are
    then frozen: a parameter that wants a gradient and gets none stops distributed training.
    """

    def __init__(self, encoder: E2AEncoder, num_classes: int, n_conv_per_stage: Sequence[int], deep_supervision: bool):
        super().__init__(encoder, num_classes, n_conv_per_stage, deep_supervision)
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv_block,
                E2ABlock(
                    E2A(conv_block.output_channels, encoder.conv_op), conv_block.output_channels, encoder.conv_op,
                    encoder.norm_op, encoder.norm_op_kwargs,
                ),
            )
            for conv_block in self.stages
        )  # fmt: skip
        if not deep_supervision:
            self.seg_layers[:-1].requires_grad_(False)


class E2AUNet(nn.Module):
    """A U-Net with efficient additive attention, for nnU-Net's plans.

    Args:
        input_channels: image channels
        n_stages: resolutions, the full one included (paper: 5)
        features_per_stage: channels at each (paper: 32, 64, 128, 256, 512)
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        kernel_sizes: of the convolutions at each resolution
        strides: of the downsampling that leads to each resolution; the first is 1
        num_classes: maps of the output, background included
        n_conv_per_stage: convolutions in the embedding and in each encoder stage's conv block
        n_conv_per_stage_decoder: convolutions in each decoder stage's conv block
        conv_bias: whether convolutions have a bias
        norm_op, norm_op_kwargs: normalisation (paper: batch norm)
        dropout_op, dropout_op_kwargs: dropout behind convolutions (paper: none)
        nonlin, nonlin_kwargs: activation (paper: ReLU)
        deep_supervision: whether ``forward`` returns a list, highest resolution first

    Raises:
        ValueError: a list has not one entry for each stage, or the first stride is not 1
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[_ConvNd],
        kernel_sizes: Sequence,
        strides: Sequence,
        num_classes: int,
        n_conv_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        conv_bias: bool = True,
        norm_op: type[nn.Module] = nn.BatchNorm2d,
        norm_op_kwargs: dict | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict | None = None,
        nonlin: type[nn.Module] = nn.ReLU,
        nonlin_kwargs: dict | None = None,
        deep_supervision: bool = False,
    ):
        super().__init__()
        self.encoder = E2AEncoder(
            input_channels, n_stages, features_per_stage, conv_op, kernel_sizes, strides, n_conv_per_stage, conv_bias,
            norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs,
        )  # fmt: skip
        self.decoder = E2AUNetDecoder(self.encoder, num_classes, n_conv_per_stage_decoder, deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision."""
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Elements that the convolutions write for one sample of ``input_size`` pixels (no batch, no channels)."""
        if len(input_size) != convert_conv_op_to_dim(self.encoder.conv_op):
            raise ValueError(f"input_size is the image's size without batch and channels, got {tuple(input_size)}.")
        total = self.encoder.compute_conv_feature_map_size(input_size)
        sizes, features = self.encoder.map_sizes(input_size), self.encoder.output_channels
        for (conv_block, _), seg_layer, size, f in zip(
            self.decoder.stages, self.decoder.seg_layers, sizes[-2::-1], features[-2::-1], strict=True
        ):
            pixels = np.prod(size, dtype=np.int64)
            total += conv_block.compute_conv_feature_map_size(size)
            total += f * pixels  # upsampling
            if seg_layer is self.decoder.seg_layers[-1] or self.decoder.deep_supervision:
                total += seg_layer.out_channels * pixels
        # an E-2A block at every resolution but the lowest, in encoder and decoder: W_q, W_k, W_p, W_o, and 4 + 1 in
        # the MLP
        return total + sum(2 * 9 * f * np.prod(s, dtype=np.int64) for f, s in zip(features[:-1], sizes, strict=False))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of convolutions, as nnU-Net's U-Nets; attention sets its own vectors when built."""
        InitWeights_He(1e-2)(module)
