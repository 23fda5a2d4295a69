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
def test_every_output_has_its_weight(size):
    outputs = [torch.randn(2, 3, *[side // 2**i for side in size]) for i in range(3)]
    target = torch.randint(0, 3, (2, 1, *size))
    s = nn.Parameter(torch.tensor([0.1, 0.3, -0.7]))
    dice = SigmoidDiceLoss(True, True)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    losses = torch.stack([dice(functional.interpolate(o, size, mode=mode), target) for o in outputs])
    loss = BalancedDeepSupervisionLoss(dice, s)(outputs, [target])
    torch.testing.assert_close(loss, (torch.exp(-s) * losses + s).sum())


def test_equation_11_is_the_loss_without_the_final_output_s_weight():
    s = nn.Parameter(torch.tensor([0.4, 0.1, -0.2]))
    final, *auxiliary = 0.5, 0.75, 0.25
    eta = torch.exp(s[0] - s[1:])
    equation_11 = final + (eta * torch.tensor(auxiliary)).sum()
    loss = BalancedDeepSupervisionLoss(Mean(), s)(constant(final, *auxiliary), TARGET)
    torch.testing.assert_close(loss, torch.exp(-s[0]) * equation_11 + s.sum())


def test_the_weights_get_gradients():
    s = nn.Parameter(torch.zeros(3))
    BalancedDeepSupervisionLoss(Mean(), s)(constant(0.25, 0.5, 0.75), TARGET).backward()
    torch.testing.assert_close(s.grad, 1 - torch.tensor([0.25, 0.5, 0.75]))


def learned_weights(losses):
    """The weights after a long training on losses that stay."""
    s = nn.Parameter(torch.zeros(len(losses)))
    loss = BalancedDeepSupervisionLoss(Mean(), s)
    optimizer = torch.optim.Adam([s], 0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(constant(*losses), TARGET).backward()
        optimizer.step()
    return torch.exp(-s.detach())


def test_the_weights_cannot_collapse():
    """Each goes to the inverse of its loss; those of the paper go to zero."""
    losses = [0.9, 0.5, 0.05]
    torch.testing.assert_close(learned_weights(losses), 1 / torch.tensor(losses), rtol=0.01, atol=0)


def test_no_auxiliary_output_counts_more_than_a_better_final_one():
    """Late in a training, when losses are small: the final output's gradient is not drowned."""
    weights = learned_weights([0.02, 0.03, 0.05, 0.1])
    assert weights[0] > weights[1:].max()


def test_networks_without_weights_have_all_outputs_count_alike():
    assert BalancedDeepSupervisionLoss(Mean(), None)(constant(1.0, 2.0, 3.0), TARGET) == 6
