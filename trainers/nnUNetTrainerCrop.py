from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network, bare
from nnunet_cardiac.training.previous_stage import untouched_foreground_added


class nnUNetTrainerCrop(nnUNetTrainerNoDeepSupervision):
    """nnU-Net's recipe for both stages of a system whose second stage works on a crop.

    The second stage learns from masks that are augmented, as nnU-Net's cascades do; its crop is taken from the masks as
    they were. Neither stage has deep supervision: what works on a crop has none, and both stages have one trainer.
    """

    def initialize(self):
        """
        Raises:
            UserError: a cascaded stage whose network does not crop
        """
        super().initialize()
        network = bare(self.network)
        if self.is_cascaded and (not isinstance(network, Network) or network.crop is None):
            raise UserError(
                f"{type(network).__name__} works on no crop: train it with nnUNetTrainerNoDeepSupervision instead of "
                "nnUNetTrainerCrop."
            )

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
