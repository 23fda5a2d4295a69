"""Pictures of evaluations: distributions, Bland-Altman plots, overlays."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Literal

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_cardiac.evaluation.segmentation import COLOURS_OF_ROLES, roles

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#332288", "#ddaa33", "#117733")
"""Paul Tol's, for contenders; told apart by colour-blind readers."""
OTHER_STRUCTURES = ("#e69f00", "#cc79a7", "#f0e442", "#0072b2")
"""Okabe and Ito's, as ``COLOURS_OF_ROLES``."""
BOX = 0.6
"""Width of a box; its dots stay within."""
MOST_DOTS = 150
"""On a box."""
MOST_IN_A_ROW = 6
"""Contenders, for three panels beside each other."""
TITLES = {
    "dice": "Dice", "jaccard": "Jaccard", "hausdorff_mm": "HD (mm)", "hausdorff95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)", "precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy",
    "volume_error_mL": "volume error (mL)",
}  # fmt: skip


def own_style():
    """Context for drawing and saving: without the sizes that nnU-Net's plots leave behind in the process; names are
    taken as they are, not as formulas."""
    return matplotlib.style.context(["default", {"text.parse_math": False}])


def colour(i: int) -> str:
    """The colour of the i-th contender."""
    return COLOURS[i % len(COLOURS)]


def structure_colours(names: Iterable[str]) -> dict[str, str]:
    """By structure: each of the heart's has the same colour wherever it is drawn."""
    names, others = list(names), cycle(OTHER_STRUCTURES)
    known = {name: COLOURS_OF_ROLES[role] for role, name in roles(names).items()}
    return {name: known.get(name) or next(others) for name in names}


def line_style(i: int) -> Literal["-", "--", ":", "-."]:
    """The i-th contender's: what has the same colour has another line."""
    styles: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
    return styles[i // len(COLOURS) % 4]


def numbered(i: int, name: str) -> str:
    """The i-th contender's name behind its number, by which figures with many contenders call it."""
    return f"{i + 1}  {name}"


def legend_columns(handles: Sequence) -> int:
    """As many as keep a legend below a figure short."""
    return 3 if len(handles) <= 12 else 4


def distributions(tables: dict[str, pd.DataFrame], metrics: Sequence[str]) -> Figure:
    """Box plots with dots on them, one a case, or ``MOST_DOTS`` of them, evenly from the lowest to the highest value.

    Few contenders have a row for each metric and a panel for each structure; of more than ``MOST_IN_A_ROW`` the panels
    are wide, with a row for each structure.

    Args:
        tables: ``metrics`` of an ``Evaluation`` by the contender's name; with one nameless table no legend is drawn
        metrics: columns of it
    """
    structures = list(dict.fromkeys(s for table in tables.values() for s in table["structure"].unique()))
    many, named = len(tables) > MOST_IN_A_ROW, list(tables) != [""]
    rows, columns = (len(structures), len(metrics)) if many else (len(metrics), len(structures))
    width = (max(4, 0.3 * len(tables) + 1) if many else max(2.2, 0.42 * len(tables) + 1)) * columns
    figure = Figure(figsize=(min(width, 17 if many else 14), 2.6 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="col" if many else "row")
    axes = axes.T if many else axes
    random = np.random.default_rng(0)
    parts = {n: dict(list(t[["structure", *metrics]].groupby("structure"))) for n, t in tables.items()}
    for row, metric in zip(axes, metrics, strict=True):
        for ax, structure in zip(row, structures, strict=True):
            for i, by_structure in enumerate(parts.values()):
                values = (
                    by_structure[structure][metric].dropna().sort_values().to_numpy()
                    if structure in by_structure
                    else []
                )
                if not len(values):
                    continue
                box = ax.boxplot(
                    values, positions=[i + 1], widths=BOX, showfliers=False, patch_artist=True, manage_ticks=False,
                    medianprops={"color": "black"}, zorder=2,
                )  # fmt: skip
                box["boxes"][0].set(facecolor=colour(i), alpha=0.35)
                shown = values[np.linspace(0, len(values) - 1, min(len(values), MOST_DOTS)).round().astype(int)]
                dense = 0.4 if len(shown) > 50 else 0.9
                places = i + 1 + random.uniform(-0.4 * BOX, 0.4 * BOX, len(shown))
                ax.plot(places, shown, ".", color=colour(i), markersize=4, markeredgewidth=0, alpha=dense, zorder=1)
            ax.set_xlim(0.4, len(tables) + 0.6)
            ax.set_xticks(range(1, len(tables) + 1) if named else [])
            ax.tick_params(axis="x", labelsize=7, length=0)
            ax.grid(axis="y", alpha=0.3)
            ax.set_title(f"{structure}, {TITLES.get(metric, metric)}" if many else structure, fontsize=10)
            if not many and structure == structures[0]:
                ax.set_ylabel(TITLES.get(metric, metric))
    if named:
        handles = [Patch(color=colour(i), label=numbered(i, name)) for i, name in enumerate(tables)]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=legend_columns(handles), fontsize=8, frameon=False
        )
    return figure


def bland_altman(pairs: dict[str, pd.DataFrame], statistics: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each index: difference against mean, with bias and limits of agreement; ``MOST_DOTS`` dots at most.

    Args:
        pairs: by index (``LV_EDV_mL``, say): columns ``measured`` and ``reference``, a row for each patient
        statistics: by index, of ``nnunet_cardiac.evaluation.statistics.agreement``
    """
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    width, height = 2.7 * columns, 2.3 * rows + 0.3
    figure = Figure(figsize=(width, height))  # whose layout is fixed: to find one takes longer than to draw
    figure.subplots_adjust(0.5 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.5 / height, wspace=0.25, hspace=0.45)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (index, pair) in zip(axes, pairs.items(), strict=False):
        name, unit = index.rsplit("_", 1)
        shown = pair.sample(min(len(pair), MOST_DOTS), random_state=0)
        ax.plot(
            shown.mean(axis=1), shown["measured"] - shown["reference"], ".", color=COLOURS[0], alpha=0.6, markersize=4
        )
        row = statistics[index]
        for value, style in ((row["bias"], "-"), (row["loa_lower"], "--"), (row["loa_upper"], "--")):
            if np.isfinite(value):
                ax.axhline(value, color="black", linestyle=style, linewidth=0.8)
        ax.set_title(f"{name.replace('_', ' ')} ({unit.replace('percent', '%')})", fontsize=8)
        ax.tick_params(labelsize=6)
        ax.set_xlabel("mean of both", fontsize=6)
        ax.set_ylabel("measured - expert", fontsize=6)
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    return figure


def overlay(ax, image: np.ndarray, labels: np.ndarray, values: Mapping[str, int]) -> None:
    """A slice with the outlines of its structures.

    Args:
        ax: where to draw
        image, labels: (Y, X)
        values: label value of each structure
    """
    ax.imshow(image, cmap="gray", vmax=np.percentile(image, 99.5))
    colours = structure_colours(values)
    for name, value in values.items():
        mask = labels == value
        if mask.any():
            ax.contour(mask, [0.5], colors=[colours[name]], linewidths=1)
    ax.set_axis_off()
