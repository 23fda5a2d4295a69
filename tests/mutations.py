"""Files with something wrong in them: what a disk, a network, another program or an attacker makes of a good one.

Every function takes a ``random.Random``, so that a number tells what is done, and changes a file in place.
"""

import gzip
import io
import json
import math
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pydicom
import scipy.io
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes

INTEGERS = (0, -1, 1, 2, 3, 7, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32, 2**63 - 1)
FLOATS = (0.0, -0.0, -1.0, 1e-30, 1e-6, 1e6, 1e30, 1e300, math.nan, math.inf, -math.inf)
NAMES = (
    "",
    " ",
    ".",
    "..",
    "../../up",
    "/etc/passwd",
    "a" * 300,
    "=1+1",
    "<b>&",
    "a\nb",
    "\x1b[2J",
    "h\u00e9art",
    "\0",
)
CLASSES = (
    "os.system", "subprocess.Popen", "builtins.exec", "torch.nn.Linear", "torch.hub.load", "nobody.Nothing",
    "nnunet_cardiac.networks.network.os.system", "monai.networks.nets.UNet", "nnUNetTrainer", "ZScoreNormalization",
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
)  # fmt: skip
JUNK: tuple[Any, ...] = (
    *INTEGERS, *FLOATS, *NAMES, *CLASSES, None, True, False, [], {}, [[]], {"": {}}, [None], [1, "a"], {"a": 1},
    [0] * 9,
)  # fmt: skip
BOMB = 3_000_000_000
"""Bytes that a small file unpacks to."""
ZEROS = gzip.compress(bytes(1 << 26), 9)
"""gzip's members may follow each other: so many make a bomb in no time."""


def damage_bytes(file: Path, r: random.Random) -> None:
    """Cuts, flips, fills, doubles or replaces parts of a file."""
    content = bytearray(file.read_bytes())
    n = len(content)
    if not n:
        return
    at = r.randrange(n) if r.random() < 0.5 else r.randrange(min(n, 400))  # headers are more interesting
    end = min(n, at + r.choice((1, 2, 4, 8, 40, 400, n)))
    how = r.randrange(9)
    if how == 0:
        del content[at:]
    elif how == 1:
        for _ in range(r.choice((1, 2, 8, 64))):
            content[r.randrange(n)] ^= 1 << r.randrange(8)
    elif how == 2:
        content[at:end] = bytes(end - at)
    elif how == 3:
        content[at:end] = b"\xff" * (end - at)
    elif how == 4:
        content[at:end] = r.randbytes(end - at)
    elif how == 5:
        content[at:at] = content[at:end]
    elif how == 6:
        del content[at:end]
    elif how == 7:
        content = bytearray(r.choice((b"", b"\0" * n, b"no such thing\n", b"<html>404</html>", content[::-1])))
    else:
        content += r.randbytes(r.choice((1, 100, 10000)))
    file.write_bytes(content)


# NIfTI


def damage_nifti(file: Path, r: random.Random) -> None:
    """A ``.nii.gz``: its header's fields, its shape, its type, its values, its compression."""
    how = r.choice(
        (_nifti_header, _nifti_header, _nifti_header, _nifti_shape, _nifti_values, _nifti_bytes, damage_bytes)
    )
    if r.random() < 0.01:
        how = nifti_bomb
    how(file, r)


def _nifti_bytes(file: Path, r: random.Random) -> None:
    """What is wrong is inside, behind an intact compression; or there is none."""
    file.write_bytes(gzip.decompress(file.read_bytes()))
    damage_bytes(file, r)
    if r.random() < 0.8:
        file.write_bytes(gzip.compress(file.read_bytes(), 1))


