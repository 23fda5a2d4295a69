"""HALSR-Net's plans: the box (``2d_roi``), segmentation inside it (``2d_cascade``) and of the whole image (``2d``)."""

import math
from copy import deepcopy

import numpy as np

from nnunet_cardiac.networks import HALSRNet, LVBoxRegressor
from nnunet_cardiac.networks.halsr_net import DROPOUT
from nnunet_cardiac.planners.cascade_planner import CascadePlanner
from nnunet_cardiac.planners.network_planner import class_name
from nnunet_cardiac.planners.shrink import WHOLE_IMAGE

LEFT_VENTRICLE = ("LV", "MYO")
"""Names in ``dataset.json`` of what the box encloses."""
ROI_STAGES = 5
PHASES = {"2d": ("2d_roi", "2d_cascade"), "3d_fullres": ("3d_roi", "3d_cascade_fullres")}
"""Names of the two phases, by the configuration of the whole image."""


class HALSRNetPlanner(CascadePlanner):
    """Plans HALSR-Net as nnU-Net plans its U-Net, and derives the two phases from that.

    ``2d`` segments the whole image. ``2d_roi`` regresses the box of the left ventricle (all foreground, where
    ``dataset.json`` names no LV), on a patch that covers the largest image. ``2d_cascade`` is the segmentation network
    inside the box, with a crop that holds box and margin in 99 % of the training slices. ``3d_fullres``, ``3d_roi`` and
    ``3d_cascade_fullres`` are the same in 3D.

    ``paper`` takes the public code's batch of 32 and widths of 64 to 512 in five resolutions; its patch of 256 x 256
    pixels for the whole image is the project's choice, as the code names no size.
    """

    network = HALSRNet
    default_plans_name = "nnUNetHALSRNetPlans"
    paper_batch_size = 32

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.UNet_base_num_features = 64

    def complete(self, arch_kwargs: dict) -> dict:
        *rates, bottom = DROPOUT
        n_poolings = arch_kwargs["n_stages"] - 1
        rates = (rates + [rates[-1]] * n_poolings)[:n_poolings]
        return super().complete(arch_kwargs) | {"dropout_per_stage": [*rates, bottom]}

    def configurations(self, plans: dict) -> dict[str, dict]:
        """All three; the two phases share the preprocessed images of the whole image's configuration."""
        return self.for_each_base(plans, self._whole_and_phases)

    def _whole_and_phases(self, plans: dict, base: str) -> dict[str, dict]:
        whole = plans["configurations"][base]
        channels = len(self.dataset_json["channel_names"])
        labels = self.box_labels()
        roi_name, inside_name = PHASES[base]

        def derived(network: type, arch_kwargs: dict, patch_size, input_channels: int, **stages) -> dict:
            architecture = deepcopy(whole["architecture"])
            architecture["network_class_name"] = class_name(network)
            architecture["arch_kwargs"] = arch_kwargs
            patch_size = [int(p) for p in patch_size]
            configuration = {"inherits_from": base, "patch_size": patch_size, WHOLE_IMAGE: True}
            batch = self.stage_batch(plans, patch_size, architecture, input_channels)
            return stages | batch | configuration | {"architecture": architecture}

        roi = self._roi_arguments(whole["architecture"]["arch_kwargs"], labels)
        divisors = np.prod(roi["strides"], axis=0)
        divisors = divisors * np.where(divisors > 1, 2, 1)  # it works at half the image's resolution
        image = [max(pair) for pair in zip(self.largest_image(plans, base), whole["patch_size"], strict=True)]
        image = [math.ceil(side / divisor) * int(divisor) for side, divisor in zip(image, divisors, strict=True)]
        inside = self._inside_arguments(whole, self.heart_size(plans, base, labels))
        inside["crop_margin"] = self.crop_margin(whole)
        return {
            base: whole,
            roi_name: derived(LVBoxRegressor, roi, image, channels, next_stage=[inside_name]),
            inside_name: derived(
                HALSRNet, inside, np.maximum(image, inside["crop_size"]), channels + self._output_channels() - 1,
                previous_stage=roi_name, next_stage=None,
            ),
        }  # fmt: skip

    def box_labels(self) -> list[int]:
        """Labels that the box encloses: cavity and myocardium by their names, else all foreground."""
        labels = {name: value for name, value in self.dataset_json["labels"].items() if isinstance(value, int)}
        if "LV" in labels:
            return [labels[name] for name in LEFT_VENTRICLE if name in labels]
        return [value for name, value in labels.items() if name not in ("background", "ignore")]

    def _roi_arguments(self, whole: dict, labels: list[int]) -> dict:
        n = min(ROI_STAGES, whole["n_stages"])
        kept = {
            key: value for key, value in whole.items() if key not in ("dropout_per_stage", "n_conv_per_stage_decoder")
        }
        return kept | {
            "n_stages": n,
            "features_per_stage": whole["features_per_stage"][:n],
            "kernel_sizes": whole["kernel_sizes"][:n],
            "strides": whole["strides"][:n],
            "n_conv_per_stage": [1] + [2] * (n - 1),
            "box_label": labels[0],
            "box_labels": labels,
        }

    def _inside_arguments(self, whole: dict, heart: np.ndarray) -> dict:
        """The segmentation network's arguments for a crop."""
        kwargs = deepcopy(whole["architecture"]["arch_kwargs"])
        if self.paper:
            return kwargs | {"crop_size": [math.ceil(side / 16) * 16 for side in heart]}
        topology, crop_size = self.crop_topology(whole["spacing"], heart, self.UNet_base_num_features)
        return self.complete(kwargs | topology) | {"crop_size": crop_size}
