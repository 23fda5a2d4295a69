"""Pictures of evaluations: distributions, Bland-Altman plots, overlays."""

from collections.abc import Sequence

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#332288", "#ddaa33", "#117733")
"""Paul Tol's, for contenders; told apart by colour-blind readers."""
STRUCTURE_COLOURS = ("#e4572e", "#f3c13a", "#2ec4b6", "#9467bd", "#8c564b", "#7f7f7f")
TITLES = {
    "dice": "Dice", "jaccard": "Jaccard", "hausdorff_mm": "HD (mm)", "hausdorff95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)", "precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy",
    "volume_error_mL": "volume error (mL)",
}  # fmt: skip


def own_style():
    """Context for drawing and saving: without the sizes that nnU-Net's plots leave behind in the process."""
    return matplotlib.style.context("default")


def colour(i: int) -> str:
    """The colour of the i-th contender."""
    return COLOURS[i % len(COLOURS)]


def distributions(tables: dict[str, pd.DataFrame], metrics: Sequence[str]) -> Figure:
    """Box plots with one dot a case: a row for each metric, a panel for each structure.

    Args:
        tables: ``metrics`` of an ``Evaluation`` by the contender's name; with one nameless table no legend is drawn
        metrics: columns of it
    """
    structures = list(dict.fromkeys(s for table in tables.values() for s in table["structure"]))
    width = max(2.2, 0.42 * len(tables) + 1.0) * len(structures)
    figure = Figure(figsize=(min(width, 11), 2.6 * len(metrics) + 0.4), layout="constrained")
    axes = figure.subplots(len(metrics), len(structures), squeeze=False, sharey="row")
    random = np.random.default_rng(0)
    for row, metric in enumerate(metrics):
        for column, structure in enumerate(structures):
            ax = axes[row, column]
            for i, table in enumerate(tables.values()):
                values = table.loc[table["structure"] == structure, metric].dropna().to_numpy()
                dots = i + random.uniform(-0.22, 0.22, len(values))
                ax.plot(dots, values, ".", color=colour(i), alpha=0.35, markersize=3, rasterized=True)
                ax.boxplot(
                    values, positions=[i], widths=0.6, showfliers=False, medianprops={"color": "black"},
                    manage_ticks=False,
                )  # fmt: skip
            ax.set_xticks([])
            ax.grid(axis="y", alpha=0.3)
            if row == 0:
                ax.set_title(structure)
            if column == 0:
                ax.set_ylabel(TITLES.get(metric, metric))
    if list(tables) != [""]:
        handles = [Patch(color=colour(i), label=name) for i, name in enumerate(tables)]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def bland_altman(pairs: dict[str, pd.DataFrame], statistics: dict[str, pd.DataFrame], title: str = "") -> Figure:
    """A panel for each index: difference against mean, with bias and limits of agreement.

    Args:
        pairs: by index (``LV_EDV_mL``, say): columns ``measured`` and ``reference``, a row for each patient
        statistics: by index, of ``nnunet_cardiac.evaluation.measure.agreement``
        title: above all panels
    """
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.3 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (index, pair) in zip(axes, pairs.items(), strict=False):
        name, unit = index.rsplit("_", 1)
        ax.plot(pair.mean(axis=1), pair["measured"] - pair["reference"], ".", color=COLOURS[0], alpha=0.6, markersize=4)
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
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def overlay(ax, image: np.ndarray, labels: np.ndarray, values: Sequence[Sequence[int]], aspect: float = 1.0) -> None:
    """A slice with the outlines of its structures.

    Args:
        ax: where to draw
        image, labels: (Y, X)
        values: label values of each structure, drawn in ``STRUCTURE_COLOURS``
        aspect: height of a pixel divided by its width
    """
    ax.imshow(image, cmap="gray", aspect=aspect, vmax=np.percentile(image, 99.5))
    for i, value in enumerate(values):
        mask = np.isin(labels, value)
        if mask.any():
            ax.contour(mask, [0.5], colors=[STRUCTURE_COLOURS[i % len(STRUCTURE_COLOURS)]], linewidths=1)
    ax.set_axis_off()
