"""What every recipe here does differently from nnU-Net's trainer, apart from the recipe itself."""

import math
import os
from collections.abc import Callable
from os.path import join
from typing import Literal, cast

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgenerators.utilities.file_and_folder_operations import load_json
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network, bare
from nnunet_cardiac.training.augmentation import image_frame_kept, without_timing
from nnunet_cardiac.training.dice import SigmoidDiceLoss
from nnunet_cardiac.training.inner_split import inner_split
from nnunet_cardiac.training.passes import (
    TRAINING,
    VALIDATION,
    PassLoader,
    Slices,
    batches_of_a_pass,
    seed_random_numbers,
)
from nnunet_cardiac.training.previous_stage import without_mask_augmentation
from nnunet_cardiac.training.trust import load_checkpoint


class RecipeTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the habits that the papers' recipes share.

    - An epoch is one pass over the training slices (3D: volumes), or ``passes_per_epoch``: in a pass each is seen
      exactly once, whatever the number of worker processes and GPUs. Whoever sets ``num_iterations_per_epoch`` gets the
      same passes in pieces of that length.
    - Every epoch is validated on the same patches: one of every slice (3D: volume) of the validation cases, or as many
      as ``num_val_iterations_per_epoch`` sets.
    - No deep supervision, unless a subclass asks for it.
    - The masks of a previous stage are not augmented: no recipe of a paper does that.
    - A subclass with its own ``augmentation`` has that instead of nnU-Net's, and turns images by up to ``rotation``.
    - All random numbers follow from ``seed``, fold and epoch or batch, so that a training that was resumed with ``--c``
      is that of an uninterrupted one.
    - With ``keep_best`` the training ends with the weights of its best epoch: they are validated, and
      ``checkpoint_final.pth`` holds them. "dice" is nnU-Net's measure, the moving average of the online Dice; "loss"
      the validation loss. With ``inner_validation`` as well, online validation is on a fifth of the training patients,
      which are not trained on, so that the fold's held-out cases choose nothing.
    - Checkpoints are replaced in one step: a kill while one is written leaves the one before.
    - A cascaded stage starts only when every case has its out-of-fold prediction from the stage before.
    """

    passes_per_epoch: float = 1
    """How often an epoch sees every training slice."""
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
        self.inner_validation = False

    def initialize(self):
        """
        Raises:
            UserError: the plans describe a network that cannot be built, or a patch that does not fit it
        """
        seed_everything(self.seed, self.fold, -1, self.local_rank)
        # batches of a pass have two sizes: compiled each for itself, not once for any size
        torch._dynamo.config.automatic_dynamic_shapes = False
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

    def sigmoid_dice_loss(self, do_bg: bool, squared: bool = True) -> SigmoidDiceLoss:
        """The papers' Dice loss, for this data set and these plans."""
        return SigmoidDiceLoss(
            do_bg=self.label_manager.has_regions or do_bg,
            squared=squared,
            batch_dice=self.configuration_manager.batch_dice,
            ignore_label=self.label_manager.ignore_label,
            ddp=self.is_ddp,
        )

    def get_tr_and_val_datasets(self):
        if self.is_cascaded:
            self._check_previous_stage()
        outer = self.do_split  # type: ignore[has-type]
        if self.keep_best and self.inner_validation:
            split = inner_split(self.plans_manager.dataset_name, outer()[0])
            self.do_split = lambda: split
        try:
            datasets = super().get_tr_and_val_datasets()
        finally:
            self.do_split = outer  # of the final validation
        if len(self.configuration_manager.patch_size) == 2:
            datasets = tuple(map(Slices, datasets))
        training, validation = (
            batches_of_a_pass(len(data.identifiers), self.configuration_manager.batch_size, self.world_size)
            for data in datasets
        )
        if self.num_iterations_per_epoch is None:
            self.num_iterations_per_epoch = math.ceil(self.passes_per_epoch * training)
        if self.num_val_iterations_per_epoch is None:
            self.num_val_iterations_per_epoch = validation
        return datasets

    @property
    def world_size(self) -> int:
        """Processes of a distributed training."""
        return torch.distributed.get_world_size() if self.is_ddp else 1

    def get_dataloaders(self):
        """As nnU-Net's, but passes over the data; see ``PassLoader``."""
        scales = self._get_deep_supervision_scales()
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        patch_size = self.configuration_manager.patch_size
        targets = {
            "is_cascaded": self.is_cascaded,
            "foreground_labels": self.label_manager.foreground_labels,
            "regions": self.label_manager.foreground_regions if self.label_manager.has_regions else None,
            "ignore_label": self.label_manager.ignore_label,
        }
        augmentation = self.get_training_transforms(
            patch_size, rotation, scales, mirror_axes, dummy_2d,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm, **targets,
        )  # fmt: skip
        if isinstance(self.bare_network, Network) and self.bare_network.resize is not None:
            augmentation = image_frame_kept(augmentation)
        training, validation = self.get_tr_and_val_datasets()
        train_loader = self._loader(
            training, TRAINING, initial_patch_size,
            first_batch=self.current_epoch * self.num_iterations_per_epoch, transforms=augmentation,
        )  # fmt: skip
        val_loader = self._loader(
            validation, VALIDATION, patch_size, repeat=self.num_val_iterations_per_epoch,
            transforms=self.get_validation_transforms(scales, **targets),
        )  # fmt: skip
        n_workers = get_allowed_n_proc_DA()
        return self._in_workers(train_loader, n_workers), self._in_workers(val_loader, math.ceil(n_workers / 2))

    def _loader(self, data, stream: int, patch_size, **options) -> PassLoader:
        return PassLoader(
            data,
            self.configuration_manager.batch_size,
            patch_size,
            self.configuration_manager.patch_size,
            self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            probabilistic_oversampling=self.probabilistic_oversampling,
            seed=(self.seed, fold_number(self.fold), stream),
            rank=self.local_rank,
            world_size=self.world_size,
            **options,
        )

    def _in_workers(self, loader: PassLoader, n_workers: int):
        """The loader in worker processes, which keep its order; 0 for this process."""
        if n_workers == 0:
            return SingleThreadedAugmenter(loader, None)
        loader.n_workers = n_workers
        on_gpu = self.device.type == "cuda"
        return MultiThreadedAugmenter(loader, None, n_workers, pin_memory=on_gpu, wait_time=0.002)

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
            return without_mask_augmentation(without_timing(stock))
        augmentation = cls.augmentation(
            patch_size, rotation_for_DA, mirror_axes, do_dummy_2d_data_aug, use_mask_for_norm
        )
        # behind the augmentation, training data become what validation data become
        to_network = cls.get_validation_transforms(
            deep_supervision_scales, is_cascaded, foreground_labels, regions, ignore_label
        )
        return ComposeTransforms([*augmentation, *to_network.transforms])

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
            best = load_checkpoint(self.best_checkpoint, self.device)
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
        if self.local_rank == 0 and os.path.isfile(filename + ".tmp"):  # the only process that writes
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


def seed_everything(seed: int, fold: int | str, epoch: int, rank: int = 0) -> None:
    """Seeds the random generators of Python, NumPy and PyTorch for one epoch of a training; -1 for its beginning."""
    seed_random_numbers([seed, fold_number(fold), epoch + 1, rank])


def fold_number(fold: int | str) -> int:
    """A number for every fold, also for "all"."""
    return fold if isinstance(fold, int) else 999


def _has_previous_stage(dataset, case: str) -> bool:
    try:
        image, _, previous, _ = dataset.load_case(case)
    except (OSError, RuntimeError):  # absent, or cut off while it was written
        return False
    return previous.shape == image.shape[1:]
