import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.optim import Adam

from nnunet_cardiac.training.augmentation import CROCNET_ROTATION, crocnet_augmentation
from nnunet_cardiac.training.dice import SigmoidDiceLoss
from nnunet_cardiac.training.schedules import StepLR
from nnunet_cardiac.training.trainer import RecipeTrainer


class nnUNetTrainerCroCNet(RecipeTrainer):
    """CroCNet's recipe for both stages (Khan et al., ISBI 2024, section 4.2).

    Dice loss on sigmoids, over background and anatomies in stage 1, over the anatomies in stage 2; Adam at 1e-4, a
    tenth of it after 100 and again after 200 of 500 epochs; flips, elastic, affine, blur, gamma and noise.
    """

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 500
        self.initial_lr = 1e-4
        self.weight_decay = 0

    def configure_optimizers(self):
        optimizer = Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, StepLR(optimizer, self.initial_lr, self.num_epochs, after=(100 / 500, 200 / 500))

    def _build_loss(self):
        return SigmoidDiceLoss(
            do_bg=self.label_manager.has_regions or not self.is_cascaded,
            batch_dice=self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            ddp=self.is_ddp,
        )

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        _, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        return CROCNET_ROTATION, dummy_2d, initial_patch_size, mirror_axes

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
        # behind the augmentation, training data become what validation data become
        to_network = nnUNetTrainer.get_validation_transforms(
            deep_supervision_scales, is_cascaded, foreground_labels, regions, ignore_label
        )
        augmentation = crocnet_augmentation(
            patch_size, rotation_for_DA, mirror_axes, do_dummy_2d_data_aug, use_mask_for_norm
        )
        return ComposeTransforms([*augmentation, *to_network.transforms])
