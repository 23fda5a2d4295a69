"""Efficient additive attention (E-2A) and its coupled form (cross-E-2A).

Khan et al., "Crop and Couple: cardiac image segmentation using interlinked specialist networks", ISBI 2024,
sections 3.2 and 3.3; the attention is that of Shaker et al., "SwiftFormer", ICCV 2023.

Symbols: D features, N tokens (pixels or voxels), t the target and s the source anatomy. Everything is linear in N.
"""

import math

import torch
from torch import nn

from nnunet_cardiac.networks.pointwise import pointwise
from nnunet_cardiac.networks.topology import ConvOp


class _L2Normalise(torch.autograd.Function):
    """x / |x| with the gradient (g - y (y . g)) / |x|, in half the passes over memory that autograd would make."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, dim: int) -> torch.Tensor:
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        # PyTorch's vector_norm takes ten times as long along an axis that is not the last
        inverse = y.square().sum(dim, keepdim=True).sqrt_().clamp_min_(1e-6).reciprocal_()
        y = (y * inverse).to(x.dtype)
        ctx.save_for_backward(y, inverse)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor):
        y, inverse = ctx.saved_tensors
        wide = y.to(inverse.dtype), g.to(inverse.dtype)
        along = (wide[0] * wide[1]).sum(ctx.dim, keepdim=True)
        return torch.addcmul(wide[1], wide[0], along, value=-1).mul_(inverse).to(g.dtype), None


class _ScaledResidual(torch.autograd.Function):
    """x + g * y, g per channel; autograd's own gradients take four times as long on a CPU."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(g, y)
        ctx.dtype = x.dtype
        return torch.addcmul(x, g, y)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        g, y = ctx.saved_tensors
        of_g = (grad * y).sum((0, *range(2, y.ndim)), dtype=g.dtype).view(g.shape)
        return grad.to(ctx.dtype), of_g, (grad * g).to(y.dtype)


