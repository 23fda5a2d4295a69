import pytest
import torch
from conftest import unet_arguments
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_cardiac.networks import E2AUNet

CASES = [(nn.Conv2d, nn.BatchNorm2d, (32, 48)), (nn.Conv3d, nn.BatchNorm3d, (8, 16, 24))]


def build(conv_op=nn.Conv2d, norm_op=nn.BatchNorm2d, features=(4, 8, 16), **kwargs):
    return E2AUNet(**({"input_channels": 2} | unet_arguments(conv_op, norm_op, features) | kwargs))


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
