"""Plans of networks of other libraries: MONAI's, and the base of a planner for one's own."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks import monai
from nnunet_cardiac.networks.foreign import ForeignNetwork
from nnunet_cardiac.planners.network_planner import NetworkPlanner
from nnunet_cardiac.planners.shrink import KEEPS_RESOLUTIONS


class ForeignPlanner(NetworkPlanner):
    """Plans ``ForeignNetwork``s: each has its own patch, batch and memory.

    Patches are multiples of what the network's strides ask for. ``paper`` plans patches of 256 x 256 pixels.
    """

    paper_batch_size = 8

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, type[ForeignNetwork]]:
        """By configuration without its dimension: the first is "", which is ``2d`` and ``3d_fullres``."""

    def __init__(self, *arguments, **keywords):
        self.network = self.networks[""]
        self._planned: dict[int, dict[str, dict]] = {}
        super().__init__(*arguments, **keywords)

    def get_plans_for_configuration(self, spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache):
        planned = self._planned[len(spacing)] = {}
        for name, network in self.networks.items():
            self.network = network
            try:
                planned[name] = super().get_plans_for_configuration(
                    spacing, median_shape, data_identifier, approximate_n_voxels_dataset, {}
                )  # nnU-Net's cache would take one network for another
            except UserError as e:
                if not name:
                    raise
                print(f"{name} is left out in {len(spacing)}D. {e}")
                continue
            if network.has_fixed_depth:
                planned[name][KEEPS_RESOLUTIONS] = True
        return planned[""]

    def fit(self, patch_size: Sequence[int], arch_kwargs: dict) -> tuple[list[int], dict]:
        """The network's own resolutions, and a patch that they divide."""
        patch_size, arch_kwargs = super().fit(patch_size, self.network.planned_topology(arch_kwargs))
        divisors = np.prod(arch_kwargs["strides"], axis=0)
        patch_size = [math.ceil(side / d) * int(d) for side, d in zip(patch_size, divisors, strict=True)]
        return patch_size, arch_kwargs | ({"patch_size": patch_size} if self.network.takes_one_size else {})

    def configurations(self, plans: dict) -> dict[str, dict]:
        """``2d`` and ``3d_fullres``, then one of each for every other network."""
        others = {
            f"{base}_{name}": {"inherits_from": base} | planned
            for base in plans["configurations"]
            for name, planned in self._planned[2 if base == "2d" else 3].items()
            if name
        }
        return plans["configurations"] | others


class MonaiPlanner(ForeignPlanner):
    """Plans MONAI's networks: ``2d`` is its U-Net, ``2d_unetr`` its UNETR, and so on, and the same in 3D."""

    default_plans_name = "nnUNetMonaiPlans"
    networks = {
        "": monai.UNet,
        "residual": monai.ResidualUNet,
        "unetpp": monai.UNetPlusPlus,
        "attention": monai.AttentionUNet,
        "segresnet": monai.SegResNet,
        "mednext": monai.MedNeXt,
        "unetr": monai.UNETR,
        "swinunetr": monai.SwinUNETR,
    }
