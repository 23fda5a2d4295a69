"""The second stage of HALSR-Net: segmentation with hybrid attention pooling and latent space reconstruction.

Built from the facts of the public code (ASFS-Net): encoder of convolutions, pooling and dropout; a hybrid attention
pooling module (HAPM) on every pooled map, which is what the decoder's attention gates see; a module that reconstructs
the classes from the latent features alone and adds them to the decoder's last map. Where that code departs from what it
names, the standard forms are taken: spatial attention is a map, channel attention ends in a sigmoid.

Decided here: dropout is behind pooling, drops single values and follows the plans' rates; the gate's inner channels are
a quarter of its level's; the reconstruction's 1x1 convolution comes before its upsampling, which is the same and costs
less; HAPM's sizes are those of the first stage (64 and 128 in the public code), so that they follow the plans' widths.
"""

from collections.abc import Callable, Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_pool_op, maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.attention_gate import AttentionGate
from nnunet_cardiac.networks.heart_crop import OUTSIDE_LOGIT, HeartCrop, foreground
from nnunet_cardiac.networks.network import Encoder, Network, NoDeepSupervision, freeze_auxiliary_outputs
from nnunet_cardiac.networks.topology import ConvOp, Topology

DILATIONS = (1, 6, 12, 18)
GRIDS = (1, 2, 4)
DROPOUT = (0.25, 0.30, 0.35, 0.35, 0.5)
"""Behind each pooling, and last at the bottom."""


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, C, \\*spatial) to (B, C, \\*size), linearly."""
    return functional.interpolate(x, tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear")


def average_on_grid(x: torch.Tensor, n: int) -> torch.Tensor:
    """Averages over an n x n (x n) grid of cells; a side shorter than n has as many cells as pixels."""
    return average_to(x, [min(n, side) for side in x.shape[2:]])


def average_to(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, C, \\*spatial) to (B, C, \\*size), by averages."""
    pool: Callable = functional.adaptive_avg_pool2d if x.ndim == 4 else functional.adaptive_avg_pool3d
    return pool(x, tuple(size))


