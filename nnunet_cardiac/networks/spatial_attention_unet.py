"""Five systems for the left ventricle as one network with three switches (the spatial-attention U-Net's text).

Encoder levels of two convolutions and max pooling; decoder levels of a transposed convolution and two convolutions.
Switches add skip connections, attention behind every encoder level, and attention gates in the skips.

Decided here, where the text is silent: the global average pooling that it names is a channel gate, before the spatial
attention; the gate's signal is the upsampled map of the level below, its inner channels are half of the level's.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import (
    get_matching_convtransp,
    get_matching_pool_op,
    maybe_convert_scalar_to_list,
)
from torch import nn

from nnunet_cardiac.networks.attention_gate import AttentionGate
from nnunet_cardiac.networks.image_resize import ImageResize
from nnunet_cardiac.networks.network import Encoder, Network, freeze_auxiliary_outputs
from nnunet_cardiac.networks.topology import ConvOp, Topology


class EncoderAttention(nn.Module):
    """A gate for each channel, then one weight for each pixel, the same for all channels.

    Args:
        channels: C
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        kernel_size: of the level's convolutions; the 7x7 convolution is as flat as they are (anisotropic 3D)
    """

    def __init__(self, channels: int, conv_op: ConvOp, kernel_size: int | Sequence[int]):
        super().__init__()
        kernel_size = [7 if k > 1 else 1 for k in maybe_convert_scalar_to_list(conv_op, kernel_size)]
        self.channel_gate = conv_op(channels, channels, 1)
        self.spatial = conv_op(2, 1, kernel_size, padding=[k // 2 for k in kernel_size])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, \\*spatial) to the same shape."""
        average = x.flatten(2).mean(2).view(*x.shape[:2], *[1] * (x.ndim - 2))
        x = x * torch.sigmoid(self.channel_gate(average))
        return x * torch.sigmoid(self.spatial(torch.cat((x.mean(1, True), x.amax(1, True)), 1)))


class SpatialAttentionEncoder(Encoder):
    """Pooling (but in the first), convolutions and attention in every stage.

    Args:
        input_channels: of the image
        attention: whether there is any
        topology: one stage for each resolution
    """

    def __init__(self, input_channels: int, attention: bool, topology: Topology):
        super().__init__(topology)
        pool = get_matching_pool_op(self.conv_op, pool_type="max")
        stages = []
        for s, features in enumerate(self.output_channels):
            convs = topology.convs(topology.n_conv_per_stage[s], input_channels, stage=s)
            stages.append(
                nn.Sequential(
                    pool(self.strides[s]) if s else nn.Identity(),
                    convs,
                    EncoderAttention(features, self.conv_op, self.kernel_sizes[s]) if attention else nn.Identity(),
                )
            )
            input_channels = features
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, \\*spatial) to one map for each stage, highest resolution first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class SpatialAttentionDecoder(nn.Module):
    """Transposed convolution, skip where there is one, and convolutions in every stage.

    Args:
        topology: of the encoder whose maps come in
        num_classes: maps of the output
        deep_supervision: whether every stage has an output
        skip_connections: whether the convolutions see the encoder's map beside the upsampled one
        attention_gates: whether that map goes through a gate
    """

    def __init__(
        self,
        topology: Topology,
        num_classes: int,
        deep_supervision: bool,
        skip_connections: bool,
        attention_gates: bool,
    ):
        super().__init__()
        conv_op, features = topology.conv_op, topology.features_per_stage
        self.deep_supervision = deep_supervision
        self.skip_connections = skip_connections
        self.upsamplings, self.gates, self.stages, self.seg_layers = (nn.ModuleList() for _ in range(4))
        upsampling = get_matching_convtransp(conv_op)
        for n_convs, s in zip(topology.n_conv_per_stage_decoder, range(topology.n_stages - 2, -1, -1), strict=True):
            f, stride = features[s], topology.strides[s + 1]
            self.upsamplings.append(upsampling(features[s + 1], f, stride, stride, bias=topology.conv_bias))
            if attention_gates:
                self.gates.append(AttentionGate(f, f, max(1, f // 2), conv_op))
            self.stages.append(topology.convs(n_convs, 2 * f if skip_connections else f, stage=s))
            self.seg_layers.append(conv_op(f, num_classes, 1))
        if not deep_supervision:
            freeze_auxiliary_outputs(self.seg_layers)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """The encoder's maps to logits (B, num_classes, \\*spatial), or a list of them, highest resolution first."""
        x, outputs = maps[-1], []
        for i, (skip, upsampling, stage, seg_layer) in enumerate(
            zip(maps[-2::-1], self.upsamplings, self.stages, self.seg_layers, strict=True)
        ):
            x = upsampling(x)
            if self.gates:
                skip = self.gates[i](skip, x)
            x = stage(torch.cat((skip, x), 1) if self.skip_connections else x)
            if self.deep_supervision:
                outputs.append(seg_layer(x))
        return outputs[::-1] if self.deep_supervision else self.seg_layers[-1](x)


class SpatialAttentionUNet(Network):
    """U-Net with spatial attention in its encoder and attention gates in its skips, each of which can be left out.

    Args:
        input_channels: image channels
        num_classes: maps of the output, background included
        skip_connections: whether the decoder sees the encoder's maps
        encoder_attention: whether there is attention behind every encoder level
        attention_gates: whether the skips are gated; needs ``skip_connections``
        image_size: that every image is resized to, see ``ImageResize``; None for images as they are
        deep_supervision: whether ``forward`` returns a list, highest resolution first
        topology: see ``Topology``; text: batch norm, ReLU

    Raises:
        ValueError: gates without skips, or an invalid topology
    """

    decoder: SpatialAttentionDecoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        skip_connections: bool = True,
        encoder_attention: bool = True,
        attention_gates: bool = True,
        image_size: Sequence[int] | None = None,
        deep_supervision: bool = False,
        **topology,
    ):
        super().__init__(Topology(**topology))
        if image_size is not None:
            self.check_input_size(image_size)
            self.resize = ImageResize(image_size)
            self.divisible_by = [1] * self.topology.dim
        if attention_gates and not skip_connections:
            raise ValueError("attention_gates weigh the skips: they need skip_connections.")
        self.encoder = SpatialAttentionEncoder(input_channels, encoder_attention, self.topology)
        self.decoder = SpatialAttentionDecoder(
            self.topology, num_classes, deep_supervision, skip_connections, attention_gates
        )

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
