"""E-2AUNet, the first stage of CroCNet (Khan et al., ISBI 2024, section 3.1).

Patch embedding at full resolution; encoder stages of a conv block and an E-2A block with strided convolutions between
them; decoder stages of upsampling, concatenation, conv block and E-2A block; 1x1 convolution to the classes.

Decided here, where the paper is silent: embedding and conv blocks are two 3x3 convolutions each, with batch norm and
ReLU; the map behind the last downsampling goes to the decoder as it is. The paper's sigmoids belong to the loss:
nnU-Net takes the argmax of the logits, which is the argmax of their sigmoids too.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_cardiac.networks.e2a import E2A, E2ABlock
from nnunet_cardiac.networks.network import Encoder, Network, freeze_auxiliary_outputs
from nnunet_cardiac.networks.topology import Topology


class EmbeddingEncoder(Encoder):
    """The convolutions that both stages of CroCNet have in their encoders: embedding, conv blocks, downsamplings.

    Subclasses add the attention and say in ``forward`` where it stands.

    Args:
        input_channels: of the image
        topology: one stage for each resolution
    """

    def __init__(self, input_channels: int, topology: Topology):
        super().__init__(topology)
        features, n_convs = topology.features_per_stage, topology.n_conv_per_stage
        inner = range(topology.n_stages - 1)
        self.embedding = topology.convs(n_convs[0], input_channels, stage=0)
        self.conv_blocks = nn.ModuleList(topology.convs(n_convs[s], features[s], stage=s) for s in inner)
        self.downsamplings = nn.ModuleList(
            topology.conv(
                features[s], features[s + 1], topology.kernel_sizes[s + 1], topology.strides[s + 1], dropout_op=None,
                nonlin=None,
            )
            for s in inner
        )  # fmt: skip


class E2AEncoder(EmbeddingEncoder):
    """Conv block and E-2A block in every stage but the last, which is reached by downsampling alone."""

    def __init__(self, input_channels: int, topology: Topology):
        super().__init__(input_channels, topology)
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

    stages: nn.ModuleList

    def __init__(self, encoder: E2AEncoder, num_classes: int, n_conv_per_stage: Sequence[int], deep_supervision: bool):
        super().__init__(encoder, num_classes, n_conv_per_stage, deep_supervision)
        conv_op, norm_op, norm_op_kwargs = encoder.conv_op, encoder.norm_op, encoder.norm_op_kwargs
        self.stages = nn.ModuleList(
            nn.Sequential(conv_block, E2ABlock(E2A(f, conv_op), f, conv_op, norm_op, norm_op_kwargs))
            for conv_block, f in zip(self.stages, encoder.output_channels[-2::-1], strict=True)
        )
        if not deep_supervision:
            freeze_auxiliary_outputs(self.seg_layers)


class E2AUNet(Network):
    """A U-Net with efficient additive attention.

    Args:
        input_channels: image channels
        num_classes: maps of the output, background included
        deep_supervision: whether ``forward`` returns a list, highest resolution first
        topology: see ``Topology``; paper: five stages of 32, 64, 128, 256, 512 features, batch norm, ReLU

    Raises:
        ValueError: an invalid topology
    """

    decoder: E2AUNetDecoder

    def __init__(self, input_channels: int, num_classes: int, *, deep_supervision: bool = False, **topology):
        super().__init__(Topology(**topology))
        self.encoder = E2AEncoder(input_channels, self.topology)
        self.decoder = E2AUNetDecoder(
            self.encoder, num_classes, self.topology.n_conv_per_stage_decoder, deep_supervision
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(B, C, \\*spatial) to logits (B, num_classes, \\*spatial), or a list of them under deep supervision.

        Raises:
            ValueError: a side of the input that the strides do not divide
        """
        self.check_input_size(x.shape[2:])
        return self.decoder(self.encoder(x))
