import torch
from torch.optim import Adam

from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.training.deep_supervision import BalancedDeepSupervisionLoss
from nnunet_cardiac.training.schedules import StepLR
from nnunet_cardiac.training.trainer import RecipeTrainer


class nnUNetTrainerDADU(RecipeTrainer):
    """DADU's recipe (Mukisa and Bansal, sections 4.4 and 5).

    Dice loss on sigmoids, background included, of the final output and of every level's, balanced by weights that are
    learned; Adam at 1e-3 throughout 100 epochs; the best epoch's weights are kept. The batch of 10 and the images of
    256 x 256 are in the plans (``--paper``). The paper names no augmentation: nnU-Net's stays. Other networks than DADU
    carry no weights to learn; theirs are 1. The weights of every epoch are in its log, and in the checkpoints' logging
    as ``loss_weights``, the final output's first.
    """

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = True
        self.keep_best = "dice"
        self.num_epochs = 100
        self.initial_lr = 1e-3
        self.weight_decay = 0

    def configure_optimizers(self):
        if self.log_variances is not None:
            self.log_variances.requires_grad_(True)
        optimizer = Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, StepLR(optimizer, self.initial_lr, self.num_epochs, after=())

    @property
    def log_variances(self) -> torch.nn.Parameter | None:
        """s of the outputs' losses: parameters of the network, so that checkpoints and DDP carry them."""
        network = self.bare_network
        return network.loss_log_variances if isinstance(network, Network) else None

    def on_train_epoch_end(self, train_outputs):
        super().on_train_epoch_end(train_outputs)
        if self.log_variances is not None:
            weights = [round(weight, 3) for weight in torch.exp(-self.log_variances.detach()).tolist()]
            self.print_to_log_file("Weights of the outputs' losses:", *weights)
            self.logger.local_logger.my_fantastic_logging.setdefault("loss_weights", [])
            self.logger.log("loss_weights", weights, self.current_epoch)

    def _build_loss(self):
        return BalancedDeepSupervisionLoss(self.sigmoid_dice_loss(do_bg=True, squared=False), self.log_variances)

    def _get_deep_supervision_scales(self):
        """Targets at full size alone: the loss brings the outputs there."""
        return [[1.0] * len(self.configuration_manager.patch_size)]
