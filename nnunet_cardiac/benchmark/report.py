"""The report on a benchmark: one page that needs nothing else, and its tables as CSV, Markdown and LaTeX."""

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from nnunet_cardiac.architectures import published_for
from nnunet_cardiac.benchmark import tables
from nnunet_cardiac.benchmark.figures import dice_against_parameters, learning_curves, overlays
from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.results import ContenderResults, Results, load
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.figures import STRUCTURE_COLOURS, bland_altman, distributions, own_style
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import write_rows

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


def write_report(
    benchmark: Path, output: Path | None = None, baseline: str | None = None, margin: float = tables.DICE_MARGIN
) -> Report:
    """Writes the report on whatever a benchmark has finished.

    Args:
        benchmark: its folder
        output: folder for the report; None for ``report`` in the benchmark's
        baseline: contender that the others are tested against; None for the benchmark's own
        margin: difference of Dice that means nothing, for the tests of equivalence

    Raises:
        UserError: no benchmark, nothing finished, an unknown baseline, or a folder that cannot be written
    """
    place = BenchmarkFolder(benchmark)
    results = load(place)
    output = output or place.report
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
        content, text = _content(results, place, by_name.get(baseline), baseline, output, margin)
        page = output / "index.html"
        partial = output / ".index.html.partial"
        partial.write_text(_template().render(problems=problems, today=date.today().isoformat(), **content), "utf-8")
        os.replace(partial, page)
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e
    return Report(page, text, problems)


def _content(
    results: Results,
    benchmark: BenchmarkFolder,
    baseline: ContenderResults | None,
    baseline_name: str,
    output: Path,
    margin: float,
) -> tuple[dict, str]:
    """What the page is filled with, and the main table as text; also writes the tables."""
    full = tables.full_table(results)
    tests = (
        tables.test_table(results, baseline, margin) if baseline is not None and len(results.contenders) > 1 else None
    )
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
    with own_style(), progress(total=3 + 2 * len(results.contenders), desc="Drawing", unit="figure") as bar:

        def draw(figure: Figure, svg: bool = True) -> Markup:
            bar.update()
            return _embed(figure, svg)

        figures = {
            "distributions": draw(
                distributions({c.name: c.metrics for c in results.contenders}, ("dice", "hausdorff95_mm"))
            ),
            "parameters": draw(dice_against_parameters(results)),
            "curves": draw(learning_curves(results)),
        }
        agreement = {
            c.name: draw(bland_altman(c.measurement.pairs(), c.measurement.agreement().T.to_dict()))
            for c in results.contenders
            if c.measurement
        }
        cases = {c.name: draw(overlays(results, c, benchmark), svg=False) for c in results.contenders}
    html = {
        name: Markup(t.to_html(index=False, border=0, na_rep="-", escape=True, justify="left"))
        for name, t in shown.items()
        if len(t)
    }
    published = [
        (p, pd.DataFrame.from_dict(p.rows, orient="index", columns=p.columns).to_html(border=0, na_rep="-"))
        for p in published_for({n for c in results.contenders for n in (c.contender.planner, c.contender.trainer)})
    ]
    keys = zip(results.structures, STRUCTURE_COLOURS * 3, strict=False)
    content = {
        "settings": results.settings, "contenders": results.contenders, "baseline": baseline_name, "tables": html,
        "figures": figures, "bland_altman": agreement, "overlays": cases, "published": published,
        "structure_colours": list(keys), "circumstances": _circumstances(results), "titles": TABLES,
        "n_cases": max(c.metrics["case"].nunique() for c in results.contenders),
        "command": _command(results), "remarks": results.remarks, "margin": margin,
        "n_patients": max(c.patients.nunique() for c in results.contenders),
    }  # fmt: skip
    return content, shown["summary"].to_string(index=False)


def _write_tables(shown: dict[str, pd.DataFrame], full: pd.DataFrame, tests: pd.DataFrame | None, output: Path) -> None:
    write_rows(output / "metrics_full.csv", full, index=False, float_format="%.7g")
    if tests is not None:
        write_rows(output / "tests_full.csv", tests, index=False, float_format="%.7g")
    markdown, latex = [], []
    for name, table in shown.items():
        if not len(table):
            continue
        write_rows(output / f"{name}.csv", table, index=False)
        markdown.append(f"## {TABLES[name]}\n\n{table.to_markdown(index=False, disable_numparse=True)}\n")
        latex.append(table.to_latex(index=False, escape=True, caption=TABLES[name], label=f"tab:{name}"))
    (output / "tables.md").write_text("\n".join(markdown), "utf-8")
    (output / "tables.tex").write_text("% needs \\usepackage{booktabs}\n\n" + "\n".join(latex), "utf-8")


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
    parts += [s.size.option] if s.size else []
    parts += [f"-gpu_memory_target {s.gpu_memory_target}"] if s.gpu_memory_target else []
    parts += [f"--baseline {s.baseline}"]
    return " ".join(parts)
