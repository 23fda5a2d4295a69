"""What a benchmark is asked to do, and where its parts lie.

FOLDER/settings.json        these settings
FOLDER/jobs/                one record a job that is done: plans, trainings, costs, evaluations
FOLDER/evaluation/          results by model and fold
FOLDER/logs/                what the jobs printed
FOLDER/nnUNet_results/      models trained with a budget; without one they lie in $nnUNet_results
FOLDER/report/              the page and its tables
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from nnunet_cardiac.benchmark.contenders import Contender
from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """
    Args:
        dataset: ``DatasetNNN_NAME``
        folds: that every contender is trained and evaluated on
        baseline: name of the contender that the others are compared with
        contenders: all that take part, those of earlier calls included
        budget: optimiser steps of each training; None for each recipe's own
        small: patch size of plans shrunk for a CPU; None for plans as they are
        gpu_memory_target: GB to plan for; None for each planner's own
        device: "cuda", "cpu" or "mps"
    """

    dataset: str
    folds: list[int]
    baseline: str
    contenders: dict[str, Contender] = field(default_factory=dict)
    budget: int | None = None
    small: int | None = None
    gpu_memory_target: float | None = None
    device: str = "cuda"

    @property
    def of_models(self) -> dict:
        """What a trained model depends on, and must not change within one folder."""
        return {key: getattr(self, key) for key in ("dataset", "budget", "small", "gpu_memory_target")}

    def results_folder(self, benchmark: Path) -> Path:
        """Where the models lie: ``nnUNet_results`` in the sense of nnU-Net."""
        return benchmark / "nnUNet_results" if self.budget else folder("nnUNet_results")

    def use_results_folder(self, benchmark: Path) -> None:
        """Sends nnU-Net there; to be called before it is imported."""
        os.environ["nnUNet_results"] = str(self.results_folder(benchmark))

    def plans_name(self, plans: str) -> str:
        """Plans of a contender; small ones have their own name, so that they never replace real ones."""
        return plans.replace("nnUNet", f"nnUNetSmall{self.small}", 1) if self.small else plans

    def model(self, contender: Contender) -> str:
        """nnU-Net's name of a contender's folder of models."""
        return f"{contender.trainer}__{self.plans_name(contender.plans)}__{contender.configuration}"

    def with_earlier(self, benchmark: Path) -> "Settings":
        """These settings with the folds and contenders of earlier calls.

        Raises:
            UserError: the folder's models were made with other settings
        """
        if not (benchmark / FILE).is_file():
            return self
        before = read(benchmark)
        for key, value in self.of_models.items():
            if before.of_models[key] != value:
                raise UserError(
                    f"{benchmark} holds a benchmark with {key} {before.of_models[key]}, not {value}: give another "
                    "folder with -o, so that only what is alike is compared."
                )
        return replace(
            self,
            folds=sorted({*before.folds, *self.folds}),
            contenders=before.contenders | self.contenders,
        )

    def write(self, benchmark: Path) -> None:
        """Into ``FOLDER/settings.json``, in one step."""
        write_json(asdict(self), benchmark / FILE)


def read(benchmark: Path) -> Settings:
    """Settings of a benchmark.

    Raises:
        UserError: the folder holds none
    """
    file = benchmark / FILE
    if not file.is_file():
        raise UserError(
            f"{benchmark} holds no benchmark (no {FILE}): run nnunet_cardiac benchmark -o {benchmark} first."
        )
    values = json.loads(file.read_text())
    values["contenders"] = {name: Contender(**c) for name, c in values["contenders"].items()}
    return Settings(**values)


def write_json(content: dict, file: Path) -> None:
    """Writes a file in one step, so that a record is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2))
    os.replace(partial, file)