def _nifti_header(file: Path, r: random.Random) -> None:
    content = gzip.decompress(file.read_bytes())
    version = nib.Nifti2Header if r.random() < 0.2 else nib.Nifti1Header
    header = nib.Nifti1Header(content[:348], check=False)
    fields = version(header.structarr.tobytes(), check=False) if version is nib.Nifti1Header else version()
    if version is nib.Nifti2Header:
        for name in set(header.structarr.dtype.names) & set(fields.structarr.dtype.names) - {"sizeof_hdr", "magic"}:
            fields.structarr[name] = header.structarr[name]
        fields.structarr["vox_offset"] = 544
    array = fields.structarr
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        name = r.choice(
            ("dim", "dim", "dim", "pixdim", "pixdim", "srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "magic")
            + array.dtype.names
        )
        kind, item = array.dtype[name].base.kind, array[name]
        values: Sequence = (r.randbytes(4), b"n+1", b"ni1", b"") if kind == "S" else FLOATS if kind == "f" else INTEGERS
        if name == "datatype":
            values = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 9999)
        if name == "dim":
            values = (*INTEGERS, 100_000, item[2] + 1, item[3] + 1)
        value = r.choice(values)
        with np.errstate(all="ignore"):
            if kind in "iu":
                value = np.asarray(value).astype(np.int64).astype(array.dtype[name].base)
            if array.dtype[name].shape:
                places = range(4) if name == "dim" else range(len(item))
                for place in r.choice(([r.choice(places)], [1, 2, 3])):
                    item[place] = value
            else:
                array[name] = value
    if r.random() < 0.3:  # coordinates by the other of both ways
        array["sform_code"], array["qform_code"] = r.choice(((0, 1), (1, 0), (0, 0)))
    file.write_bytes(gzip.compress(array.tobytes() + content[348:], 1))


SHAPES = (
    (1, 9, 4), (9, 1, 4), (9, 7, 1), (1, 1, 1), (1, 1, 9), (9, 7), (9,), (9, 7, 4, 1), (9, 7, 4, 3), (9, 7, 4, 1, 2),
    (9, 7, 4, 2, 3), (0, 9, 4), (9, 7, 0), (3, 2, 2), (2, 2, 2), (1, 1500, 2), (3000, 1, 1), (9, 7, 4, 1, 1, 1),
    (17, 13, 5),
)  # fmt: skip


def _nifti_shape(file: Path, r: random.Random) -> None:
    """An image of another size and type that is in order otherwise."""
    affine = np.array(nib.load(file).affine)
    if r.random() < 0.5:
        affine[:3, :3] *= r.choice((1e-3, 0.1, 10, 1000, -1, 1e6))
    if r.random() < 0.2:
        affine[:3, :3] = np.linalg.qr(np.array([[r.gauss(0, 1) for _ in range(3)] for _ in range(3)]))[0]
    kind = np.dtype(r.choice(("u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8", "c8", "c16")))
    voxels = np.array([r.randrange(4) for _ in range(97)]).astype(kind)
    nib.save(nib.Nifti1Image(np.resize(voxels, r.choice(SHAPES)), affine, dtype=kind), file)


def _nifti_values(file: Path, r: random.Random) -> None:
    """The same image with other values."""
    image = nib.load(file)
    voxels = np.asarray(image.dataobj, np.float64).copy()
    value = r.choice((*FLOATS, 1e38, -1e38, 65504.0, 70000.0, 3.5, -3.0, 300.0))
    if r.random() < 0.5:
        voxels[...] = value
    else:
        voxels.flat[r.randrange(voxels.size)] = value
    with np.errstate(all="ignore"):
        nib.save(nib.Nifti1Image(voxels.astype(r.choice((np.float32, np.float64))), image.affine), file)


