"""What planners of two-stage systems have in common: the heart's size, the largest image, crop and batch of stage 2."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.heart_crop import heart_box
from nnunet_cardiac.planners.network_planner import NetworkPlanner
from nnunet_cardiac.progress import progress

CROP_MARGIN = 15
"""Pixels around the heart's box, in the plane (Khan et al., section 3.3)."""
CROP_PERCENTILE = 99
"""Share of the training images whose heart and margin the planned crop holds, in percent."""


class CascadePlanner(NetworkPlanner):
    """A planner whose last stage works on a crop: of slices in ``2d``, of volumes in ``3d_fullres``."""

    def crop_margin(self, configuration: dict) -> list[int]:
        """``CROP_MARGIN`` in the plane, and as many millimetres between slices, in whole slices."""
        *through_plane, _, in_plane = configuration["spacing"]
        return [max(1, round(CROP_MARGIN * in_plane / s)) for s in through_plane] + [CROP_MARGIN] * 2

    def heart_size(self, plans: dict, base: str, labels: Sequence[int] | None = None) -> np.ndarray:
        """Size in pixels, per axis, that holds the heart and its margin in 99 % of the training slices or volumes.

        No larger than the largest image.

        Args:
            plans: with ``base``
            base: configuration whose spacing counts
            labels: that make up the heart; None for all foreground

        Raises:
            UserError: there is none in any case, or the data set has regions
        """
        configuration = plans["configurations"][base]
        values = self.dataset_json["labels"]
        if not all(isinstance(value, int) for value in values.values()):
            raise UserError(
                f"{self.dataset_name} has regions that overlap: a crop to the heart and networks for each of its "
                "structures need one label for each voxel."
            )
        if labels is None:
            labels = [value for name, value in values.items() if name not in ("background", "ignore")]
        forward = plans["transpose_forward"]
        slices, volumes = self._heart_boxes(tuple(labels), tuple(forward))
        sizes = volumes if len(configuration["spacing"]) == 3 else slices
        if not sizes:
            names = ", ".join(name for name, value in values.items() if value in labels)
            raise UserError(f"No label in {self.raw_dataset_folder} has any of {names}: there is no heart to crop to.")
        heart = np.percentile(np.array(sizes) / configuration["spacing"], CROP_PERCENTILE, axis=0)
        return np.minimum(heart + 2 * np.array(self.crop_margin(configuration)), self.largest_image(plans, base))

    @cache  # noqa: B019 (a planner lives as long as its command)
    def _heart_boxes(self, labels: tuple[int, ...], forward: tuple[int, ...]) -> tuple[list, list]:
        """Sizes in mm, per axis, of the hearts in all slices and in all volumes."""
        reader = self.determine_reader_writer()()
        slices, volumes = [], []
        for case in progress(self.dataset.values(), desc="Measuring hearts for the crop"):
            segmentation, properties = reader.read_seg(case["label"])
            heart = np.isin(segmentation[0].transpose(forward), labels)
            spacing = np.array(properties["spacing"])[list(forward)]
            for sizes, images, scale in ((slices, heart, spacing[1:]), (volumes, heart[None], spacing)):
                boxes = (heart_box(np.ascontiguousarray(image)) for image in images)
                sizes += [scale * [stop - start for start, stop in box] for box in boxes if box is not None]
        return slices, volumes

    def crop_topology(self, spacing: Sequence[float], heart: np.ndarray, base_features: int) -> tuple[dict, list[int]]:
        """nnU-Net's rules for a network on the crop.

        Args:
            spacing: of the configuration
            heart: size of heart and margin, pixels
            base_features: of the first resolution

        Returns:
            stages, strides, kernels, features and convolutions of the network, and the crop's size in pixels
        """
        _, strides, kernel_sizes, crop_size, _ = get_pool_and_conv_props(
            spacing, np.ceil(heart).astype(int), self.UNet_featuremap_min_edge_length, 999999
        )
        n = len(strides)
        most = getattr(self, f"UNet_max_features_{len(spacing)}d") * base_features // self.UNet_base_num_features
        topology = {
            "n_stages": n,
            "strides": strides,
            "kernel_sizes": kernel_sizes,
            "features_per_stage": [min(most, base_features * 2**i) for i in range(n)],
            "n_conv_per_stage": self.UNet_blocks_per_stage_encoder[:n],
            "n_conv_per_stage_decoder": self.UNet_blocks_per_stage_decoder[: n - 1],
        }
        return topology, [int(side) for side in crop_size]

    def stage_batch(self, plans: dict, patch_size: Sequence[int], architecture: dict, input_channels: int) -> dict:
        """``batch`` for a stage that sees whole slices or volumes."""
        through_plane = plans["transpose_forward"][0]
        slices = sum(shape[through_plane] for shape in self.dataset_fingerprint["shapes_after_crop"])
        n_images = slices if len(patch_size) == 2 else len(self.dataset)
        return self.batch(patch_size, architecture, input_channels, n_images)

    def for_each_base(self, plans: dict, derive) -> dict[str, dict]:
        """Configurations that ``derive(plans, base)`` gives for ``2d`` and ``3d_fullres``.

        A 3D crop cannot be made smaller: where it does not fit into the memory target, ``3d_fullres`` stands alone.
        """
        configurations = derive(plans, "2d")
        if "3d_fullres" in plans["configurations"]:
            try:
                configurations |= derive(plans, "3d_fullres")
            except UserError as e:
                print(f"The 3D cascade is left out. {e}")
                configurations["3d_fullres"] = plans["configurations"]["3d_fullres"]
        return configurations
