"""Equation 11 of DADU: the balanced losses of all outputs."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_cardiac.training.deep_supervision import BalancedDeepSupervisionLoss
from nnunet_cardiac.training.dice import SigmoidDiceLoss


class Mean(nn.Module):
    """A loss whose value is that of its input."""

    def forward(self, logits, target):
        assert logits.shape[2:] == target.shape[2:], "losses are taken at full size"
        return logits.mean()


def constant(*values):
    """Outputs of shrinking size, each of one value."""
    return [torch.full((1, 1, 8 // 2**i, 8 // 2**i), v) for i, v in enumerate(values)]


TARGET = [torch.zeros(1, 1, 8, 8)]


@pytest.mark.parametrize("size", [(8, 12), (4, 8, 12)])
def test_equation_11(size):
    outputs = [torch.randn(2, 3, *[side // 2**i for side in size]) for i in range(3)]
    target = torch.randint(0, 3, (2, 1, *size))
    s = nn.Parameter(torch.tensor([0.3, -0.7]))
    dice = SigmoidDiceLoss(True, True)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    final, one, two = (dice(functional.interpolate(o, size, mode=mode), target) for o in outputs)
    expected = final + torch.exp(-s[0]) * one + s[0] + torch.exp(-s[1]) * two + s[1]
    torch.testing.assert_close(BalancedDeepSupervisionLoss(dice, s)(outputs, [target]), expected)


def test_the_weights_get_gradients_and_the_final_loss_has_none():
    s = nn.Parameter(torch.zeros(2))
    BalancedDeepSupervisionLoss(Mean(), s)(constant(0.5, 0.5, 0.25), TARGET).backward()
    torch.testing.assert_close(s.grad, 1 - torch.tensor([0.5, 0.25]))
    alone = BalancedDeepSupervisionLoss(Mean(), s)(constant(0.5), TARGET)
    assert alone == 0.5


def test_the_weights_cannot_collapse():
    """Trained for long on losses that stay, each goes to the inverse of its loss; those of the paper go to zero."""
    losses = [0.9, 0.5, 0.05]
    s = nn.Parameter(torch.zeros(3))
    loss = BalancedDeepSupervisionLoss(Mean(), s)
    optimizer = torch.optim.Adam([s], 0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(constant(1.0, *losses), TARGET).backward()
        optimizer.step()
    torch.testing.assert_close(torch.exp(-s), 1 / torch.tensor(losses), rtol=0.01, atol=0)


def test_networks_without_weights_have_all_outputs_count_alike():
    assert BalancedDeepSupervisionLoss(Mean(), None)(constant(1.0, 2.0, 3.0), TARGET) == 6
