"""Networks of MONAI that papers compare with, at the sizes of their papers or of MONAI's defaults.

Source: https://docs.monai.io/en/stable/networks.html#nets. Each class names its paper.
"""

from abc import abstractmethod
from typing import Any

import torch

from nnunet_cardiac.networks.foreign import ForeignNetwork


class MonaiNetwork(ForeignNetwork):
    """What MONAI's networks have in common: the names of their first arguments."""

    def arguments(self, input_channels: int, num_classes: int) -> dict[str, Any]:
        """Dimensions and channels, and what is the network's own."""
        first = {"spatial_dims": self.topology.dim, "in_channels": input_channels, "out_channels": num_classes}
        return first | self.own_arguments()

    @abstractmethod
    def own_arguments(self) -> dict[str, Any]:
        """All but dimensions and channels."""


class UNet(MonaiNetwork):
    """U-Net of five resolutions, two convolutions each (Falk et al., Nature Methods 16, 2019)."""

    library_class = "monai.networks.nets.BasicUNet"
    features_per_stage = (32, 32, 64, 128, 256)
    has_fixed_depth = True

    def own_arguments(self) -> dict[str, Any]:
        """The sixth width is that of the last decoder stage."""
        features = self.topology.features_per_stage
        return {"features": [*features, features[0]]}


class UNetPlusPlus(UNet):
    """U-Net++: nested decoders instead of skip connections (Zhou et al., DLMIA 2018)."""

    library_class = "monai.networks.nets.BasicUNetPlusPlus"
    unused = ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """MONAI's returns a list, of one output without its deep supervision."""
        (logits,) = super().forward(x)
        return logits


class ResidualUNet(MonaiNetwork):
    """U-Net of residual units of two convolutions (Kerfoot et al., STACOM 2018, for the left ventricle)."""

    library_class = "monai.networks.nets.UNet"
    features_per_stage = (32, 64, 128, 256, 512)

    def own_arguments(self) -> dict[str, Any]:
        """MONAI wants no stride of the first stage."""
        t = self.topology
        return {"channels": t.features_per_stage, "strides": t.strides[1:], "num_res_units": 2}


class AttentionUNet(MonaiNetwork):
    """U-Net with attention gates in its skip connections (Oktay et al., MIDL 2018)."""

    library_class = "monai.networks.nets.AttentionUnet"
    features_per_stage = (32, 64, 128, 256, 512)

    def own_arguments(self) -> dict[str, Any]:
        """MONAI wants no stride of the first stage."""
        return {"channels": self.topology.features_per_stage, "strides": self.topology.strides[1:]}


class SegResNet(MonaiNetwork):
    """Residual encoder-decoder, the encoder larger, without its autoencoder branch (Myronenko, BrainLes 2018)."""

    library_class = "monai.networks.nets.SegResNet"
    features_per_stage = (32, 64, 128, 256)
    n_conv_per_stage = (1, 2, 2, 4)

    def own_arguments(self) -> dict[str, Any]:
        """Eight groups of channels in every normalisation, fewer where there are fewer channels."""
        t = self.topology
        width = t.features_per_stage[0]
        return {
            "init_filters": width,
            "norm": ("GROUP", {"num_groups": min(8, width)}),
            "blocks_down": t.n_conv_per_stage,
            "blocks_up": [1] * (t.n_stages - 1),
        }


class MedNeXt(MonaiNetwork):
    """MedNeXt-S with 3x3 kernels: a U-Net of ConvNeXt blocks (Roy et al., MICCAI 2023)."""

    library_class = "monai.networks.nets.MedNeXt"
    features_per_stage = (32, 64, 128, 256, 512)

    def own_arguments(self) -> dict[str, Any]:
        """The variant S of the paper's table 1."""
        t = self.topology
        return {
            "init_filters": t.features_per_stage[0],
            "kernel_size": 3,
            "use_residual_connection": True,
            "blocks_down": t.n_conv_per_stage[:-1],
            "blocks_bottleneck": t.n_conv_per_stage[-1],
            "blocks_up": t.n_conv_per_stage_decoder,
        }


class UNETR(MonaiNetwork):
    """A vision transformer as encoder, a convolutional decoder (Hatamizadeh et al., WACV 2022).

    The last resolution, a 16th, is that of the transformer's twelve layers.
    """

    library_class = "monai.networks.nets.UNETR"
    features_per_stage = (16, 32, 64, 128, 768)
    has_fixed_depth = True
    takes_one_size = True
    unused = ("norm_cross_attn",)

    def own_arguments(self) -> dict[str, Any]:
        """An MLP of four times the width."""
        first, *_, last = self.topology.features_per_stage
        return {"img_size": self.fixed_size, "feature_size": first, "hidden_size": last, "mlp_dim": 4 * last}


class SwinUNETR(MonaiNetwork):
    """A shifted-window transformer as encoder, a convolutional decoder (Hatamizadeh et al., BrainLes 2021)."""

    library_class = "monai.networks.nets.SwinUNETR"
    features_per_stage = (48, 48, 96, 192, 384, 768)
    has_fixed_depth = True

    def own_arguments(self) -> dict[str, Any]:
        """The width has to be a multiple of 12."""
        return {"feature_size": 12 * max(1, round(self.topology.features_per_stage[0] / 12))}
