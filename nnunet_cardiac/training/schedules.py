"""Learning-rate schedules in nnU-Net's manner: ``step(epoch)`` sets that epoch's rate, so resuming needs no state."""

from collections.abc import Sequence

from torch.optim import Optimizer


class StepLR:
    """Divides the learning rate by 10 after given shares of the training.

    Args:
        optimizer: its parameter groups' ``lr`` are set
        initial_lr: rate before the first step
        num_epochs: length of the training
        after: shares of it after which the rate falls; as shares, so that a shortened training keeps its shape
    """

    def __init__(self, optimizer: Optimizer, initial_lr: float, num_epochs: int, after: Sequence[float]):
        self.optimizer = optimizer
        self.initial_lr = initial_lr
        self.milestones = [share * num_epochs for share in after]

    def step(self, epoch: int) -> None:
        """Sets the rate of ``epoch``, counted from 0."""
        lr = self.initial_lr * 0.1 ** sum(epoch >= m for m in self.milestones)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
