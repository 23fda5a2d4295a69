"""What an architecture declares: networks, recipe, contenders in benchmarks, published figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contender:
    """A planner, plans, a configuration and a trainer under one name, as a benchmark compares them.

    Args:
        name: in tables and on the command line
        planner: what ``-pl`` names; makes ``plans`` where they do not exist
        plans, configuration, trainer: what ``-p``, ``-c`` and ``-tr`` name
        description: architecture and recipe in a few words
        matched_to: name of the contender whose cost this one has, for a baseline of matched cost
        on_demand: whether it takes part in a benchmark only when it is named, as those in 3D do
    """

    name: str
    planner: str
    plans: str
    configuration: str
    trainer: str
    description: str = ""
    matched_to: str = ""
    on_demand: bool = False


@dataclass(frozen=True)
class PublishedFigures:
    """A table of a paper, to stand beside what was measured; never a result of this project.

    Args:
        key: its short name: ``benchmark --contenders table:KEY`` takes its methods
        paper: authors, title and where it appeared
        table: which of its tables
        data: on which data set, and which view of it
        columns: titles of the numbers: metric, structure (none or "average" for the mean), phase, unit
        rows: by the paper's name of a method, its numbers; None where it gives none. A phase that follows a comma is
            that of the whole row
        contenders: by a row's name, who stands for that method here
        missing: by a row's name, why nobody does
        shares: by the name of a row that is of an earlier moment of a training, after how many percent of it
        remark: what a reader must know before comparing
        structures: that a column without one is the mean of; none for all
    """

    key: str
    paper: str
    table: str
    data: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    contenders: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    remark: str = ""
    structures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """Everything about an architecture that other parts of the project ask for; declared once, in this folder.

    Args:
        name: as people write it
        paper: authors, title, where it appeared
        link: to the paper, or to the public code where there is no paper
        page: of the documentation, relative to the repository
        networks: classes, by their names in ``nnunet_cardiac.networks``
        planner, plans: what ``-pl`` names, and the plans that it writes
        trainer: what ``-tr`` names: the paper's recipe
        configurations: of the plans, each with what it is in a few words; 2D first
        contenders: who takes part in benchmarks for it
        costed: names of those whose cost is shown unless others are asked for: one for each network
        published: the paper's own figures
        recipe_chooses_epoch: whether it keeps its best epoch, which its validation tells
    """

    name: str
    paper: str
    link: str
    page: str
    networks: tuple[str, ...]
    planner: str
    plans: str
    trainer: str
    configurations: Mapping[str, str]
    contenders: tuple[Contender, ...]
    costed: tuple[str, ...] = ()
    published: tuple[PublishedFigures, ...] = ()
    recipe_chooses_epoch: bool = False
