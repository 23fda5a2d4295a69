"""A model and its stages: what ``-d``, ``-tr``, ``-p`` and ``-c`` name together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError

SEPARATOR = "__"
"""Between trainer, plans and configuration in the name of nnU-Net's folder of a model."""


CHECKPOINT = "checkpoint_final.pth"
"""nnU-Net's file of the weights with which a training ends."""


@dataclass(frozen=True)
class Model:
    """One network of nnU-Net's, trained or to be trained; of a cascade, its last stage stands for all of them.

    Args:
        dataset: ``DatasetNNN_NAME``
        trainer, plans, configuration: as ``-tr``, ``-p`` and ``-c`` of nnU-Net's commands
    """

    dataset: str
    trainer: str
    plans: str
    configuration: str

    @classmethod
    def named(cls, dataset: str, name: str) -> "Model":
        """The model of nnU-Net's folder ``TRAINER__PLANS__CONFIGURATION``.

        Raises:
            ValueError: ``name`` does not have these three parts
        """
        parts = name.split(SEPARATOR, 2)
        if len(parts) != 3:
            raise ValueError(f"The name of a model is TRAINER__PLANS__CONFIGURATION; got '{name}'.")
        return cls(dataset, *parts)

    @property
    def name(self) -> str:
        """nnU-Net's name of the model's folder."""
        return SEPARATOR.join((self.trainer, self.plans, self.configuration))

    @property
    def folder(self) -> Path:
        """The model's folder in ``nnUNet_results``; it need not exist.

        Raises:
            UserError: ``nnUNet_results`` is not set
        """
        return folder("nnUNet_results") / self.dataset / self.name

    def fold_folder(self, fold: int | str) -> Path:
        """Where nnU-Net keeps the checkpoints and the validation of one fold."""
        return self.folder / f"fold_{fold}"

    def stages(self, previous: Mapping[str, str | None]) -> "list[Model]":
        """The models that lead to this one, first stage first, itself last.

        Args:
            previous: the stage before each configuration, see ``previous_stages``
        """
        stages, configuration = [self], previous.get(self.configuration)
        while configuration is not None:
            if len(stages) > len(previous):
                raise ValueError(f"{configuration} comes before itself")
            stages.insert(0, replace(self, configuration=configuration))
            configuration = previous.get(configuration)
        return stages


def previous_stages(plans: Mapping) -> dict[str, str | None]:
    """The stage before each configuration of nnU-Net's plans (their JSON); None for a first one.

    A configuration that inherits from another has its previous stage too, unless it names its own.
    """
    configurations = plans["configurations"]

    def before(name: str) -> str | None:
        own = configurations[name]
        if "previous_stage" in own or "inherits_from" not in own:
            return own.get("previous_stage")
        return before(own["inherits_from"])

    return {name: before(name) for name in configurations}


def trained_folder(model: Model) -> Path:
    """A model's folder, which holds a trained model.

    Raises:
        UserError: it was not trained
    """
    if not (model.folder / "plans.json").is_file():
        models = sorted(file.parent.name for file in model.folder.parent.glob("*/plans.json"))
        raise UserError(
            f"There is no trained model {model.folder}: train it with nnunet_cardiac train"
            + (f", or choose from {', '.join(models)}." if models else ".")
        )
    return model.folder


def trained_folds(folder: Path, checkpoint: str = CHECKPOINT) -> list[int | str]:
    """The folds in nnU-Net's folder of a model that have a checkpoint: the numbered ones, else ``all``."""
    numbered = sorted(int(file.parent.name.removeprefix("fold_")) for file in folder.glob(f"fold_[0-9]*/{checkpoint}"))
    return [*numbered] or ["all"] * (folder / "fold_all" / checkpoint).is_file()


def chosen_folds(model: Model, folds: Sequence[int | str] | None, checkpoint: str = CHECKPOINT) -> list[int | str]:
    """Those that are asked for, None for all that are there.

    Raises:
        UserError: the model, or one of them, was not trained
    """
    folder = trained_folder(model)
    found = trained_folds(folder, checkpoint) if folds is None else list(folds)
    if not found:
        raise UserError(f"{folder} has no fold with a {checkpoint}: finish its training with nnunet_cardiac train.")
    if missing := [str(fold) for fold in found if not (model.fold_folder(fold) / checkpoint).is_file()]:
        raise UserError(
            f"{folder} has no {checkpoint} for fold {', '.join(missing)}: train what is missing with nnunet_cardiac "
            "train, or choose folds with -f."
        )
    return found
