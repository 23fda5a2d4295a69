"""What a benchmark is asked to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model
from nnunet_cardiac.planners.sizes import SIZES, Size, prefixed
from nnunet_cardiac.training.options import TrainingOptions

TEST_SET, CORRUPTED, POSTPROCESSED, SNAPSHOTS = "imagesTs", "corrupted", "postprocessed", "snapshots"
"""Tests beyond the held-out cases, by name; others are named by the data set that they are done on."""
CORRUPTIONS = ("noise", "bias_field", "ghosting", "low_resolution", "missing_slices")
LONGEST_NAME = 240
"""Bytes: file systems allow 255, of which suffixes take some."""
SEVERITIES = 3
"""Graded steps of each, see ``nnunet_cardiac.benchmark.corruptions``."""
DICE_MARGIN = 0.01
"""A choice: less than a hundredth is not what anybody would change a method for."""


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
        bfloat16: whether trainings on a CPU compute in it, all of them
        inner_validation: whether recipes that choose their epoch do it on training patients; they do wherever the
            benchmark has models of its own
        seeds: every contender is trained with each of them
        paper: whether planners that know the fixed sizes of a paper use them
        initial_lr: learning rate of every training; None for each recipe's own
        scale_schedule: whether schedules shrink to the budget, or are cut off by it
        lr_factors: multiples of each recipe's learning rate that are tried in short runs; none to try nothing
        search_steps: optimiser steps of such a run
        tests: what is tested beyond the held-out cases
        corruptions: of images, of the test "corrupted"
        snapshots: whether trainings keep their networks of earlier moments
        match: what baselines of matched cost are matched by
        margin: difference of Dice that means nothing, for the tests of equivalence; None for ``DICE_MARGIN``
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
    bfloat16: bool = False
    inner_validation: bool = False
    seeds: list[int] = field(default_factory=lambda: [0])
    paper: bool = False
    initial_lr: float | None = None
    scale_schedule: bool = True
    lr_factors: list[float] = field(default_factory=list)
    search_steps: int = 0
    tests: list[str] = field(default_factory=list)
    corruptions: list[str] = field(default_factory=list)
    snapshots: bool = False
    match: str = "flops"
    margin: float | None = None

    @property
    def of_models(self) -> dict:
        """What a trained model depends on, and must not change within one folder."""
        return {
            key: getattr(self, key)
            for key in (
                "dataset", "budget", "size", "gpu_memory_target", "compile_on_cpu", "bfloat16", "inner_validation",
                "paper", "initial_lr", "scale_schedule", "lr_factors", "search_steps", "snapshots", "match",
            )
        }  # fmt: skip

    @property
    def has_own_models(self) -> bool:
        """Whether its models are not what nnU-Net's own commands would train, so that nobody may take them for that."""
        return bool(
            self.budget
            or self.initial_lr
            or self.lr_factors
            or self.snapshots
            or self.bfloat16
            or self.inner_validation
        )

    def plans_name(self, plans: str, seed: int = 0) -> str:
        """Plans of a contender, of the benchmark's size.

        Args:
            plans: the contender's
            seed: models are told apart by their plans' names, so another seed has a copy of them
        """
        if self.size:
            plans = self.size.plans_name(plans)
        elif self.paper:
            plans = prefixed("Paper", plans)
        if self.gpu_memory_target and not self.size:  # plans of one name may be for another memory
            plans = prefixed(f"Memory{self.gpu_memory_target:g}".replace(".", "_"), plans)
        return prefixed(f"Seed{seed}", plans) if seed else plans

    def copied_plans(self) -> dict[str, str]:
        """By the name of a copy, what it is copied from."""
        plans = {contender.plans for contender in self.contenders.values()}
        return {
            self.plans_name(name, seed): self.plans_name(name) for name in sorted(plans) for seed in self.seeds if seed
        }

    def matched_plans(self) -> dict[str, str]:
        """By the name of a matched baseline's plans, those of the contender whose cost it has."""
        return {
            self.plans_name(c.plans): self.plans_name(self.contenders[c.matched_to].plans)
            for c in self.contenders.values()
            if c.matched_to
        }

    def seed_of(self, plans: str) -> int:
        """The seed that models of these plans are trained with."""
        return next(
            (s for s in self.seeds for c in self.contenders.values() if self.plans_name(c.plans, s) == plans), 0
        )

    def training_options(self, plans: str) -> TrainingOptions:
        """How models of these plans are trained; a search for the learning rate comes before.

        Raises:
            UserError: settings that exclude each other
        """
        return TrainingOptions(
            self.device, budget=self.budget, scale_schedule=self.scale_schedule, initial_lr=self.initial_lr,
            seed=self.seed_of(plans), compile_on_cpu=self.compile_on_cpu, bfloat16=self.bfloat16,
            inner_validation=self.has_own_models, snapshots=self.snapshots,
        )  # fmt: skip

    def model(self, contender: Contender, seed: int = 0) -> Model:
        """What of nnU-Net's is trained for a contender."""
        return Model(self.dataset, contender.trainer, self.plans_name(contender.plans, seed), contender.configuration)

    def models(self) -> list[Model]:
        """Of all contenders, with every seed."""
        return sorted(
            {self.model(c, seed) for c in self.contenders.values() for seed in self.seeds}, key=lambda m: m.name
        )

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
        return replace(
            self,
            folds=sorted({*before.folds, *self.folds}),
            seeds=sorted({*before.seeds, *self.seeds}),
            contenders=before.contenders | self.contenders,
            tests=list(dict.fromkeys([*before.tests, *self.tests])),
            corruptions=list(dict.fromkeys([*before.corruptions, *self.corruptions])),
            margin=self.margin or before.margin,
        )

    def to_json(self) -> dict:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping) -> "Settings":
        """What ``to_json`` gave, or what has the same types.

        Raises:
            KeyError, TypeError, ValueError: there are other or fewer keys, or they contradict each other
        """
        contenders = {name: Contender(**contender) for name, contender in values["contenders"].items()}
        size = Size(**values["size"]) if values.get("size") else None
        if patch := values.get("small"):  # as version 0.1 wrote it
            size = SIZES["small"].with_patch(patch)
        rest = {key: value for key, value in values.items() if key != "small"}
        settings = cls(**{**rest, "contenders": contenders, "size": size})
        texts = [settings.dataset, settings.baseline, settings.device, settings.match]
        texts += [*settings.tests, *settings.corruptions]
        texts += [str(value) for contender in contenders.values() for value in asdict(contender).values()]
        if not all(text.isprintable() for text in texts):
            raise ValueError("a name does not print")
        if any(contender.name != name for name, contender in contenders.items()):
            raise ValueError("a contender has two names")
        folders = [settings.dataset, *settings.tests, *(model.name for model in settings.models())]
        if max(len(name.encode()) for name in folders) > LONGEST_NAME:
            raise ValueError("a name is too long for a folder")
        if not settings.folds or not settings.seeds:
            raise ValueError("there are no folds or no seeds")
        if odd := {c.matched_to for c in contenders.values() if c.matched_to} - contenders.keys():
            raise ValueError(f"there is no {min(odd)}")
        return settings
