"""E-2AUNet, the first stage of CroCNet (Khan et al., ISBI 2024, section 3.1).

Patch embedding at full resolution; encoder stages of a conv block and an E-2A block with strided convolutions between
them; decoder stages of upsampling, concatenation, conv block and E-2A block; 1x1 convolution to the classes.

Decided here, where the paper is silent: embedding and conv blocks are two 3x3 convolutions each, with batch norm and
ReLU; the map behind the last downsampling goes to the decoder as it is. The paper's sigmoids belong to the loss:
nnU-Net takes the argmax of the logits, which is the argmax of their sigmoids too.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nnunet_cardiac.networks.e2a import E2A, E2ABlock
from nnunet_cardiac.networks.unet import UNetEncoder, freeze_auxiliary_outputs


class EmbeddingEncoder(UNetEncoder):
    """The convolutions that both stages of CroCNet have in their encoders: embedding, conv blocks, downsamplings.

    Subclasses add the attention and say in ``forward`` where it stands. Arguments are those of ``E2AUNet``.
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
        super().__init__(
            n_stages, features_per_stage, conv_op, kernel_sizes, strides, n_conv_per_stage, conv_bias, norm_op,
            norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs,
        )  # fmt: skip
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
    """nnU-Net's decoder with an E-2A block behind every conv block."""

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
            freeze_auxiliary_outputs(self)


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
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision.

        Raises:
            ValueError: a side of the input that the strides do not divide
        """
        self.encoder.check_input_size(x.shape[2:])
        return self.decoder(self.encoder(x))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of convolutions, as nnU-Net's U-Nets; attention sets its own vectors when built."""
        InitWeights_He(1e-2)(module)
