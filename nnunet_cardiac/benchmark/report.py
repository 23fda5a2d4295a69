"""The report on a benchmark: one page that needs nothing else, and its tables as CSV, Markdown and LaTeX."""

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

from nnunet_cardiac.benchmark import tables
from nnunet_cardiac.benchmark.published import published_for
from nnunet_cardiac.benchmark.results import ContenderResults, Results, load
from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.figures import (
    STRUCTURE_COLOURS,
    bland_altman,
    colour,
    distributions,
    overlay,
    own_style,
)
from nnunet_cardiac.evaluation.segmentation import Structures, read_segmentation
from nnunet_cardiac.evaluation.statistics import describe

TABLES = {
    "summary": "Summary",
    "tests": "Paired tests against the baseline",
    "metrics": "Distances and overlap by structure",
    "subsets": "Phases and groups",
    "crop": "What the crop shows of the heart",
    "cost": "Cost",
    "anatomy": "Implausible anatomy",
    "agreement": "Clinical indices against the experts'",
}
"""Name of the files, and title, of the tables that people read; ``metrics_full.csv`` has every number."""


@dataclass
class Report:
    """Where it is, its main table as ``text``, and what is missing."""

    page: Path
    text: str
    problems: list[str]


def write_report(benchmark: Path, output: Path | None = None, baseline: str | None = None) -> Report:
    """Writes the report on whatever a benchmark has finished.

    Args:
        benchmark: its folder
        output: where the report goes; None for ``report`` in the benchmark's folder
        baseline: contender that the others are tested against; None for the benchmark's own

    Raises:
        UserError: no benchmark, nothing finished, an unknown baseline, or a folder that cannot be written
    """
    results = load(benchmark)
    output = output or benchmark / "report"
    baseline = baseline or results.settings.baseline
    by_name = {c.name: c for c in results.contenders}
    if baseline not in results.settings.contenders:
        names = ", ".join(results.settings.contenders)
        raise UserError(f"The baseline '{baseline}' takes no part in {benchmark}: choose one of {names}.")
    problems = list(results.problems)
    if baseline not in by_name:
        problems.append(f"The baseline {baseline} has no finished fold: nothing is tested against it.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        content, text = _content(results, benchmark, by_name.get(baseline), baseline, output)
        page = output / "index.html"
        partial = output / ".index.html.partial"
        partial.write_text(_template().render(problems=problems, today=date.today().isoformat(), **content))
        os.replace(partial, page)
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e
    return Report(page, text, problems)


def _content(
    results: Results, benchmark: Path, baseline: ContenderResults | None, baseline_name: str, output: Path
) -> tuple[dict, str]:
    full = tables.full_table(results)
    tests = tables.test_table(results, baseline) if baseline is not None and len(results.contenders) > 1 else None
    shown = {
        "summary": tables.summary_table(results, full, tests, baseline_name),
        "tests": pd.DataFrame() if tests is None else tables.readable_tests(tests),
        "metrics": tables.distance_table(results, full),
        "subsets": tables.subset_table(results),
        "crop": tables.crop_table(results),
        "cost": tables.cost_table(results),
        "anatomy": tables.anatomy_table(results),
        "agreement": tables.agreement_table(results),
    }
    _write_tables(shown, full, tests, output)
    with own_style(), tqdm(total=3 + 2 * len(results.contenders), desc="Drawing", unit="figure") as bar:

        def draw(figure: Figure, svg: bool = True) -> Markup:
            bar.update()
            return _embed(figure, svg)

        figures = {
            "distributions": draw(
                distributions({c.name: c.metrics for c in results.contenders}, ("dice", "hausdorff95_mm"))
            ),
            "parameters": draw(_dice_against_parameters(results)),
            "curves": draw(_learning_curves(results)),
        }
        agreement = {
            c.name: draw(bland_altman(c.measurement.pairs(), c.measurement.agreement().T.to_dict()))
            for c in results.contenders
            if c.measurement
        }
        overlays = {c.name: draw(_overlays(results, c, benchmark), svg=False) for c in results.contenders}
    html = {
        name: Markup(t.to_html(index=False, border=0, na_rep="-", escape=True, justify="left"))
        for name, t in shown.items()
        if len(t)
    }
    published = [
        (p, pd.DataFrame.from_dict(p.rows, orient="index", columns=p.columns).to_html(border=0))
        for p in published_for({n for c in results.contenders for n in (c.contender.planner, c.contender.trainer)})
    ]
    keys = zip(results.structures, STRUCTURE_COLOURS * 3, strict=False)
    content = {
        "settings": results.settings, "contenders": results.contenders, "baseline": baseline_name, "tables": html,
        "figures": figures, "bland_altman": agreement, "overlays": overlays, "published": published,
        "structure_colours": list(keys), "circumstances": _circumstances(results), "titles": TABLES,
        "n_cases": max(c.metrics["case"].nunique() for c in results.contenders),
        "command": _command(results), "remarks": results.remarks,
    }  # fmt: skip
    return content, shown["summary"].to_string(index=False)


def _write_tables(shown: dict[str, pd.DataFrame], full: pd.DataFrame, tests: pd.DataFrame | None, output: Path) -> None:
    full.to_csv(output / "metrics_full.csv", index=False, float_format="%.7g")
    if tests is not None:
        tests.to_csv(output / "tests_full.csv", index=False, float_format="%.7g")
    markdown, latex = [], []
    for name, table in shown.items():
        if not len(table):
            continue
        table.to_csv(output / f"{name}.csv", index=False)
        markdown.append(f"## {TABLES[name]}\n\n{table.to_markdown(index=False, disable_numparse=True)}\n")
        latex.append(table.to_latex(index=False, escape=True, caption=TABLES[name], label=f"tab:{name}"))
    (output / "tables.md").write_text("\n".join(markdown))
    (output / "tables.tex").write_text("% needs \\usepackage{booktabs}\n\n" + "\n".join(latex))


def _embed(figure: Figure, svg: bool) -> Markup:
    """A figure as a part of the page."""
    file = io.BytesIO()
    if svg:
        figure.savefig(file, format="svg", dpi=120, metadata={"Date": None})
        kind = "svg+xml"
    else:
        figure.savefig(file, format="png", dpi=110)
        kind = "png"
    data = base64.b64encode(file.getvalue()).decode()
    return Markup(f"data:image/{kind};base64,{data}")


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("nnunet_cardiac.benchmark", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2")


def _dice_against_parameters(results: Results) -> Figure:
    """Mean Dice, with its interval, against the number of parameters (as CroCNet's Fig. 5)."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    ax = figure.subplots()
    for i, c in enumerate(results.contenders):
        if np.isnan(c.cost["parameters"]):
            continue
        mean = describe(c.by_case("dice"))
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


def _learning_curves(results: Results) -> Figure:
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


def _overlays(results: Results, contender: ContenderResults, benchmark: Path) -> Figure:
    """Best, median and worst case by mean Dice: a basal, a middle and an apical slice, expert beside contender."""
    dice = contender.by_case("dice").dropna().sort_values()
    chosen = {"best": dice.index[-1], "median": dice.index[len(dice) // 2], "worst": dice.index[0]}
    raw = folder("nnUNet_raw") / results.settings.dataset
    structures = Structures.of(raw / "dataset.json")
    truths = folder("nnUNet_preprocessed") / results.settings.dataset / "gt_segmentations"
    models = results.settings.results_folder(benchmark) / results.settings.dataset / contender.model
    fold_of = contender.metrics.drop_duplicates("case").set_index("case")["fold"]
    figure = Figure(figsize=(9, 4.9), layout="constrained")
    axes = figure.subplots(3, 6, squeeze=False)
    for row, (which, case) in zip(axes, chosen.items(), strict=True):
        name = f"{case}{structures.file_ending}"
        try:
            truth = read_segmentation(truths / name)
            prediction = read_segmentation(models / f"fold_{fold_of[case]}" / "validation" / name)
            image = _read_image(raw / "imagesTr", case, structures.file_ending)
        except (UserError, OSError) as e:
            row[0].text(0, 0.5, str(e), fontsize=6, wrap=True)
            for ax in row:
                ax.set_axis_off()
            continue
        axis = truth.slice_axis
        image, expert, own = (np.moveaxis(a, axis, 0) for a in (image, truth.labels, prediction.labels))
        spacing = [s for i, s in enumerate(truth.spacing) if i != axis]
        window = _heart_window(expert | own)
        occupied = np.flatnonzero(expert.any((1, 2))) if expert.any() else np.arange(len(expert))
        slices = [occupied[round(share * (len(occupied) - 1))] for share in (0.85, 0.5, 0.15)]
        for i, z in enumerate(slices):
            for labels, title, ax in ((expert, "expert", row[2 * i]), (own, "", row[2 * i + 1])):
                values = [structures.values[s] for s in structures.values]
                overlay(ax, image[z][window], labels[z][window], values, spacing[0] / spacing[1])
                ax.set_title(title or f"{z + 1} of {len(image)}", fontsize=7, pad=2)
        row[0].text(
            -0.08, 0.5, f"{which}: {case}\nDice {dice[case]:.3f}", transform=row[0].transAxes, rotation=90, fontsize=7,
            ha="right", va="center",
        )  # fmt: skip
    return figure


def _read_image(images: Path, case: str, ending: str) -> np.ndarray:
    """The first channel of a case, (Z, Y, X)."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(images / f"{case}_0000{ending}")))


def _heart_window(labels: np.ndarray, margin: int = 12) -> tuple[slice, slice]:
    """The box of everything that is labelled in any slice, with a margin in pixels."""
    ys, xs = np.nonzero(labels.any(0))
    if not len(ys):
        return slice(None), slice(None)
    return tuple(slice(max(0, v.min() - margin), v.max() + margin + 1) for v in (ys, xs))


def _circumstances(results: Results) -> dict[str, str]:
    """Hardware, versions and seeds of all trainings, each in one line."""
    recorded = [c for contender in results.contenders for c in contender.circumstances]

    def distinct(values: Iterable) -> str:
        return "; ".join(dict.fromkeys(map(str, values))) or "not recorded"

    return {
        "hardware": distinct(c["hardware"] for c in recorded),
        "seed": distinct(c["seed"] for c in recorded),
        "versions": distinct(", ".join(f"{k} {v}" for k, v in c["versions"].items()) for c in recorded),
        "memory": distinct(c["peak_memory_of"] for c in recorded),
    }


def _command(results: Results) -> str:
    """The command that makes this benchmark."""
    s = results.settings
    parts = [f"nnunet_cardiac benchmark -d {s.dataset}", f"--contenders {' '.join(s.contenders)}"]
    parts += [f"-f {' '.join(map(str, s.folds))}", f"-device {s.device}"]
    parts += [f"--budget {s.budget}"] if s.budget else []
    parts += [f"--small {s.small}"] if s.small else []
    parts += [f"-gpu_memory_target {s.gpu_memory_target}"] if s.gpu_memory_target else []
    parts += [f"--baseline {s.baseline}"]
    return " ".join(parts)
