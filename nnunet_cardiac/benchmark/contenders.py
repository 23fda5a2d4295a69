"""Who takes part in a benchmark: contenders by name, those of the architectures and those of a file."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from nnunet_cardiac.architectures import ARCHITECTURES, contenders
from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.errors import UserError

BASELINE = "nnunet_2d"
MATCHED_PLANNER = "nnUNetPlannerResEncM"
BUILT_IN = contenders()
"""Those that the architectures declare."""


def choose(names: Sequence[str] | None, file: Path | None = None) -> list[Contender]:
    """Contenders by name, built-in or of a file.

    Args:
        names: None for all, the built-in ones in 2D and those of the file
        file: YAML or JSON: ``NAME: {planner: ..., plans: ..., configuration: ..., trainer: ..., description: ...}``

    Raises:
        UserError: a contender that does not exist, or a file that describes no contenders
    """
    known = everyone(file)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"There is no contender '{unknown[0]}': there are {', '.join(known)}.")
    names = names or [name for name, contender in known.items() if name not in BUILT_IN or not contender.is_3d]
    return [known[name] for name in dict.fromkeys(names)]


def matched_baselines(chosen: Sequence[Contender]) -> list[Contender]:
    """A baseline for every contender that is not nnU-Net's own: its residual encoder U-Net at the contender's cost."""
    own = {contender.planner for contender in ARCHITECTURES["nnU-Net"].contenders}
    return [
        Contender(
            f"matched_{c.name}",
            planner=MATCHED_PLANNER,
            plans=f"nnUNetMatchedTo{''.join(word.capitalize() for word in c.name.split('_'))}Plans",
            configuration="3d_fullres" if c.is_3d else "2d",
            trainer="nnUNetTrainer",
            description=f"nnU-Net's residual encoder U-Net at the cost of {c.name}, nnU-Net's recipe",
            matched_to=c.name,
        )
        for c in chosen
        if c.planner not in own
    ]


def everyone(file: Path | None = None) -> dict[str, Contender]:
    """All there are, built-in and of a file, by name. Raises ``UserError`` for a file that describes no contenders."""
    return BUILT_IN | (_read(file) if file is not None else {})


def _read(file: Path) -> dict[str, Contender]:
    import yaml

    try:
        entries = yaml.safe_load(file.read_text())
        return {str(name): Contender(str(name), **entry) for name, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as e:
        keys = ", ".join(field.name for field in fields(Contender) if field.name != "name")
        reason = " ".join(str(e).split())
        raise UserError(f"{file} describes no contenders ({reason}); each is 'NAME: {{{keys}}}'.") from e
