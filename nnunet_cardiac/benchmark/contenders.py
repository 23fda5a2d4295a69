"""Who takes part in a benchmark: a planner, plans, a configuration and a trainer under one name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_cardiac.errors import UserError

BASELINE = "nnunet_2d"


@dataclass(frozen=True)
class Contender:
    """
    Args:
        name: in tables and on the command line
        planner: what ``-pl`` names; makes ``plans`` where they do not exist
        plans, configuration, trainer: what ``-p``, ``-c`` and ``-tr`` name
        description: architecture and recipe in a few words
    """

    name: str
    planner: str
    plans: str
    configuration: str
    trainer: str
    description: str = ""


_NNUNET = ("ExperimentPlanner", "nnUNetPlans", "2d")
_CROCNET = ("CroCNetPlanner", "nnUNetCroCNetPlans")
BUILT_IN = {
    contender.name: contender
    for contender in (
        Contender("nnunet_2d", *_NNUNET, "nnUNetTrainer", "nnU-Net's U-Net, nnU-Net's recipe"),
        Contender(
            "nnunet_resenc_m", "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "2d", "nnUNetTrainer",
            "nnU-Net's residual encoder U-Net (M), nnU-Net's recipe",
        ),
        Contender("nnunet_2d_crocnet_recipe", *_NNUNET, "nnUNetTrainerCroCNet", "nnU-Net's U-Net, CroCNet's recipe"),
        Contender("e2aunet", *_CROCNET, "2d", "nnUNetTrainerCroCNet", "CroCNet's stage 1, CroCNet's recipe"),
        Contender("e2aunet_nnunet_recipe", *_CROCNET, "2d", "nnUNetTrainer", "CroCNet's stage 1, nnU-Net's recipe"),
        Contender("crocnet", *_CROCNET, "2d_cascade", "nnUNetTrainerCroCNet", "both stages, CroCNet's recipe"),
        Contender(
            "crocnet_nnunet_recipe", *_CROCNET, "2d_cascade", "nnUNetTrainerNoDeepSupervision",
            "both stages, nnU-Net's recipe (without deep supervision, which stage 2 has not)",
        ),
        Contender(
            "crocnet_single", *_CROCNET, "2d_cascade_single", "nnUNetTrainerCroCNet",
            "ablation: one network in stage 2, CroCNet's recipe",
        ),
        Contender(
            "crocnet_uncoupled", *_CROCNET, "2d_cascade_uncoupled", "nnUNetTrainerCroCNet",
            "ablation: specialists without coupling, CroCNet's recipe",
        ),
    )
}  # fmt: skip
"""Every architecture, recipe and ablation of the project, beside nnU-Net's own."""


def choose(names: Sequence[str] | None, file: Path | None = None) -> list[Contender]:
    """Contenders by name, built-in or of a file.

    Args:
        names: None for all, the built-in ones and those of the file
        file: YAML or JSON: ``NAME: {planner: ..., plans: ..., configuration: ..., trainer: ..., description: ...}``

    Raises:
        UserError: a contender that does not exist, or a file that says something else
    """
    known = BUILT_IN | (_read(file) if file is not None else {})
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"There is no contender '{unknown[0]}': there are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names or known)]


def _read(file: Path) -> dict[str, Contender]:
    import yaml

    try:
        entries = yaml.safe_load(file.read_text())
        return {str(name): Contender(str(name), **entry) for name, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as e:
        fields = ", ".join(key for key in asdict(BUILT_IN[BASELINE]) if key != "name")
        reason = " ".join(str(e).split())
        raise UserError(f"{file} describes no contenders ({reason}); each is 'NAME: {{{fields}}}'.") from e
