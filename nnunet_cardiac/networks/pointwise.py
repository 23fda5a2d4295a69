"""1x1 convolutions as the matrix products that they are.

PyTorch computes them differently on a CPU with one thread, and spends as long on copies as on the product.
"""

import torch
from torch import nn

from nnunet_cardiac.networks.topology import ConvOp


class _Pointwise:
    """In front of ``nn.Conv2d`` or ``nn.Conv3d``, for kernels of one pixel: the same module, computed as a product."""

    in_channels: int
    out_channels: int
    groups: int
    weight: torch.Tensor
    bias: torch.Tensor | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, \\*spatial) to (B, out_channels, \\*spatial)."""
        groups, inner, outer = self.groups, self.in_channels // self.groups, self.out_channels // self.groups
        tokens = x.reshape(len(x) * groups, inner, -1)
        weight = self.weight.view(1, groups, outer, inner).expand(len(x), -1, -1, -1).reshape(-1, outer, inner)
        if self.bias is None:
            y = torch.bmm(weight, tokens)
        else:
            bias = self.bias.view(1, groups, outer, 1).expand(len(x), -1, -1, -1).reshape(-1, outer, 1)
            y = torch.baddbmm(bias, weight, tokens)
        return y.view(len(x), self.out_channels, *x.shape[2:])


class PointwiseConv2d(_Pointwise, nn.Conv2d):
    """``nn.Conv2d`` with a kernel of 1 x 1."""


class PointwiseConv3d(_Pointwise, nn.Conv3d):
    """``nn.Conv3d`` with a kernel of 1 x 1 x 1."""


def pointwise(conv_op: ConvOp) -> type[PointwiseConv2d] | type[PointwiseConv3d]:
    """The convolution of one pixel for ``nn.Conv2d`` or ``nn.Conv3d``."""
    return PointwiseConv2d if conv_op is nn.Conv2d else PointwiseConv3d
