"""Who takes part in a benchmark: contenders by name, those of the architectures and those of a file."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import read_text

BASELINE = "nnunet_2d"
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


def everyone(file: Path | None = None) -> dict[str, Contender]:
    """All there are, built-in and of a file, by name. Raises ``UserError`` for a file that describes no contenders."""
    return BUILT_IN | (_read(file) if file is not None else {})


def _read(file: Path) -> dict[str, Contender]:
    import yaml

    try:
        entries = yaml.safe_load(read_text(file))
        return {str(name): Contender(str(name), **entry) for name, entry in entries.items()}
    except (yaml.YAMLError, TypeError, ValueError, AttributeError, RecursionError) as e:
        keys = ", ".join(field.name for field in fields(Contender) if field.name != "name")
        reason = " ".join(str(e).split())
        raise UserError(f"{file} describes no contenders ({reason}); each is 'NAME: {{{keys}}}'.") from e
