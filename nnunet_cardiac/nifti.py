"""What images must be like before SimpleITK reads them. In NIfTI it pads what was cut off and turns NaN into 0."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import check_utf8
from nnunet_cardiac.texts import reason

MOST_VOXELS = 100_000_000
"""Of an image or a cine: 512 x 512 pixels, 12 slices, 30 phases. Reading them takes 2 GB."""
LARGEST_VOXEL = 1e12
"""Of larger ones float32 cannot hold the sum of squares, so that what is normalised by it is NaN."""
MOST_DEFLATED = 1032
"""Times as small as it was that gzip makes a file at most."""


def open_nifti(path: Path) -> nib.Nifti1Image:
    """A NIfTI file's image, whose header was checked and whose voxels are not read yet.

    Raises:
        UserError: the file is missing or no NIfTI, or its header tells of voxels that are no numbers, of more than
            there can be in the file, or of more than ``MOST_VOXELS``
    """
    try:
        image = cast(nib.Nifti1Image, nib.load(path))
        shape, kind = tuple(int(n) for n in image.shape), image.get_data_dtype()
        size = path.stat().st_size
    except FileNotFoundError as e:
        raise UserError(f"{path} is missing.") from e
    except Exception as e:  # damaged headers make nibabel and NumPy raise all kinds
        raise UserError(f"{path} cannot be read as NIfTI ({reason(e)}): get the file again.") from e
    if not isinstance(image, nib.Nifti1Pair) or kind.kind not in "iuf" or min(shape, default=0) < 1:
        by = " x ".join(map(str, shape))
        raise UserError(f"{path} is no NIfTI image: it has {by or 'no'} voxels of type {kind}.")
    n = math.prod(shape)
    if n > MOST_VOXELS:
        raise UserError(f"{path} has {n:.2g} voxels, says its header: more than {MOST_VOXELS:.2g} are not read.")
    if n * kind.itemsize > size * (MOST_DEFLATED if path.name.endswith(".gz") else 1):
        raise UserError(f"{path} is cut off: its {size} bytes cannot hold the {n} voxels that its header tells of.")
    return image


def check_header(path: Path) -> None:
    """Looks at an image before it is read.

    Args:
        path: of any format that SimpleITK reads

    Raises:
        UserError: its path is not in UTF-8, its header cannot be read, or tells of more than ``MOST_VOXELS``; of NIfTI
            as ``open_nifti``
    """
    check_utf8(path)
    if path.name.endswith((".nii", ".nii.gz")):
        open_nifti(path)
        return
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _as_user_error(path):
        reader.ReadImageInformation()
    if (n := math.prod(reader.GetSize())) > MOST_VOXELS:
        raise UserError(f"{path} has {n:.2g} voxels, says its header: more than {MOST_VOXELS:.2g} are not read.")


def read_image(path: Path) -> sitk.Image:
    """An image of any format that SimpleITK reads.

    Raises:
        UserError: as ``check_header``, or the file is cut off
    """
    check_header(path)
    with _as_user_error(path):
        return sitk.ReadImage(str(path))


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as e:  # all of SimpleITK's errors, long, with the reason last
        raise UserError(f"{path} cannot be read ({' '.join(str(e).split())[-150:]}): get the file again.") from e


def read_nifti(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Voxels and image of a NIfTI file.

    Raises:
        UserError: as ``open_nifti``; the file is cut off, or a voxel is not finite, or beyond ``LARGEST_VOXEL``
    """
    image = open_nifti(path)
    try:
        voxels = np.asanyarray(image.dataobj)
    except Exception as e:  # as above
        raise UserError(f"{path} cannot be read as NIfTI ({reason(e)}): get the file again.") from e
    check_voxels(voxels, path)
    return voxels, image


def check_voxels(voxels: np.ndarray, path: Path) -> None:
    """
    Raises:
        UserError: a voxel is not finite, or so large that a mean or variance in float32 is not
    """
    if voxels.dtype.kind in "iu" and voxels.itemsize <= 4:
        return
    if n := np.count_nonzero(~(np.abs(voxels) <= LARGEST_VOXEL)):
        raise UserError(f"{path} has {n} voxels that are NaN, infinite or beyond {LARGEST_VOXEL:g}: repair the image.")
