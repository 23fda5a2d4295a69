"""The figures of a report that compare contenders. Contenders are numbered, as there may be more than colours."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_cardiac.benchmark.pictures import CasePicture, metrics_of, polygons
from nnunet_cardiac.benchmark.protocol_tables import corruption_curves
from nnunet_cardiac.benchmark.results import Results
from nnunet_cardiac.benchmark.settings import SEVERITIES
from nnunet_cardiac.evaluation.figures import colour, legend_columns, line_style, numbered, structure_colours
from nnunet_cardiac.evaluation.statistics import describe

MOST_WITH_FOLDS = 6
"""Contenders whose folds have a thin line each; with more, lines could not be followed."""
MOST_POINTS = 200
"""Of a learning curve."""


def dice_against_cost(results: Results) -> Figure:
    """Mean Dice, with its interval, against parameters (as CroCNet's Fig. 5) and hours of training."""
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    handles = {}
    for i, c in enumerate(results.contenders):
        mean = describe(c.by_case("dice"), c.patients)
        y = mean["mean"]
        interval = [[y - mean["ci_lower"]], [mean["ci_upper"] - y]]
        for ax, x in zip(axes, (c.cost["parameters"] / 1e6, c.cost["training_hours"]), strict=True):
            if np.isnan(x) or x <= 0:
                continue
            handles[c.name] = ax.errorbar(
                x, y, yerr=interval, fmt="o", color=colour(i), capsize=3, label=numbered(i, c.name)
            )
            ax.annotate(str(i + 1), (x, y), (5, 3), textcoords="offset points", fontsize=8)
    for ax, label in zip(axes, ("parameters (millions)", "hours of training, all stages"), strict=True):
        ax.set_xscale("log")
        for ticks in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
            ticks("{x:g}")
        ax.tick_params(axis="x", which="both", labelsize=7)
        ax.set_xlabel(label)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("mean Dice, 95 % interval")
    drawn = list(handles.values())
    figure.legend(handles=drawn, loc="outside lower center", ncols=legend_columns(drawn), fontsize=7, frameon=False)
    return figure


def corruption_figure(results: Results) -> Figure:
    """Mean Dice, with its interval, against how much worse the images were made: a panel for each way."""
    curves = corruption_curves(results)
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    handles: dict[str, Line2D] = {}
    for ax, (name, lines) in zip(axes, curves.items(), strict=False):
        for i, c in enumerate(results.contenders):
            if c.name not in lines:
                continue
            mean, low, high = (np.array([s[key] for s in lines[c.name]]) for key in ("mean", "ci_lower", "ci_upper"))
            steps = np.arange(len(mean))
            ax.fill_between(steps, low, high, color=colour(i), alpha=0.12, linewidth=0)
            (handles[c.name],) = ax.plot(
                steps, mean, marker=".", color=colour(i), linestyle=line_style(i), label=numbered(i, c.name)
            )
        ax.set(title=name.replace("_", " "), xlabel="step", xticks=range(SEVERITIES + 1))
        ax.grid(alpha=0.3)
    for ax in axes[len(curves) :]:
        ax.set_axis_off()
    axes[0].set_ylabel("mean Dice")
    drawn = list(handles.values())
    figure.legend(handles=drawn, loc="outside lower center", ncols=legend_columns(drawn), fontsize=7, frameon=False)
    return figure


def learning_curves(results: Results) -> Figure:
    """Online Dice of every epoch, a line for each contender's mean over folds, thin ones for the folds of few."""
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    ax = figure.subplots()
    for i, c in enumerate(results.contenders):
        curves = [np.array([curve["steps"], curve["dice"]]) for curve in c.curves.values()]
        averaged = len({curve.shape for curve in curves}) == 1
        lines = [(np.mean(curves, axis=0), 1.0, 2.0)] if averaged else [(curve, 1.0, 1.0) for curve in curves]
        if averaged and 1 < len(curves) and len(results.contenders) <= MOST_WITH_FOLDS:
            lines += [(curve, 0.3, 1.0) for curve in curves]
        for curve, alpha, width in lines:
            thinned = curve[:, :: -(-curve.shape[1] // MOST_POINTS)]
            ax.plot(*thinned, color=colour(i), linestyle=line_style(i), alpha=alpha, linewidth=width)
        for curve, *_ in lines[:1]:
            ax.annotate(
                str(i + 1),
                (curve[0, -1], curve[1, -1]),
                (4, -3),
                textcoords="offset points",
                fontsize=8,
                color=colour(i),
            )
    ax.set_xlabel("optimiser steps of the last stage")
    ax.set_ylabel("online Dice")
    ax.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=colour(i), linestyle=line_style(i), label=numbered(i, c.name))
        for i, c in enumerate(results.contenders)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(handles), fontsize=7, frameon=False)
    return figure


def compared(picture: CasePicture, results: Results) -> Figure:
    """A case, a row for each of three slices, a column for everyone, the expert first (as CroCNet's Figs. 2 to 4)."""
    columns = len(picture.outlines)
    figure = Figure(figsize=(1.7 * columns, 5.2), layout="constrained")
    dice = {name: f"\nDice {values[0]:.3f}" for name, values in metrics_of(picture, results).items()}
    colours = structure_colours(results.structures)
    for row, z in zip(figure.subplots(len(picture.slices), columns, squeeze=False), picture.slices, strict=True):
        for ax, (who, slices) in zip(row, picture.outlines.items(), strict=True):
            ax.imshow(
                picture.image(z), cmap="gray", aspect=picture.aspect, extent=(0, picture.width, picture.height, 0)
            )
            for path, name in zip(slices[z] if slices else (), results.structures, strict=False):
                for x, y in polygons(path):
                    ax.plot(x, y, color=colours[name], linewidth=1)
            if ax in figure.axes[:columns]:
                ax.set_title(f"{who}{dice.get(who, '')}", fontsize=7)
            ax.set_axis_off()
    return figure
