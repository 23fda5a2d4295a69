"""NIfTI files that are none, or not what their headers say."""

import gzip
import random

import nibabel as nib
import numpy as np
import pytest
from mutations import nifti_bomb

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.nifti import open_nifti, read_nifti


@pytest.fixture
def file(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((9, 7, 4), np.int16), np.eye(4)), tmp_path / "x.nii.gz")
    return tmp_path / "x.nii.gz"


def with_header(file, version=nib.Nifti1Header, **fields):
    """The file with other values in its header."""
    content = gzip.decompress(file.read_bytes())
    header = nib.Nifti1Header(content[:348])
    if version is nib.Nifti2Header:
        header = nib.Nifti2Header()
        header["vox_offset"] = 544
    for name, value in fields.items():
        header.structarr[name] = value
    file.write_bytes(gzip.compress(header.structarr.tobytes() + content[348:]))


def test_a_good_file_is_read(file):
    voxels, image = read_nifti(file)
    assert voxels.shape == image.shape == (9, 7, 4) and voxels.all()


@pytest.mark.parametrize(
    "fields, because",
    [
        ({"dim": (3, 0, 7, 4, 1, 1, 1, 1)}, "is no NIfTI image"),
        ({"dim": (9, 1, 7, 4, 1, 1, 1, 1)}, "cannot be read as NIfTI"),
        ({"dim": (3, 9, -7, 4, 1, 1, 1, 1)}, "is no NIfTI image"),
        ({"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}, r"has 3.5e\+13 voxels, says its header"),
        ({"dim": (3, 1000, 1000, 100, 1, 1, 1, 1)}, "is cut off: its"),
        ({"dim": (3, 9, 7, 5, 1, 1, 1, 1)}, "cannot be read as NIfTI"),
        ({"datatype": 128, "bitpix": 24}, "is no NIfTI image: it has 9 x 7 x 4 voxels of type"),
        ({"datatype": 32, "bitpix": 64}, "voxels of type complex64"),
        ({"datatype": 1}, "cannot be read as NIfTI"),
        ({"vox_offset": np.inf}, "cannot be read as NIfTI"),
        ({"vox_offset": 1e9}, "cannot be read as NIfTI"),
        ({"scl_slope": 1, "scl_inter": -np.inf}, "cannot be read as NIfTI"),
        ({"magic": b"xyz"}, "cannot be read as NIfTI"),
        ({"scl_slope": 1e13, "scl_inter": 0}, r"has 252 voxels that are NaN, infinite or beyond 1e\+12"),
    ],
)
def test_what_a_header_says_is_not_believed(file, fields, because):
    with_header(file, **fields)
    with pytest.raises(UserError, match=f"x.nii.gz {because}" if because[0] != "v" else because) as error:
        read_nifti(file)
    assert "\n" not in str(error.value)


def test_100000_cubed_is_refused_by_its_header(file):
    with_header(file, nib.Nifti2Header, dim=(3, 100_000, 100_000, 100_000, 1, 1, 1, 1))
    with pytest.raises(UserError, match=r"has 1e\+15 voxels, says its header"):
        open_nifti(file)


def test_a_bomb_is_refused_by_its_header(file):
    nifti_bomb(file, random.Random(0))
    with pytest.raises(UserError, match=r"has 3e\+09 voxels, says its header"):
        read_nifti(file)


@pytest.mark.parametrize(
    "content", [b"", b"no NIfTI", gzip.compress(b"no NIfTI", mtime=0), gzip.compress(bytes(348), mtime=0)]
)
def test_what_is_no_nifti_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(UserError, match="x.nii.gz cannot be read as NIfTI"):
        read_nifti(file)


@pytest.mark.parametrize("end", [20, 60, -1, -9])
def test_a_file_that_is_cut_off_is_named(file, end):
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(UserError, match="x.nii.gz"):
        read_nifti(file)
