"""The additive attention gate of Attention U-Net (Oktay et al., MIDL 2018), which two of the architectures have."""

import torch
from torch import nn

from nnunet_cardiac.networks.topology import ConvOp


class AttentionGate(nn.Module):
    """Additive attention gate: the skip weighted by sigmoid(psi(ReLU(W_x skip + W_g gating))).

    Args:
        channels, gating_channels: of skip and gating map
        inner_channels: of their sum
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
    """

    def __init__(self, channels: int, gating_channels: int, inner_channels: int, conv_op: ConvOp):
        super().__init__()
        self.w_x, self.w_g = conv_op(channels, inner_channels, 1), conv_op(gating_channels, inner_channels, 1)
        self.psi = conv_op(inner_channels, 1, 1)

    def forward(self, skip: torch.Tensor, gating: torch.Tensor) -> torch.Tensor:
        return skip * torch.sigmoid(self.psi(torch.relu(self.w_x(skip) + self.w_g(gating))))
