import pytest
import torch
from conftest import unet_arguments
from torch import nn

from nnunet_cardiac.networks import SpatialAttentionUNet
from nnunet_cardiac.networks.attention_gate import AttentionGate
from nnunet_cardiac.networks.spatial_attention_unet import EncoderAttention
from nnunet_cardiac.planners.spatial_attention_unet_planner import SYSTEMS

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16, 16), **kwargs):
    return SpatialAttentionUNet(**({"input_channels": 2} | unet_arguments(conv_op, norm_op, features) | kwargs))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_has_what_its_name_says(system):
    network = build(**SYSTEMS[system])
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(EncoderAttention) == 4 * SYSTEMS[system]["encoder_attention"]
    assert kinds.count(AttentionGate) == 3 * SYSTEMS[system]["attention_gates"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_skips_only_the_lowest_map_reaches_the_decoder(system):
    network = build(**SYSTEMS[system]).eval()
    maps = network.encoder(torch.randn(1, 2, 32, 32))
    other = [torch.randn_like(m) for m in maps[:-1]] + [maps[-1]]
    same = torch.equal(network.decoder(maps), network.decoder(other))
    assert same != SYSTEMS[system]["skip_connections"]


def test_channels_are_weighed_first_and_pixels_then_alike_in_all_channels():
    attention = EncoderAttention(3, nn.Conv2d, 3)
    x = torch.rand(2, 3, 9, 11) + 0.5
    weights = attention(x) / x
    of_channels = torch.sigmoid(attention.channel_gate(x.mean((2, 3), keepdim=True)))
    of_pixels = weights / of_channels
    torch.testing.assert_close(of_pixels, of_pixels[:, :1].expand_as(x))
    assert of_pixels[:, 0].flatten(1).std(1).min() > 0, "a map, not one number"
    gated = x * of_channels
    mean_and_max = torch.cat((gated.mean(1, True), gated.amax(1, True)), 1)
    torch.testing.assert_close(of_pixels[:, :1], torch.sigmoid(attention.spatial(mean_and_max)))


def test_the_attention_of_a_pixel_sees_seven_by_seven():
    attention = EncoderAttention(3, nn.Conv2d, 3)
    nn.init.zeros_(attention.channel_gate.weight)
    x = torch.randn(1, 3, 15, 15, requires_grad=True)
    attention(x)[0, 0, 7, 7].backward()
    seen = x.grad[0].abs().sum(0) > 0
    assert seen[4:11, 4:11].all() and seen.sum() == 49


def test_anisotropic_kernels_keep_attention_in_the_plane():
    network = build(
        nn.Conv3d, nn.BatchNorm3d, kernel_sizes=[[1, 3, 3]] * 2 + [[3, 3, 3]] * 2,
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]],
    )  # fmt: skip
    kernels = [m.spatial.kernel_size for m in network.modules() if isinstance(m, EncoderAttention)]
    assert kernels == [(1, 7, 7)] * 2 + [(7, 7, 7)] * 2
    assert network(torch.randn(1, 2, 4, 32, 32)).shape == (1, 4, 4, 32, 32)


def test_what_the_switches_add():
    """Attention costs little, skips cost the wider convolutions of the decoder."""
    size = {s: sum(p.numel() for p in build(features=(32, 64, 128, 256), **SYSTEMS[s]).parameters()) for s in SYSTEMS}
    assert size["2d"] > size["2d_attention_gates"] > size["2d_unet"] > size["2d_attention_encoder_decoder"]
    assert size["2d_attention_encoder_decoder"] > size["2d_encoder_decoder"]
    assert size["2d"] / size["2d_unet"] < 1.1


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="need skip_connections"):
        build(skip_connections=False)
    with pytest.raises(ValueError, match="n_conv_per_stage_decoder needs 3 entries"):
        build(n_conv_per_stage_decoder=[2])
    with pytest.raises(ValueError, match="36 x 48 does not fit 4 stages"):
        build()(torch.randn(1, 2, 36, 48))