def nifti_bomb(file: Path, r: random.Random) -> None:
    """A small file that is in order, of an image of gigabytes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((1000, 1000, BOMB // 1_000_000))
    header["vox_offset"] = 352
    header.set_zooms((1, 1, 1))
    header["magic"] = b"n+1"
    file.write_bytes(gzip.compress(header.structarr.tobytes() + bytes(4)) + ZEROS * (BOMB // (1 << 26) + 1))


# DICOM


def damage_dicom(file: Path, r: random.Random) -> None:
    """An object: its elements, their types and lengths, its pixels, its transfer syntax."""
    how = r.choice(
        (
            _dicom_element,
            _dicom_element,
            _dicom_element,
            _dicom_doubled,
            _dicom_pixels,
            _dicom_syntax,
            _dicom_length,
            damage_bytes,
        )
    )
    if r.random() < 0.01:
        how = r.choice((dicom_bomb, dicom_depth))
    try:
        how(file, r)
    except Exception:  # what pydicom does not write, an attacker does
        damage_bytes(file, r)


def _dicom_doubled(file: Path, r: random.Random) -> None:
    """An element that is there twice, the second time with another value of the same length half of the times."""
    content, dicom = file.read_bytes(), pydicom.dcmread(file, force=True)
    encoded = pydicom.filebase.DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = dicom.original_encoding[1], dicom.original_encoding[0]
    pydicom.filewriter.write_data_element(encoded, r.choice(list(dicom)))
    element = encoded.getvalue()
    end = content.index(element) + len(element)
    again = element if r.random() < 0.5 else element[:8] + r.randbytes(len(element) - 8)
    file.write_bytes(content[:end] + again + content[end:])


def _save(dicom: Dataset, file: Path) -> None:
    buffer = io.BytesIO()
    dicom.save_as(buffer, enforce_file_format=False)
    file.write_bytes(buffer.getvalue())


def _all_elements(dicom: Dataset) -> list[tuple[Dataset, int]]:
    found = []
    for element in dicom:
        found.append((dicom, element.tag))
        if element.VR == "SQ":
            for item in element.value[:2]:
                found += _all_elements(item)
    return found


USED = (
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber",
    "TriggerTime", "NominalInterval", "SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "PatientSize", "PatientWeight", "PatientAge", "PatientSex", "Modality", "ImageType", "AcquisitionTime",
    "SeriesNumber", "NumberOfFrames", "HeartRate", "SpecificCharacterSet", "PatientID", "PatientName",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "TemporalPositionIdentifier",
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "Manufacturer", "SeriesDescription",
)  # fmt: skip
TEXTS = (
    "",
    "0",
    "-1",
    "abc",
    "1e400",
    "nan",
    "inf",
    "1\\2",
    "9" * 40,
    "1\\nan\\3",
    "ISO 2022 IR 999",
    "=cmd()",
    "\\",
    "\x1b[2J",
    "0\\0\\0\\0\\0\\0",
)


def _dicom_element(file: Path, r: random.Random) -> None:
    """Elements that are missing, empty, of another type, or full of nonsense."""
    dicom = pydicom.dcmread(file, force=True)
    for _ in range(r.choice((1, 1, 2, 5))):
        where, tag = r.choice(_all_elements(dicom))
        if r.random() < 0.6:
            where, tag = dicom, pydicom.tag.Tag(r.choice(USED))
        if r.random() < 0.3:
            where.pop(tag, None)
            continue
        vr = r.choice(("IS", "DS", "LO", "UI", "US", "SS", "FD", "FL", "UL", "CS", "OB", "SQ", "UN", "AT", "PN", "TM"))
        value: Any = r.choice(TEXTS).encode()
        if r.random() < 0.3:
            value = r.randbytes(r.choice((0, 1, 2, 3, 8, 24, 1000)))
        if tag in where and r.random() < 0.5:
            vr = where[tag].VR
        where[tag] = pydicom.dataelem.RawDataElement(
            tag, vr if len(vr) == 2 else "UN", len(value), value, 0, False, True
        )
    _save(dicom, file)


def _dicom_pixels(file: Path, r: random.Random) -> None:
    """Pixels that do not fit what the header says of them."""
    dicom = pydicom.dcmread(file, force=True)
    pixels = bytes(dicom.get("PixelData", b""))
    for _ in range(r.choice((1, 1, 2))):
        which = r.randrange(4)
        if which == 0:
            dicom.PixelData = r.choice((b"", pixels[: len(pixels) // 2 & ~1], pixels + b"\0" * 1000, pixels * 3))
        elif which == 1:
            keyword = r.choice(("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"))
            setattr(dicom, keyword, r.choice((0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 255, 65535)))
        elif which == 2:
            dicom.NumberOfFrames = r.choice((0, 1, 2, 3, 1000, 2**31 - 1, -1))
        else:
            keyword = r.choice(("PhotometricInterpretation", "PixelRepresentation", "PlanarConfiguration"))
            value = r.choice(("MONOCHROME1", "RGB", "YBR_FULL_422", "PALETTE COLOR", "", "XYZ"))
            setattr(dicom, keyword, value if keyword == "PhotometricInterpretation" else r.choice((0, 1, 2, 7)))
    if r.random() < 0.15:
        del dicom.PixelData
    _save(dicom, file)


def _dicom_syntax(file: Path, r: random.Random) -> None:
    """Every transfer syntax that pydicom writes, and the claim of any other."""
    dicom = pydicom.dcmread(file, force=True)
    which = r.randrange(3)
    if which == 0:
        dicom.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        if r.random() < 0.7:
            content = bytearray(dicom.PixelData)
            for _ in range(r.choice((1, 10, 100))):
                content[r.randrange(len(content))] = r.randrange(256)
            dicom.PixelData = bytes(content)
            dicom.Rows = r.choice((dicom.Rows, dicom.Rows, 65535))
    elif which == 1:
        syntax = r.choice(AllTransferSyntaxes + ["1.2.3", "", "1.2.840.10008.1.2.4.999"])
        dicom.file_meta.TransferSyntaxUID = UID(syntax)
        if UID(syntax).is_compressed if syntax in AllTransferSyntaxes else False:
            frames = [r.randbytes(200) if r.random() < 0.5 else bytes(dicom.PixelData)]
            if syntax != "1.2.840.10008.1.2.1.99":
                dicom.PixelData = pydicom.encaps.encapsulate(frames)
                dicom["PixelData"].VR = "OB"
        content = io.BytesIO()
        dicom.save_as(content, implicit_vr=False, little_endian=True, enforce_file_format=False, force_encoding=True)
        file.write_bytes(content.getvalue())
        return
    else:
        implicit, little = r.choice(((True, True), (False, True), (False, False)))
        content = io.BytesIO()
        dicom.save_as(
            content, implicit_vr=implicit, little_endian=little, enforce_file_format=False, force_encoding=True
        )
        file.write_bytes(content.getvalue())  # its syntax is another, if it was
        return
    _save(dicom, file)


def _dicom_length(file: Path, r: random.Random) -> None:
    """Lengths of elements and sequences that are undefined, too long or too short, or ends that are missing."""
    content = bytearray(file.read_bytes())
    markers = (
        b"SQ\0\0",
        b"OW\0\0",
        b"OB\0\0",
        b"\xfe\xff\x00\xe0",
        b"\xfe\xff\x0d\xe0",
        b"\xfe\xff\xdd\xe0",
        b"UI",
        b"DS",
        b"LO",
        b"PN",
    )
    places = [i for marker in markers for i in range(len(content)) if content.startswith(marker, i)]
    for place in r.sample(places, min(len(places), r.choice((1, 1, 3)))):
        if content[place : place + 2] in (b"UI", b"DS", b"LO", b"PN"):
            content[place + 2 : place + 4] = struct.pack("<H", r.choice((0, 1, 7, 65535, 1000)))
        else:
            content[place + 4 : place + 8] = struct.pack("<I", r.choice((0, 1, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 12)))
    file.write_bytes(content)


def dicom_depth(file: Path, r: random.Random) -> None:
    """Sequences in sequences, none of which ends."""
    content = file.read_bytes()
    opened = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    file.write_bytes(content[: content.find(b"\x08\x00\x16\x00")] + opened * r.choice((10, 900, 20000)))


def dicom_bomb(file: Path, r: random.Random) -> None:
    """Deflated, as the standard allows: a small file whose header unpacks to gigabytes."""
    dicom = pydicom.dcmread(file, force=True)
    dicom.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\x09\x00\x01\x10OB\0\0" + struct.pack("<I", BOMB)
    body = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    file.write_bytes(bytes(128) + b"DICM" + _meta_bytes(dicom) + body + zeros * 180)


def _meta_bytes(dicom: Dataset) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, dicom.file_meta)
    return buffer.getvalue()


# MATLAB


def damage_mat(file: Path, r: random.Random) -> None:
    """A MATLAB file: its variables, their types and sizes."""
    if r.random() < 0.4:
        damage_bytes(file, r)
    elif h5py.is_hdf5(file):
        _damage_hdf5(file, r)
    else:
        content = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
        name = r.choice(list(content))
        values: tuple = (
            None, "text", 1.0, np.nan, np.zeros((0, 0)), np.zeros((3, 3)), np.array([], object), {"a": 1}, -1, 1e30,
            np.full((4, 4, 2), np.nan), np.zeros((5, 5, 5, 5)), np.array([[1 + 2j]]), np.array(["a", "b"]),
            content[name].astype(float) * math.nan, content[name][..., :1], content[name].astype(complex),
        )  # fmt: skip
        value = r.choice(values)
        if value is None:
            del content[name]
        else:
            content[name] = value
        scipy.io.savemat(file, content, do_compression=r.random() < 0.5)


def _damage_hdf5(file: Path, r: random.Random) -> None:
    with h5py.File(file, "r+") as content:
        name = r.choice([*content, *content, "more"])
        value = r.choice((None, "group", "soft", "external", "huge", "text", "nan", "scalar", "compound", "empty"))
        if name in content:
            del content[name]
        if value == "group":
            content.create_group(name).create_group("more")
        elif value == "soft":
            content[name] = h5py.SoftLink("/nowhere")
        elif value == "external":
            content[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif value == "huge":  # claims 10^15 values, of which none is stored
            content.create_dataset(name, (100_000, 100_000, 100_000), "u1", chunks=(64, 64, 64))
        elif value == "text":
            content[name] = "text"
        elif value == "nan":
            content[name] = np.full((20, 6, 6), np.nan)
        elif value == "scalar":
            content[name] = r.choice(FLOATS)
        elif value == "compound":
            content[name] = np.zeros(3, [("a", "i4"), ("b", "f8")])
        elif value == "empty":
            content[name] = h5py.Empty("f")


# text


def damage_json(file: Path, r: random.Random) -> None:
    """JSON: keys that are missing, doubled or of another type; or its text."""
    if r.random() < 0.15:
        return damage_text(file, r)
    try:
        content = json.loads(file.read_text())
    except ValueError:
        return damage_text(file, r)
    file.write_text(_damaged_json(content, r, r.choice((1, 1, 1, 2, 5))))
    return None


def _damaged_json(content: Any, r: random.Random, times: int) -> str:
    """A content that is changed so many times, or fewer where it gets too deep to be written."""
    text = json.dumps(content)
    with suppress(RecursionError):
        for _ in range(times):
            content = _damage_value(content, r)
            text = json.dumps(content)
    return text


def _places(content: Any) -> list[tuple[Any, Any]]:
    found: list = []
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            found.append((content, key))
            found += _places(content[key])
    return found


def _damage_value(content: Any, r: random.Random) -> Any:
    places = _places(content)
    if not places or r.random() < 0.03:
        return deepcopy(r.choice(JUNK))  # the next damage may be done to it
    # every depth alike: lists of numbers are long, and keys at the top matter
    if isinstance(content, dict) and content and r.random() < 0.4:
        where, key = content, r.choice(list(content))
    else:
        where, key = r.choice(places)
    how = r.random()
    if how < 0.25:
        del where[key]
    elif how < 0.35 and isinstance(where, dict):
        where[str(r.choice(JUNK))] = where.pop(key)
    elif how < 0.45:
        where[key] = [where[key]]
    elif how < 0.5:
        deep: Any = where[key]
        for _ in range(r.choice((2, 900))):
            deep = [deep]
        where[key] = deep
    else:
        where[key] = deepcopy(r.choice(JUNK))
    return content


def damage_text(file: Path, r: random.Random) -> None:
    """A text or table: lines, separators, encodings, or its bytes."""
    if r.random() < 0.3:
        return damage_bytes(file, r)
    content = file.read_bytes()
    lines = content.splitlines(keepends=True) or [b""]
    at = r.randrange(len(lines))
    how = r.randrange(10)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at] = lines[at] * 2
    elif how == 2:
        lines[at] = lines[at].replace(r.choice((b",", b" ", b":", b"\n")), r.choice((b"", b";", b"\t", b'"', b",,")))
    elif how == 3:
        words = lines[at].split(b",")
        words[r.randrange(len(words))] = r.choice(TEXTS).encode("utf-8")
        lines[at] = b",".join(words)
    elif how == 4:
        lines = [line.decode("utf-8", "replace").encode("utf-16") for line in lines]
    elif how == 5:
        lines[at] = b"\xe4\xff\x00" + lines[at]
    elif how == 6:
        lines[at] = b"a" * 200_000 + lines[at]
    elif how == 7:
        lines.insert(0, b"\xef\xbb\xbf")
    elif how == 8:
        lines.insert(at, b'"' + lines[at])
    else:
        words = lines[at].split()
        if words:
            words[r.randrange(len(words))] = r.choice(TEXTS).encode()
        lines[at] = b" ".join(words) + b"\n"
    file.write_bytes(b"".join(lines))
    return None


# models


class Evil:
    """What a pickle would run."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.place),)


