"""What all that reads or writes DICOM files shares.

Damaged objects make pydicom raise all kinds of exceptions, some of them only when an element is looked at. So callers
catch ``Exception`` around everything that they do with one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

LARGEST_INFLATED = 500_000_000
"""Bytes of a deflated object when it is unpacked."""
MOST_PIXELS = 200_000_000
"""Of an object with all its frames."""
SIZES = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
"""Elements that tell how many pixels there are."""


@dataclass(frozen=True)
class Patient:
    """Facts about a patient that identify nobody; None where nothing tells them.

    Args:
        sex: "F" or "M"
        age: years
        height: m
        weight: kg
    """

    sex: str | None = None
    age: float | None = None
    height: float | None = None
    weight: float | None = None

    @property
    def body_surface(self) -> float | None:
        """m^2, after Mosteller, N Engl J Med 317:1098, 1987."""
        if self.height is None or self.weight is None:
            return None
        return float(np.sqrt(self.height * 100 * self.weight / 3600))


@dataclass(frozen=True)
class Source:
    """The DICOM image that a slice at a phase comes from.

    Args:
        file: where it is
        sop_class, sop_instance: UIDs
        frame: its number in a multi-frame object, from 1; None in a single-frame one
    """

    file: Path
    sop_class: str
    sop_instance: str
    frame: int | None = None


def read_dicom(file: Path, **options: Any) -> pydicom.FileDataset:
    """An object of a size that images have.

    Args:
        file: of any transfer syntax
        options: of ``pydicom.dcmread``

    Raises:
        Exception: it cannot be read, unpacks to too much, or tells of too many pixels
    """
    _check_inflated(file)
    dicom = pydicom.dcmread(file, **options)
    n = 1
    for keyword in SIZES:
        n *= abs(int(dicom.get(keyword) or 1))
    if n > MOST_PIXELS:
        raise ValueError(f"its header tells of {n:.2g} pixels")
    return dicom


def _check_inflated(file: Path) -> None:
    with open(file, "rb") as opened:
        if read_preamble(opened, force=True) is None:
            return
        meta = read_dataset(opened, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        rest = opened.read()
    inflate, n = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while rest and not inflate.eof:
        n += len(inflate.decompress(rest, 1 << 24))
        rest = inflate.unconsumed_tail
        if n > LARGEST_INFLATED:
            raise ValueError(f"it unpacks to more than {LARGEST_INFLATED / 1e9:g} GB")


def unit_vectors(orientation: ArrayLike) -> np.ndarray:
    """Directions along a row and along a column (2, 3), at right angles, of ImageOrientationPatient, which is rounded.

    Raises:
        ValueError: they are not two directions
    """
    along_row, along_column = np.array(orientation, float).reshape(2, 3)
    along_row = along_row / max(np.linalg.norm(along_row), 1e-6)
    along_column = along_column - (along_column @ along_row) * along_row
    length = np.linalg.norm(along_column)
    if min(np.linalg.norm(along_row), length) < 0.5:
        raise ValueError(f"orientation {np.ravel(orientation).tolist()}")
    return np.stack([along_row, along_column / length])


def dicom_affine(directions: np.ndarray, position: ArrayLike, spacing: Sequence[float], distance: float) -> np.ndarray:
    """From columns, rows and slices to nibabel's world, in mm; DICOM part 3, C.7.6.2.1.1.

    Args:
        directions: see ``unit_vectors``; slices follow each other along their cross product
        position: (3,), of the first slice's first pixel
        spacing: between rows and between columns, as PixelSpacing has them
        distance: between slices
    """
    between_rows, between_columns = spacing
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * between_columns
    affine[:3, 1] = directions[1] * between_rows
    affine[:3, 2] = np.cross(*directions) * distance
    affine[:3, 3] = position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM's left and back to nibabel's right and front
