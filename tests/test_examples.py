"""The heart that comes with the package."""

import nibabel as nib
import numpy as np
import pytest
from test_anatomy import STRUCTURES

from nnunet_cardiac import examples
from nnunet_cardiac.cine.read import read_cine
from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.segmentation import read_segmentation


def test_it_is_small_and_says_where_it_is_from():
    files = list(examples.FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 3e6
    assert "CC0" in (examples.FOLDER / "README.md").read_text()


def test_the_cine_is_read_as_any_other():
    cine = read_cine(examples.FOLDER)
    assert cine.voxels.shape == (20, 10, 108, 112)
    assert cine.spacing == pytest.approx((8, 1.2891, 1.2891), rel=1e-4)
    assert cine.heart_rate == pytest.approx(65, abs=0.5)


def test_volumes_and_the_experts_contours(tmp_path):
    """Both phases in one place; an ejection fraction of a failing heart; a plausible heart at ED."""
    examples.write_volumes(tmp_path / "images", tmp_path / "labels")
    cine = read_cine(examples.FOLDER)
    volumes = {}
    for name, phase in (("ED", examples.ED), ("ES", examples.ES)):
        image = nib.load(tmp_path / "images" / f"SC-HF-I-4_{name}_0000.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj).T, cine.voxels[phase])
        labels = read_segmentation(tmp_path / "labels" / f"SC-HF-I-4_{name}.nii.gz")
        np.testing.assert_allclose(nib.load(tmp_path / "labels" / f"SC-HF-I-4_{name}.nii.gz").affine, image.affine)
        volumes[name] = (labels.labels == examples.LV).sum() * labels.voxel_volume
        if name == "ED":
            assert implausible_anatomy(labels, STRUCTURES)["implausible_slices"] == 0
    assert volumes["ED"] == pytest.approx(230, abs=1) and volumes["ES"] == pytest.approx(180, abs=1)
    cavity = (nib.load(tmp_path / "labels" / "SC-HF-I-4_ED.nii.gz").get_fdata() == examples.LV).T
    blood, rest = cine.voxels[examples.ED][cavity], cine.voxels[examples.ED][~cavity]
    assert np.median(blood) > 2 * np.median(rest), "contours lie on the blood"


def test_a_picture(tmp_path):
    examples.write_volumes(tmp_path / "images", tmp_path / "labels")
    examples.draw(tmp_path / "labels", tmp_path / "heart.png")
    assert (tmp_path / "heart.png").read_bytes()[:4] == b"\x89PNG"
