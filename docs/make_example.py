"""Writes the example heart of the package from Sunnybrook: ``python docs/make_example.py SUNNYBROOK``.

SUNNYBROOK is a folder with the images and contours of SC-HF-I-4, as the challenge ships them.
"""

import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from nnunet_cardiac.dataset_conversion.sunnybrook import dicom_affine, fill_polygon, find_patients, read_contour
from nnunet_cardiac.examples import CINE, ED, ES, FOLDER, LABELS, LV, MYO, PATIENT

ROWS, COLUMNS = slice(66, 174), slice(60, 172)
"""The heart, by eye."""


def main() -> None:
    """The command line."""
    warnings.simplefilter("ignore")  # pydicom's, of identifiers with leading zeros
    patients, problems, _ = find_patients(Path(sys.argv[1]))
    assert not problems, problems
    patient = patients[PATIENT]
    frames = {number: pydicom.dcmread(file) for number, file in patient.images.items()}
    along_x, along_y = np.array(frames[1].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_x, along_y)
    place = {number: float(np.array(frame.ImagePositionPatient, float) @ normal) for number, frame in frames.items()}
    order = sorted(frames, key=lambda number: (round(place[number], 2), float(frames[number].TriggerTime)))
    n_slices = len({round(p, 2) for p in place.values()})
    numbers = np.array(order).reshape(n_slices, -1)  # slices along the normal, phases in time

    first = frames[int(numbers[0, 0])]
    affine = dicom_affine(first)
    step = (place[int(numbers[-1, 0])] - place[int(numbers[0, 0])]) / (n_slices - 1)
    affine[:3, 2] *= step / np.linalg.norm(affine[:3, 2])
    affine[:3, 3] = (affine @ [COLUMNS.start, ROWS.start, 0, 1])[:3]

    cine = np.stack([[frames[int(n)].pixel_array for n in phases] for phases in numbers])  # slice, phase, row, column
    image = nib.Nifti1Image(cine[:, :, ROWS, COLUMNS].transpose(3, 2, 0, 1).astype(np.uint16), affine)
    times = [float(frames[int(n)].TriggerTime) for n in numbers[0]]
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = (times[-1] - times[0]) / (len(times) - 1)
    nib.save(image, FOLDER / CINE)

    rows, columns = first.pixel_array.shape
    for phase, name in ((ED, "ED"), (ES, "ES")):
        labels = np.zeros((n_slices, rows, columns), np.uint8)
        for i, number in enumerate(numbers[:, phase]):
            contours = patient.contours.get(int(number), {})
            for kind, value in (("o", MYO), ("i", LV)):
                if kind in contours:
                    labels[i][fill_polygon(read_contour(contours[kind]), (rows, columns))] = value
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
