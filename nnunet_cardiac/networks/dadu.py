"""DADU, the dual attention-based deep supervised U-Net (Mukisa and Bansal, section 4).

Encoder levels of a dense block and a 1x1 transition, max pooling between them; at every level a skip of dual attention
and edges (``dual_attention.py``); decoder levels of upsampling, concatenation and two convolutions, each with an
auxiliary output (section 4.4). The outputs keep the size of their level, as nnU-Net's trainers expect it: the
interpolation to full size belongs to the loss (``training/deep_supervision.py``), and so do the sigmoids.

Decided here, where the paper is silent: widths 32, 64, 128, 256, 512; a convolution of a dense block adds half of its
level's width; the transition has batch norm and ReLU as the convolutions have; the dual attention block sees the
decoder's map behind the transposed convolution; the decoder's conv blocks are those of a U-Net.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_pool_op
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nnunet_cardiac.networks.dual_attention import AttentionEdgeSkip
from nnunet_cardiac.networks.unet import UNetEncoder, freeze_auxiliary_outputs

VARIANTS = {"full": {}, "no_edges": {"edges": False}, "no_attention": {"attention": False}}
"""What a variant leaves out of the skips."""


class DenseBlock(nn.Module):
    """Convolutions that each see the input and all outputs before theirs; all are concatenated.

    Args:
        n_convs: convolutions
        input_channels: C
        growth: channels that each convolution adds
        conv_op, kernel_size, operations: as of ``ConvDropoutNormReLU``
    """

    def __init__(self, n_convs: int, input_channels: int, growth: int, conv_op, kernel_size, *operations):
        super().__init__()
        self.output_channels = input_channels + n_convs * growth
        self.convs = nn.ModuleList(
            ConvDropoutNormReLU(conv_op, input_channels + i * growth, growth, kernel_size, 1, *operations)
            for i in range(n_convs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, \\*spatial) to (B, C + n_convs * growth, \\*spatial)."""
        for conv in self.convs:
            x = torch.cat((x, conv(x)), 1)
        return x


class DenseEncoder(UNetEncoder):
    """Pooling (but in the first), dense block and 1x1 transition in every stage. Arguments are those of ``DADU``."""

    def __init__(self, input_channels: int, *args):
        super().__init__(*args)
        n_conv_per_stage, operations = args[5], args[6:]
        levels = []
        for s, features in enumerate(self.output_channels):
            block = DenseBlock(
                n_conv_per_stage[s], input_channels, features // 2, self.conv_op, self.kernel_sizes[s], *operations
            )
            transition = ConvDropoutNormReLU(self.conv_op, block.output_channels, features, 1, 1, *operations)
            pooling = get_matching_pool_op(self.conv_op, pool_type="max")(self.strides[s]) if s else nn.Identity()
            levels.append(nn.Sequential(pooling, block, transition))
            input_channels = features
        self.levels = nn.ModuleList(levels)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, \\*spatial) to one map for each stage, highest resolution first."""
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class DADUDecoder(UNetDecoder):
    """nnU-Net's decoder with ``AttentionEdgeSkip`` in its skips."""

    def __init__(
        self,
        encoder: DenseEncoder,
        num_classes: int,
        n_conv_per_stage: Sequence[int],
        deep_supervision: bool,
        attention: bool = True,
        edges: bool = True,
    ):
        super().__init__(encoder, num_classes, n_conv_per_stage, deep_supervision)
        self.skips = nn.ModuleList(
            AttentionEdgeSkip(features, encoder.conv_op, kernel_size, attention, edges)
            for features, kernel_size in zip(encoder.output_channels[-2::-1], encoder.kernel_sizes[-2::-1], strict=True)
        )
        if not deep_supervision:
            freeze_auxiliary_outputs(self)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """The encoder's maps to logits (B, num_classes, \\*spatial), or a list of them, highest resolution first."""
        *maps, x = maps
        outputs = []
        for upsampling, skip, conv_block, seg_layer in zip(
            self.transpconvs, self.skips, self.stages, self.seg_layers, strict=True
        ):
            x = upsampling(x)
            x = conv_block(torch.cat((x, skip(maps.pop(), x)), 1))
            if self.deep_supervision or not maps:
                outputs.append(seg_layer(x))
        return outputs[::-1] if self.deep_supervision else outputs[0]


class DADU(nn.Module):
    """Dense-block U-Net with dual attention and edges in its skips, for nnU-Net's plans.

    Args:
        variant: "full", "no_edges" or "no_attention"
        others: as in ``E2AUNet`` (paper: batch norm, ReLU)

    Raises:
        ValueError: an unknown variant, a list has not one entry for each stage, or the first stride is not 1
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
        variant: str = "full",
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
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got '{variant}'.")
        self.encoder = DenseEncoder(
            input_channels, n_stages, features_per_stage, conv_op, kernel_sizes, strides, n_conv_per_stage, conv_bias,
            norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs,
        )  # fmt: skip
        self.decoder = DADUDecoder(
            self.encoder, num_classes, n_conv_per_stage_decoder, deep_supervision, **VARIANTS[variant]
        )
        self.loss_log_variances = nn.Parameter(torch.zeros(n_stages - 2), requires_grad=False)
        """s_i of the auxiliary losses (section 4.4), lowest resolution last. Frozen until a recipe learns them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision.

        Raises:
            ValueError: a side of the input that the strides do not divide
        """
        self.encoder.check_input_size(x.shape[2:])
        return self.decoder(self.encoder(x))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of convolutions, as nnU-Net's U-Nets; channel attention keeps its own."""
        InitWeights_He(1e-2)(module)
