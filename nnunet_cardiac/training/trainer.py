"""What every recipe here does differently from nnU-Net's trainer, apart from the recipe itself."""

import math
import os
import random
from collections.abc import Callable
from os.path import join
from typing import Literal, cast

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.training.augmentation import without_timing
from nnunet_cardiac.training.dice import SigmoidDiceLoss


class RecipeTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the habits that the papers' recipes share.

    - An epoch is one pass over the training slices (3D: volumes); ``num_epochs`` counts passes. Whoever sets
      ``num_iterations_per_epoch`` keeps what was set.
    - No deep supervision, unless a subclass asks for it.
    - A subclass with its own ``augmentation`` has that instead of nnU-Net's, and turns images by up to ``rotation``.
    - Every epoch seeds the random generators with ``seed``, fold and epoch, so that a training that was resumed with
      ``--c`` sees the batches of an uninterrupted one (exact with ``nnUNet_n_proc_DA=0``).
    - With ``keep_best`` the training ends with the weights of its best epoch: they are validated, and
      ``checkpoint_final.pth`` holds them. "dice" is nnU-Net's measure, the moving average of the online Dice; "loss"
      the validation loss.
    - Checkpoints are replaced in one step: a kill while one is written leaves the one before.
    - A cascaded stage starts only when every case has its out-of-fold prediction from the stage before.
    """

    rotation: tuple[float, float] | None = None
    """Radians; None for nnU-Net's."""
    augmentation: Callable[..., list[BasicTransform]] | None = None
    """From training/augmentation.py; None for nnU-Net's."""
    takes_loss_outputs = False
    """Whether the loss takes the network's ``loss_outputs`` (see ``Network``) in place of logits. To nnU-Net these are
    outputs of deep supervision: several, and the first counts."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net reads this signature)
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.num_iterations_per_epoch: int | None = None  # -> get_tr_and_val_datasets
        self.num_val_iterations_per_epoch: int | None = None
        self.save_every = 10
        self.seed = 0
        self.keep_best: Literal["dice", "loss"] | None = None

    def initialize(self):
        """
        Raises:
            UserError: the plans describe a network that cannot be built, or a patch that does not fit it
        """
        seed_everything(self.seed, self.fold, -1, self.local_rank)
        try:
            super().initialize()
            network = self.bare_network
            if isinstance(network, Network):
                network.check_input_size(self.configuration_manager.patch_size)
        except ValueError as e:
            plans = self.plans_manager.plans_name
            raise UserError(f"{type(self).__name__} cannot train {self.configuration_name} of {plans}: {e}") from e

    @property
    def bare_network(self) -> torch.nn.Module:
        """The network without what DDP and torch.compile wrap around it."""
        return bare(self.network)

    def sigmoid_dice_loss(self, do_bg: bool) -> SigmoidDiceLoss:
        """The papers' Dice loss, for this data set and these plans."""
        return SigmoidDiceLoss(
            do_bg=self.label_manager.has_regions or do_bg,
            batch_dice=self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            ddp=self.is_ddp,
        )

    def get_tr_and_val_datasets(self):
        if self.is_cascaded:
            self._check_previous_stage()
        datasets = super().get_tr_and_val_datasets()
        if self.num_iterations_per_epoch is None:
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = map(self._iterations_of_a_pass, datasets)
        return datasets

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.rotation is not None:
            rotation = self.rotation
            needed = get_patch_size(self.configuration_manager.patch_size, rotation, rotation, rotation, (0.85, 1.25))
            needed[0] = initial_patch_size[0] if dummy_2d else needed[0]
            initial_patch_size = np.maximum(initial_patch_size, needed)
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    @classmethod
    def get_training_transforms(
        cls,
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
        if cls.augmentation is None:
            stock = super().get_training_transforms(
                patch_size, rotation_for_DA, deep_supervision_scales, mirror_axes, do_dummy_2d_data_aug,
                use_mask_for_norm, is_cascaded, foreground_labels, regions, ignore_label,
            )  # fmt: skip
            return without_timing(stock)
        augmentation = cls.augmentation(
            patch_size, rotation_for_DA, mirror_axes, do_dummy_2d_data_aug, use_mask_for_norm
        )
        # behind the augmentation, training data become what validation data become
        to_network = cls.get_validation_transforms(
            deep_supervision_scales, is_cascaded, foreground_labels, regions, ignore_label
        )
        return ComposeTransforms([*augmentation, *to_network.transforms])

    def _iterations_of_a_pass(self, dataset) -> int:
        if len(self.configuration_manager.patch_size) == 3:
            samples = len(dataset.identifiers)
        else:
            samples = sum(dataset.load_case(case)[0].shape[1] for case in dataset.identifiers)
        return math.ceil(samples / self.configuration_manager.batch_size)

    def _check_previous_stage(self) -> None:
        """
        Raises:
            UserError: a case of this fold has no readable prediction of the previous stage; names the folds to run
        """
        cases = [case for part in self.do_split() for case in part]
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases, self.folder_with_segs_from_previous_stage)
        missing = {case for case in cases if not _has_previous_stage(dataset, case)}
        if not missing:
            return
        splits = load_json(join(self.preprocessed_dataset_folder_base, "splits_final.json"))
        folds = [str(i) for i, split in enumerate(splits) if missing & set(split["val"])]
        stage = self.configuration_manager.previous_stage_name
        raise UserError(
            f"{self.configuration_name} learns from out-of-fold predictions of {stage}, and {len(missing)} of "
            f"{len(set(cases))} cases have none in {self.folder_with_segs_from_previous_stage}: first train "
            f"{stage}, fold{'s' * (len(folds) > 1)} {', '.join(folds)}, with -tr {type(self).__name__} "
            f"-p {self.plans_manager.plans_name}."
        )

    def set_deep_supervision_enabled(self, enabled: bool):
        if self.takes_loss_outputs:
            cast(Network, self.bare_network).gives_loss_outputs = enabled
        elif self.enable_deep_supervision:
            super().set_deep_supervision_enabled(enabled)

    def on_train_start(self):
        super().on_train_start()
        if self.current_epoch and self._last_epoch_is_best():
            # resumed behind the best epoch, which a kill may have kept from being saved as such
            self._save_epoch_before(self.best_checkpoint)

    def on_epoch_end(self):
        super().on_epoch_end()
        if self.keep_best == "loss" and self._last_epoch_is_best():
            self._save_epoch_before(self.best_checkpoint)

    def on_train_end(self):
        if self.keep_best and self.is_ddp:
            torch.distributed.barrier()  # only the first process writes, and the others are ahead of it
        if self.keep_best and os.path.isfile(self.best_checkpoint):
            best = torch.load(self.best_checkpoint, map_location=self.device, weights_only=False)
            self.bare_network.load_state_dict(best["network_weights"])
            self.print_to_log_file(f"Ends with the weights of epoch {best['current_epoch'] - 1}, the best.")
        super().on_train_end()

    @property
    def best_checkpoint(self) -> str:
        """Where the best epoch is kept; that by Dice is nnU-Net's own."""
        return join(
            self.output_folder, "checkpoint_best_loss.pth" if self.keep_best == "loss" else "checkpoint_best.pth"
        )

    def finished(self, key: str) -> list[float]:
        """nnU-Net's log of ``key``, of the epochs that are finished."""
        return self.logger.get_value(key, step=None)[: self.current_epoch]

    def _last_epoch_is_best(self) -> bool:
        if self.keep_best == "loss":
            *before, last = (-loss for loss in self.finished("val_losses"))
        else:
            *before, last = self.finished("ema_fg_dice")
        return last > max(before, default=-math.inf)

    def _save_epoch_before(self, filename: str) -> None:
        self.current_epoch -= 1
        self.save_checkpoint(filename)
        self.current_epoch += 1

    def on_train_epoch_start(self):
        seed_everything(self.seed, self.fold, self.current_epoch, self.local_rank)
        super().on_train_epoch_start()

    def save_checkpoint(self, filename: str) -> None:
        super().save_checkpoint(filename + ".tmp")
        if os.path.isfile(filename + ".tmp"):
            os.replace(filename + ".tmp", filename)

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        # nnU-Net writes checkpoint_latest before it updates the best score of the same epoch
        scores = self.logger.get_value("ema_fg_dice", step=None)
        self._best_ema = max(scores, default=None)

    def perform_actual_validation(self, save_probabilities: bool = False):
        if self.fold == "all":
            # these predictions are of cases that were trained on; the next stage must not learn from them
            self.configuration_manager.configuration.pop("next_stage", None)
        super().perform_actual_validation(save_probabilities)


def bare(network: torch.nn.Module) -> torch.nn.Module:
    """A network without what DDP and torch.compile wrap around it."""
    network = network.module if isinstance(network, DistributedDataParallel) else network
    return network._orig_mod if isinstance(network, OptimizedModule) else network


def seed_everything(seed: int, fold: int | str, epoch: int, rank: int = 0) -> None:
    """Seeds the random generators of Python, NumPy and PyTorch for one epoch of a training; -1 for its beginning."""
    fold = fold if isinstance(fold, int) else 999  # "all"
    seeds = np.random.SeedSequence([seed, fold, epoch + 1, rank]).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.manual_seed(int(seeds[2]))


def _has_previous_stage(dataset, case: str) -> bool:
    try:
        image, _, previous, _ = dataset.load_case(case)
    except (OSError, RuntimeError):  # absent, or cut off while it was written
        return False
    return previous.shape == image.shape[1:]
