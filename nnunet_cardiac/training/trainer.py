"""What every recipe here does differently from nnU-Net's trainer, apart from the recipe itself."""

import math
import os
import random
from os.path import join

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_cardiac.errors import UserError


class RecipeTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the habits that the papers' recipes share.

    - An epoch is one pass over the training slices (3D: volumes); ``num_epochs`` counts passes. Whoever sets
      ``num_iterations_per_epoch`` keeps what was set.
    - No deep supervision, unless a subclass asks for it.
    - Every epoch seeds the random generators with ``seed``, fold and epoch, so that a training that was resumed with
      ``--c`` sees the batches of an uninterrupted one (exact with ``nnUNet_n_proc_DA=0``).
    - Checkpoints are replaced in one step: a kill while one is written leaves the one before.
    - A cascaded stage starts only when every case has its out-of-fold prediction from the stage before.
    """

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
        self.num_iterations_per_epoch = self.num_val_iterations_per_epoch = None  # -> get_tr_and_val_datasets
        self.save_every = 10
        self.seed = 0

    def initialize(self):
        seed_everything(self.seed, self.fold, -1, self.local_rank)
        super().initialize()

    def get_tr_and_val_datasets(self):
        if self.is_cascaded:
            self._check_previous_stage()
        datasets = super().get_tr_and_val_datasets()
        if self.num_iterations_per_epoch is None:
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = map(self._iterations_of_a_pass, datasets)
        return datasets

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
        if self.enable_deep_supervision:
            super().set_deep_supervision_enabled(enabled)

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
