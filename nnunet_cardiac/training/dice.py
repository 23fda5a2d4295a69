"""Dice loss on sigmoids (CroCNet, DADU)."""

import torch
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import nn

from nnunet_cardiac.training.one_hot import one_hot

SMOOTH = 1e-5
"""Keeps the ratio defined where map and target are empty."""


class SigmoidDiceLoss(nn.Module):
    """One minus the mean Dice of every map's sigmoid.

    For maps p and targets g: 1 - mean_c (2 sum p g + SMOOTH) / (sum p + sum g + SMOOTH), as DADU has it (equation 12),
    or with the squares of p and g in the denominator (CroCNet). Classes are independent of each other: the logits never
    meet in a softmax.

    Args:
        do_bg: whether channel 0, the background, counts as a map
        batch_dice: sums run over the batch as well, as ``batch_dice`` in nnU-Net's plans
        squared: whether the denominator has squares
        ignore_label: label whose pixels count nowhere
        ddp: whether the batch is spread over processes (matters with ``batch_dice``)
    """

    def __init__(
        self,
        do_bg: bool,
        batch_dice: bool,
        squared: bool = True,
        ignore_label: int | None = None,
        ddp: bool = False,
    ):
        super().__init__()
        self.do_bg = do_bg
        self.squared = squared
        self.batch_dice = batch_dice
        self.ignore_label = ignore_label
        self.ddp = ddp

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits: (B, C, \\*spatial)
            target: labels (B, 1, \\*spatial), or regions (B, C, \\*spatial), the ignored pixels behind them as one more

        Returns:
            the loss, a scalar
        """
        with torch.no_grad():
            if target.shape[1] == 1 and logits.shape[1] > 1:
                target = one_hot(target, logits.shape[1], self.ignore_label)
            valid = None if self.ignore_label is None else target[:, -1:] == 0
            g = target[:, : logits.shape[1]].float()
        p = torch.sigmoid(logits.float())
        if valid is not None:
            p, g = p * valid, g * valid
        if not self.do_bg:
            p, g = p[:, 1:], g[:, 1:]

        axes = tuple(range(2, p.ndim))
        size = p.square() + g.square() if self.squared else p + g
        sums = torch.stack([(p * g).sum(axes), size.sum(axes)])  # (2, B, C)
        if self.batch_dice:
            sums = sums.sum(1)
            if self.ddp:
                sums = AllGatherGrad.apply(sums).sum(0)
        overlap, total = sums
        return 1 - ((2 * overlap + SMOOTH) / (total + SMOOTH)).mean()
