"""Who takes part in a benchmark: contenders by name, those of the architectures and those of a file."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from nnunet_cardiac.architectures import ARCHITECTURES, contenders, tables
from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import read_text

BASELINE = "nnunet_2d"
MATCHED_PLANNER = "nnUNetPlannerResEncM"
TABLE = "table:"
"""Before the key of a paper's table, in place of a contender's name: all who stand for its methods."""
BUILT_IN = contenders()
"""Those that the architectures declare."""


def choose(names: Sequence[str] | None, file: Path | None = None) -> list[Contender]:
    """Contenders by name, built-in or of a file.

    Args:
        names: of contenders, or ``table:KEY`` for those of a paper's table; None for all that are not on demand
        file: YAML or JSON: ``NAME: {planner: ..., plans: ..., configuration: ..., trainer: ..., description: ...}``

    Raises:
        UserError: a contender or a table that does not exist, a file that describes no contenders, or plans that two
            planners would make
    """
    known = everyone(file)
    names = [name for given in names or () for name in _named(given)]
    unknown = [name for name in names if name not in known]
    if unknown:
        alike = get_close_matches(unknown[0], known, n=1)
        meant = f" Did you mean {alike[0]}?" if alike else ""
        raise UserError(f"There is no contender '{unknown[0]}': there are {', '.join(known)}.{meant}")
    names = names or [name for name, contender in known.items() if not contender.on_demand]
    chosen = [known[name] for name in dict.fromkeys(names)]
    first: dict[str, Contender] = {}
    for c in chosen:
        if (other := first.setdefault(c.plans, c)).planner != c.planner:
            raise UserError(
                f"{other.name} and {c.name} have different planners, {other.planner} and {c.planner}, "
                f"and the same plans, {c.plans}: give one of them plans of another name."
            )
    return chosen


def matched_baselines(chosen: Sequence[Contender], by: str = "flops") -> list[Contender]:
    """nnU-Net's residual encoder U-Net at the cost of each network that is not nnU-Net's own.

    Args:
        chosen: contenders; those that differ in the recipe alone share a baseline
        by: what is matched, see ``nnunet_cardiac.planners.matched.COSTS``
    """
    own = {contender.planner for contender in ARCHITECTURES["nnU-Net"].contenders}
    how = "" if by == "flops" else by.capitalize()
    networks: dict[tuple[str, str], Contender] = {}
    for c in chosen:
        if c.planner not in own:
            networks.setdefault((c.plans, c.configuration), c)
    return [
        Contender(
            f"matched_{c.name}",
            planner=MATCHED_PLANNER,
            plans=f"nnUNetMatched{how}To{''.join(word.capitalize() for word in c.name.split('_'))}Plans",
            configuration="3d_fullres" if c.configuration.startswith("3d") else "2d",
            trainer="nnUNetTrainer",
            description=f"nnU-Net's residual encoder U-Net at the cost of {c.name}, nnU-Net's recipe",
            matched_to=c.name,
        )
        for c in networks.values()
    ]


def _named(given: str) -> Iterable[str]:
    """The contenders of a table, in the order of its rows, or the one that has this name."""
    if not given.startswith(TABLE):
        return [given]
    known = tables()
    if given.removeprefix(TABLE) not in known:
        raise UserError(f"There is no table '{given}': there are {', '.join(TABLE + key for key in known)}.")
    return known[given.removeprefix(TABLE)].contenders.values()


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