def damage_checkpoint(file: Path, r: random.Random, place: Path) -> None:
    """One of nnU-Net's checkpoints: its content, or code in its place that makes the folder ``place``."""
    import torch

    if r.random() < 0.4:
        return damage_bytes(file, r)
    checkpoint = torch.load(file, map_location="cpu", weights_only=False)
    how = r.randrange(5)
    if how == 0:
        file.write_bytes(pickle.dumps(Evil(place)))
        return None
    if how == 1:
        checkpoint[r.choice(("network_weights", "logging", "more"))] = Evil(place)
    elif how == 2:
        checkpoint.pop(r.choice(list(checkpoint)))
    elif how == 3:
        checkpoint[r.choice(list(checkpoint))] = r.choice(JUNK)
    else:
        weights = checkpoint["network_weights"]
        name = r.choice(list(weights))
        weights[name] = r.choice((torch.zeros(3), torch.full_like(weights[name], math.nan), "text", None))
    torch.save(checkpoint, file)
    return None


def damage_safetensors(file: Path, r: random.Random) -> None:
    """Weights: the header's JSON and length, or bytes."""
    content = file.read_bytes()
    if r.random() < 0.4:
        return damage_bytes(file, r)
    (size,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + size], content[8 + size :]
    if r.random() < 0.3:
        file.write_bytes(struct.pack("<Q", r.choice((0, 1, size - 1, size + 1, 1 << 40, 2**64 - 1))) + header + body)
        return None
    described = json.loads(header)
    header = _damaged_json(described, r, r.choice((1, 3))).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return None


def zip_bomb(file: Path, name: str, size: int) -> None:
    """An archive with one member of zeros."""
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 24):
            member.write(bytes(1 << 24))


Damage = Callable[[Path, random.Random], None]
