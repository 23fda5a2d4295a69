"""What the jobs of a benchmark leave in their records, as far as others read it."""

from typing import NoReturn, TypedDict


class Planned(TypedDict):
    """Of ``plan``: the stage before each configuration, None for a first one, and what is preprocessed."""

    previous_stages: dict[str, str | None]
    configurations: list[str]


class Tuned(TypedDict):
    """Of ``tune``: the best rate, and the Dice of each."""

    initial_lr: float
    dice: dict[str, float]
    seconds: float


class Sizes(TypedDict, total=False):
    """Of a training, see ``training_cost``; early versions did not record them."""

    plans: str
    configuration: str
    network: str
    features_per_stage: list[int]
    spacing: list[float]
    patch_size: list[int]
    batch_size: int
    bfloat16: bool


class MoreCost(Sizes, total=False):
    """Of a training, what early versions or some machines did not record."""

    is_own_rate: bool
    chosen_on: str | None
    energy_kWh: float | None


class Cost(MoreCost):
    """Of a training, see ``training_cost``."""

    seconds: float
    steps: int
    peak_memory_GB: float | None
    peak_memory_of: str
    hardware: str
    versions: dict[str, str]
    budget: int | None
    initial_lr: float
    seed: int


class Curve(TypedDict):
    """The online Dice of each epoch."""

    mean_fg_dice: list[float]


class Trained(TypedDict):
    """Of ``train``; a training by nnU-Net's own command has no cost."""

    cost: Cost | dict[str, NoReturn]
    curve: Curve


class Evaluated(TypedDict):
    """Of ``evaluate``: what is missing, in sentences."""

    problems: list[str]


class MoreTested(TypedDict, total=False):
    """Of ``test``, what early versions did not record."""

    corruptions: list[str]


class Tested(Evaluated, MoreTested):
    """Of ``test``: what is missing, and the folds of the ensemble."""

    folds: list[int]


class Measured(TypedDict, total=False):
    """Of ``cost``, see ``network_cost``."""

    parameters: float
    flops_per_slice: float
    prediction_seconds_per_case: float


RECORDS: dict[str, type] = {
    "plan": Planned, "tune": Tuned, "train": Trained, "evaluate": Evaluated, "cost": Measured, "test": Tested,
}  # fmt: skip
"""By the kind of the job."""
