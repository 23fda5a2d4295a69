"""Training augmentation of the papers, from batchgeneratorsv2's transforms."""

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_cardiac.networks.image_resize import image_box

CROCNET_ROTATION = (-np.pi / 6, np.pi / 6)
"""30 degrees to either side, in radians."""


def crocnet_augmentation(
    patch_size, rotation, mirror_axes, do_dummy_2d_data_aug: bool, use_mask_for_norm
) -> list[BasicTransform]:
    """CroCNet's augmentation (section 4.2): flips, elastic deformation, affine, blur, gamma, noise.

    Kinds are the paper's; how often and how strong, which it does not say, follow nnU-Net: each intensity transform
    keeps nnU-Net's range, rotation and scaling nnU-Net's probability of 0.2, and elastic deformation gets that too.
    Arguments are those of ``nnUNetTrainer.get_training_transforms``.
    """
    transforms = _spatial(
        patch_size, do_dummy_2d_data_aug, p_elastic_deform=0.2, elastic_deform_scale=(0.1, 0.3),
        elastic_deform_magnitude=(2, 6), p_rotation=0.2, rotation=rotation, p_scaling=0.2, scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
    )  # fmt: skip
    transforms += [
        RandomTransform(
            GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True),
            apply_probability=0.1,
        ),
        RandomTransform(
            GaussianBlurTransform(
                blur_sigma=(0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5
            ),
            apply_probability=0.2,
        ),
        RandomTransform(
            GammaTransform(
                gamma=(0.7, 1.5), p_invert_image=0, synchronize_channels=False, p_per_channel=1, p_retain_stats=1
            ),
            apply_probability=0.3,
        ),
    ]
    return transforms + _mirrored_and_masked(mirror_axes, use_mask_for_norm)


def rotations_and_flips(
    patch_size, rotation, mirror_axes, do_dummy_2d_data_aug: bool, use_mask_for_norm
) -> list[BasicTransform]:
    """Every image is turned by an angle from ``rotation`` and flipped along each axis or not; nothing else.

    Arguments are those of ``nnUNetTrainer.get_training_transforms``.
    """
    spatial = _spatial(
        patch_size, do_dummy_2d_data_aug, p_elastic_deform=0, p_rotation=1, rotation=rotation, p_scaling=0
    )
    return spatial + _mirrored_and_masked(mirror_axes, use_mask_for_norm)


class KeepImageFrame(BasicTransform):
    """Augments an image inside its frame, as if it had been resized first: ``ImageResize`` finds the same frame again.

    What is moved out of the frame is cut off, also in the labels, where it becomes nnU-Net's -1. What is moved in from
    outside, where there is nothing, becomes almost 0: padding alone is 0.

    Args:
        transforms: of space and intensities; the first leaves the middle of the image in the middle
    """

    ALMOST_0 = 1e-5

    def __init__(self, transforms: list[BasicTransform]):
        super().__init__()
        self.transforms = transforms

    def apply(self, data_dict: dict, **params) -> dict:
        """nnU-Net's dictionary of a sample to the same, transformed."""
        before = data_dict["image"]
        box = image_box(before)
        for transform in self.transforms:
            data_dict = transform(**data_dict)
        image = data_dict["image"]
        frame = torch.zeros_like(image[0], dtype=torch.bool)
        cut = [(old - new) // 2 for old, new in zip(before.shape[1:], image.shape[1:], strict=True)]
        frame[tuple(slice(max(b.start - c, 0), max(b.stop - c, 0)) for b, c in zip(box[1:], cut, strict=True))] = True
        image = torch.where(frame, torch.where(image == 0, self.ALMOST_0, image), 0)
        return data_dict | {"image": image, "segmentation": data_dict["segmentation"].masked_fill(~frame, -1)}


def image_frame_kept(transforms: ComposeTransforms) -> ComposeTransforms:
    """An augmentation whose transforms of space and intensities keep the image's frame.

    These are the first and the random ones that follow it; mirroring, which comes behind them, mirrors the frame too.
    nnU-Net's masks of the normalisation would blacken what is turned into the frame, and move it: they are left out.
    """
    first, *others = (t for t in transforms.transforms if not isinstance(t, MaskImageTransform))
    is_random = [isinstance(transform, RandomTransform) for transform in others]
    n = [*is_random, False].index(False)
    return ComposeTransforms([KeepImageFrame([first, *others[:n]]), *others[n:]])


def without_timing(transforms: ComposeTransforms) -> ComposeTransforms:
    """nnU-Net's augmentation without its choice between two ways to blur, which is made by timing them.

    Their results differ by rounding: the same training twice would end with different weights.
    """
    for transform in transforms.transforms:
        blur = getattr(transform, "transform", transform)  # inside a RandomTransform
        if isinstance(blur, GaussianBlurTransform):
            blur.benchmark = False
    return transforms


def _spatial(patch_size, do_dummy_2d_data_aug: bool, **options) -> list[BasicTransform]:
    """nnU-Net's spatial transform, in the plane alone where that is asked for."""
    spatial = SpatialTransform(
        patch_size[1:] if do_dummy_2d_data_aug else patch_size,
        patch_center_dist_from_border=0,
        random_crop=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
        **options,
    )
    return [Convert3DTo2DTransform(), spatial, Convert2DTo3DTransform()] if do_dummy_2d_data_aug else [spatial]


def _mirrored_and_masked(mirror_axes, use_mask_for_norm) -> list[BasicTransform]:
    transforms = []
    if mirror_axes:
        transforms.append(MirrorTransform(allowed_axes=mirror_axes))
    if use_mask_for_norm is not None and any(use_mask_for_norm):
        transforms.append(
            MaskImageTransform(
                apply_to_channels=[i for i, use in enumerate(use_mask_for_norm) if use],
                channel_idx_in_seg=0,
                set_outside_to=0,
            )
        )
    return transforms