def scaled_residual(x: torch.Tensor, g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + g * y for maps (B, C, \\*spatial) and a factor for each channel, (C, 1, ...)."""
    return _ScaledResidual.apply(x, g, y)


def l2_normalise(x: torch.Tensor, dim: int) -> torch.Tensor:
    """``x`` with unit L2 norm along ``dim``, in at least float32: squares of small numbers vanish in float16."""
    return _L2Normalise.apply(x, dim)


def global_query(q: torch.Tensor, w_a: torch.Tensor) -> torch.Tensor:
    """The global query q* of equation 1: the sum of all queries, weighted by learned, normalised attention.

    Args:
        q: queries (..., D, N)
        w_a: learned attention vector (D,), or one for each anatomy (T, D) where ``q`` is (B, T, D, N)

    Returns:
        q* (..., D)
    """
    a = torch.einsum("...dn,...d->...n", q, w_a) / math.sqrt(q.shape[-2])
    return torch.einsum("...n,...dn->...d", l2_normalise(a, -1), q)


class E2A(nn.Module):
    """Efficient additive attention (section 3.2, equations 1 and 2) over all pixels of a feature map.

    Args:
        features: D
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``; its 1x1 form is the linear layer on tokens
    """

    def __init__(self, features: int, conv_op: ConvOp):
        super().__init__()
        linear = pointwise(conv_op)
        self.w_q = linear(features, features, 1)
        self.w_k = linear(features, features, 1)
        self.w_a = nn.Parameter(torch.randn(features))
        self.w_p = linear(features, features, 1)
        self.w_o = linear(features, features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, \\*spatial) to the same shape."""
        q, k = (l2_normalise(w(x), 1).flatten(2) for w in (self.w_q, self.w_k))  # (B, D, N)
        q_star = global_query(q, self.w_a)
        context = self.w_p.scaled(k, q_star)  # W_p(q* * K)
        return self.w_o((context + q).view(x.shape))


class CrossE2A(nn.Module):
    """Cross-E-2A (section 3.3): each anatomy's global query meets the keys of all anatomies.

    For target t the output is W_o[t]( sum_s W_p[t, s](q*_t * K_s) + Q_t ). No weight is shared between anatomies.

    Two ablations, in which every anatomy attends to itself alone. Uncoupled, the sum has the one term s = t (the
    paper's). Coupled to itself, it has T terms, as many weights as cross-E-2A and as many products: in each, a global
    query of its own meets the anatomy's own keys.

    Args:
        n_anatomies: T
        features: D of each anatomy
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        coupling: "cross", "self" or "none"

    Raises:
        KeyError: another coupling
    """

    def __init__(self, n_anatomies: int, features: int, conv_op: ConvOp, coupling: str = "cross"):
        super().__init__()
        self.n_anatomies = n_anatomies
        self.coupling = coupling
        all_features = n_anatomies * features
        n_sources = {"cross": n_anatomies, "self": n_anatomies, "none": 1}[coupling]
        queries = (n_anatomies, n_sources) if coupling == "self" else (n_anatomies,)
        linear = pointwise(conv_op)
        self.w_q = linear(all_features, all_features, 1, groups=n_anatomies)
        self.w_k = linear(all_features, all_features, 1, groups=n_anatomies)
        self.w_a = nn.Parameter(torch.randn(*queries, features))
        std = math.sqrt(2 / (n_sources * features))  # He et al. 2015, as nnU-Net initialises the convolutions beside it
        self.w_p = nn.Parameter(std * torch.randn(n_anatomies, n_sources, features, features))
        self.b_p = nn.Parameter(torch.zeros(n_anatomies, features, 1))
        self.w_o = linear(all_features, all_features, 1, groups=n_anatomies)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T * D, \\*spatial), anatomy by anatomy, to the same shape."""
        q, k = (
            l2_normalise(w(x).unflatten(1, (self.n_anatomies, -1)).flatten(3), 2) for w in (self.w_q, self.w_k)
        )  # (B, T, D, N)
        # W_p[t, s](q*_t * K_s) is the matrix W_p[t, s] q*_t on K_s
        if self.coupling == "self":
            q_stars = torch.stack([global_query(q, w_a) for w_a in self.w_a.unbind(1)], 2)  # (B, T, S, D)
            context = torch.matmul(torch.einsum("tsod,btsd->btod", self.w_p, q_stars), k)
        else:
            w_p = torch.einsum("tsod,btd->btosd", self.w_p, global_query(q, self.w_a))
            if self.coupling == "cross":  # the sum over s and d, for all targets, as one product
                context = torch.bmm(w_p.flatten(3).flatten(1, 2), k.flatten(1, 2)).view(q.shape)
            else:
                context = torch.matmul(w_p.squeeze(3), k)
        return self.w_o((context + self.b_p + q).view(x.shape))


class E2ABlock(nn.Module):
    """x + g1 * attention(x), then x + g2 * MLP(x); g1 and g2 are learned per channel and start at 1e-5.

    The MLP is norm, 1x1 conv to four times the features, GELU, 1x1 conv back.

    Args:
        attention: an ``E2A`` or ``CrossE2A`` of ``features`` channels in all
        features: channels of the map
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``
        norm_op: normalisation in front of the MLP
        norm_op_kwargs: its arguments
        groups: number of anatomies that keep to themselves in the MLP
    """

    def __init__(
        self,
        attention: nn.Module,
        features: int,
        conv_op: ConvOp,
        norm_op: type[nn.Module],
        norm_op_kwargs: dict | None = None,
        groups: int = 1,
    ):
        super().__init__()
        self.attention = attention
        self.mlp = nn.Sequential(
            norm_op(features, **(norm_op_kwargs or {})),
            pointwise(conv_op)(features, 4 * features, 1, groups=groups),
            nn.GELU(),
            pointwise(conv_op)(4 * features, features, 1, groups=groups),
        )
        per_channel = (features, *[1] * (2 if conv_op is nn.Conv2d else 3))
        self.g1 = nn.Parameter(torch.full(per_channel, 1e-5))
        self.g2 = nn.Parameter(torch.full(per_channel, 1e-5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = scaled_residual(x, self.g1, self.attention(x))
        return scaled_residual(x, self.g2, self.mlp(x))
