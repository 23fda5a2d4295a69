"""Writes the example heart of the package from Sunnybrook: ``python docs/make_example.py SUNNYBROOK``.

SUNNYBROOK is a folder with the images and contours of SC-HF-I-4, as the challenge ships them.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_cardiac.cine.read import read_cine
from nnunet_cardiac.dataset_conversion.sunnybrook import fill_polygon, find_patients, read_contour
from nnunet_cardiac.examples import CINE, ED, ES, FOLDER, LABELS, LV, MYO, PATIENT

ROWS, COLUMNS = slice(66, 174), slice(60, 172)
"""The heart, by eye."""


def main() -> None:
    """The command line."""
    patients, problems, _ = find_patients(Path(sys.argv[1]))
    assert not problems, problems
    patient = patients[PATIENT]
    numbers = {file: number for number, file in patient.images.items()}
    cine = read_cine(patient.images[1].parent)
    assert cine.sources is not None and cine.times is not None

    affine = cine.affine.copy()
    affine[:3, 3] = (affine @ [COLUMNS.start, ROWS.start, 0, 1])[:3]
    image = nib.Nifti1Image(cine.voxels[..., ROWS, COLUMNS].transpose(3, 2, 1, 0).astype(np.uint16), affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = (cine.times[-1] - cine.times[0]) / (len(cine.times) - 1)
    nib.save(image, FOLDER / CINE)

    for phase, name in ((ED, "ED"), (ES, "ES")):
        labels = np.zeros(cine.voxels.shape[1:], np.uint8)
        for i, source in enumerate(cine.sources[phase]):
            contours = patient.contours.get(numbers[source.file], {})
            for kind, value in (("o", MYO), ("i", LV)):
                if kind in contours:
                    labels[i][fill_polygon(read_contour(contours[kind]), labels[i].shape)] = value
        nib.save(
            nib.Nifti1Image(labels[:, ROWS, COLUMNS].transpose(2, 1, 0), affine), FOLDER / LABELS.format(phase=name)
        )
        print(
            name,
            np.bincount(labels.ravel()),
            "outside the crop:",
            np.count_nonzero(labels) - np.count_nonzero(labels[:, ROWS, COLUMNS]),
        )
    print(f"{(FOLDER / CINE).stat().st_size / 1e6:.2f} MB, {image.shape}, {image.header.get_zooms()}")


if __name__ == "__main__":
    main()
