"""What every reader of DICOM files shares."""

import numpy as np
import pytest

from nnunet_cardiac.dicom import dicom_affine, unit_vectors


def test_geometry_is_the_images_own():
    directions = unit_vectors([0, 1, 0, 0, 0, -1])
    affine = dicom_affine(directions, [10, 20, 30], [1.5, 1.25], 8)  # rows, columns
    # along a row of the image the patient's back comes nearer: DICOM's y, nibabel's -y; down a column the feet
    np.testing.assert_allclose(affine[:3, 0], [0, -1.25, 0], atol=1e-12)
    np.testing.assert_allclose(affine[:3, 1], [0, 0, -1.5], atol=1e-12)
    np.testing.assert_allclose(affine[:3, 2], [8, 0, 0], atol=1e-12)  # DICOM's -x, nibabel's x
    np.testing.assert_allclose(affine[:3, 3], [-10, -20, 30])


def test_directions_that_were_rounded_are_at_right_angles():
    directions = unit_vectors([0.001, 1, 0, 0, 0.002, -1])
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(directions, [[0, 1, 0], [0, 0, -1]], atol=0.003)


@pytest.mark.parametrize("orientation", [[0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_what_are_not_two_directions(orientation):
    with pytest.raises(ValueError):
        unit_vectors(orientation)
