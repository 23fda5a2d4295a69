"""What a benchmark is asked to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model
from nnunet_cardiac.planners.sizes import SIZES, Size


@dataclass(frozen=True)
class Settings:
    """
    Args:
        dataset: ``DatasetNNN_NAME``
        folds: that every contender is trained and evaluated on
        baseline: name of the contender that the others are compared with
        contenders: all that take part, those of earlier calls included
        budget: optimiser steps of each training; None for each recipe's own
        size: what the plans are shrunk to; None for plans as they are
        gpu_memory_target: GB to plan for; None for each planner's own
        device: "cuda", "cpu" or "mps"
        compile_on_cpu: whether trainings on a CPU compile their networks, all of them
    """

    dataset: str
    folds: list[int]
    baseline: str
    contenders: dict[str, Contender] = field(default_factory=dict)
    budget: int | None = None
    size: Size | None = None
    gpu_memory_target: float | None = None
    device: str = "cuda"
    compile_on_cpu: bool = False

    @property
    def of_models(self) -> dict:
        """What a trained model depends on, and must not change within one folder."""
        return {key: getattr(self, key) for key in ("dataset", "budget", "size", "gpu_memory_target", "compile_on_cpu")}

    def plans_name(self, plans: str) -> str:
        """Plans of a contender, of the benchmark's size."""
        return self.size.plans_name(plans) if self.size else plans

    def model(self, contender: Contender) -> Model:
        """What of nnU-Net's is trained for a contender."""
        return Model(self.dataset, contender.trainer, self.plans_name(contender.plans), contender.configuration)

    def with_earlier(self, before: "Settings", place: object) -> "Settings":
        """These settings, with the folds and contenders of earlier calls.

        Args:
            before: the settings of the earlier calls
            place: their folder, for the error

        Raises:
            UserError: models of the earlier calls were made with other settings
        """
        for key, value in self.of_models.items():
            if before.of_models[key] != value:
                raise UserError(
                    f"{place} holds a benchmark with {key} {before.of_models[key]}, not {value}: results would not be "
                    "comparable, so choose another folder with -o."
                )
        return replace(self, folds=sorted({*before.folds, *self.folds}), contenders=before.contenders | self.contenders)

    def to_json(self) -> dict:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping) -> "Settings":
        """What ``to_json`` gave."""
        contenders = {name: Contender(**contender) for name, contender in values["contenders"].items()}
        size = Size(**values["size"]) if values.get("size") else None
        if patch := values.get("small"):  # as version 0.1 wrote it
            size = SIZES["small"].with_patch(patch)
        rest = {key: value for key, value in values.items() if key != "small"}
        settings = cls(**{**rest, "contenders": contenders, "size": size})
        texts = [settings.dataset, settings.baseline, settings.device]
        texts += [value for contender in contenders.values() for value in asdict(contender).values()]
        if not all(isinstance(text, str) for text in texts if not isinstance(text, bool)):
            raise ValueError("a name is no text")
        if not settings.folds or not all(isinstance(fold, int) for fold in settings.folds):
            raise ValueError("there are no folds")
        return settings
