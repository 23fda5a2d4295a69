"""DADU's deep supervision with learned weights (Mukisa and Bansal, section 4.4, equation 11)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class BalancedDeepSupervisionLoss(nn.Module):
    """Loss of the final output plus the balanced losses of the auxiliary ones, all at full size.

    The paper learns a balancing weight eta_s for each auxiliary loss L_s. Minimising the sum over the weights
    themselves would drive them to zero, so eta_s = exp(-s_s), and s_s is added (uncertainty weighting: Kendall, Gal,
    Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018). Where L_s stays, eta_s goes to its
    inverse: never to zero, and for a Dice loss, which is at most 1, never below 1.

    Args:
        loss: of logits (B, C, \\*spatial) and a target of the same size
        log_variances: s, one for each auxiliary output; None for weights of 1, for networks that carry none
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
        final, *auxiliary = outputs
        target = targets[0]
        total = self.loss(final, target)
        if not auxiliary:
            return total
        mode = "bilinear" if final.ndim == 4 else "trilinear"
        losses = torch.stack(
            [self.loss(functional.interpolate(logits, final.shape[2:], mode=mode), target) for logits in auxiliary]
        )
        if self.log_variances is None:
            return total + losses.sum()
        return total + (torch.exp(-self.log_variances) * losses + self.log_variances).sum()
