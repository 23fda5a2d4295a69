"""What every reader of DICOM files shares."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pydicom
from numpy.typing import ArrayLike

UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises of files that are cut off, compressed in a way it cannot read, or no DICOM."""


def reason(e: BaseException) -> str:
    """An exception's text, in one line of at most 160 characters."""
    return " ".join(str(e).split())[:160] or type(e).__name__


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
