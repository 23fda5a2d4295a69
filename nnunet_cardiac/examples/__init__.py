"""A patient that comes with the package: SC-HF-I-4 of Sunnybrook, CC0, cropped around the heart.

``SC-HF-I-4/README.md`` says where it is from. It was written by ``docs/make_example.py``.
"""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_cardiac.nifti import read_nifti

PATIENT = "SC-HF-I-4"
FOLDER = Path(__file__).parent / PATIENT
CINE = "SC-HF-I-4_4d.nii.gz"
"""The cine: columns, rows, slices from apex to base, phases."""
LABELS = "SC-HF-I-4_{phase}_gt.nii.gz"
"""The experts' contours at ED (cavity and myocardium) and at ES (cavity alone), with ACDC's values."""
ED, ES = 19, 6
"""Phases that the experts drew, counted from 0."""
RV, MYO, LV = 1, 2, 3


def write_volumes(images: Path, labels: Path) -> None:
    """Writes the two phases that the experts drew.

    Args:
        images: folder, for ``SC-HF-I-4_ED_0000.nii.gz`` and ``SC-HF-I-4_ES_0000.nii.gz``
        labels: folder, for the contours of both, without the channel's number
    """
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    voxels, cine = read_nifti(FOLDER / CINE)
    for name, phase in (("ED", ED), ("ES", ES)):
        volume = nib.Nifti1Image(voxels[..., phase].astype(np.float32), cine.affine)
        nib.save(volume, images / f"{PATIENT}_{name}_0000.nii.gz")
        shutil.copyfile(FOLDER / LABELS.format(phase=name), labels / f"{PATIENT}_{name}.nii.gz")


def draw(segmentations: Path, file: Path) -> None:
    """A picture of slices at ED and ES with the experts' contours and a model's.

    Args:
        segmentations: folder with ``SC-HF-I-4_ED.nii.gz`` and ``SC-HF-I-4_ES.nii.gz``
        file: to write
    """
    from matplotlib.figure import Figure

    from nnunet_cardiac.evaluation.figures import overlay, own_style

    voxels, _ = read_nifti(FOLDER / CINE)
    slices = np.linspace(voxels.shape[2] - 2, 1, 4).round().astype(int)  # from base to apex
    with own_style():
        figure = Figure(figsize=(9, 2.55), layout="constrained")
        rows = figure.subplots(2, 2 * len(slices))
        for axes, (name, phase) in zip(rows, (("ED", ED), ("ES", ES)), strict=True):
            expert, _ = read_nifti(FOLDER / LABELS.format(phase=name))
            found, _ = read_nifti(segmentations / f"{PATIENT}_{name}.nii.gz")
            for i, z in enumerate(slices):
                image = voxels[:, :, z, phase].T
                for ax, labels, title in (
                    (axes[2 * i], expert, "experts"), (axes[2 * i + 1], found, f"model, {z + 1} of {voxels.shape[2]}"),
                ):  # fmt: skip
                    overlay(ax, image, labels[:, :, z].T, {"RV": RV, "MYO": MYO, "LV": LV})
                    ax.set_title(title, fontsize=7, pad=2)
            axes[0].text(
                -0.08, 0.5, name, transform=axes[0].transAxes, rotation=90, ha="right", va="center", fontsize=8
            )
        figure.savefig(file, dpi=140)
