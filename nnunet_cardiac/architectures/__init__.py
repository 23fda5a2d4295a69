"""The architectures of this project, one module each; a new module in this folder is all that a new one needs here.

Every module but ``architecture`` has a constant ``ARCHITECTURE``. Nothing here imports PyTorch or nnU-Net, so that the
command line can list architectures and contenders at once.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping

from nnunet_cardiac.architectures.architecture import Architecture, Contender, PublishedFigures

FIRST = "nnunet"
"""Module of the baselines, which lead every list; the others follow in the order of their modules' names."""


def find_architectures(package: str, path: Iterable[str]) -> dict[str, Architecture]:
    """The architectures that the modules of a package declare, by module: the baselines first.

    Args:
        package: its name
        path: its folders

    Raises:
        TypeError: a module has no ``ARCHITECTURE``
        ValueError: two architectures share a name, or two contenders do
    """
    modules = sorted(m.name for m in pkgutil.iter_modules(path) if m.name != "architecture")
    found: dict[str, Architecture] = {}
    declared: dict[str, str] = {}  # name of a contender: its module
    for name in sorted(modules, key=lambda name: name != FIRST):
        module = importlib.import_module(f"{package}.{name}")
        architecture = getattr(module, "ARCHITECTURE", None)
        if not isinstance(architecture, Architecture):
            raise TypeError(f"{module.__file__} has no ARCHITECTURE: declare one, of the class Architecture.")
        if architecture.name in found:
            raise ValueError(f"{module.__file__} declares '{architecture.name}', and so does another module.")
        found[architecture.name] = architecture
        for contender in architecture.contenders:
            if contender.name in declared:
                other = declared[contender.name]
                raise ValueError(f"{module.__file__} declares the contender '{contender.name}', and so does {other}.")
            declared[contender.name] = name
    return found


ARCHITECTURES: Mapping[str, Architecture] = find_architectures(__name__, __path__)
"""By name; nnU-Net first, then by module."""


def contenders() -> dict[str, Contender]:
    """Everyone who can take part in a benchmark, by name: in the architectures' order, those on demand last."""
    everyone = [contender for architecture in ARCHITECTURES.values() for contender in architecture.contenders]
    return {contender.name: contender for contender in sorted(everyone, key=lambda contender: contender.on_demand)}


def choosing_trainers() -> set[str]:
    """Recipes that keep their best epoch, by the names of their trainers."""
    return {architecture.trainer for architecture in ARCHITECTURES.values() if architecture.recipe_chooses_epoch}


def costed() -> list[Contender]:
    """Those whose cost is shown unless others are asked for."""
    everyone = contenders()
    return [everyone[name] for architecture in ARCHITECTURES.values() for name in architecture.costed]


def tables() -> dict[str, PublishedFigures]:
    """The papers' tables by their keys, in the architectures' order."""
    return {figures.key: figures for architecture in ARCHITECTURES.values() for figures in architecture.published}


def published_for(names: Iterable[str]) -> list[PublishedFigures]:
    """The papers' own figures for those whose architecture or recipe takes part.

    Args:
        names: of planners and trainers
    """
    names = set(names)
    return [
        figures
        for architecture in ARCHITECTURES.values()
        if names & {architecture.planner, architecture.trainer}
        for figures in architecture.published
    ]
