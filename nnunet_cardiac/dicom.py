"""What every reader of DICOM files shares."""

import struct
import zlib

import pydicom

UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises of files that are cut off, compressed in a way it cannot read, or no DICOM."""


def reason(e: BaseException) -> str:
    """An exception's text, in one line of at most 160 characters."""
    return " ".join(str(e).split())[:160] or type(e).__name__
