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
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_cardiac.networks.dual_attention import AttentionEdgeSkip
from nnunet_cardiac.networks.image_resize import ImageResize
from nnunet_cardiac.networks.network import Encoder, Network, freeze_auxiliary_outputs
from nnunet_cardiac.networks.pointwise import pointwise
from nnunet_cardiac.networks.topology import Topology

VARIANTS: dict[str, dict[str, bool]] = {"full": {}, "no_edges": {"edges": False}, "no_attention": {"attention": False}}
"""What a variant leaves out of the skips."""


class DenseBlock(nn.Module):
    """Convolutions that each see the input and all outputs before theirs; all are concatenated.

    Args:
        input_channels: C
        growth: channels that each convolution adds
        topology, stage: number and kernel of the convolutions, and what comes behind them
    """

    def __init__(self, input_channels: int, growth: int, topology: Topology, stage: int):
        super().__init__()
        n_convs = topology.n_conv_per_stage[stage]
        self.output_channels = input_channels + n_convs * growth
        self.convs = nn.ModuleList(
            topology.conv(input_channels + i * growth, growth, topology.kernel_sizes[stage]) for i in range(n_convs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, \\*spatial) to (B, C + n_convs * growth, \\*spatial)."""
        for conv in self.convs:
            x = torch.cat((x, conv(x)), 1)
        return x


class DenseEncoder(Encoder):
    """Pooling (but in the first), dense block and 1x1 transition in every stage."""

    def __init__(self, input_channels: int, topology: Topology):
        super().__init__(topology)
        levels = []
        for s, features in enumerate(self.output_channels):
            block = DenseBlock(input_channels, features // 2, topology, stage=s)
            transition = topology.conv(block.output_channels, features, kernel_size=1, conv_op=pointwise(self.conv_op))
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
    """nnU-Net's decoder with ``AttentionEdgeSkip`` in its skips.

    Args:
        encoder, num_classes, deep_supervision: as of nnU-Net's decoder
        attention, edges: whether the skips have them
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        num_classes: int,
        deep_supervision: bool,
        attention: bool = True,
        edges: bool = True,
    ):
        super().__init__(encoder, num_classes, encoder.topology.n_conv_per_stage_decoder, deep_supervision)
        self.skips = nn.ModuleList(
            AttentionEdgeSkip(features, encoder.conv_op, kernel_size, attention, edges)
            for features, kernel_size in zip(encoder.output_channels[-2::-1], encoder.kernel_sizes[-2::-1], strict=True)
        )
        if not deep_supervision:
            freeze_auxiliary_outputs(self.seg_layers)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """The encoder's maps to logits (B, num_classes, \\*spatial), or a list of them, highest resolution first."""
        x, outputs = maps[-1], []
        for f_e, upsampling, skip, conv_block, seg_layer in zip(
            maps[-2::-1], self.transpconvs, self.skips, self.stages, self.seg_layers, strict=True
        ):
            x = upsampling(x)
            x = conv_block(torch.cat((x, skip(f_e, x)), 1))
            if self.deep_supervision:
                outputs.append(seg_layer(x))
        return outputs[::-1] if self.deep_supervision else self.seg_layers[-1](x)


class DADU(Network):
    """Dense-block U-Net with dual attention and edges in its skips.

    Args:
        input_channels: image channels
        num_classes: maps of the output, background included
        variant: "full", "no_edges" or "no_attention"
        image_size: that every image is resized to, see ``ImageResize``; None for images as they are
        deep_supervision: whether ``forward`` returns a list, highest resolution first
        topology: see ``Topology``; paper: batch norm, ReLU

    Raises:
        ValueError: an unknown variant, or an invalid topology
    """

    decoder: DADUDecoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        variant: str = "full",
        image_size: Sequence[int] | None = None,
        deep_supervision: bool = False,
        **topology,
    ):
        super().__init__(Topology(**topology))
        if image_size is not None:
            self.check_input_size(image_size)
            self.resize = ImageResize(image_size)
            self.divisible_by = [1] * self.topology.dim
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got '{variant}'.")
        self.encoder = DenseEncoder(input_channels, self.topology)
        self.decoder = DADUDecoder(self.encoder, num_classes, deep_supervision, **VARIANTS[variant])
        self.loss_log_variances = nn.Parameter(torch.zeros(self.topology.n_stages - 1), requires_grad=False)
        """s_i of the outputs' losses (section 4.4), highest resolution first. Frozen until a recipe learns them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision.

        Raises:
            ValueError: a side of the input that the strides do not divide
        """
        if self.resize is not None:
            return self.resize(x, self.segment)
        self.check_input_size(x.shape[2:])
        return self.segment(x)

    def segment(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """As ``forward``, of images that have their size."""
        return self.decoder(self.encoder(x))
