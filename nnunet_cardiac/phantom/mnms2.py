"""Phantom subjects in M&Ms-2's own layout: a long-axis four-chamber view and a short-axis stack of one heart."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from nnunet_cardiac.phantom.short_axis import LV, MYO, RV, ShortAxisPhantom

DISEASES = {"NOR": "NOR", "LV": "DCM", "HCM": "HCM", "TRI": "RV", "CIA": "MINF"}
"""M&Ms-2's names, and the group whose heart stands for them."""
VENDORS = ("SIEMENS", "Philips Medical Systems", "GE MEDICAL SYSTEMS")
FINE = 48
"""Slices of the stack that the long axis is cut from."""


def write_subjects(
    folder: Path,
    numbers: Sequence[int],
    seed: int = 0,
    shape: tuple[int, int] = (64, 56),
    spacing: float = 4.2,
    n_slices: int = 4,
) -> None:
    """Writes ``folder/dataset/NNN/NNN_{LA,SA}_{ED,ES}[_gt].nii.gz`` and ``dataset_information.csv``.

    Args:
        folder: created where it does not exist
        numbers: NNN of each subject; they go through diseases and vendors in turn
        seed: with a subject's number, decides all that subjects differ in
        shape: rows and columns, pixels
        spacing: mm
        n_slices: of the short axis
    """
    lines = ["SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD"]
    for number in numbers:
        disease = list(DISEASES)[(number - 1) % len(DISEASES)]
        lines.append(f"{number},{disease},{VENDORS[number % len(VENDORS)]},Phantom,1.5")
        place = folder / "dataset" / f"{number:03d}"
        place.mkdir(parents=True, exist_ok=True)
        patient = int(np.random.default_rng([seed, number]).integers(2**31))
        stack, fine = (
            ShortAxisPhantom(DISEASES[disease], patient, shape, spacing, n) for n in (n_slices, FINE)
        )  # the same heart, as hearts are drawn before anything else
        for phase, contraction in (("ED", 0.0), ("ES", 1.0)):
            views = {
                "SA": (*stack.frame(contraction), stack.slice_spacing),
                "LA": (*long_axis(fine, contraction), 10.0),
            }
            for view, (image, labels, thickness) in views.items():
                affine = np.diag([-spacing, -spacing, thickness, 1.0])
                values = np.zeros(4, np.uint8)
                values[[LV, MYO, RV]] = 1, 2, 3
                for ending, array in (("", image), ("_gt", values[labels])):
                    name = f"{place.name}_{view}_{phase}{ending}.nii.gz"
                    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), place / name)
    (folder / "dataset" / "dataset_information.csv").write_text("\n".join(lines) + "\n")


def long_axis(phantom: ShortAxisPhantom, contraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels (1, rows, columns) of the plane through the left ventricle's axis and the right ventricle.

    Args:
        phantom: a stack of many slices
        contraction: from 0 at ED to 1 at ES
    """
    image, labels = phantom.frame(contraction)
    rows, columns = phantom.shape
    step = phantom.z[1] - phantom.z[0]
    along = (np.arange(columns) - (columns - 1) / 2) * phantom.spacing
    height = phantom.heart.length / 2 + ((rows - 1) / 2 - np.arange(rows)) * phantom.spacing  # base above, apex below
    level = np.clip(height / phantom.heart.length, 0, 1)
    cy, cx = (c + t * (1 - level) for c, t in zip(phantom.centre, phantom.heart.tilt, strict=True))
    direction = phantom.heart.septum
    y = cy[:, None] - np.sin(direction) * along  # the right ventricle on the left
    x = cx[:, None] - np.cos(direction) * along
    z = np.broadcast_to(((height - phantom.z[0]) / step)[:, None], y.shape)
    middle = (np.array(phantom.shape) - 1) / 2
    places = [z, y / phantom.spacing + middle[0], x / phantom.spacing + middle[1]]
    seen = map_coordinates(image.astype(float), places, order=1, mode="nearest")
    drawn = map_coordinates(labels, places, order=0, mode="constant")
    return np.rint(seen).astype(np.int16)[None], drawn.astype(np.uint8)[None]
