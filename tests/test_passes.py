"""Epochs that are passes: every slice once, whoever makes the batches."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.training.passes import PassLoader, Slices, batches_of_a_pass

BATCH = 4


@pytest.fixture(scope="module")
def volumes(planned):
    folder = str(planned / "nnUNetPlans_2d")
    return infer_dataset_class(folder)(folder)


@pytest.fixture(scope="module")
def slices(volumes):
    return Slices(volumes)


@pytest.fixture(scope="module")
def labels(planned):
    dataset_json = {"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}}
    return PlansManager(str(planned / "nnUNetPlans.json")).get_label_manager(dataset_json)


def loader(data, labels, patch=(32, 32), **options):
    options = {"seed": (0, 0, 0), "oversample_foreground_percent": 0.33} | options
    noise = GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True)
    return PassLoader(data, BATCH, patch, patch, labels, transforms=noise, **options)


def draw(source, n):
    return [next(source) for _ in range(n)]


def keys(batches):
    return [key for batch in batches for key in batch["keys"]]


def same(one, other):
    return len(one) == len(other) and all(
        a["keys"] == b["keys"] and torch.equal(a["data"], b["data"]) and torch.equal(a["target"], b["target"])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("initial", [60, 72])
@pytest.mark.parametrize("shape", [(60, 60), (41, 60), (59, 38)])
def test_a_patch_that_is_large_enough_holds_the_whole_image(slices, labels, initial, shape):
    """Around foreground too, where nnU-Net's own loader shifts it out of the image."""
    own = PassLoader(slices, BATCH, (initial, initial), (60, 60), labels, seed=(0, 0, 0))
    corner = {1: np.array([[0, 0, *(n - 1 for n in shape)]])}
    (_, *starts), (_, *stops) = own.get_bbox(np.array([1, *shape]), True, corner)
    margin = (initial - 60) // 2  # what the rotation needs is cut off again
    assert all(start + margin <= 0 and stop - margin >= n for start, stop, n in zip(starts, stops, shape, strict=True))


def test_every_pass_has_every_slice_exactly_once_in_an_order_of_its_own(volumes, slices, labels):
    n = sum(volumes.load_case(case)[0].shape[1] for case in volumes.identifiers)
    of_a_pass = batches_of_a_pass(n, BATCH)
    assert len(slices.identifiers) == n and of_a_pass == -(-n // BATCH)
    source = loader(slices, labels)
    passes = [draw(source, of_a_pass) for _ in range(3)]
    for batches in passes:
        assert Counter(keys(batches)) == Counter(slices.identifiers)
        sizes = [len(batch["data"]) for batch in batches]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= BATCH
        assert all(len(batch["keys"]) == len(batch["target"]) == len(batch["data"]) for batch in batches)
    assert len({tuple(keys(batches)) for batches in passes}) == 3


@pytest.mark.parametrize("n_workers", [1, 3])
def test_worker_processes_change_nothing(slices, labels, n_workers):
    source = loader(slices, labels)
    source.n_workers = n_workers
    workers = MultiThreadedAugmenter(source, None, n_workers)
    try:
        assert same(draw(workers, 12), draw(loader(slices, labels), 12))
    finally:
        workers._finish()


def test_a_loader_goes_on_at_any_batch(slices, labels):
    whole = draw(loader(slices, labels), 15)
    assert same(draw(loader(slices, labels, first_batch=7), 8), whole[7:])


def test_processes_of_a_distributed_training_share_every_batch(slices, labels):
    whole = draw(loader(slices, labels), 12)
    shares = [draw(loader(slices, labels, rank=rank, world_size=2), 12) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(keys(parts)) == sorted(batch["keys"]) and all(len(part["keys"]) for part in parts)


@pytest.mark.parametrize("n, batch, world_size", [(5, 2, 2), (17, 8, 8), (33, 32, 32), (3, 4, 4)])
def test_every_process_has_a_sample_of_every_batch(volumes, labels, n, batch, world_size):
    data = SimpleNamespace(identifiers=[str(i) for i in range(n)])
    ranks = [
        PassLoader(data, batch, (8, 8), (8, 8), labels, seed=(0,), rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    n_batches = batches_of_a_pass(n, batch, world_size)
    shares = [[loader.samples(number) for loader in ranks] for number in range(n_batches)]
    assert all(share for of_batch in shares for share in of_batch)
    seen = Counter(key for of_batch in shares for share in of_batch for key in share)
    assert set(seen) == set(data.identifiers) and (n < world_size or set(seen.values()) == {1})


def test_a_validation_is_the_same_every_time(slices, labels):
    source = loader(slices, labels, repeat=5)
    first, second = draw(source, 5), draw(source, 5)
    assert same(first, second) and not same(first[:1], second[1:2])


def test_seeds_differ_and_the_random_numbers_of_others_go_on(slices, labels):
    assert not same(draw(loader(slices, labels), 3), draw(loader(slices, labels, seed=(1, 0, 0)), 3))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draw(loader(slices, labels), 1)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_a_slice_is_what_the_volume_has_there(volumes, slices):
    image, segmentation, previous, properties = slices.load_case(slices.identifiers[3])
    case, i = slices.places[slices.identifiers[3]]
    whole_image, whole_segmentation, *_ = volumes.load_case(case)
    np.testing.assert_array_equal(image[:, 0], whole_image[:, i])
    np.testing.assert_array_equal(segmentation[:, 0], whole_segmentation[:, i])
    assert previous is None
    for label, voxels in properties["class_locations"].items():
        assert all(segmentation[tuple(voxel)] == label for voxel in voxels)


def test_small_patches_of_a_slice_are_where_nnunet_puts_them(slices, labels):
    """A part of the samples around foreground, where the slice has any; the others anywhere."""
    hearts = [key for key in slices.identifiers if (slices.load_case(key)[1][:] > 0).any()]
    share = {}
    for percent in (0.0, 1.0):
        batches = draw(loader(slices, labels, (8, 8), oversample_foreground_percent=percent), 40)
        seen = [
            bool((t > 0).any()) for b in batches for k, t in zip(b["keys"], b["target"], strict=True) if k in hearts
        ]
        share[percent] = np.mean(seen)
    assert share[1.0] == 1 and share[0.0] < 0.8


def test_volumes_are_samples_in_3d(volumes, labels):
    source = loader(volumes, labels, (4, 32, 32))
    batches = draw(source, batches_of_a_pass(len(volumes.identifiers), BATCH))
    assert Counter(keys(batches)) == Counter(volumes.identifiers)
    assert batches[0]["data"].shape[2:] == (4, 32, 32)
