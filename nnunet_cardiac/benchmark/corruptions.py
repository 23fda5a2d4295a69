"""Images made worse in graded steps, as scanners and patients make them: TorchIO's transforms, with fixed strengths."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import written_whole
from nnunet_cardiac.nifti import read_image


def _noise(image, strength: float, seed: int):
    """Normal noise; its deviation is a share of the image's own."""
    import torchio

    return torchio.Noise(mean=0, std=strength * float(image.data.std()), seed=seed)(image)


def _bias_field(image, strength: float, seed: int):
    """A smooth field of brightness, a polynomial of third order with random signs."""
    import torchio

    signs = np.random.default_rng(seed).choice([-1, 1], size=20)
    return torchio.BiasField(coefficients=list(strength * signs), order=3)(image)


def _ghosting(image, strength: float, seed: int):
    """Ghosts along the rows, as of breathing."""
    import torchio

    return torchio.Ghosting(num_ghosts=5, axis=1, intensity=strength, restore=0.02)(image)


def _low_resolution(image, strength: float, seed: int):
    """Fewer pixels in the plane, brought back to the grid."""
    import torchio

    for axis in (0, 1):
        spacing = [s * (strength if i == axis else 1) for i, s in enumerate(image.spacing)]
        image = torchio.Resample(image)(torchio.Resample(tuple(spacing), image_interpolation="nearest")(image))
    return image


def _missing_slices(image, strength: float, seed: int):
    """Slices without signal, somewhere between the ends; the experts' labels stay."""
    import torchio

    data = image.data.clone()
    n = data.shape[-1]
    lost = np.random.default_rng(seed).permutation(np.arange(1, max(2, n - 1)))[: round(strength)]
    data[..., lost[lost < n]] = data.min()
    return torchio.ScalarImage(tensor=data, affine=image.affine)


STRENGTHS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "noise": (_noise, (0.1, 0.25, 0.5)),
    "bias_field": (_bias_field, (0.1, 0.2, 0.35)),
    "ghosting": (_ghosting, (0.6, 1.2, 2.0)),
    "low_resolution": (_low_resolution, (1.5, 2.5, 4.0)),
    "missing_slices": (_missing_slices, (1, 2, 3)),
}
"""What makes an image worse, and how strongly: a share of the image's deviation, TorchIO's coefficients and intensity,
times the spacing in the plane, slices."""


def corrupt(source: Path, target: Path, name: str, severity: int) -> None:
    """Writes an image made worse, always in the same way.

    Args:
        source, target: files
        name: of ``CORRUPTIONS``
        severity: 1 to ``SEVERITIES``

    Raises:
        UserError: TorchIO is missing, or the image cannot be read
    """
    try:
        import torchio
    except ImportError as e:
        raise UserError("Images are made worse by TorchIO: pip install 'nnunet-cardiac[benchmark]'.") from e
    function, strengths = STRENGTHS[name]
    image = read_image(source)
    voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    spacing = (*image.GetSpacing(), 1.0)[:3]
    tensor = np.ascontiguousarray(np.moveaxis(np.atleast_3d(voxels), (0, 1, 2), (2, 1, 0)))[None]
    worse = function(
        torchio.ScalarImage(tensor=tensor, affine=np.diag([*spacing, 1.0])),
        strengths[severity - 1],
        zlib.crc32(f"{source.name} {name}".encode()),
    )
    new = sitk.GetImageFromArray(np.moveaxis(worse.numpy()[0], (0, 1, 2), (2, 1, 0)).reshape(voxels.shape))
    new.CopyInformation(image)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as partial:
        sitk.WriteImage(new, str(partial))
