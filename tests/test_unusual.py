"""What is said about images unlike those that a model was trained on, and about segmentations that are no hearts."""

import json

import numpy as np
import pytest
from conftest import DATASET
from test_anatomy import STRUCTURES, plausible

from nnunet_cardiac.inference.unusual import slices_along, unusual_image, unusual_segmentation
from nnunet_cardiac.models.training_images import TrainingImages, fingerprinted

SEEN = TrainingImages(slice_distance=(5, 10), pixel=(0.7, 1.9), n_slices=(6, 18))
MR = np.random.default_rng(0).integers(0, 500, (1, 10, 8, 8)).astype(float)
MR[0, 0, 0, 0] = 0
SPACING = (10, 1.5, 1.5)


@pytest.mark.parametrize(
    "image, spacing, said",
    [
        (MR, SPACING, None),
        (MR, (4.1, 0.6, 2.3), None),  # as far as augmentation goes
        (MR - 1000, SPACING, "values down to -1000, as CT has"),
        (MR - 100, SPACING, None),  # some scanners' phase images, or normalised ones
        (np.zeros_like(MR), SPACING, "every voxel is 0"),
        (MR[:, :1], SPACING, "one slice, where the model has seen stacks of 6 to 18"),
        (MR[:, :1], (99, 1.5, 1.5), "one slice"),  # whose distance says nothing
        (MR, (1.5, 1.5, 1.5), "slices 1.5 mm apart, where the model has seen 5 to 10 mm"),
        (MR, (10, 3, 1.5), "pixels of 1.5 x 3 mm, where the model has seen 0.7 to 1.9 mm"),
        (MR, (10, 0.3, 0.3), "pixels of 0.3 x 0.3 mm"),
    ],
)
def test_images(image, spacing, said):
    found = unusual_image(image, spacing, SEEN)
    assert (not found) if said is None else (len(found) == 1 and said in found[0])


def test_slices_lie_where_the_network_cuts():
    turned, said = np.moveaxis(MR, 1, 3), "its slices lie along X, where the model cuts along Z: turn the image"
    assert unusual_image(turned, (1.5, 1.5, 10), SEEN) == unusual_image(turned, (1.5, 1.5, 10), None) == [said]
    assert unusual_image(turned, (1.5, 1.5, 10), SEEN, cut_axis=2) == []
    assert "slices 20 mm apart" in unusual_image(turned, (1.5, 1.5, 20), SEEN, cut_axis=2)[0]
    assert unusual_image(turned[..., :1], (1.5, 1.5, 1.5), SEEN)[0] == said
    assert [slices_along(shape, 0) for shape in ((4, 9, 9), (1, 1, 9), (9, 1, 9))] == [0, 0, 1]


def test_hearts_in_slices_that_are_closer_than_pixels():
    labels, spacing = np.stack([plausible()] * 4), (1, 1.5, 1.5)
    assert unusual_segmentation(labels, spacing, STRUCTURES) == []
    assert unusual_segmentation(np.moveaxis(labels, 0, 2), spacing, STRUCTURES, slice_axis=2) == []


def test_without_knowing_the_training_images_values_alone_are_looked_at():
    assert unusual_image(MR[:, :1], (1, 9, 9), None) == []
    assert len(unusual_image(MR - 1000, (1, 9, 9), None)) == 1


def test_a_heart_is_not_unusual():
    assert unusual_segmentation(np.stack([plausible()] * 4), SPACING, STRUCTURES) == []


def test_segmentations_that_are_no_heart():
    empty = np.zeros((4, 40, 50), np.int16)
    assert unusual_segmentation(empty, SPACING, STRUCTURES) == ["no heart was found"]
    without = np.where(plausible() == 1, 0, plausible())
    assert unusual_segmentation(np.stack([without] * 2), SPACING, STRUCTURES) == ["no RV was found"]
    bare = np.where(plausible() == 2, 0, plausible())
    bare[0, 0] = 2
    (said,) = unusual_segmentation(np.stack([plausible(), bare, bare]), SPACING, STRUCTURES)
    assert said.startswith("the heart is implausible in 2 of 3 slices")
    assert unusual_segmentation(np.stack([plausible(), plausible(), bare]), SPACING, STRUCTURES) == []


def test_training_images_come_from_nnunets_fingerprint(planned):
    seen = fingerprinted(planned)
    spacings = np.array(json.loads((planned / "dataset_fingerprint.json").read_text())["spacings"])
    assert planned.name == DATASET
    assert seen.slice_distance == (spacings[:, 0].min(), spacings[:, 0].max())
    assert seen.pixel == (spacings[:, 1:].min(), spacings[:, 1:].max())
    assert TrainingImages.from_json(json.loads(json.dumps(seen.to_json()))) == seen


@pytest.mark.parametrize("content", [None, "{", "{}", '{"spacings": [], "shapes_after_crop": []}'])
def test_a_fingerprint_that_does_not_tell(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset_fingerprint.json").write_text(content)
    assert fingerprinted(tmp_path) is None
