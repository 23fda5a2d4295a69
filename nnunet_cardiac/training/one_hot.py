"""Losses of independent maps on data sets of exclusive labels."""

import torch
from torch import nn


class OneHotLoss(nn.Module):
    """A loss that wants a map for each class, for targets that are labels.

    Args:
        loss: of logits (B, C, \\*spatial) and maps (B, C, \\*spatial), the ignored pixels behind them as one more
        ignore_label: label whose pixels are ignored
    """

    def __init__(self, loss: nn.Module, ignore_label: int | None = None):
        super().__init__()
        self.loss = loss
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, \\*spatial) and labels (B, 1, \\*spatial) to the loss, a scalar."""
        return self.loss(logits, one_hot(target, logits.shape[1], self.ignore_label))


def one_hot(target: torch.Tensor, n_classes: int, ignore_label: int | None = None) -> torch.Tensor:
    """Labels (B, 1, \\*spatial) as one map a class; behind them, with an ``ignore_label``, that of its pixels."""
    labels = target.long()
    ignored = None if ignore_label is None else labels == ignore_label
    if ignored is not None:
        labels = labels.masked_fill(ignored, 0)
    maps = torch.zeros(len(labels), n_classes, *labels.shape[2:], device=labels.device).scatter_(1, labels, 1)
    return maps if ignored is None else torch.cat((maps * ~ignored, ignored.float()), 1)
