"""The second stage of CroCNet: coupled specialist networks on a crop (Khan et al., ISBI 2024, section 3.3).

One encoder and one decoder, shared by all anatomies; cross-E-2A blocks, shared by none, after the embedding and after
each downsampling. At the paper's widths this has 5.24 M parameters, as the public code without its flaws.

Decided here, where the paper is silent: cross-E-2A stands in front of a stage's conv block; the decoder has conv
blocks alone. The single network of the ablation sees the image and all masks, and returns all anatomies.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn

from nnunet_cardiac.networks.e2a import CrossE2A, E2ABlock
from nnunet_cardiac.networks.e2a_unet import EmbeddingEncoder
from nnunet_cardiac.networks.heart_crop import HeartCrop, foreground
from nnunet_cardiac.networks.network import Network, NoDeepSupervision
from nnunet_cardiac.networks.topology import Topology

VARIANTS = {"specialists": "cross", "self_coupled": "self", "uncoupled": "none", "single": "none"}
"""Coupling of the attention, by variant."""


class SpecialistEncoder(EmbeddingEncoder):
    """The shared encoder; samples of a batch come in groups of ``n_networks``, which cross-E-2A couples."""

    def __init__(self, n_networks: int, coupling: str, input_channels: int, topology: Topology):
        super().__init__(input_channels, topology)
        self.n_networks = n_networks
        self.cross_e2a_blocks = nn.ModuleList(
            E2ABlock(
                CrossE2A(n_networks, f, self.conv_op, coupling), n_networks * f, self.conv_op, self.norm_op,
                self.norm_op_kwargs, groups=n_networks,
            )
            for f in self.output_channels
        )  # fmt: skip

    def couple(self, x: torch.Tensor, stage: int) -> torch.Tensor:
        """Cross-E-2A between the networks: (B * n_networks, C, \\*spatial) to the same shape."""
        side_by_side = x.reshape(-1, self.n_networks * x.shape[1], *x.shape[2:])
        return self.cross_e2a_blocks[stage](side_by_side).reshape(x.shape)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B * n_networks, C, \\*spatial) to one map for each stage, highest resolution first."""
        x = self.couple(self.embedding(x), 0)
        maps = []
        for stage, (conv_block, downsampling) in enumerate(zip(self.conv_blocks, self.downsamplings, strict=True), 1):
            maps.append(conv_block(x))
            x = self.couple(downsampling(maps[-1]), stage)
        return [*maps, x]


class SpecialistNetworks(nn.Module):
    """LV-Net, RV-Net and MYO-Net, or the single network of the ablation, on an image that is cropped already.

    Args:
        image_channels: channels of the image, in front of the masks
        n_anatomies: masks in the input, maps in the output
        variant: "specialists"; "self_coupled" (as many weights, but every anatomy sees itself alone); "uncoupled" (no
            cross-E-2A, fewer weights); "single" (one network for all anatomies, half of the weights, with E-2A)
        topology: of each of the networks
    """

    def __init__(self, image_channels: int, n_anatomies: int, variant: str, topology: Topology):
        super().__init__()
        self.image_channels, self.single = image_channels, variant == "single"
        n_networks, channels = (1, image_channels + n_anatomies) if self.single else (n_anatomies, image_channels + 1)
        self.encoder = SpecialistEncoder(n_networks, VARIANTS[variant], channels, topology)
        self.decoder = UNetDecoder(
            self.encoder, n_anatomies if self.single else 1, topology.n_conv_per_stage_decoder, deep_supervision=False
        )
        self.decoder.seg_layers = self.decoder.seg_layers[-1:]  # no auxiliary outputs, so none without a gradient

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image and masks (B, image_channels + n_anatomies, \\*spatial) to logits (B, n_anatomies, \\*spatial)."""
        image, masks = x[:, : self.image_channels], x[:, self.image_channels :]
        if not self.single:
            images = image.unsqueeze(1).expand(-1, masks.shape[1], *image.shape[1:])
            x = torch.cat((images, masks.unsqueeze(2)), 2).flatten(0, 1)
        return self.decoder(self.encoder(x)).reshape(masks.shape)


class CroCNetRefiner(Network):
    """CroCNet's second stage as a cascaded network of nnU-Net's: crops, refines, returns full-size logits.

    The background's logit is 0 everywhere. An anatomy's logit is that of its specialist's sigmoid inside the crop and
    ``OUTSIDE_LOGIT`` outside, so the argmax is the threshold at a probability of 0.5, ties to the strongest.

    Args:
        input_channels: image channels and one mask for each anatomy, in nnU-Net's order
        num_classes: background and anatomies
        crop_size: window around the heart in training, pixels, divisible by the product of the strides
        crop_margin: pixels around the heart's box (paper: 15)
        variant: "specialists", "self_coupled", "uncoupled" or "single", see ``SpecialistNetworks``
        deep_supervision: must be off
        topology: of the specialists, see ``Topology``; paper: five stages of 16, 32, 64, 128, 256 features

    Raises:
        ValueError: deep supervision, an unknown variant, an input without masks, or an invalid topology
    """

    crop: HeartCrop

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        crop_size: Sequence[int],
        crop_margin: Sequence[int],
        variant: str = "specialists",
        deep_supervision: bool = False,
        **topology,
    ):
        super().__init__(Topology(**topology))
        self.decoder = NoDeepSupervision(
            "CroCNetRefiner has no deep supervision",
            "nnUNetTrainerCroCNet, or with nnUNetTrainerCrop for nnU-Net's own recipe",
            deep_supervision,
        )
        self.divisible_by = [1] * self.topology.dim
        self.input_channels, self.n_anatomies = input_channels, num_classes - 1
        self.image_channels = input_channels - self.n_anatomies
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got '{variant}'.")
        if self.n_anatomies < 1 or self.image_channels < 1:
            raise ValueError(
                f"CroCNetRefiner needs the image and one mask of the previous stage for each of {self.n_anatomies} "
                f"anatomies; got {input_channels} input channels. Is previous_stage missing in the plans?"
            )
        specialists = SpecialistNetworks(self.image_channels, self.n_anatomies, variant, self.topology)
        self.crop = HeartCrop(specialists, crop_size, crop_margin, self.topology.divisible_by)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image and masks (B, input_channels, \\*spatial) to logits (B, num_classes, \\*spatial).

        Behind the masks, their untouched union may follow, see ``foreground``.
        """
        x, heart = x[:, : self.input_channels], foreground(x[:, self.image_channels :], self.n_anatomies)
        anatomies = self.crop(x, heart)
        return torch.cat((torch.zeros_like(anatomies[:, :1]), anatomies), 1)
