"""The figures of a report that compare contenders."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.results import ContenderResults, Results
from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.figures import colour, overlay
from nnunet_cardiac.evaluation.segmentation import Structures, read_segmentation
from nnunet_cardiac.evaluation.statistics import describe


def dice_against_parameters(results: Results) -> Figure:
    """Mean Dice, with its interval, against the number of parameters (as CroCNet's Fig. 5)."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    ax = figure.subplots()
    for i, c in enumerate(results.contenders):
        if np.isnan(c.cost["parameters"]):
            continue
        mean = describe(c.by_case("dice"), c.patients)
        x, y = c.cost["parameters"] / 1e6, mean["mean"]
        interval = [[y - mean["ci_lower"]], [mean["ci_upper"] - y]]
        ax.errorbar(x, y, yerr=interval, fmt="o", color=colour(i), capsize=3, label=c.name)
    ax.set_xscale("log")
    for ticks in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
        ticks("{x:g}")
    ax.tick_params(axis="x", which="both", labelsize=7)
    ax.set_xlabel("parameters (millions)")
    ax.set_ylabel("mean Dice, 95 % interval")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def learning_curves(results: Results) -> Figure:
    """Online Dice of every epoch, a line for each contender's mean over folds, thin ones for the folds."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    ax = figure.subplots()
    for i, c in enumerate(results.contenders):
        for curve in c.curves.values():
            ax.plot(
                curve["steps"],
                curve["dice"],
                color=colour(i),
                alpha=0.3 if len(c.curves) > 1 else 1,
                linewidth=1,
                marker=".",
            )
        lengths = {len(curve["steps"]) for curve in c.curves.values()}
        if len(c.curves) > 1 and len(lengths) == 1:
            steps, dice = (np.mean([curve[key] for curve in c.curves.values()], axis=0) for key in ("steps", "dice"))
            ax.plot(steps, dice, color=colour(i), linewidth=2)
    ax.set_xlabel("optimiser steps of the last stage")
    ax.set_ylabel("online Dice")
    ax.grid(alpha=0.3)
    handles = [Line2D([], [], color=colour(i), label=c.name) for i, c in enumerate(results.contenders)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def overlays(results: Results, contender: ContenderResults, benchmark: BenchmarkFolder) -> Figure:
    """Best, median and worst case by mean Dice: a basal, a middle and an apical slice, expert beside contender."""
    dice = contender.by_case("dice").dropna().sort_values()
    chosen = {"best": dice.index[-1], "median": dice.index[len(dice) // 2], "worst": dice.index[0]}
    return _cases([(f"{which}: {case}", contender, case) for which, case in chosen.items()], results, benchmark)


def median_cases(results: Results, benchmark: BenchmarkFolder) -> Figure:
    """The median case by mean Dice of every contender, as in ``overlays``."""
    rows = []
    for contender in results.contenders:
        dice = contender.by_case("dice").dropna().sort_values()
        case = dice.index[len(dice) // 2]
        rows.append((f"{contender.name}\n{case}", contender, case))
    return _cases(rows, results, benchmark)


def _cases(rows: list[tuple[str, ContenderResults, str]], results: Results, benchmark: BenchmarkFolder) -> Figure:
    """A row for each title, contender and case."""
    figure = Figure(figsize=(9, 1.63 * len(rows)), layout="constrained")
    for axes, (title, contender, case) in zip(figure.subplots(len(rows), 6, squeeze=False), rows, strict=True):
        try:
            _draw_case(axes, contender, case, results, benchmark)
        except (UserError, OSError) as e:
            axes[0].text(0, 0.5, str(e), fontsize=6, wrap=True)
            for ax in axes:
                ax.set_axis_off()
            continue
        text = f"{title}\nDice {contender.by_case('dice')[case]:.3f}"
        where = {"transform": axes[0].transAxes, "rotation": 90, "ha": "right", "va": "center"}
        axes[0].text(-0.08, 0.5, text, fontsize=7, **where)
    return figure


def _draw_case(axes, contender: ContenderResults, case: str, results: Results, benchmark: BenchmarkFolder) -> None:
    """Three slices of a case, expert beside contender, on six axes.

    Raises:
        UserError, OSError: a file that cannot be read
    """
    raw = folder("nnUNet_raw") / results.settings.dataset
    structures = Structures.of(raw / "dataset.json")
    name = f"{case}{structures.file_ending}"
    fold = contender.metrics.set_index("case").loc[[case], "fold"].iloc[0]
    truth = read_segmentation(folder("nnUNet_preprocessed") / results.settings.dataset / "gt_segmentations" / name)
    place = benchmark.fold_folder(results.settings, contender.model, fold)
    prediction = read_segmentation(place / "validation" / name)
    image = _read_image(raw / "imagesTr" / f"{case}_0000{structures.file_ending}")
    axis = truth.slice_axis
    image, expert, own = (np.moveaxis(a, axis, 0) for a in (image, truth.labels, prediction.labels))
    spacing = [s for i, s in enumerate(truth.spacing) if i != axis]
    window = _heart_window(expert | own)
    occupied = np.flatnonzero(expert.any((1, 2))) if expert.any() else np.arange(len(expert))
    values = list(structures.values.values())
    for i, share in enumerate((0.85, 0.5, 0.15)):
        z = occupied[round(share * (len(occupied) - 1))]
        for labels, title, ax in ((expert, "expert", axes[2 * i]), (own, "", axes[2 * i + 1])):
            overlay(ax, image[z][window], labels[z][window], values, spacing[0] / spacing[1])
            ax.set_title(title or f"{z + 1} of {len(image)}", fontsize=7, pad=2)


def _read_image(file: Path) -> np.ndarray:
    """(Z, Y, X)."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def _heart_window(labels: np.ndarray, margin: int = 12) -> tuple[slice, slice]:
    """The box of everything that is labelled in any slice, with a margin in pixels."""
    ys, xs = np.nonzero(labels.any(0))
    if not len(ys):
        return slice(None), slice(None)
    y, x = (slice(max(0, v.min() - margin), v.max() + margin + 1) for v in (ys, xs))
    return y, x
