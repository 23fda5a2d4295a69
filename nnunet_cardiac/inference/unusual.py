"""What is unusual about an image, or about its segmentation: sentences, for those who read the result."""

from collections.abc import Sequence

import numpy as np

from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures
from nnunet_cardiac.models.training_images import TrainingImages

TOLERANCE = 1.25
"""How far a spacing may be from those of the training images: 25 %, about what nnU-Net's augmentation scales by."""
HOUNSFIELD = -200
"""Values as low as that are CT's: MR images have none below 0."""
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
        found.append(f"values down to {lowest:g}, as CT has; MR has none below 0")
    if image.min() == image.max():
        found.append(f"every voxel is {lowest:g}")
    if training is None:
        return found
    if image.shape[1] == 1 and training.n_slices[0] > 1:
        found.append(f"one slice, where the model has seen stacks of {training.n_slices[0]} to {training.n_slices[1]}")
    pixels = sorted(spacing[1:])
    for what, sizes, (low, high) in (
        ("pixels", pixels, training.pixel),
        ("a slice distance", spacing[:1], training.slice_distance),
    ):
        if what == "a slice distance" and image.shape[1] == 1:
            continue
        if sizes[0] < low / TOLERANCE or sizes[-1] > high * TOLERANCE:
            size = " x ".join(f"{s:.3g}" for s in sizes)
            found.append(f"{what} of {size} mm, where the model has seen {low:.3g} to {high:.3g} mm")
    return found


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
