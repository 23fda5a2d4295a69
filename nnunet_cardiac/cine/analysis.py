"""What was found in a cine: all that the report, the tables and the DICOM objects are made of."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.evaluation.segmentation import Segmentation, Structures


@dataclass(frozen=True)
class Flag:
    """Something that makes numbers less certain.

    Args:
        title: in a few words
        reason: in a sentence, with the figures that it rests on
        indices: names of the indices that rest on it; those are marked wherever they stand
        phases: that are concerned; empty for the whole cine
    """

    title: str
    reason: str
    indices: tuple[str, ...] = ()
    phases: tuple[int, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """A segmented cine and what was measured in it.

    Args:
        cine: the images
        labels: (T, Z, Y, X), uint8
        structures: that the labels stand for
        volumes: a row for each phase; columns ``phase`` (from 0), ``time_ms`` (NaN where unknown), of what is labelled
            ``LV_mL``, ``RV_mL``, ``MYO_mL``, the same after smoothing over the cycle as ``LV_smooth_mL`` and so on, and
            ``disagreement`` (of mirrored copies of the image, 1 - Dice; NaN if unknown)
        ed, es: phases of end-diastole and end-systole, from 0
        indices: by name as in ``nnunet_cardiac.evaluation.indices``; NaN where it cannot be had
        wall_thickness, thickening: of AHA segments 1 to 16, at ED in mm and from ED to ES in percent; NaN where a
            segment is not covered; None where no myocardium is labelled
        flags: what makes them less certain
        model: what segmented: name, summary, licence, versions and so on, in words by their names
    """

    cine: Cine
    labels: np.ndarray
    structures: Structures
    volumes: pd.DataFrame
    ed: int
    es: int
    indices: dict[str, float]
    wall_thickness: np.ndarray | None = None
    thickening: np.ndarray | None = None
    flags: tuple[Flag, ...] = ()
    model: dict[str, str] = field(default_factory=dict)

    def segmentation(self, phase: int) -> Segmentation:
        """The labels of one phase."""
        return Segmentation(self.labels[phase], self.cine.spacing)

    def flagged(self, index: str) -> list[Flag]:
        """The flags that an index rests on."""
        return [flag for flag in self.flags if index in flag.indices]
