"""What each equation of DADU's sections 4.1 to 4.3 means."""

import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.dual_attention import (
    FLAT,
    AttentionEdgeSkip,
    ChannelAttention,
    DualAttention,
    SpatialAttention,
    sobel_edges,
)

C = 6
CASES = [(nn.Conv2d, 3, (12, 10)), (nn.Conv3d, (3, 3, 3), (4, 8, 10)), (nn.Conv3d, (1, 3, 3), (4, 8, 10))]


@pytest.fixture(params=CASES, ids=["2D", "3D", "3D in-plane"])
def case(request):
    conv_op, kernel_size, size = request.param
    return conv_op, kernel_size, torch.randn(2, C, *size), torch.randn(2, C, *size)


def with_weights(module):
    """Attention that has learned something: at first all channels have the same weight."""
    for name, weight in module.named_parameters():
        if name.endswith("w"):
            nn.init.normal_(weight)
    return module


def shuffled(x):
    """The same values of every channel at other places."""
    return x.flatten(2)[:, :, torch.randperm(x[0, 0].numel())].view(x.shape)


def test_equations_3_to_6_depend_on_both_maps_through_pooled_values_alone(case):
    _, _, e, d = case
    cam = with_weights(ChannelAttention(C))
    m = cam(e, d)
    assert m.shape == (2, C, *[1] * (e.ndim - 2)) and m.min() > 0 and m.max() < 1
    torch.testing.assert_close(cam(shuffled(e), shuffled(d)), m)
    torch.testing.assert_close(cam(d, e), m)  # both maps weigh the same
    for other in (cam(2 * e, d), cam(e, 2 * d)):
        assert (other - m).abs().min() > 1e-6
    axes = tuple(range(2, e.ndim))
    pooled = sum(f.mean(axes) + f.amax(axes) for f in (e, d))
    normalised = (pooled - pooled.mean(1, True)) / pooled.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(m.flatten(1), torch.sigmoid(cam.w * normalised), rtol=1e-3, atol=1e-4)


def test_equations_3_and_4_see_the_maximum_and_the_mean():
    e, d = torch.zeros(1, C, 8, 8), torch.randn(1, C, 8, 8)
    cam = with_weights(ChannelAttention(C))
    spike, zero_mean = e.clone(), e.clone()
    spike[:, ::2, 0, 0] = 1
    zero_mean[:, ::2, 0, 0], zero_mean[:, ::2, 0, 1] = 1, -1
    assert not torch.allclose(cam(spike, d), cam(zero_mean, d)), "same maximum, other mean"
    assert not torch.allclose(cam(zero_mean, d), cam(e, d)), "same mean, other maximum"


def test_channel_attention_stays_alive_whatever_the_maps_scale():
    """Large maxima of a whole map, which Adam would make shut or open every gate for good."""
    e, d = torch.randn(2, 2, C, 6, 5)
    many = 512 // C  # as many channels as the deepest level has, in which single gates could go far
    e, d = (torch.cat([f * (1 + i % 5) for i in range(many)], 1) for f in (e, d))
    cam = ChannelAttention(many * C)
    optimizer = torch.optim.Adam(cam.parameters(), 1e-3)
    for step in range(500):
        maps = [30 * f.roll(step % 7, -1) * (1 + 0.1 * torch.rand(2, many * C, *[1] * (e.ndim - 2))) for f in (e, d)]
        optimizer.zero_grad()
        (cam(*maps) * maps[0]).mean().backward()  # all one way: the smaller every gate, the better
        optimizer.step()
    m = cam(30 * e, 30 * d)
    assert ((m < 0.02) | (m > 0.98)).float().mean() <= 0.1
    assert (m[0] - m[1]).abs().max() > 0.01, "the same gates for every sample are a mask, not attention"


def test_equations_7_to_10_one_map_for_all_channels(case):
    conv_op, kernel_size, e, d = case
    sam = SpatialAttention(C, conv_op, kernel_size)
    m = sam(e, d)
    assert m.shape == (2, 1, *e.shape[2:]) and m.min() > 0 and m.max() < 1
    for changed in (sam(e + torch.randn_like(e), d), sam(e, d + torch.randn_like(d))):
        assert not torch.allclose(changed, m)
    with torch.no_grad():  # without the 1x1 convolution, mean and maximum do not know one channel from another
        sam.pointwise_e.weight.zero_(), sam.pointwise_d.weight.zero_()
    permutation = torch.randperm(C)
    torch.testing.assert_close(sam(e[:, permutation], d[:, permutation]), sam(e, d))


def test_spatial_attention_is_dilated_and_as_flat_as_its_level():
    """Seven pixels along each axis, every second one: 13 wide."""
    for kernel_size, reach in (((3, 3, 3), (6, 6, 6)), ((1, 3, 3), (0, 6, 6))):
        sam = SpatialAttention(C, nn.Conv3d, kernel_size)
        e, d = torch.randn(2, 1, C, 15, 15, 15)
        touched = e.clone()
        touched[:, :, 7, 7, 7] += 5
        seen = ((sam(touched, d) - sam(e, d))[0, 0].abs() > 1e-7).nonzero()
        assert [sorted(set(s.tolist())) for s in seen.T] == [list(range(7 - r, 8 + r, 2)) for r in reach]


def test_equations_1_and_2_the_refined_map_is_the_product_of_both_with_the_encoders(case):
    conv_op, kernel_size, e, d = case
    dab = with_weights(DualAttention(C, conv_op, kernel_size))
    m_ch = dab.cam(e, d)
    m_sp = dab.sam(m_ch * e, m_ch * d)
    torch.testing.assert_close(dab(e, d), m_sp * m_ch * e)
    zeroed = e.clone()
    zeroed[:, 2] = 0
    assert not dab(zeroed, d)[:, 2].any(), "what the encoder has not seen, attention does not invent"


