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
IMPLAUSIBLE, LEAST_IMPLAUSIBLE = 0.5, 2
"""Share of slices with an implausible heart from which on a segmentation is not that of a short axis, it seems; of a
single slice an island or a gap says nothing."""
AXES = "ZYX"
"""Of an image, as nnU-Net's reader gives it: the last of a file comes first."""


def slices_along(shape: Sequence[int], cut_axis: int) -> int:
    """The axis across an image's slices: that which the network cuts, unless the image is one slice along another.

    Spacings do not tell: slices may be closer than pixels, and that of one slice alone means nothing.

    Args:
        shape: (Z, Y, X)
        cut_axis: of these, the one that the model's plans put first
    """
    return shape.index(1) if shape[cut_axis] != 1 and 1 in shape else cut_axis


def unusual_image(
    image: np.ndarray, spacing: Sequence[float], training: TrainingImages | None, cut_axis: int = 0
) -> list[str]:
    """
    Args:
        image: (C, Z, Y, X), as nnU-Net's reader gives it
        spacing: mm (Z, Y, X)
        training: None where it is not known
        cut_axis: see ``slices_along``

    Returns:
        a sentence for each thing that is unusual
    """
    found = []
    if (lowest := float(image.min())) <= HOUNSFIELD:
        found.append(f"values down to {lowest:g}, as CT has and MR has not")
    if image.min() == image.max():
        found.append(f"every voxel is {lowest:g}")
    shape = image.shape[1:]
    axis = slices_along(shape, cut_axis)
    _, second, largest = sorted(spacing)
    if shape[axis] > 1 and largest > TOLERANCE * second:
        axis = int(np.argmax(spacing))
    if axis != cut_axis:
        found.append(f"its slices lie along {AXES[axis]}, where the model cuts along {AXES[cut_axis]}: turn the image")
    if training is None:
        return found
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


def unusual_segmentation(
    labels: np.ndarray, spacing: Sequence[float], structures: Structures, slice_axis: int = 0
) -> list[str]:
    """
    Args:
        labels: (Z, Y, X), as the network gave them
        spacing: mm, in the same order
        structures: that the labels stand for
        slice_axis: across the slices

    Returns:
        a sentence for each thing that is unusual
    """
    missing = [name for name in structures.values if not structures.mask(labels, name).any()]
    if len(missing) == len(structures.values):
        return ["no heart was found"]
    found = [f"no {' and no '.join(missing)} was found"] if missing else []
    segmentation = Segmentation(labels, tuple(spacing))
    anatomy = implausible_anatomy(segmentation, structures, slice_axis)
    bad = anatomy["implausible_slices"]
    if bad >= LEAST_IMPLAUSIBLE and bad > IMPLAUSIBLE * anatomy["slices"]:
        found.append(
            f"the heart is implausible in {bad} of {anatomy['slices']} slices, as where "
            "an image is no short axis, or no MR"
        )
    return found
