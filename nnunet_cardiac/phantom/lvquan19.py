"""Phantom patients in LVQuan19's own layout."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from nnunet_cardiac.phantom.short_axis import GROUPS, ShortAxisPhantom

N_FRAMES = 20


def write_patients(
    folder: Path, numbers: Sequence[int], seed: int = 0, size: int = 80, spacing: float = 3.2, v73: bool = False
) -> None:
    """Writes ``folder/patientN.mat`` with the mid-ventricular slice of a whole cycle, as LVQuan19 has them.

    Args:
        folder: created where it does not exist
        numbers: N of each patient
        seed: with a patient's number, decides all that patients differ in
        size: rows and columns, pixels
        spacing: mm
        v73: MATLAB v7.3 (HDF5) in place of v5
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        phantom = ShortAxisPhantom(
            GROUPS[(number - 1) % len(GROUPS)], int(rng.integers(2**31)), (size, size), spacing, 5
        )
        cycle = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FRAMES) / N_FRAMES)
        images, labels = zip(*(phantom.frame(contraction) for contraction in cycle), strict=True)
        image, label = (np.stack([frame[len(frame) // 2] for frame in frames], -1) for frames in (images, labels))
        content = {
            "image": image.astype(np.float64),
            "endo": (label == 3).astype(np.uint8),
            "epi": (label >= 2).astype(np.uint8),
            "pix_spa": np.array([[spacing]]),
            "lv_phase": (np.gradient(cycle) > 0).astype(np.uint8)[:, None],
        }
        file = folder / f"patient{number}.mat"
        if v73:
            with h5py.File(file, "w", userblock_size=512) as f:
                for name, value in content.items():
                    f[name] = value.T
        else:
            scipy.io.savemat(file, content, do_compression=True)