def test_attention_builds_nothing_larger_than_its_input_maps(case):
    conv_op, kernel_size, e, d = case
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        DualAttention(C, conv_op, kernel_size)(e.requires_grad_(), d.requires_grad_())
    assert max(kept) == e.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [0.0, 0.3, -7.7, 300.0])
def test_a_constant_image_has_no_edges(dtype, value):
    assert not sobel_edges(torch.full((1, 2, 9, 13), value, dtype=dtype), (0, 1)).any()
    assert not sobel_edges(torch.full((1, 2, 5, 9, 13), value, dtype=dtype), (0, 1, 2)).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.5, 100])
def test_edges_of_a_step_lie_on_the_step(axis, scale):
    x = torch.zeros(1, 1, 8, 8, 8)
    x.narrow(axis + 2, 4, 4).fill_(scale)
    edges = sobel_edges(x, (0, 1, 2))[0, 0].movedim(axis, 0)
    on, off = edges[3:5], torch.cat((edges[:3], edges[5:]))
    assert on.min() > 0.99 and on.max() <= 1 and not off.any()


def test_edges_are_the_sobel_magnitude_of_every_map():
    x = 4 * torch.rand(2, 3, 12, 9)
    edges = sobel_edges(x, (0, 1))
    for sample, sample_edges in zip(x.numpy(), edges.numpy(), strict=True):
        for image, found in zip(sample, sample_edges, strict=True):
            magnitude = ndimage.generic_gradient_magnitude(image.astype(float), ndimage.sobel, mode="nearest")
            assert abs(found - magnitude / magnitude.max()).max() < 5e-3
    assert edges.amax((2, 3)).min() > 0.99 and edges.min() >= 0


def test_edges_within_the_plane_alone():
    x = torch.randn(1, 2, 4, 8, 8)
    in_plane = sobel_edges(x, (1, 2))
    magnitudes = torch.stack([sobel_edges(x[:, :, z], (0, 1)) for z in range(4)], 2)
    ratio = in_plane.amax((3, 4), keepdim=True)  # the largest of the volume is not that of each slice
    torch.testing.assert_close(in_plane, magnitudes * ratio, atol=5e-3, rtol=0)


def test_edges_let_gradients_through_and_survive_extremes():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: sobel_edges(y, (0, 1)), x)
    extreme = torch.zeros(1, 2, 8, 8, dtype=torch.float16)
    extreme[:, 0, 4, 4] = 3e4
    extreme.requires_grad_()
    edges = sobel_edges(extreme, (0, 1))
    edges.float().sum().backward()
    assert edges.isfinite().all() and extreme.grad.isfinite().all()


def test_the_skip_joins_refined_map_and_edges(case):
    conv_op, kernel_size, e, d = case
    skip = AttentionEdgeSkip(C, conv_op, kernel_size)
    edges = sobel_edges(e, skip.edge_axes)
    torch.testing.assert_close(skip(e, d), skip.join(torch.cat((skip.attention(e, d), edges), 1)))
    learned = {name.split(".")[0] for name, _ in skip.named_parameters()}
    assert learned == {"attention", "join"} and not list(skip.buffers()), "edges have nothing to learn"
    assert skip.join.kernel_size == (1,) * (e.ndim - 2)


def test_ablations_of_the_skip(case):
    conv_op, kernel_size, e, d = case
    no_edges = AttentionEdgeSkip(C, conv_op, kernel_size, edges=False)
    torch.testing.assert_close(no_edges(e, d), no_edges.attention(e, d))
    no_attention = AttentionEdgeSkip(C, conv_op, kernel_size, attention=False)
    torch.testing.assert_close(no_attention(e, d), no_attention(e, d + 1))  # the decoder has no say
    edges = sobel_edges(e, no_attention.edge_axes)
    torch.testing.assert_close(no_attention(e, d), no_attention.join(torch.cat((e, edges), 1)))


def plain_edges(x, axes):
    """Equation by equation, with autograd's gradients."""
    padded = functional.pad(
        x, [side for axis in range(x.ndim - 3, -1, -1) for side in [int(axis in axes)] * 2], "replicate"
    )
    squares = 0
    for edge_axis in axes:
        gradient = padded
        for axis in axes:
            n = gradient.shape[axis + 2] - 2
            before, here, behind = (gradient.narrow(axis + 2, i, n) for i in range(3))
            gradient = (behind - before) / 2 if axis == edge_axis else (before + 2 * here + behind) / 4
        squares = squares + gradient**2
    magnitude = squares.clamp_min(FLAT**2).sqrt() - FLAT
    return magnitude / (magnitude.amax(tuple(range(2, x.ndim)), keepdim=True) + FLAT)


def test_edges_and_their_gradients_are_those_of_plain_operations(case):
    conv_op, kernel_size, e, d = case
    axes = AttentionEdgeSkip(C, conv_op, kernel_size).edge_axes
    e, g = e.double().requires_grad_(), d.double()
    for found, expected in zip(
        *((y, *torch.autograd.grad(y, e, g)) for y in (sobel_edges(e, axes), plain_edges(e, axes))), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_stays_in_half_precision_and_its_gradients_finite(dtype):
    skip = AttentionEdgeSkip(C, nn.Conv2d, 3)
    e, d = (torch.relu(torch.randn(2, C, 16, 16)).to(dtype).requires_grad_() for _ in "ED")
    with torch.autocast("cpu", dtype):
        y = skip(e, d)
        assert y.dtype == skip.attention(e, d).dtype == dtype
    y.float().mul(2.0**12).mean().backward()  # scaled, as nnU-Net's losses are
    assert e.grad.isfinite().all() and d.grad.isfinite().all()
