import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.optim import SGD

from nnunet_cardiac.training.augmentation import rotations_and_flips
from nnunet_cardiac.training.schedules import StepLR
from nnunet_cardiac.training.trainer import RecipeTrainer


class nnUNetTrainerSpatialAttentionUNet(RecipeTrainer):
    """The recipe of the spatial-attention U-Net's text.

    Dice loss of the foreground (nnU-Net's, which is the text's less 1); SGD with momentum 0.9; every image turned by up
    to 180 degrees and flipped along both axes, nothing else. Images of 256 x 256 and intensities between 0 and 1 are in
    the plans (``--paper``). An epoch is 3,500 augmented images of 805: 4.35 passes over the slices. Rate and length are
    not reported: 1e-2 throughout 100 epochs.
    """

    passes_per_epoch = 3500 / 805
    rotation = (-np.pi, np.pi)
    augmentation = staticmethod(rotations_and_flips)

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 100
        self.initial_lr = 1e-2
        self.weight_decay = 0

    def configure_optimizers(self):
        optimizer = SGD(self.network.parameters(), self.initial_lr, momentum=0.9, weight_decay=self.weight_decay)
        return optimizer, StepLR(optimizer, self.initial_lr, self.num_epochs, after=())

    def _build_loss(self):
        dice = {"batch_dice": self.configuration_manager.batch_dice, "smooth": 1e-5, "ddp": self.is_ddp}
        ignore = self.label_manager.ignore_label
        if self.label_manager.has_regions:
            return DC_and_BCE_loss({}, dice | {"do_bg": True}, 0, 1, ignore is not None, MemoryEfficientSoftDiceLoss)
        return DC_and_CE_loss(dice | {"do_bg": False}, {}, 0, 1, ignore, MemoryEfficientSoftDiceLoss)
