"""Phantom patients in Sunnybrook's own layouts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from skimage.measure import find_contours

from nnunet_cardiac.phantom.short_axis import GROUPS, ShortAxisPhantom

PATHOLOGIES = ("HF-I", "HF-NI", "HYP", "N")
N_FRAMES = 4
"""Of the cycle: end of diastole first, end of systole third."""
SYSTOLE = 2


def write_patients(
    folder: Path,
    numbers: Sequence[int],
    seed: int = 0,
    size: int = 64,
    spacing: float = 4.2,
    n_slices: int = 3,
    linked: bool = False,
) -> None:
    """Writes a patient of each of the four pathologies in turn: short-axis cine as DICOM, contours as text.

    The cavity has a contour at the end of diastole and of systole, the epicardium at the end of diastole.

    Args:
        folder: created where it does not exist
        numbers: N of each patient
        seed: with a patient's number, decides all that patients differ in
        size: rows and columns, pixels
        spacing: mm
        n_slices: positions along the heart
        linked: the layout with ``link.csv`` in place of the challenge's
    """
    links = ["patient_id,original_id"]
    for number in numbers:
        patient = f"SC-{PATHOLOGIES[(number - 1) % len(PATHOLOGIES)]}-{number}"
        images = folder / "challenge_training" / patient
        contours = folder / "TrainingDataContours" / patient / "contours-manual" / "IRCCI-expert"
        places = {"i": contours, "o": contours}
        if linked:
            images = folder / "dicoms" / f"SCD{number:07d}"
            places = {kind: folder / "contourfiles" / patient / f"{kind}-contours" for kind in "io"}
            links.append(f"SCD{number:07d},{patient}")
        for place in (images, *places.values()):
            place.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, number])
        phantom = ShortAxisPhantom(
            GROUPS[(number - 1) % len(GROUPS)], int(rng.integers(2**31)), (size, size), spacing, n_slices
        )
        series = generate_uid(entropy_srcs=[patient, str(seed)])
        cycle = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FRAMES) / N_FRAMES)
        frames = [phantom.frame(contraction) for contraction in cycle]
        for z in range(n_slices):
            for t, (image, label) in enumerate(frames):
                instance = z * N_FRAMES + t + 1
                name = f"{instance:04d}.dcm" if linked else f"IM-{number + 100:04d}-{instance:04d}.dcm"
                write_dicom(images / name, image[z], series, instance, spacing, (0, 0, 10.0 * z))
                if t == SYSTOLE or t == 0:
                    _write_contour(places["i"] / f"IM-0001-{instance:04d}-icontour-manual.txt", label[z] == 3)
                if t == 0:
                    _write_contour(places["o"] / f"IM-0001-{instance:04d}-ocontour-manual.txt", label[z] >= 2)
    if linked:
        (folder / "link.csv").write_text("\n".join(links) + "\n")


def write_dicom(
    file: Path, pixels: np.ndarray, series: str, instance: int, spacing: float, position: Sequence[float]
) -> None:
    """One image (rows, columns) as DICOM.

    Args:
        file: to write
        pixels: intensities from 0
        series: its UID
        instance: InstanceNumber
        spacing: mm, of rows and columns
        position: of the first pixel, mm
    """
    dicom = pydicom.Dataset()
    dicom.file_meta = pydicom.dataset.FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dicom.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(instance)])
    dicom.file_meta.MediaStorageSOPInstanceUID = dicom.SOPInstanceUID
    dicom.Modality, dicom.Manufacturer = "MR", "PHANTOM MEDICAL SYSTEMS"
    dicom.SeriesInstanceUID, dicom.InstanceNumber = series, instance
    dicom.ImagePositionPatient, dicom.ImageOrientationPatient = list(position), [1, 0, 0, 0, 1, 0]
    dicom.PixelSpacing, dicom.SliceThickness, dicom.SpacingBetweenSlices = [spacing, spacing], 8.0, 10.0
    dicom.Rows, dicom.Columns = pixels.shape
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.PixelRepresentation = 1, "MONOCHROME2", 0
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, 16, 15
    dicom.PixelData = np.clip(np.rint(pixels), 0, 65535).astype("<u2").tobytes()
    dicom.save_as(file, enforce_file_format=True)


def _write_contour(file: Path, mask: np.ndarray) -> None:
    """The longest outline of a mask, as x and y in pixels from the image's corner; no file where there is none."""
    outlines = find_contours(np.pad(mask.astype(float), 1), 0.5)
    if outlines:
        rows, columns = max(outlines, key=len)[:-1].T - 1 + 0.5
        file.write_text("".join(f"{x:.2f} {y:.2f}\n" for x, y in zip(columns, rows, strict=True)))
