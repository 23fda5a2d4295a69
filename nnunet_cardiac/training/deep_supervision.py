"""DADU's deep supervision with learned weights (Mukisa and Bansal, section 4.4, equation 11)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class BalancedDeepSupervisionLoss(nn.Module):
    """The balanced losses of all outputs, all at full size.

    The paper learns a balancing weight eta_s for each auxiliary loss L_s beside the final output's, which has a weight
    of 1. Minimising the sum over the weights themselves would drive them to zero, so every output has a weight exp(-s),
    and s is added (uncertainty weighting: Kendall, Gal, Cipolla, "Multi-task learning using uncertainty to weigh
    losses", CVPR 2018). This is equation 11 times the final output's weight, with eta_s the ratio of two weights; Adam
    hardly minds the factor. A weight goes to the inverse of its loss, so the best output counts most: were the final
    output's fixed, the auxiliary ones would soon be all that counts.

    Args:
        loss: of logits (B, C, \\*spatial) and a target of the same size
        log_variances: s, one for each output, the final one first; None for weights of 1, for networks that carry none
    """

    def __init__(self, loss: nn.Module, log_variances: nn.Parameter | None):
        super().__init__()
        self.loss = loss
        self.log_variances = log_variances

    def forward(self, outputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            outputs: logits, at full size first, then auxiliary ones at the sizes of their levels
            targets: the target at full size; others are not looked at

        Returns:
            the loss, a scalar
        """
        target, size = targets[0], outputs[0].shape[2:]
        mode = "bilinear" if len(size) == 2 else "trilinear"
        auxiliary = (functional.interpolate(logits, size, mode=mode) for logits in outputs[1:])
        losses = torch.stack([self.loss(logits, target) for logits in (outputs[0], *auxiliary)])
        if self.log_variances is None:
            return losses.sum()
        return (torch.exp(-self.log_variances) * losses + self.log_variances).sum()
