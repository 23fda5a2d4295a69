import pytest
import torch
from conftest import unet_arguments
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.networks import E2AUNet

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16), **kwargs):
    return E2AUNet(**({"input_channels": 2} | unet_arguments(conv_op, norm_op, features) | kwargs))


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_output_has_full_size(conv_op, norm_op, size):
    assert build(conv_op, norm_op)(torch.randn(2, 2, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize("conv_op, norm_op, size", CASES)
def test_deep_supervision_gives_every_resolution(conv_op, norm_op, size):
    network = build(conv_op, norm_op, deep_supervision=True)
    outputs = network(torch.randn(2, 2, *size))
    assert [o.shape[2:] for o in outputs] == [torch.Size(size), torch.Size(s // 2 for s in size)]
    network.decoder.deep_supervision = False
    assert network(torch.randn(1, 2, *size)).shape == (1, 4, *size)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_every_parameter_that_wants_a_gradient_gets_one(deep_supervision):
    network = build(deep_supervision=deep_supervision)
    outputs = network(torch.randn(2, 2, 32, 32))
    sum(o.square().mean() for o in (outputs if deep_supervision else [outputs])).backward()
    assert not [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_weights_load_with_and_without_deep_supervision():
    trained = build(deep_supervision=True)
    network = build(deep_supervision=False)
    network.load_state_dict(trained.state_dict())
    trained.load_state_dict(network.state_dict())


def test_paper_size():
    network = build(features=(32, 64, 128, 256, 512), input_channels=1)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(8.30e6, rel=0.01)


def test_flops_grow_linearly_with_pixels():
    network = build()

    def flops(size):
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(1, 2, size, size))
        return counter.get_total_flops()

    # q*, a sum over features and the one vector that attends, does not grow with the image; all else does
    assert flops(128) / flops(64) == pytest.approx(4, rel=0.01)


def test_wrong_lists_are_refused():
    with pytest.raises(ValueError, match="features_per_stage"):
        build(features_per_stage=[4, 8])
    with pytest.raises(ValueError, match="first stride"):
        build(strides=[[2, 2]] * 3)
