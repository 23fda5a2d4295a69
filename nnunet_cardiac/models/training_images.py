"""What the images were like that a model was trained on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


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
        """Those of nnU-Net's ``dataset_fingerprint.json``, whose axes are Z, Y, X."""
        spacings, shapes = np.array(fingerprint["spacings"], float), np.array(fingerprint["shapes_after_crop"], int)
        return cls(
            (float(spacings[:, 0].min()), float(spacings[:, 0].max())),
            (float(spacings[:, 1:].min()), float(spacings[:, 1:].max())),
            (int(shapes[:, 0].min()), int(shapes[:, 0].max())),
        )

    @classmethod
    def from_json(cls, values: Mapping) -> "TrainingImages":
        """What ``to_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else
        """
        low_high = {key: (float(values[key][0]), float(values[key][1])) for key in ("slice_distance", "pixel")}
        return cls(**low_high, n_slices=(int(values["n_slices"][0]), int(values["n_slices"][1])))

    def to_json(self) -> dict:
        """For a JSON file."""
        return asdict(self)


def fingerprinted(folder: Path) -> TrainingImages | None:
    """The images that the model in nnU-Net's folder was trained on; None where nothing tells."""
    try:
        return TrainingImages.of_fingerprint(json.loads((folder / "dataset_fingerprint.json").read_text()))
    except (OSError, KeyError, ValueError, TypeError, IndexError):
        return None
