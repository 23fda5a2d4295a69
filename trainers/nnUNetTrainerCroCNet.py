import torch
from torch.optim import Adam

from nnunet_cardiac.training.augmentation import CROCNET_ROTATION, crocnet_augmentation
from nnunet_cardiac.training.schedules import StepLR
from nnunet_cardiac.training.trainer import RecipeTrainer


class nnUNetTrainerCroCNet(RecipeTrainer):
    """CroCNet's recipe for both stages (Khan et al., ISBI 2024, section 4.2).

    Dice loss on sigmoids, over background and anatomies in stage 1, over the anatomies in stage 2; Adam at 1e-4, a
    tenth of it after 100 and again after 200 of 500 epochs; flips, elastic, affine, blur, gamma and noise.
    """

    rotation = CROCNET_ROTATION
    augmentation = staticmethod(crocnet_augmentation)

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 500
        self.initial_lr = 1e-4
        self.weight_decay = 0

    def configure_optimizers(self):
        optimizer = Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, StepLR(optimizer, self.initial_lr, self.num_epochs, after=(100 / 500, 200 / 500))

    def _build_loss(self):
        return self.sigmoid_dice_loss(do_bg=not self.is_cascaded)
