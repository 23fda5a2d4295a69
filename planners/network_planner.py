"""What our planners have in common: the network in nnU-Net's place, and a batch and patch that fit into memory."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from torch import nn

from nnunet_cardiac import networks
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.planners.shrink import WHOLE_IMAGE
from nnunet_cardiac.training.memory import PLANNED_MEMORY, PlannedNetwork, StepMemory, training_memory

FEWEST_STAGES, FEWEST_PIXELS = 3, 2
"""Resolutions, and pixels along a side: a patch that leaves fewer is no patch for a U-Net."""


class NetworkPlanner(ExperimentPlanner, ABC):
    """Plans one of our networks as nnU-Net plans its U-Net: it stands in for it, the rest is nnU-Net's own planning.

    Networks have batch norm and ReLU, as the papers say. Subclasses name the network and derive their configurations
    from nnU-Net's ``2d`` and ``3d_fullres``. There is no ``3d_lowres``. Patch and batch are the largest whose training
    step, counted and not estimated (``training_memory``), takes no more than the memory target.

    Args:
        paper: the paper's batch, widths and resolutions in place of planned ones, in 2D alone. Every image is resized
            where the paper does that; elsewhere the patch is 256 x 256, which is the project's choice
        counts_memory: off where patch and batch are set afterwards
        others: as in nnU-Net's ``ExperimentPlanner``
    """

    network: type[Network]
    """What ``2d`` and ``3d_fullres`` are planned with; exported by ``nnunet_cardiac.networks``."""
    default_plans_name: str
    paper_batch_size: int
    paper_image_size: tuple[int, int] | None = None
    """What the paper resizes every image to, in pixels; None where it does not, or does not say."""
    optimiser_moments = 2
    """Numbers that the optimiser keeps for each parameter: those of Adam, which also hold nnU-Net's SGD."""

    def __init__(
        self,
        dataset_name_or_id,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing=None,
        suppress_transpose: bool = False,
        paper: bool = False,
        counts_memory: bool = True,
    ):
        super().__init__(
            dataset_name_or_id, gpu_memory_target_in_gb, preprocessor_name, plans_name or self.default_plans_name,
            overwrite_target_spacing, suppress_transpose,
        )  # fmt: skip
        self.UNet_class = self.network
        self.lowres_creation_threshold = 0  # no 3d_lowres
        self.paper = paper
        self.counts_memory = counts_memory
        self._counted: dict[str, tuple[int, StepMemory | None]] = {}
        self._least = math.inf

    @abstractmethod
    def configurations(self, plans: dict) -> dict[str, dict]:
        """The configurations to save, from plans that have ``2d`` and, where the data have depth, ``3d_fullres``."""

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Images are preprocessed as for nnU-Net's default plans, so the data are shared with them."""
        return f"nnUNetPlans_{configuration_name}"

    def get_plans_for_configuration(self, spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache):
        self._least = math.inf
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        architecture = plan["architecture"]
        architecture["network_class_name"] = class_name(self.network)
        if self.paper and len(spacing) == 2:
            plan["patch_size"] = [256, 256]
            architecture["arch_kwargs"].update(paper_topology(self.UNet_base_num_features))
        plan["patch_size"], architecture["arch_kwargs"] = self.fit(plan["patch_size"], architecture["arch_kwargs"])
        if self.paper and len(spacing) == 3:
            return plan  # is left out
        n_patches = approximate_n_voxels_dataset / np.prod(plan["patch_size"])
        return plan | self.batch(plan["patch_size"], architecture, len(self.dataset_json["channel_names"]), n_patches)

    def fit(self, patch_size: Sequence[int], arch_kwargs: dict) -> tuple[Sequence[int], dict]:
        """Patch and the network's arguments, from those that nnU-Net plans its U-Net with."""
        return patch_size, self.complete(arch_kwargs)

    def complete(self, arch_kwargs: dict) -> dict:
        """The network's arguments, from those that nnU-Net plans its U-Net with."""
        dim = len(arch_kwargs["strides"][0])
        return arch_kwargs | {
            "norm_op": f"torch.nn.BatchNorm{dim}d",
            "norm_op_kwargs": {},
            "nonlin": "torch.nn.ReLU",
            "nonlin_kwargs": {"inplace": True},
        }

    def _resize(self, plans: dict, size: Sequence[int]) -> None:
        """Has the network of ``2d`` resize every image, and a patch that covers the largest.

        Raises:
            UserError: the data set has regions: around the image the network finds the first label, the background
        """
        if not all(isinstance(value, int) for value in self.dataset_json["labels"].values()):
            raise UserError(f"{self.dataset_name} has regions that overlap: --paper needs one label for each pixel.")
        configuration = plans["configurations"]["2d"]
        arch_kwargs = configuration["architecture"]["arch_kwargs"]
        arch_kwargs["image_size"] = list(size)
        divisors = np.prod(arch_kwargs["strides"], axis=0)
        largest = self.largest_image(plans, "2d")
        patch_size = [math.ceil(side / divisor) * int(divisor) for side, divisor in zip(largest, divisors, strict=True)]
        channels = len(self.dataset_json["channel_names"])
        configuration |= {"patch_size": patch_size, WHOLE_IMAGE: True}
        configuration |= self.batch(patch_size, configuration["architecture"], channels, math.inf)

    def largest_image(self, plans: dict, base: str) -> list[int]:
        """Largest size of each axis in the data set, in pixels as ``base`` preprocesses it."""
        spacing = plans["configurations"][base]["spacing"]
        axes = plans["transpose_forward"][-len(spacing) :]
        shapes = [
            compute_new_shape(np.array(shape)[axes], np.array(original)[axes], spacing)
            for shape, original in zip(
                self.dataset_fingerprint["shapes_after_crop"], self.dataset_fingerprint["spacings"], strict=True
            )
        ]
        return np.max(shapes, axis=0).tolist()

    def batch(self, patch_size: Sequence[int], architecture: dict, input_channels: int, n_patches: float) -> dict:
        """nnU-Net's rule for the batch: what the memory target holds, at most 5 % of the data, at least 2.

        Args:
            patch_size: pixels or voxels
            architecture: as in the plans
            input_channels: of the network
            n_patches: that the data set is worth

        Returns:
            ``batch_size`` (the paper's, where sizes are the paper's) and, in GB, the memory of a training step where it
            could be counted

        Raises:
            UserError: the memory target holds no batch of 2
        """
        fewest, available = self.UNet_min_batch_size, self.UNet_vram_target_GB * 1e9
        if not self.counts_memory:
            return {"batch_size": fewest}
        network = PlannedNetwork(
            architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"]
        )
        memory = self.memory(network, input_channels, patch_size)
        if self.paper:
            batch_size = self.paper_batch_size
        else:
            if memory is None:
                estimate = self._nnunet_estimate(network, input_channels, patch_size)
                fitting = round(self._reference(len(patch_size)) / estimate)
            elif memory.of(fewest) > available:
                self._refuse(network, patch_size, memory.of(fewest))
            else:
                fitting = memory.largest_batch(available)
            batch_size = max(min(fitting, round(n_patches * self.max_dataset_covered)), fewest)
        planned = {} if memory is None else {PLANNED_MEMORY: round(memory.of(batch_size) / 1e9, 3)}
        return {"batch_size": batch_size} | planned

    def memory(self, network: PlannedNetwork, input_channels: int, patch_size: Sequence[int]) -> StepMemory | None:
        """What a training step takes; None, after a warning, where it cannot be counted.

        Args:
            network: as in the plans
            input_channels: of the network
            patch_size: pixels or voxels
        """
        # a sample's share is in proportion to its pixels, so each topology is counted once; but not where images are
        # cropped or resized
        size = patch_size if {"crop_size", "image_size"} & network.arguments.keys() else None
        key = json.dumps([network.class_name, network.arguments, input_channels, size], sort_keys=True, default=int)
        pixels = math.prod(map(int, patch_size))
        if key not in self._counted:
            try:
                memory = training_memory(
                    network, input_channels, self._output_channels(), patch_size, self.optimiser_moments
                )
            except Exception as e:  # whatever a network does with values that are not there
                print(
                    f"Memory of {network.class_name} is nnU-Net's estimate: it cannot run on tensors without values "
                    f"({e})."
                )
                memory = None
            self._counted[key] = pixels, memory
        counted_pixels, memory = self._counted[key]
        return memory and StepMemory(memory.fixed, memory.of_sample * pixels // counted_pixels)

    def static_estimate_VRAM_usage(
        self, patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import
    ):
        """Memory of one sample in a training step, in nnU-Net's units, by which it chooses the patch.

        nnU-Net counts the outputs of convolutions; attention, edges and concatenated maps would not be in it.

        Raises:
            UserError: the memory target holds no patch
        """
        if self.paper or not self.counts_memory:
            return 1  # any patch will do
        # nnU-Net names the class by its module; by another name, the same network would be counted again
        patch_size, arguments = self.fit(patch_size, arch_kwargs)
        network = PlannedNetwork(class_name(self.network), arguments, arch_kwargs_req_import)
        fits = arch_kwargs["n_stages"] >= FEWEST_STAGES and min(patch_size) >= FEWEST_PIXELS
        if not fits and self._least < math.inf:
            self._refuse(network, patch_size, self._least)
        memory = self.memory(network, input_channels, patch_size)
        if memory is None:
            return self._nnunet_estimate(network, input_channels, patch_size)
        needed, available = memory.of(self.UNet_min_batch_size), self.UNet_vram_target_GB * 1e9
        if needed > available and not fits:  # the images themselves are that small
            self._refuse(network, patch_size, needed)
        self._least = min(self._least, needed)
        return self._reference(len(patch_size)) * memory.of_sample / max(available - memory.fixed, memory.of_sample)

    def _nnunet_estimate(self, network: PlannedNetwork, input_channels: int, patch_size: Sequence[int]) -> float:
        try:
            return super().static_estimate_VRAM_usage(patch_size, input_channels, self._output_channels(), *network)
        except AttributeError as e:
            raise UserError(
                f"The memory of {network.class_name} can neither be counted nor estimated: it needs a method "
                "compute_conv_feature_map_size, as nnU-Net's networks have."
            ) from e

    def _output_channels(self) -> int:
        return sum(name != "ignore" for name in self.dataset_json["labels"])

    def _reference(self, dim: int) -> float:
        """nnU-Net's estimate of one sample that takes all of the memory target."""
        reference = getattr(self, f"UNet_reference_val_{dim}d") * getattr(self, f"UNet_reference_val_corresp_bs_{dim}d")
        return reference * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB

    def _refuse(self, network: PlannedNetwork, patch_size: Sequence[int], n_bytes: float) -> None:
        name = network.class_name.split(".")[-1]
        raise UserError(
            f"{self.UNet_vram_target_GB:g} GB is too small for {name} in {len(patch_size)}D: use at least "
            f"-gpu_memory_target {math.ceil(n_bytes / 1e7) / 100:g}."
        )

    def variants(self, plans: dict, arguments: dict[str, dict]) -> dict[str, dict]:
        """``2d`` for networks that differ in a few arguments, and all else that is planned as it is.

        Patch and batch of all are those of ``2d``, so that they differ in nothing else.

        Args:
            plans: with ``2d``
            arguments: of the network, by configuration, ``2d`` first
        """
        full, configurations = plans["configurations"]["2d"], {}
        for name, own in arguments.items():
            architecture = deepcopy(full["architecture"])
            architecture["arch_kwargs"] |= own
            inherited = full if name == "2d" else {"inherits_from": "2d"}
            configurations[name] = inherited | {"architecture": architecture}
        return configurations | {name: c for name, c in plans["configurations"].items() if name != "2d"}

    def save_plans(self, plans):
        if self.paper:
            plans["configurations"].pop("3d_fullres", None)
            if self.paper_image_size is not None:
                self._resize(plans, self.paper_image_size)
        plans["configurations"] = self.configurations(plans)
        super().save_plans(plans)


def class_name(network: type[nn.Module]) -> str:
    """What plans call a network: its name in ``nnunet_cardiac.networks``, or where else it can be imported."""
    exported = getattr(networks, network.__name__, None) is network
    return f"{networks.__name__ if exported else network.__module__}.{network.__name__}"


def paper_topology(base_features: int) -> dict:
    """Five resolutions of 3x3 convolutions, each with twice the features of the one before, at most 512."""
    return {
        "n_stages": 5,
        "features_per_stage": [min(512, base_features * 2**i) for i in range(5)],
        "kernel_sizes": [[3, 3]] * 5,
        "strides": [[1, 1], *[[2, 2]] * 4],
        "n_conv_per_stage": [2] * 5,
        "n_conv_per_stage_decoder": [2] * 4,
    }
