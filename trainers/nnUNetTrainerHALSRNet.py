import pydoc

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.optim import Adam

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.lv_box import BoxOutputs
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.training.box import BoxLoss
from nnunet_cardiac.training.one_hot import OneHotLoss
from nnunet_cardiac.training.plateau import PlateauLR, should_stop
from nnunet_cardiac.training.trainer import RecipeTrainer

BOX_LR = 1e-3
PATIENCE = 10
"""Epochs without a better validation loss after which the training stops."""


class EarlyStop(Exception):
    """Ends nnU-Net's loop over the epochs."""


class nnUNetTrainerHALSRNet(RecipeTrainer):
    """HALSR-Net's recipe for both phases, from the facts of the public code.

    The box regressor learns with a box loss, everything else with binary cross-entropy plus Dice (smooth 1); Adam at
    1e-4, a tenth of it whenever the validation loss has not improved for 5 epochs; at most 300 epochs, stopped after 10
    without improvement; the weights of the lowest validation loss are kept. The batch of 32 is in the plans
    (``--paper``). No augmentation is named: nnU-Net's stays. The rate of the box regressor, whose network is the
    project's own, is 1e-3.
    """

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.keep_best = "loss"
        self.num_epochs = 300
        self.initial_lr = BOX_LR if self.regresses_a_box else 1e-4
        self.weight_decay = 0

    def initialize(self):
        super().initialize()
        self.takes_loss_outputs = self.enable_deep_supervision = self.regresses_a_box

    @property
    def regresses_a_box(self) -> bool:
        """Whether the plans' network gives what the loss of a box needs."""
        network = pydoc.locate(self.configuration_manager.network_arch_class_name)
        return isinstance(network, type) and issubclass(network, Network) and network.loss_outputs is BoxOutputs

    def configure_optimizers(self):
        optimizer = Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PlateauLR(optimizer, self.initial_lr, lambda: self.finished("val_losses"))

    def _build_loss(self):
        if self.regresses_a_box:
            if self.label_manager.has_regions:
                raise UserError("A box is regressed from labels; this data set has regions.")
            return BoxLoss(self.bare_network.boxed_labels, self.label_manager.ignore_label)
        loss = DC_and_BCE_loss(
            {},
            {"batch_dice": self.configuration_manager.batch_dice, "do_bg": True, "smooth": 1.0, "ddp": self.is_ddp},
            use_ignore_label=self.label_manager.ignore_label is not None,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
        return loss if self.label_manager.has_regions else OneHotLoss(loss, self.label_manager.ignore_label)

    def _get_deep_supervision_scales(self):
        """For the box, the target at full size alone."""
        return [[1.0] * len(self.configuration_manager.patch_size)] if self.enable_deep_supervision else None

    def on_epoch_start(self):
        if should_stop(self.finished("val_losses"), PATIENCE):
            self.print_to_log_file(f"Stopped after {self.current_epoch} epochs: no better in the last {PATIENCE}.")
            raise EarlyStop
        super().on_epoch_start()

    def run_training(self):
        try:
            super().run_training()
        except EarlyStop:
            self.on_train_end()
