"""The dual attention block of DADU and its edges (Mukisa and Bansal, sections 4.1 to 4.3).

Symbols are the paper's: E from the encoder, D from the decoder; Ch behind channel attention, Sp spatial attention; M an
attention map, F features. Nothing here is larger than the two feature maps that come in.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import maybe_convert_scalar_to_list
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nnunet_cardiac.networks.topology import ConvOp

DILATION = 2
"""Of spatial attention's 7x7 convolutions."""


class ChannelAttention(nn.Module):
    """CAM (section 4.2): one weight for each channel, from what the pooled encoder and decoder maps say together.

    Decided here: M^Ch is a vector, so the sum of equation 6 is a direct sum, in which every channel has one learned
    weight w_c; and M_c is normalised over the channels of its sample before it is weighted. The pooled maxima of a
    whole map are large numbers. As they are, they close or open every gate within some steps of Adam, for good and for
    all samples alike: a mask, no attention.

    Args:
        features: C of either map
    """

    def __init__(self, features: int):
        super().__init__()
        self.w = nn.Parameter(torch.ones(features))

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """Two maps (B, C, \\*spatial) to M^Ch (B, C, 1, ...), between 0 and 1."""
        m_e = f_e.flatten(2).mean(2) + f_e.flatten(2).amax(2)  # equation 3
        m_d = f_d.flatten(2).mean(2) + f_d.flatten(2).amax(2)  # equation 4
        m = functional.layer_norm(m_e + m_d, self.w.shape)  # equation 5
        m = torch.sigmoid(self.w * m)  # equation 6
        return m.view(*m.shape, *[1] * (f_e.ndim - 2))


class SpatialAttention(nn.Module):
    """SAM (section 4.3): one weight for each pixel, the same for all channels.

    Decided here: the text's dilated convolutions, which it gives no rate and the equations do not show, are those of
    7x7, with a dilation of 2: they look 13 pixels wide.

    Args:
        features: C of either map
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        kernel_size: of the level's convolutions; the 7x7 convolution is as flat as they are (anisotropic 3D)
    """

    def __init__(self, features: int, conv_op: ConvOp, kernel_size: int | Sequence[int]):
        super().__init__()
        kernel_size = [7 if k > 1 else 1 for k in maybe_convert_scalar_to_list(conv_op, kernel_size)]
        padding = [DILATION * (k // 2) for k in kernel_size]
        self.pointwise_e, self.pointwise_d = (conv_op(features, 1, 1) for _ in "ED")
        self.f_e, self.f_d = (conv_op(3, 1, kernel_size, padding=padding, dilation=DILATION) for _ in "ED")

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """F^ChE and F^ChD (B, C, \\*spatial) to M^Sp (B, 1, \\*spatial), between 0 and 1."""
        m_e = self.f_e(torch.cat((f_e.mean(1, True), self.pointwise_e(f_e), f_e.amax(1, True)), 1))  # equation 7
        m_d = self.f_d(torch.cat((f_d.mean(1, True), self.pointwise_d(f_d), f_d.amax(1, True)), 1))  # equation 8
        return torch.sigmoid(m_e + m_d)  # equations 9 and 10


class DualAttention(nn.Module):
    """DAB (section 4.1): channel attention, then spatial attention; the encoder's refined map is what comes out.

    Args:
        features, conv_op, kernel_size: as in ``SpatialAttention``
    """

    def __init__(self, features: int, conv_op: ConvOp, kernel_size: int | Sequence[int]):
        super().__init__()
        self.cam = ChannelAttention(features)
        self.sam = SpatialAttention(features, conv_op, kernel_size)

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """F^inE and F^inD (B, C, \\*spatial) to F^outE (B, C, \\*spatial)."""
        m_ch = self.cam(f_e, f_d)
        f_che, f_chd = m_ch * f_e, m_ch * f_d  # equation 1
        return self.sam(f_che, f_chd) * f_che  # equation 2


def sobel_edges(x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Magnitude of the Sobel gradient of every map, as a share of the map's largest: in [0, 1], 0 where x is constant.

    Built from differences and sums of neighbours, with the border repeated: of a constant the differences are exactly 0
    in any precision. Gradients flow to ``x``; there is nothing to learn.

    Args:
        x: maps (B, C, \\*spatial), of about unit scale, as behind batch norm
        axes: spatial axes, counted from 0, along which there are edges

    Returns:
        (B, C, \\*spatial)
    """
    n_spatial = x.ndim - 2
    padding = [side for axis in reversed(range(n_spatial)) for side in [int(axis in axes)] * 2]
    corners = functional.pad(x, padding, "replicate")
    for axis in axes:  # [1, 2, 1] is [1, 1] twice and [-1, 0, 1] is [1, 1], then [-1, 1]: this is the part in common
        corners = _pair(corners, axis, 0.5, 0.5)

    def squared_gradient(edge_axis: int) -> torch.Tensor:
        gradient = corners
        for axis in axes:
            gradient = _pair(gradient, axis, *((-0.5, 0.5) if axis == edge_axis else (0.5, 0.5)))
        return gradient * gradient

    first, *others = axes
    squared = squared_gradient(first)
    for edge_axis in others:
        squared = squared + squared_gradient(edge_axis)
    # the root has no finite slope at 0, and float16 no large squares: below 2^-10 there is no edge and no gradient
    magnitude = squared.clamp(2**-20, 2**15).sqrt() - 2**-10
    return magnitude / (magnitude.amax(tuple(range(2, x.ndim)), keepdim=True) + 2**-10)


def _pair(x: torch.Tensor, axis: int, a: float, b: float) -> torch.Tensor:
    """a x[i] + b x[i + 1] along a spatial axis."""
    n = x.shape[axis + 2] - 1
    return a * x.narrow(axis + 2, 0, n) + b * x.narrow(axis + 2, 1, n)


class AttentionEdgeSkip(nn.Module):
    """DADU's skip connection: the encoder's map, refined by dual attention, joined with its edges.

    Args:
        features, conv_op, kernel_size: as in ``SpatialAttention``; edges along axes where the kernel is wider than 1
        attention: without it the encoder's map stays as it is (ablation)
        edges: without them the refined map is the skip (ablation)
    """

    def __init__(
        self,
        features: int,
        conv_op: ConvOp,
        kernel_size: int | Sequence[int],
        attention: bool = True,
        edges: bool = True,
    ):
        super().__init__()
        per_axis = maybe_convert_scalar_to_list(conv_op, kernel_size)
        self.edge_axes = [axis for axis, k in enumerate(per_axis) if k > 1]
        self.attention = DualAttention(features, conv_op, kernel_size) if attention else None
        self.join = conv_op(2 * features, features, 1) if edges else None

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """Encoder's and upsampled decoder's map (B, C, \\*spatial) to the skip (B, C, \\*spatial)."""
        refined = f_e if self.attention is None else self.attention(f_e, f_d)
        if self.join is None:
            return refined
        with torch.autocast(f_e.device.type, enabled=False):  # in the map's own type, which is half precision already
            # computed again in the backward pass: what autograd would keep is half as much as for all else in DADU
            edges = checkpoint(sobel_edges, f_e, self.edge_axes, use_reentrant=False, preserve_rng_state=False)
        return self.join(torch.cat((refined, edges), 1))
