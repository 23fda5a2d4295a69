"""Phantom patients in ACDC's own layout."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_cardiac.phantom.short_axis import GROUPS, ShortAxisPhantom

N_FRAMES = 20


def write_patients(
    folder: Path,
    numbers: Sequence[int],
    seed: int = 0,
    cine: bool = False,
    shape: tuple[int, int] = (192, 176),
    spacing: float = 1.6,
    n_slices: int = 10,
) -> None:
    """Writes ``folder/patientNNN`` with frames and labels of ED and ES, and ``Info.cfg``, as ACDC has them.

    Args:
        folder: ``training`` or ``testing``
        numbers: NNN of each patient; they go through ACDC's groups in turn
        seed: with a patient's number, decides all that patients differ in
        cine: also write ``patientNNN_4d.nii.gz``, the whole cycle
        shape, spacing, n_slices: as in ``ShortAxisPhantom``; sizes and spacing vary a little around them
    """
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        group = GROUPS[(number - 1) % len(GROUPS)]
        rows, columns = (int(s + rng.integers(-1, 2) * 8) for s in shape)
        pixel = round(spacing * rng.uniform(0.95, 1.05), 4)
        heart = int(rng.integers(2**31))
        phantom = ShortAxisPhantom(group, heart, (rows, columns), pixel, n_slices + int(rng.integers(-1, 2)))
        es = int(rng.integers(7, 11))
        patient = folder / f"patient{number:03d}"
        patient.mkdir(parents=True, exist_ok=True)
        affine = np.diag([-pixel, -pixel, phantom.slice_spacing, 1.0])

        def save(name: str, array: np.ndarray, patient=patient, affine=affine) -> None:
            nib.save(nib.Nifti1Image(array, affine), patient / f"{patient.name}_{name}.nii.gz")

        frames = {}
        for frame in range(1, N_FRAMES + 1) if cine else (1, es):
            # systole to frame es, then diastole back to frame 1
            phase = (frame - 1) / (es - 1) if frame <= es else (N_FRAMES + 1 - frame) / (N_FRAMES + 1 - es)
            image, labels = phantom.frame(0.5 - 0.5 * np.cos(np.pi * phase))
            frames[frame] = image.transpose(2, 1, 0)
            if frame in (1, es):
                save(f"frame{frame:02d}", frames[frame])
                save(f"frame{frame:02d}_gt", labels.transpose(2, 1, 0))
        if cine:
            save("4d", np.stack([frames[f] for f in sorted(frames)], axis=-1))
        (patient / "Info.cfg").write_text(
            f"ED: 1\nES: {es}\nGroup: {group}\nHeight: {rng.normal(171, 8):.1f}\nNbFrame: {N_FRAMES}\n"
            f"Weight: {rng.normal(76, 11):.1f}\n"
        )
