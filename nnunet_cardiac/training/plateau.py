"""Learning rate and end of a training that follow the validation loss (HALSR-Net)."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

FACTOR, PATIENCE = 0.1, 5
"""Of the reduction; the public code's, which is written in Keras."""


class PlateauLR:
    """Keras's ``ReduceLROnPlateau`` for nnU-Net's trainers, whose ``step`` is called with the epoch.

    Keras reduces the rate after ``PATIENCE`` epochs without improvement, and an improvement is 1e-4 at least; PyTorch's
    class, which is used here, would wait for one epoch more.

    All its state follows from the validation losses so far, which nnU-Net's checkpoints hold: before each epoch it is
    built anew from them. So a resumed training goes on as an uninterrupted one.

    Args:
        optimizer: its parameter groups' ``lr`` are set
        initial_lr: rate before any reduction
        losses: called for the validation losses so far, one an epoch
    """

    def __init__(self, optimizer: Optimizer, initial_lr: float, losses: Callable[[], Sequence[float]]):
        self.optimizer, self.initial_lr, self.losses = optimizer, initial_lr, losses

    def step(self, epoch: int) -> None:
        """Sets the rate of ``epoch``, counted from 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr
        plateau = ReduceLROnPlateau(
            self.optimizer, factor=FACTOR, patience=PATIENCE - 1, threshold=1e-4, threshold_mode="abs"
        )
        for loss in self.losses()[:epoch]:
            plateau.step(loss)


def should_stop(losses: Sequence[float], patience: int) -> bool:
    """Early stopping: whether the last ``patience`` losses, one an epoch, bring no improvement on those before."""
    return len(losses) > patience and not min(losses[-patience:]) < min(losses[:-patience], default=math.inf)
