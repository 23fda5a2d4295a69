"""What each module of HALSR-Net's segmentation means."""

import pytest
import torch
from conftest import unet_arguments
from torch import nn

from nnunet_cardiac.networks import HALSRNet
from nnunet_cardiac.networks.halsr_net import HAPM, AttentionGate, Reconstruction, SpatialGate, average_on_grid

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]
FEATURES = (4, 8, 16, 16)
CROP = {"crop_size": (16, 16), "crop_margin": (2, 2)}


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=FEATURES, **kwargs):
    arguments = unet_arguments(conv_op, norm_op, features)
    return HALSRNet(**({"input_channels": 1, "dropout_per_stage": [0.1] * len(features)} | arguments | kwargs))


def hapm(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, kernel_size=3):
    return HAPM(6, 4, 8, conv_op, kernel_size, norm_op, {}).eval()


def influence(module, size, at, channels=6):
    """Which pixels of the input change the output at one place."""
    x = torch.randn(1, channels, *size, requires_grad=True)
    module(x)[(0, slice(None), *at)].sum().backward()
    return x.grad.abs().sum((0, 1)) > 0


@pytest.mark.parametrize(
    "conv_op, norm_op, size",
    [(nn.Conv2d, nn.BatchNorm2d, s) for s in ((1, 1), (2, 2), (3, 5), (16, 32))]
    + [(nn.Conv3d, nn.BatchNorm3d, (2, 4, 7))],
)
def test_hapm_keeps_its_inputs_resolution_whatever_that_is(conv_op, norm_op, size):
    assert hapm(conv_op, norm_op)(torch.randn(2, 6, *size)).shape == (2, 8, *size)


def test_hapm_sees_beyond_the_receptive_field_of_its_convolutions():
    module = hapm()
    assert influence(module, (64, 64), (10, 10)).all(), "the pyramid and the global average see all of the image"
    near = influence(module.aspp.branches[0], (64, 64), (10, 10))
    assert near.sum() == 9
    for dilation, branch in zip((6, 12, 18), module.aspp.branches[1:], strict=True):
        seen = influence(branch, (64, 64), (20, 20)).nonzero()
        assert (seen.min(), seen.max()) == (20 - dilation, 20 + dilation)


def test_dilation_stays_in_the_plane_where_kernels_do():
    branch = hapm(nn.Conv3d, nn.BatchNorm3d, (1, 3, 3)).aspp.branches[2]
    seen = influence(branch, (5, 40, 40), (2, 20, 20)).nonzero()
    assert set(seen[:, 0].tolist()) == {2} and set(seen[:, 1].tolist()) == {8, 20, 32}


def test_the_pyramid_averages_on_grids():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    assert average_on_grid(x, 1).item() == x.mean()
    torch.testing.assert_close(average_on_grid(x, 2), nn.functional.avg_pool2d(x, 4))
    assert average_on_grid(x[..., :3, :2], 4).shape == (1, 1, 3, 2)


def test_spatial_attention_is_a_map_and_the_same_for_all_channels():
    gate = SpatialGate(nn.Conv2d, (3, 3))
    x = torch.rand(2, 6, 16, 16) + 0.5
    weights = gate(x) / x
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert weights.flatten(2).std(2).min() > 1e-4, "one number for each image would not be attention to places"
    assert weights.min() > 0 and weights.max() < 1


def test_channel_attention_is_one_weight_for_each_channel():
    gate = hapm().channel_gates[0]
    x = torch.rand(2, 4, 8, 8) + 0.5
    weights = gate(x) / x
    torch.testing.assert_close(weights, weights[..., :1, :1].expand_as(weights))
    assert weights.min() > 0 and weights.max() < 1


def test_the_gate_weighs_the_skip_by_skip_and_gating_map():
    gate = AttentionGate(8, 5, 2, nn.Conv2d)
    skip, gating = torch.randn(1, 8, 6, 6), torch.randn(1, 5, 6, 6)
    weights = gate(skip, gating) / skip
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert not torch.allclose(gate(skip, gating), gate(skip, gating + 1))


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_the_reconstruction_depends_on_the_latent_features_alone(conv_op, norm_op, size):
    network = build(conv_op, norm_op).eval()
    reconstruct = network.decoder.reconstruction
    seen = []
    reconstruct.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    network(torch.randn(1, 1, *size))
    (latent, maps), *_ = seen
    assert maps.shape == (1, FEATURES[0], *size) and maps.min() >= 0
    torch.testing.assert_close(reconstruct(latent, size), maps)
    with torch.no_grad():  # other skips, same latent features: the reconstruction stays
        pooled, latent = network.network.encoder(torch.randn(1, 1, *size))
        sizes = network.topology.map_sizes(size)
        network.decoder(pooled, latent, sizes)
        network.decoder([p + 1 for p in pooled], latent, sizes)
    assert torch.equal(seen[-1][1], seen[-2][1])


def test_reconstruction_before_and_after_upsampling_is_the_same():
    """The 1x1 convolution to the classes stands in front of the upsampling; the paper has it behind."""
    module = Reconstruction(16, 4, 8, nn.Conv2d)
    latent = torch.randn(1, 16, 4, 4)
    attended = module.squeeze_excitation(latent * torch.sigmoid(module.attention(latent)))
    upsampled = nn.functional.interpolate(attended, (32, 32), mode="bilinear")
    expected = torch.relu(module.expand(module.classes(upsampled).softmax(1)))
    torch.testing.assert_close(module(latent, (32, 32)), expected, atol=1e-5, rtol=1e-4)


def test_paper_size_and_smallest_input():
    network = build(features=(64, 128, 256, 512, 512), dropout_per_stage=(0.25, 0.3, 0.35, 0.35, 0.5))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(21.8e6, rel=0.01)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 4, 32, 32)


def test_inside_the_box_is_what_the_network_says_and_outside_background():
    network = build(**CROP, input_channels=4).eval()
    x = torch.zeros(1, 4, 48, 48)
    x[:, 0] = torch.randn(48, 48)
    x[:, 3, 20:30, 12:22] = 1  # the filled box
    logits = network(x)
    (rows, columns) = network.crop.window((x[0, 3] > 0).numpy())
    inside = tuple(slice(start, start + size) for start, size in (rows, columns))
    window = (slice(None), slice(None), *inside)
    torch.testing.assert_close(logits[window], network.crop.network(x[:, :1][window]))
    outside = torch.ones(48, 48, dtype=torch.bool)
    outside[inside] = False
    assert not logits.argmax(1)[0][outside].any()
    assert (logits[0, 0][outside] == 10).all() and (logits[0, 1:, outside] == -10).all()
    moved = x.clone()
    moved[:, 3], moved[:, 2] = 0, x[:, 3]
    assert torch.equal(network(moved), logits), "whatever label the box has"


def test_without_a_box_the_whole_image_is_segmented():
    network = build(**CROP, input_channels=4).eval()
    logits = network(torch.cat((torch.randn(1, 1, 48, 40), torch.zeros(1, 3, 48, 40)), 1))
    assert logits.shape == (1, 4, 48, 40) and logits.isfinite().all() and logits.abs().max() < 10


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no deep supervision inside the box"):
        build(**CROP, input_channels=4, deep_supervision=True)
    with pytest.raises(ValueError, match="Is previous_stage missing"):
        build(**CROP, input_channels=3)
    with pytest.raises(ValueError, match="dropout_per_stage"):
        build(dropout_per_stage=[0.1])
    with pytest.raises(ValueError, match="multiples of 8 x 8"):
        build()(torch.randn(1, 1, 36, 48))