class ChannelGate(nn.Module):
    """Squeeze and excitation: channels weighted by sigmoid(FC(ReLU(FC(average)))), reduced by ``reduction`` between."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weights = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weights(x.flatten(2).mean(2)).view(*x.shape[:2], *[1] * (x.ndim - 2))


class SpatialGate(nn.Module):
    """Pixels weighted by a map: sigmoid of a 3x3 convolution of the mean over channels."""

    def __init__(self, conv_op: ConvOp, kernel_size: Sequence[int]):
        super().__init__()
        self.conv = conv_op(1, 1, kernel_size, padding=[k // 2 for k in kernel_size])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.conv(x.mean(1, keepdim=True)))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 3x3 convolutions of four dilations and a global average, fused by a 1x1 one."""

    def __init__(self, channels: int, filters: int, conv_op, kernel_size: Sequence[int], norm_op, norm_op_kwargs):
        super().__init__()
        self.branches = nn.ModuleList()
        for dilation in DILATIONS:
            dilations = [dilation if k > 1 else 1 for k in kernel_size]
            padding = [d * (k // 2) for d, k in zip(dilations, kernel_size, strict=True)]
            self.branches.append(conv_op(channels, filters, kernel_size, padding=padding, dilation=dilations))
        self.image = conv_op(channels, filters, 1)
        self.fuse = ConvDropoutNormReLU(
            conv_op, (len(DILATIONS) + 1) * filters, filters, 1, 1, True, norm_op, norm_op_kwargs, nonlin=nn.ReLU
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, \\*spatial) to (B, filters, \\*spatial)."""
        image = self.image(average_on_grid(x, 1)).expand(-1, -1, *x.shape[2:])
        return self.fuse(torch.cat([*(branch(x) for branch in self.branches), image], 1))


class HAPM(nn.Module):
    """Hybrid attention pooling: ASPP and spatial pyramid pooling, each under channel and under spatial attention.

    Args:
        channels: C of the input
        filters: of ASPP (public code: 64)
        output_channels: (public code: 128)
        conv_op, kernel_size, norm_op, norm_op_kwargs: as in ``Topology``
    """

    def __init__(
        self, channels: int, filters: int, output_channels: int, conv_op, kernel_size, norm_op, norm_op_kwargs
    ):
        super().__init__()
        kernel_size = maybe_convert_scalar_to_list(conv_op, kernel_size)
        self.aspp = ASPP(channels, filters, conv_op, kernel_size, norm_op, norm_op_kwargs)
        widths = (filters, len(GRIDS) * channels)
        self.channel_gates = nn.ModuleList(ChannelGate(w, 8) for w in widths)
        self.spatial_gates = nn.ModuleList(SpatialGate(conv_op, kernel_size) for _ in widths)
        self.fuse = conv_op(2 * sum(widths), output_channels, 1)
        self.shortcut = conv_op(channels, output_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, \\*spatial) to (B, output_channels, \\*spatial)."""
        pyramid = torch.cat([resize(average_on_grid(x, n), x.shape[2:]) for n in GRIDS], 1)
        gated = [
            gate(branch)
            for branch, *gates in zip((self.aspp(x), pyramid), self.channel_gates, self.spatial_gates, strict=True)
            for gate in gates
        ]
        return self.fuse(torch.cat(gated, 1)) + self.shortcut(x)


class Reconstruction(nn.Module):
    """The classes at full size from the latent features alone, as maps to add to the decoder's last.

    Args:
        channels: of the latent features
        num_classes: that are reconstructed
        output_channels: of the decoder's last map (public code: 64)
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
    """

    def __init__(self, channels: int, num_classes: int, output_channels: int, conv_op: ConvOp):
        super().__init__()
        self.attention = conv_op(channels, 1, 1)
        self.squeeze_excitation = ChannelGate(channels, 16)
        self.classes = conv_op(channels, num_classes, 1)
        self.expand = conv_op(num_classes, output_channels, 1)

    def forward(self, latent: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """(B, channels, \\*spatial) to (B, output_channels, \\*size)."""
        x = self.squeeze_excitation(latent * torch.sigmoid(self.attention(latent)))
        return torch.relu(self.expand(resize(self.classes(x), size).softmax(1)))


class HALSREncoder(Encoder):
    """Convolutions, pooling and dropout in every stage, convolutions and dropout at the bottom.

    Args:
        input_channels: of the image
        dropout: rate behind each stage
        topology: one stage for each resolution

    Raises:
        ValueError: not one rate for each stage
    """

    def __init__(self, input_channels: int, dropout: Sequence[float], topology: Topology):
        super().__init__(topology)
        if len(dropout) != topology.n_stages:
            raise ValueError(f"dropout_per_stage needs one entry for each stage, got {dropout}.")
        channels = [input_channels, *topology.features_per_stage]
        self.stages = nn.ModuleList(
            topology.convs(n_convs, channels[s], stage=s, nonlin_first=True)
            for s, n_convs in enumerate(topology.n_conv_per_stage)
        )
        pool = get_matching_pool_op(self.conv_op, pool_type="max")
        self.poolings = nn.ModuleList(
            nn.Sequential(pool(stride), nn.Dropout(rate))
            for stride, rate in zip(self.strides[1:], dropout[:-1], strict=True)
        )
        self.dropout = nn.Dropout(dropout[-1])

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(B, C, \\*spatial) to the pooled map of each stage, highest resolution first, and the latent features."""
        pooled = []
        for stage, pooling in zip(self.stages[:-1], self.poolings, strict=True):
            x = pooling(stage(x))
            pooled.append(x)
        return pooled, self.dropout(self.stages[-1](x))


class HALSRDecoder(nn.Module):
    """Upsampling, attention gate on HAPM's map, concatenation and convolutions in every stage; the reconstruction last.

    Args:
        topology: of the encoder whose maps come in
        num_classes: maps of the output
        deep_supervision: whether every stage has an output
    """

    def __init__(self, topology: Topology, num_classes: int, deep_supervision: bool):
        super().__init__()
        self.deep_supervision = deep_supervision
        conv_op, features = topology.conv_op, topology.features_per_stage
        filters, context = features[0], 2 * features[0]
        self.hapms, self.gates, self.stages, self.seg_layers = (nn.ModuleList() for _ in range(4))
        below = features[-1]
        for n_convs, s in zip(topology.n_conv_per_stage_decoder, range(topology.n_stages - 2, -1, -1), strict=True):
            f = features[s]
            self.hapms.append(
                HAPM(f, filters, context, conv_op, topology.kernel_sizes[s], topology.norm_op, topology.norm_op_kwargs)
            )
            self.gates.append(AttentionGate(context, below, max(1, f // 4), conv_op))
            self.stages.append(topology.convs(n_convs, below + context, stage=s, nonlin_first=True, dropout_op=None))
            self.seg_layers.append(conv_op(f, num_classes, 1))
            below = f
        self.reconstruction = Reconstruction(features[-1], num_classes, features[0], conv_op)
        if not deep_supervision:
            freeze_auxiliary_outputs(self.seg_layers)

    def forward(
        self, pooled: list[torch.Tensor], latent: torch.Tensor, sizes: Sequence[Sequence[int]]
    ) -> torch.Tensor | list[torch.Tensor]:
        """The encoder's maps, and the size of every stage's, to logits, or a list, highest resolution first."""
        x, outputs = latent, []
        for hapm, gate, stage, seg_layer, level, size in zip(
            self.hapms, self.gates, self.stages, self.seg_layers, pooled[::-1], sizes[-2::-1], strict=True
        ):
            x = functional.interpolate(x, tuple(size))
            x = stage(torch.cat((gate(resize(hapm(level), size), x), x), 1))
            if hapm is self.hapms[-1]:
                x = x + self.reconstruction(latent, size)
                outputs.append(seg_layer(x))
            elif self.deep_supervision:
                outputs.append(seg_layer(x))
        return outputs[::-1] if self.deep_supervision else outputs[0]


class HALSRUNet(nn.Module):
    """Encoder and decoder on whatever they are given: the whole image, or what was cropped out of it.

    Args:
        input_channels: of the image
        num_classes, dropout_per_stage, deep_supervision: as in ``HALSRNet``
        topology: one stage for each resolution
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        dropout_per_stage: Sequence[float],
        deep_supervision: bool,
        topology: Topology,
    ):
        super().__init__()
        self.topology = topology
        self.encoder = HALSREncoder(input_channels, dropout_per_stage, topology)
        self.decoder = HALSRDecoder(topology, num_classes, deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision."""
        return self.decoder(*self.encoder(x), self.topology.map_sizes(x.shape[2:]))


class HALSRNet(Network):
    """HALSR-Net's segmentation, of the whole image or, as a cascaded network of nnU-Net's, inside the box of stage 1.

    Inside the box, its logits are put back into the full image; around it is background. Of the previous stage only the
    box is used, the network sees the image alone.

    Args:
        input_channels: image channels; with ``crop_size`` also the previous stage's one-hot foreground
        num_classes: maps of the output, background included
        dropout_per_stage: rates behind each pooling and, last, at the bottom
        crop_size: window around the box in training, pixels, divisible by the product of the strides; None for the
            whole image
        crop_margin: pixels around the box; None for none
        deep_supervision: whether ``forward`` returns a list; must be off with ``crop_size``
        topology: see ``Topology``; public code: five stages of 64, 128, 256, 512, 512 features

    Raises:
        ValueError: deep supervision inside the box, an input without the previous stage, or lists of wrong length
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        dropout_per_stage: Sequence[float],
        crop_size: Sequence[int] | None = None,
        crop_margin: Sequence[int] | None = None,
        deep_supervision: bool = False,
        **topology,
    ):
        super().__init__(Topology(**topology))
        self.n_masks = 0 if crop_size is None else num_classes - 1
        self.image_channels = input_channels - self.n_masks
        if self.image_channels < 1:
            raise ValueError(
                f"HALSRNet needs the image and the box of the previous stage; got {input_channels} input channels for "
                f"{num_classes} classes. Is previous_stage missing in the plans?"
            )
        if crop_size is not None:
            self.decoder = NoDeepSupervision(
                "HALSRNet has no deep supervision inside the box",
                "nnUNetTrainerHALSRNet, or with nnUNetTrainerCrop for nnU-Net's own recipe",
                deep_supervision,
            )
        network = HALSRUNet(self.image_channels, num_classes, dropout_per_stage, deep_supervision, self.topology)
        self.network: HALSRUNet | None = None
        if crop_size is None:
            self.network = network
            # seen by nnU-Net, and a part of ``network`` alone: registered twice, its weights would be saved twice
            object.__setattr__(self, "decoder", network.decoder)
        else:
            self.divisible_by = [1] * self.topology.dim
            outside = [-OUTSIDE_LOGIT] + [OUTSIDE_LOGIT] * (num_classes - 1)
            margin = crop_margin or [0] * self.topology.dim
            self.crop = HeartCrop(network, crop_size, margin, self.topology.divisible_by, outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, input_channels, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them."""
        if self.network is not None:
            self.check_input_size(x.shape[2:])
            return self.network(x)
        assert self.crop is not None
        image, previous = x[:, : self.image_channels], x[:, self.image_channels :]
        return self.crop(image, foreground(previous, self.n_masks))
