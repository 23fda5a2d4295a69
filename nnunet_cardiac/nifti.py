"""Reading NIfTI files, with the faults that SimpleITK passes over: it pads what was cut off and turns NaN into 0."""

import zlib
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from nnunet_cardiac.errors import UserError


def read_nifti(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Voxels and image of a NIfTI file.

    Raises:
        UserError: the file is missing, cut off or no NIfTI, or a voxel is not finite
    """
    try:
        image = cast(nib.Nifti1Image, nib.load(path))
        voxels = np.asanyarray(image.dataobj)
    except FileNotFoundError as e:
        raise UserError(f"{path} is missing.") from e
    except (EOFError, OSError, ValueError, zlib.error, ImageFileError) as e:
        raise UserError(f"{path} cannot be read as NIfTI ({e}): get the file again.") from e
    if not np.isfinite(voxels).all():
        n = np.count_nonzero(~np.isfinite(voxels))
        raise UserError(f"{path} has {n} voxels that are NaN or infinite: repair the image.")
    return voxels, image
