"""What every reader of DICOM files shares.

Damaged objects make pydicom raise all kinds of exceptions, some of them only when an element is looked at. So callers
catch ``Exception`` around everything that they do with one.
"""

import zlib
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

LARGEST_INFLATED = 500_000_000
"""Bytes of a deflated object when it is unpacked."""
MOST_PIXELS = 200_000_000
"""Of an object with all its frames."""
SIZES = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
"""Elements that tell how many pixels there are."""


def read_dicom(file: Path, **options: Any) -> pydicom.FileDataset:
    """An object of a size that images have.

    Args:
        file: of any transfer syntax
        options: of ``pydicom.dcmread``

    Raises:
        Exception: it cannot be read, unpacks to too much, or tells of too many pixels
    """
    _check_inflated(file)
    dicom = pydicom.dcmread(file, **options)
    n = 1
    for keyword in SIZES:
        n *= abs(int(dicom.get(keyword) or 1))
    if n > MOST_PIXELS:
        raise ValueError(f"its header tells of {n:.2g} pixels")
    return dicom


def _check_inflated(file: Path) -> None:
    with open(file, "rb") as opened:
        if read_preamble(opened, force=True) is None:
            return
        meta = read_dataset(opened, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        rest = opened.read()
    inflate, n = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while rest and not inflate.eof:
        n += len(inflate.decompress(rest, 1 << 24))
        rest = inflate.unconsumed_tail
        if n > LARGEST_INFLATED:
            raise ValueError(f"it unpacks to more than {LARGEST_INFLATED / 1e9:g} GB")
