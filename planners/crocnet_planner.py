"""CroCNet's plans: stage 1 and the forms of stage 2, configured by the data and the memory target."""

import math
from copy import deepcopy

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.networks import CroCNetRefiner, E2AUNet
from nnunet_cardiac.planners.cascade_planner import CascadePlanner
from nnunet_cardiac.planners.network_planner import class_name, paper_topology
from nnunet_cardiac.planners.shrink import WHOLE_IMAGE

STAGE_2 = {
    "2d": {
        "2d_cascade": "specialists",
        "2d_cascade_self_coupled": "self_coupled",
        "2d_cascade_uncoupled": "uncoupled",
        "2d_cascade_single": "single",
    },
    "3d_fullres": {"3d_cascade_fullres": "specialists"},
}
"""Name and variant of every second stage, by its first."""


class CroCNetPlanner(CascadePlanner):
    """Plans CroCNet as nnU-Net plans its U-Net: E2AUNet stands in for it, the rest is nnU-Net's own planning.

    ``2d`` is stage 1. ``2d_cascade`` (specialists) and its ablations ``2d_cascade_self_coupled``,
    ``2d_cascade_uncoupled`` and ``2d_cascade_single`` are stage 2, on the same preprocessed images: at half the width,
    with a crop that holds the heart and its margin in 99 % of the training slices, and a patch that covers the largest
    image, so that every tile sees the whole heart. Patch and batch of the ablations are those of ``2d_cascade``, so
    that they differ in nothing else. ``3d_fullres`` and ``3d_cascade_fullres`` are the two stages in 3D.

    ``paper`` takes the public code's batch of 8 and the paper's widths in five resolutions. The paper gives no size:
    stage 1's patch of 256 x 256 pixels is the project's choice, and the crop is planned all the same.
    """

    network = E2AUNet
    default_plans_name = "nnUNetCroCNetPlans"
    paper_batch_size = 8

    def configurations(self, plans: dict) -> dict[str, dict]:
        """Stage 1 and, derived from it, stage 2."""
        return self.for_each_base(plans, self._both_stages)

    def _both_stages(self, plans: dict, base: str) -> dict[str, dict]:
        stage_1 = plans["configurations"][base]
        heart = self.heart_size(plans, base)
        kwargs = deepcopy(stage_1["architecture"]["arch_kwargs"])
        if self.paper:
            topology, crop_size = paper_topology(base_features=16), [math.ceil(h / 16) * 16 for h in heart]
        else:
            topology, crop_size = self.crop_topology(stage_1["spacing"], heart, self.UNet_base_num_features // 2)
        kwargs |= topology | {"crop_size": crop_size, "crop_margin": self.crop_margin(stage_1)}

        patch_size = np.maximum(self.largest_image(plans, base), crop_size).tolist()
        if self.paper:
            patch_size = [max(256, p) for p in patch_size]

        n_anatomies = len(PlansManager(plans).get_label_manager(self.dataset_json).foreground_labels)
        n_channels = len(self.dataset_json["channel_names"]) + n_anatomies
        names = STAGE_2[base]
        configurations, batch = {base: stage_1 | {"next_stage": list(names)}}, None
        for name, variant in names.items():
            architecture = deepcopy(stage_1["architecture"])
            architecture["network_class_name"] = class_name(CroCNetRefiner)
            architecture["arch_kwargs"] = kwargs | {"variant": variant}
            batch = batch or self.stage_batch(plans, patch_size, architecture, n_channels)
            configurations[name] = batch | {
                "inherits_from": base,
                "previous_stage": base,
                "next_stage": None,
                "patch_size": [int(p) for p in patch_size],
                WHOLE_IMAGE: True,
                "architecture": architecture,
            }
        return configurations
