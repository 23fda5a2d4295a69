from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from nnunet_cardiac.training.previous_stage import untouched_foreground_added


class nnUNetTrainerCrop(nnUNetTrainerNoDeepSupervision):
    """nnU-Net's recipe for both stages of a system whose second stage works on a crop.

    The second stage learns from masks that are augmented, as nnU-Net's cascades do; its crop is taken from the masks as
    they were. Neither stage has deep supervision: what works on a crop has none, and both stages have one trainer.
    """

    @staticmethod
    def get_training_transforms(
        patch_size,
        rotation_for_DA,
        deep_supervision_scales,
        mirror_axes,
        do_dummy_2d_data_aug,
        use_mask_for_norm=None,
        is_cascaded=False,
        foreground_labels=None,
        regions=None,
        ignore_label=None,
    ) -> BasicTransform:
        transforms = nnUNetTrainerNoDeepSupervision.get_training_transforms(
            patch_size, rotation_for_DA, deep_supervision_scales, mirror_axes, do_dummy_2d_data_aug, use_mask_for_norm,
            is_cascaded, foreground_labels, regions, ignore_label,
        )  # fmt: skip
        return untouched_foreground_added(transforms, len(foreground_labels)) if is_cascaded else transforms
