"""The dual attention block of DADU and its edges (Mukisa and Bansal, sections 4.1 to 4.3).

Symbols are the paper's: E from the encoder, D from the decoder; Ch behind channel attention, Sp spatial attention; M an
attention map, F features. Nothing here is larger than the two feature maps that come in.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import maybe_convert_scalar_to_list
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.pointwise import pointwise
from nnunet_cardiac.networks.topology import ConvOp

DILATION = 2
"""Of spatial attention's 7x7 convolutions."""
FLAT = 2**-10
"""Gradients that are smaller are no edge."""


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
        m = torch.sigmoid(self.w * m).to(f_e.dtype)  # equation 6
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
        self.pointwise_e, self.pointwise_d = (pointwise(conv_op)(features, 1, 1) for _ in "ED")
        self.f = conv_op(6, 1, kernel_size, padding=padding, dilation=DILATION)  # both of 7x7, and their sum

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """F^ChE and F^ChD (B, C, \\*spatial) to M^Sp (B, 1, \\*spatial), between 0 and 1."""
        of_e = f_e.mean(1, True), self.pointwise_e(f_e), f_e.amax(1, True)  # in equation 7
        of_d = f_d.mean(1, True), self.pointwise_d(f_d), f_d.amax(1, True)  # in equation 8
        return torch.sigmoid(self.f(torch.cat((*of_e, *of_d), 1)))  # equations 7 to 10


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

    The border is repeated. Of a constant the differences are exactly 0 in any precision. Gradients flow to ``x``; there
    is nothing to learn. For the backward pass nothing is kept but ``x``, which others keep anyway.

    Args:
        x: maps (B, C, \\*spatial), of about unit scale, as behind batch norm
        axes: spatial axes, counted from 0, along which there are edges

    Returns:
        (B, C, \\*spatial)
    """
    with torch.autocast(x.device.type, enabled=False):  # in the maps' own type, which may be half precision already
        return _SobelEdges.apply(x, tuple(axis + 2 for axis in axes))


class _SobelEdges(torch.autograd.Function):
    """``sobel_edges``, with its gradient written out.

    A Sobel kernel smooths along all axes ([1, 2, 1] / 4) but one, and takes differences ([-1, 0, 1]) along that.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        magnitude, _ = _magnitude(x, axes)
        edges = magnitude.clamp_min_(FLAT).sub_(FLAT)  # the root has no finite slope at 0: no edge and no gradient
        largest, place = edges.flatten(2).max(2, keepdim=True)
        largest = largest.add_(FLAT)
        ctx.save_for_backward(x, largest, place)
        ctx.axes = axes
        return edges.div_(largest.view(*x.shape[:2], *[1] * (x.ndim - 2)))

    @staticmethod
    def backward(ctx, g: torch.Tensor):
        x, largest, place = ctx.saved_tensors
        magnitude, gradients = _magnitude(x, ctx.axes)
        edges = magnitude.clamp_min(FLAT).sub_(FLAT).flatten(2).div_(largest)
        # the largest is itself the magnitude of a pixel
        wide = torch.promote_types(g.dtype, torch.float32)  # scaled losses have gradients whose sum float16 cannot hold
        through_largest = -(g.flatten(2) * edges).sum(2, keepdim=True, dtype=wide)
        g = g.flatten(2).scatter_add(2, place, through_largest.to(g.dtype)).div_(largest).view(x.shape)
        g.div_(magnitude).masked_fill_(magnitude <= FLAT, 0)
        del edges, magnitude
        shape = [n + 2 * (axis in ctx.axes) for axis, n in enumerate(x.shape)]
        padded = torch.zeros(shape, dtype=x.dtype, device=x.device)
        for edge_axis, gradient in zip(ctx.axes, gradients, strict=True):
            part = gradient.mul_(g)
            for axis in ctx.axes:
                part = _difference_transposed(part, axis) if axis == edge_axis else _smooth_transposed(part, axis)
            padded += part
        for axis in ctx.axes:  # what the repeated border got is the border's
            n = padded.shape[axis]
            padded.narrow(axis, 1, 1).add_(padded.narrow(axis, 0, 1))
            padded.narrow(axis, n - 2, 1).add_(padded.narrow(axis, n - 1, 1))
            padded = padded.narrow(axis, 1, n - 2)
        return padded, None


def _magnitude(x: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of the gradient, and the gradient along each axis."""
    padding = [side for axis in range(x.ndim - 1, 1, -1) for side in [int(axis in axes)] * 2]
    padded = functional.pad(x, padding, "replicate")
    gradients = []
    for edge_axis in axes:
        gradient = padded
        for axis in axes:
            gradient = _difference(gradient, axis) if axis == edge_axis else _smooth(gradient, axis)
        gradients.append(gradient)
    magnitude = gradients[0].abs()
    for gradient in gradients[1:]:
        magnitude = magnitude.hypot_(gradient)
    return magnitude, gradients


def _shifted(x: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neighbour before, pixel and neighbour behind, without the first and last pixel of the axis."""
    n = x.shape[axis] - 2
    return x.narrow(axis, 0, n), x.narrow(axis, 1, n), x.narrow(axis, 2, n)


def _smooth(x: torch.Tensor, axis: int) -> torch.Tensor:
    before, here, behind = _shifted(x, axis)
    return torch.lerp(before, behind, 0.5).lerp_(here, 0.5)


def _difference(x: torch.Tensor, axis: int) -> torch.Tensor:
    before, _, behind = _shifted(x, axis)
    return (behind - before).mul_(0.5)


def _smooth_transposed(g: torch.Tensor, axis: int) -> torch.Tensor:
    y = _longer(g, axis)
    for shifted, weight in zip(_shifted(y, axis), (0.25, 0.5, 0.25), strict=True):
        shifted.add_(g, alpha=weight)
    return y


def _difference_transposed(g: torch.Tensor, axis: int) -> torch.Tensor:
    y = _longer(g, axis)
    before, _, behind = _shifted(y, axis)
    before.sub_(g, alpha=0.5)
    behind.add_(g, alpha=0.5)
    return y


def _longer(g: torch.Tensor, axis: int) -> torch.Tensor:
    shape = list(g.shape)
    shape[axis] += 2
    return g.new_zeros(shape)


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
        self.join = pointwise(conv_op)(2 * features, features, 1) if edges else None

    def forward(self, f_e: torch.Tensor, f_d: torch.Tensor) -> torch.Tensor:
        """Encoder's and upsampled decoder's map (B, C, \\*spatial) to the skip (B, C, \\*spatial)."""
        refined = f_e if self.attention is None else self.attention(f_e, f_d)
        if self.join is None:
            return refined
        return self.join(torch.cat((refined, sobel_edges(f_e, self.edge_axes)), 1))
