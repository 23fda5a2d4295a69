"""What the images were like that a model was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import read_json

LARGEST = 1e6
"""mm, or slices: no image has more."""


@dataclass(frozen=True)
class TrainingImages:
    """What a model has seen, as far as another image can be compared with it.

    Args:
        slice_distance, pixel: smallest and largest of the training images, mm
        n_slices: smallest and largest
    """

    slice_distance: tuple[float, float]
    pixel: tuple[float, float]
    n_slices: tuple[int, int]

    @classmethod
    def of_fingerprint(cls, fingerprint: Mapping) -> "TrainingImages":
        """Those of nnU-Net's ``dataset_fingerprint.json``. Slices lie along the axis of the largest spacing."""
        spacings, shapes = np.array(fingerprint["spacings"], float), np.array(fingerprint["shapes_after_crop"], int)
        across = np.argmax(spacings, 1)[:, None]
        distances, numbers = (np.take_along_axis(values, across, 1) for values in (spacings, shapes))
        pixels = spacings[np.arange(3) != across]
        return cls(
            (float(distances.min()), float(distances.max())),
            (float(pixels.min()), float(pixels.max())),
            (int(numbers.min()), int(numbers.max())),
        )

    @classmethod
    def from_json(cls, values: Mapping) -> "TrainingImages":
        """What ``to_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else
        """
        ranges = {key: tuple(values[key]) for key in ("slice_distance", "pixel", "n_slices")}
        for key, pair in ranges.items():
            if len(pair) != 2 or not all(isinstance(v, int | float) and 0 <= v <= LARGEST for v in pair):
                raise ValueError(f"{key} is {values[key]!r:.80}")
        return cls(**ranges)

    def to_json(self) -> dict:
        """For a JSON file."""
        return asdict(self)


def fingerprinted(folder: Path) -> TrainingImages | None:
    """The images that the model in nnU-Net's folder was trained on; None where nothing tells."""
    try:
        return TrainingImages.of_fingerprint(read_json(folder / "dataset_fingerprint.json"))
    except (UserError, KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
