"""Loss of the regression of a box (HALSR-Net's first phase)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_cardiac.networks.halsr_net import average_to
from nnunet_cardiac.networks.lv_box import BoxOutputs, box_of


def box_iou(box: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes given by centre and size (B, 2 * dim), as (B,)."""
    (centre, size), (other_centre, other_size) = box.chunk(2, 1), other.chunk(2, 1)
    stop = torch.minimum(centre + size / 2, other_centre + other_size / 2)
    start = torch.maximum(centre - size / 2, other_centre - other_size / 2)
    intersection = (stop - start).clamp_min(0).prod(1)
    union = size.prod(1) + other_size.prod(1) - intersection
    return intersection / union.clamp_min(1e-8)


class BoxLoss(nn.Module):
    """Absolute error of centre and size, one minus the intersection over union; cross-entropy of presence; and of the
    places, their cross-entropy and one minus their Dice.

    Errors of the box are means over the samples that have a left ventricle. No loss is named: decided here. Without its
    last part, the box of a short training is hardly better than the average box.

    Args:
        box_labels: labels that the box encloses
        ignore_label: label that is in no box, and does not make one absent
    """

    def __init__(self, box_labels: Sequence[int], ignore_label: int | None = None):
        super().__init__()
        self.box_labels = tuple(box_labels)
        self.ignore_label = ignore_label

    def forward(self, outputs: BoxOutputs, targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            outputs: of the regressor; the logits are not looked at
            targets: labels (B, 1, \\*spatial) first

        Returns:
            the loss, a scalar
        """
        box, presence = outputs.box.float(), outputs.presence.float()
        labels = targets[0][:, 0]
        foreground = torch.stack([labels == label for label in self.box_labels]).any(0)
        wanted, present = box_of(foreground)
        known = torch.ones_like(foreground) if self.ignore_label is None else labels != self.ignore_label
        # an absence that annotation left open is no absence
        loss = functional.binary_cross_entropy_with_logits(
            presence, present.float(), (present | known.flatten(1).all(1)).float()
        )
        error = (box - wanted).abs().mean(1) + 1 - box_iou(box, wanted)
        loss = loss + (error * present).sum() / present.sum().clamp_min(1)
        return loss + self._places(outputs.places.float(), foreground, known)

    @staticmethod
    def _places(logits: torch.Tensor, foreground: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        share, known = (average_to(m[:, None].float(), logits.shape[2:]) for m in (foreground, known))
        p = logits.sigmoid() * known
        dice = (2 * (p * share).sum() + 1) / (p.sum() + share.sum() + 1)
        return functional.binary_cross_entropy_with_logits(logits, share, known) + 1 - dice
