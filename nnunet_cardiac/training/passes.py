"""Batches that are passes over the training data, the same for any number of worker processes."""

import math
import random
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunet_cardiac.processes import end_with_parent

TRAINING, VALIDATION = 0, 1
"""Streams of random numbers."""


class Slices:
    """The slices of a preprocessed data set of nnU-Net's, each of them as a case.

    Args:
        dataset: of nnU-Net's, its cases preprocessed as volumes
    """

    def __init__(self, dataset):
        self.dataset = dataset
        self.places: dict[str, tuple[str, int]] = {}
        for case in dataset.identifiers:
            for i in range(dataset.load_case(case)[0].shape[1]):
                self.places[f"{case}, slice {i}"] = case, i
        self.identifiers = list(self.places)

    def load_case(self, identifier: str):
        """Image and segmentation (C, 1, H, W), the previous stage's (1, H, W) or None, and the case's properties, with
        places of foreground in this slice alone."""
        case, i = self.places[identifier]
        image, segmentation, previous, properties = self.dataset.load_case(case)
        here = slice(i, i + 1)
        locations = {}
        for label, voxels in properties["class_locations"].items():
            voxels = np.asarray(voxels).reshape(-1, 4)  # channel, slice, row, column
            locations[label] = voxels[voxels[:, 1] == i] * (1, 0, 1, 1)
        return (
            image[:, here],
            segmentation[:, here],
            None if previous is None else previous[here],
            properties | {"class_locations": locations},
        )


class PassLoader(nnUNetDataLoader):
    """nnU-Net's loader, drawing without replacement: every sample once before any comes again.

    A pass has as few batches as hold all samples, of sizes that differ by one at most. With more processes than
    samples, some samples come twice. What a batch is made of, its augmentation included, follows from the seed and the
    batch's number: it is the same whichever process makes it, and whether the training was interrupted or not. Where a
    patch is smaller than the image, nnU-Net's rule chooses the place, in a part of the samples around foreground;
    where it is not, it holds the whole image.

    Args:
        data: of nnU-Net's, or ``Slices``
        batch_size: of all processes of a distributed training together
        seed: of the training; whatever identifies it
        first_batch: number of the batch to begin with
        repeat: after so many batches the first comes again, as it was; None for never
        rank, world_size: which process of a distributed training this is, and of how many
        options: of ``nnUNetDataLoader``
    """

    def __init__(
        self,
        data,
        batch_size: int,
        *args,
        seed: Sequence[int],
        first_batch: int = 0,
        repeat: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        **options,
    ):
        super().__init__(data, batch_size, *args, **options)
        self.seed = tuple(seed)
        self.repeat = repeat
        self.rank, self.world_size = rank, world_size
        self.batches_of_a_pass = batches_of_a_pass(len(self.indices), batch_size, world_size)
        self.next_batch, self.n_workers = first_batch, 1
        self.selected: list[str] = []

    def set_thread_id(self, thread_id: int) -> None:
        """Called in every worker process: this one makes every ``n_workers``-th batch, and ends with the training."""
        end_with_parent()
        super().set_thread_id(thread_id)
        self.next_batch += thread_id

    def samples(self, number: int) -> list[str]:
        """Identifiers of the samples of a batch, for this process of a distributed training."""
        a_pass, position = divmod(number, self.batches_of_a_pass)
        order = np.random.default_rng([*self.seed, a_pass]).permutation(len(self.indices))
        batch = np.array_split(order, self.batches_of_a_pass)[position]
        share = batch[self.rank :: self.world_size]
        if not share.size:  # fewer samples in the data set than processes
            share = batch[[self.rank % len(batch)]]
        return [self.indices[i] for i in share]

    def generate_train_batch(self) -> dict[str, Any]:
        """The next batch, as nnU-Net's loader makes it."""
        number = self.next_batch
        self.next_batch += self.n_workers
        if self.repeat is not None:
            number %= self.repeat
        self.selected = self.samples(number)
        self.batch_size = len(self.selected)
        with own_random_numbers([*self.seed, number, self.rank]):
            return super().generate_train_batch()

    def get_bbox(self, data_shape, *args, **kwargs) -> tuple[list[int], list[int]]:
        """Where a patch begins and ends in an image. Around foreground, nnU-Net's would cut whole images."""
        starts, _ = super().get_bbox(data_shape, *args, **kwargs)
        fits = zip(data_shape, self.need_to_pad, self.patch_size, strict=True)
        starts = [
            min(start, -((patch - n) // 2)) if n + padding <= patch else start
            for start, (n, padding, patch) in zip(starts, fits, strict=True)
        ]
        return starts, [start + patch for start, patch in zip(starts, self.patch_size, strict=True)]

    def get_indices(self) -> list[str]:
        """Identifiers of the samples of the batch that is being made."""
        return self.selected


def batches_of_a_pass(n_samples: int, batch_size: int, world_size: int = 1) -> int:
    """Batches that hold ``n_samples``: as few as ``batch_size`` allows, but a sample for every process in each."""
    return max(1, min(math.ceil(n_samples / batch_size), n_samples // world_size))


@contextmanager
def own_random_numbers(seed: Sequence[int]):
    """Random numbers of Python, NumPy and PyTorch that follow from ``seed``; afterwards they go on as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_random_numbers(seed, torch.default_generator)  # a GPU's generator goes on
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def seed_random_numbers(seed: Sequence[int], generator: Any = torch) -> None:
    """Seeds Python, NumPy and PyTorch.

    Args:
        seed: numbers of 0 or more
        generator: of PyTorch's; all of them by default
    """
    for_python, for_numpy, for_torch = np.random.SeedSequence(list(seed)).generate_state(3)
    random.seed(int(for_python))
    np.random.seed(for_numpy)
    generator.manual_seed(int(for_torch))
