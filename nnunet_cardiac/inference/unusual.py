"""What is unusual about an image, or about its segmentation: sentences, for those who read the result."""

from collections.abc import Sequence

import numpy as np

from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures
from nnunet_cardiac.models.training_images import TrainingImages

TOLERANCE = 1.25
"""How far a spacing may be from those of the training images: 25 %, about what nnU-Net's augmentation scales by."""
HOUNSFIELD = -200
"""Values as low as that are CT's, where air has -1000; MR images have none below 0, if they are not normalised."""
IMPLAUSIBLE = 0.5
"""Share of slices with an implausible heart from which on a segmentation is not that of a short axis, it seems."""


def unusual_image(image: np.ndarray, spacing: Sequence[float], training: TrainingImages | None) -> list[str]:
    """
    Args:
        image: (C, Z, Y, X), as nnU-Net's reader gives it
        spacing: mm (Z, Y, X)
        training: None where it is not known

    Returns:
        a sentence for each thing that is unusual
    """
    found = []
    if (lowest := float(image.min())) <= HOUNSFIELD:
        found.append(f"values down to {lowest:g}, as CT has and MR has not")
    if image.min() == image.max():
        found.append(f"every voxel is {lowest:g}")
    if training is None:
        return found
    shape = image.shape[1:]
    axis = shape.index(1) if 1 in shape else int(np.argmax(spacing))
    pixels = sorted(s for i, s in enumerate(spacing) if i != axis)
    if shape[axis] == 1 and training.n_slices[0] > 1:
        found.append(f"one slice, where the model has seen stacks of {training.n_slices[0]} to {training.n_slices[1]}")
    elif not _near(spacing[axis], spacing[axis], training.slice_distance):
        low, high = training.slice_distance
        found.append(f"slices {spacing[axis]:.3g} mm apart, where the model has seen {low:.3g} to {high:.3g} mm")
    if not _near(pixels[0], pixels[1], training.pixel):
        low, high = training.pixel
        size = " x ".join(f"{s:.3g}" for s in pixels)
        found.append(f"pixels of {size} mm, where the model has seen {low:.3g} to {high:.3g} mm")
    return found


def _near(smallest: float, largest: float, seen: tuple[float, float]) -> bool:
    return smallest >= seen[0] / TOLERANCE and largest <= seen[1] * TOLERANCE


def unusual_segmentation(labels: np.ndarray, spacing: Sequence[float], structures: Structures) -> list[str]:
    """
    Args:
        labels: (Z, Y, X), as the network gave them
        spacing: mm, in the same order
        structures: that the labels stand for

    Returns:
        a sentence for each thing that is unusual
    """
    missing = [name for name in structures.values if not structures.mask(labels, name).any()]
    if len(missing) == len(structures.values):
        return ["no heart was found"]
    found = [f"no {' and no '.join(missing)} was found"] if missing else []
    segmentation = Segmentation(labels, tuple(spacing), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    anatomy = implausible_anatomy(segmentation, structures)
    if anatomy["implausible_slices"] > IMPLAUSIBLE * anatomy["slices"]:
        found.append(
            f"the heart is implausible in {anatomy['implausible_slices']} of {anatomy['slices']} slices, as where "
            "an image is no short axis, or no MR"
        )
    return found
