"""CroCNet's plans: stage 1 (``2d``) and the three forms of stage 2, configured by the data and the memory target."""

import math
from copy import deepcopy

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks import CroCNetRefiner, E2AUNet
from nnunet_cardiac.networks.heart_crop import heart_box

CROP_MARGIN = 15
"""Pixels around the heart's box (Khan et al., section 3.3)."""
CROP_PERCENTILE = 99
"""Share of the training slices whose heart and margin the planned crop holds, in percent."""


class CroCNetPlanner(ExperimentPlanner):
    """Plans CroCNet as nnU-Net plans its U-Net: E2AUNet stands in for it, the rest is nnU-Net's own planning.

    ``2d`` is stage 1. ``2d_cascade`` (specialists), ``2d_cascade_uncoupled`` and ``2d_cascade_single`` are stage 2, on
    the same preprocessed images: at half the width, with a crop that holds the heart and its margin in 99 % of the
    training slices, and a patch that covers the largest image, so that every tile sees the whole heart.

    Args:
        paper: the paper's fixed sizes in place of planned ones: 256 x 256 pixels, batch 8, five resolutions. The crop,
            which the paper does not fix, is planned all the same; stage 2's patch is larger where images are.
        others: as in nnU-Net's ``ExperimentPlanner``
    """

    def __init__(
        self,
        dataset_name_or_id,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetCroCNetPlans",
        overwrite_target_spacing=None,
        suppress_transpose: bool = False,
        paper: bool = False,
    ):
        super().__init__(
            dataset_name_or_id, gpu_memory_target_in_gb, preprocessor_name, plans_name, overwrite_target_spacing,
            suppress_transpose,
        )  # fmt: skip
        self.UNet_class = E2AUNet
        self.paper = paper

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Images are preprocessed as for nnU-Net's default plans, so the data are shared with them."""
        return f"nnUNetPlans_{configuration_name}"

    def get_plans_for_configuration(self, spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache):
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        architecture = plan["architecture"]
        architecture["network_class_name"] = f"nnunet_cardiac.networks.{E2AUNet.__name__}"
        architecture["arch_kwargs"].update(
            norm_op=f"torch.nn.BatchNorm{len(spacing)}d",
            norm_op_kwargs={},
            nonlin="torch.nn.ReLU",
            nonlin_kwargs={"inplace": True},
        )
        if self.paper and len(spacing) == 2:
            plan.update(patch_size=[256, 256], batch_size=8)
            architecture["arch_kwargs"].update(_paper_topology(base_features=32))
        return plan

    def save_plans(self, plans):
        """Saves stage 1 and, derived from it, stage 2; nnU-Net's 3D configurations are left out."""
        stage_1 = plans["configurations"]["2d"]
        plans["configurations"] = {"2d": stage_1, **self._plan_stage_2(plans)}
        stage_1["next_stage"] = [name for name in plans["configurations"] if name != "2d"]
        super().save_plans(plans)

    def _plan_stage_2(self, plans: dict) -> dict[str, dict]:
        stage_1 = plans["configurations"]["2d"]
        heart = self._heart_size(plans["transpose_forward"], stage_1["spacing"])
        _, strides, kernel_sizes, crop_size, _ = get_pool_and_conv_props(
            stage_1["spacing"], np.ceil(heart).astype(int), self.UNet_featuremap_min_edge_length, 999999
        )
        kwargs = deepcopy(stage_1["architecture"]["arch_kwargs"])
        if self.paper:
            kwargs.update(_paper_topology(base_features=16))
            crop_size = [math.ceil(h / 16) * 16 for h in heart]
        else:
            n_stages = len(strides)
            kwargs.update(
                n_stages=n_stages,
                strides=strides,
                kernel_sizes=kernel_sizes,
                features_per_stage=[
                    min(self.UNet_max_features_2d, self.UNet_base_num_features * 2**i) // 2 for i in range(n_stages)
                ],
                n_conv_per_stage=self.UNet_blocks_per_stage_encoder[:n_stages],
                n_conv_per_stage_decoder=self.UNet_blocks_per_stage_decoder[: n_stages - 1],
            )
        kwargs.update(crop_size=[int(c) for c in crop_size], crop_margin=[CROP_MARGIN] * 2)

        patch_size = [max(pair) for pair in zip(self._largest_image(plans), crop_size, strict=True)]
        if self.paper:
            patch_size = [max(256, p) for p in patch_size]

        def configuration(variant: str) -> dict:
            architecture = deepcopy(stage_1["architecture"])
            architecture["network_class_name"] = f"nnunet_cardiac.networks.{CroCNetRefiner.__name__}"
            architecture["arch_kwargs"] = kwargs | {"variant": variant}
            return {
                "inherits_from": "2d",
                "previous_stage": "2d",
                "next_stage": None,
                "patch_size": [int(p) for p in patch_size],
                "batch_size": 8 if self.paper else self._stage_2_batch_size(architecture, patch_size, plans),
                "architecture": architecture,
            }

        return {
            "2d_cascade": configuration("specialists"),
            "2d_cascade_uncoupled": configuration("uncoupled"),
            "2d_cascade_single": configuration("single"),
        }

    def _stage_2_batch_size(self, architecture: dict, patch_size, plans: dict) -> int:
        """nnU-Net's rule for the batch: what the memory target holds, at most 5 % of the data, at least 2."""
        n_anatomies = len(PlansManager(plans).get_label_manager(self.dataset_json).foreground_labels)
        n_channels = len(self.dataset_json["channel_names"])
        feature_maps = self.static_estimate_VRAM_usage(
            patch_size, n_channels + n_anatomies, n_anatomies + 1, architecture["network_class_name"],
            architecture["arch_kwargs"], architecture["_kw_requires_import"],
        )  # fmt: skip
        budget = self.UNet_reference_val_2d * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        through_plane = plans["transpose_forward"][0]
        slices = sum(shape[through_plane] for shape in self.dataset_fingerprint["shapes_after_crop"])
        batch_size = round(budget / feature_maps * self.UNet_reference_val_corresp_bs_2d)
        return max(min(batch_size, round(self.max_dataset_covered * slices)), self.UNet_min_batch_size)

    def _heart_size(self, transpose_forward, spacing) -> np.ndarray:
        """Size in pixels at ``spacing``, per axis, that holds the heart and its margin in 99 % of training slices."""
        reader = self.determine_reader_writer()()
        sizes = []
        for case in tqdm(self.dataset.values(), desc="Measuring hearts for the crop"):
            labels, properties = reader.read_seg(case["label"])
            labels = labels[0].transpose(transpose_forward)
            scale = np.array(properties["spacing"])[transpose_forward][1:] / np.array(spacing)
            heart = (labels > 0) & (labels != self.dataset_json["labels"].get("ignore", -1))
            boxes = (heart_box(np.ascontiguousarray(s)) for s in heart)
            sizes += [scale * [stop - start for start, stop in box] for box in boxes if box is not None]
        if not sizes:
            raise UserError(f"No label in {self.raw_dataset_folder} has any foreground: there is no heart to crop to.")
        return np.percentile(sizes, CROP_PERCENTILE, axis=0) + 2 * CROP_MARGIN

    def _largest_image(self, plans: dict) -> list[int]:
        """Largest height and width in the data set, in pixels as preprocessed."""
        forward = plans["transpose_forward"]
        spacing = plans["configurations"]["2d"]["spacing"]
        shapes = [
            compute_new_shape(np.array(shape)[forward][1:], np.array(original)[forward][1:], spacing)
            for shape, original in zip(
                self.dataset_fingerprint["shapes_after_crop"], self.dataset_fingerprint["spacings"], strict=True
            )
        ]
        return np.max(shapes, axis=0).tolist()


def _paper_topology(base_features: int) -> dict:
    return {
        "n_stages": 5,
        "features_per_stage": [base_features * 2**i for i in range(5)],
        "kernel_sizes": [[3, 3]] * 5,
        "strides": [[1, 1], *[[2, 2]] * 4],
        "n_conv_per_stage": [2] * 5,
        "n_conv_per_stage_decoder": [2] * 4,
    }
