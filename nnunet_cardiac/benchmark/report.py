"""The report on a benchmark: one page that needs nothing else, and its tables as CSV, Markdown and LaTeX."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from nnunet_cardiac.benchmark import claim
from nnunet_cardiac.benchmark.contenders import BUILT_IN
from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.pictures import STEPS_PER_PIXEL, CasePicture, metrics_of
from nnunet_cardiac.benchmark.results import Results, load
from nnunet_cardiac.benchmark.sections import SECTIONS, Content, Section, Table
from nnunet_cardiac.benchmark.settings import DICE_MARGIN, POSTPROCESSED, SNAPSHOTS, TEST_SET
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.figures import own_style, structure_colours
from nnunet_cardiac.files import write_text, writing
from nnunet_cardiac.pages import script, template
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import write_rows

TEST_OPTIONS = {TEST_SET: "--test", POSTPROCESSED: "--postprocessing", SNAPSHOTS: "--snapshots"}


@dataclass
class Report:
    """Where it is, its main table as ``text``, and what is missing."""

    page: Path
    text: str
    problems: list[str]


def write_report(
    benchmark: Path, output: Path | None = None, baseline: str | None = None, margin: float | None = None
) -> Report:
    """Writes the report on whatever a benchmark has finished.

    Args:
        benchmark: its folder
        output: folder for the report; None for ``report`` in the benchmark's
        baseline: contender that the others are tested against; None for the benchmark's own
        margin: difference of Dice that means nothing, for the tests of equivalence; None for the benchmark's

    Raises:
        UserError: no benchmark, nothing finished, no structure in any case, an unknown baseline, or a folder that
            cannot be written
    """
    place = BenchmarkFolder(benchmark)
    results = load(place)
    if all(c.metrics["dice"].isna().all() for c in results.contenders):
        raise UserError(f"{benchmark}: neither experts nor contenders have a structure in any case.")
    output = output or place.report
    baseline = baseline or results.settings.baseline
    if baseline not in results.settings.contenders:
        names = ", ".join(results.settings.contenders)
        raise UserError(f"The baseline '{baseline}' takes no part in {benchmark}: choose one of {names}.")
    problems = list(results.problems)
    if baseline not in {c.name for c in results.contenders}:
        problems.append(f"The baseline {baseline} has no finished fold: nothing is tested against it.")
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        with own_style(), progress(total=3 + len(results.contenders), desc="Drawing", unit="figure") as bar:
            margin = margin or results.settings.margin or DICE_MARGIN
            content = Content(results, place, baseline, margin, bar.update)
            sections = [made for section in SECTIONS if (made := section(content)).parts]
        written = {table.name: table for section in sections for table in section.tables()}
        _write_tables(written.values(), content, output)
        page = output / "index.html"
        write_text(_page(sections, content, problems), page)
    return Report(page, written["summary"].data.to_string(index=False), problems)


def _write_tables(written: Iterable[Table], content: Content, output: Path) -> None:
    write_rows(output / "metrics_full.csv", content.full, index=False, float_format="%.7g")
    if content.tests is not None:
        write_rows(output / "tests_full.csv", content.tests, index=False, float_format="%.7g")
    else:  # those of an earlier report, on what another baseline or other contenders had finished
        (output / "tests_full.csv").unlink(missing_ok=True)
    markdown, latex = [], []
    for table in written:
        if not len(table.data):
            (output / f"{table.name}.csv").unlink(missing_ok=True)
            continue
        write_rows(output / f"{table.name}.csv", table.data, index=False)
        if table.name == "claim":
            (output / "claim.md").write_text(claim.markdown(table.data), "utf-8")
        elif table.rows is None:  # longer ones are nothing to read
            markdown.append(f"## {table.title}\n\n{_markdown(table.data)}\n")
            caption = re.sub(r"([_%&#$])", r"\\\1", table.title)
            latex.append(table.data.to_latex(index=False, escape=True, caption=caption, label=f"tab:{table.name}"))
    (output / "tables.md").write_text("\n".join(markdown), "utf-8")
    (output / "tables.tex").write_text("% needs \\usepackage{booktabs}\n\n" + "\n".join(latex), "utf-8")


def _markdown(table: pd.DataFrame) -> str:
    """A table in which names are no markup."""
    marks = {ord("|"): "\\|", ord("<"): "&lt;", ord(">"): "&gt;"}
    return table.map(lambda value: str(value).translate(marks)).to_markdown(index=False, disable_numparse=True)


def _page(sections: list[Section], content: Content, problems: list[str]) -> str:
    results = content.results
    pictures, _ = content.pictures
    return template("nnunet_cardiac.benchmark", "report.html.j2").render(
        sections=sections, results=results, settings=results.settings,
        problems=problems, today=date.today().isoformat(), steps=STEPS_PER_PIXEL, metrics_of=metrics_of,
        structure_colours=structure_colours(results.structures),
        viewer=viewer_data(pictures, results), long_tables=long_tables(sections), circumstances=_circumstances(results),
        command=_command(results), numbers={c.name: i for i, c in enumerate(results.contenders, 1)},
        n_cases=max(c.metrics["case"].nunique() for c in results.contenders),
        n_patients=max(c.patients.nunique() for c in results.contenders),
        **script(Path(__file__).with_name("report.js")),
    )  # fmt: skip


def viewer_data(pictures: list[CasePicture], results: Results) -> dict:
    """What ``report.js`` draws of the cases that can be opened, ready for JSON."""
    cases = {}
    for picture in pictures:
        metrics = {
            name: f"Dice {dice:.3f}, HD95 {distance:.1f} mm"
            for name, (dice, distance) in metrics_of(picture, results).items()
            if not math.isnan(dice)
        }
        cases[picture.case] = {
            "why": picture.why, "images": picture.images, "width": picture.width, "height": picture.height,
            "aspect": picture.aspect, "slice": picture.slices[1], "metrics": metrics, "outlines": picture.outlines,
        }  # fmt: skip
    colours = list(structure_colours(results.structures).values())
    numbers = {c.name: i for i, c in enumerate(results.contenders, 1)}
    return {"steps": STEPS_PER_PIXEL, "colours": colours, "numbers": numbers, "cases": cases}


def long_tables(sections: list[Section]) -> dict:
    """All rows, as text, of the tables of which the page lays out a part, by name, ready for JSON."""
    return {
        table.name: table.data.to_numpy().tolist()
        for section in sections
        for table in section.tables()
        if table.rows is not None
    }


def _circumstances(results: Results) -> dict[str, str]:
    """Hardware, versions and seeds of all trainings, each in one line."""
    recorded = [c for contender in results.contenders for c in contender.trainings.values()]

    def distinct(values: Iterable) -> str:
        return "; ".join(dict.fromkeys(map(str, values))) or "not recorded"

    return {
        "hardware": distinct(c["hardware"] for c in recorded),
        "seed": distinct(c["seed"] for c in recorded),
        "versions": distinct(", ".join(f"{k} {v}" for k, v in c["versions"].items()) for c in recorded),
    }


def _command(results: Results) -> str:
    """The command that makes this benchmark."""
    s = results.settings
    named = [name for name, contender in s.contenders.items() if not contender.matched_to]
    parts = [f"nnunet_cardiac benchmark -d {s.dataset}", f"--contenders {' '.join(named)}"]
    parts += ["--contenders_file FILE"] if set(named) - BUILT_IN.keys() else []
    parts += [f"-f {' '.join(map(str, s.folds))}", f"-device {s.device}"]
    parts += [f"--budget {s.budget}"] if s.budget else []
    parts += ["--unscaled_schedule"] if not s.scale_schedule else []
    parts += [f"--seeds {' '.join(map(str, s.seeds))}"] if s.seeds != [0] else []
    parts += [f"--initial_lr {s.initial_lr:g}"] if s.initial_lr else []
    factors = " ".join(f"{factor:g}" for factor in s.lr_factors)
    parts += [f"--tune_lr {factors} --search_steps {s.search_steps}"] if factors else []
    parts += [f"--margin {s.margin:g}"] if s.margin else []
    parts += ["--paper"] if s.paper else []
    parts += [option for test, option in TEST_OPTIONS.items() if test in s.tests]
    parts += [f"--corruptions {' '.join(s.corruptions)}"] if s.corruptions else []
    external = [test for test in s.tests if test.startswith("Dataset")]
    parts += [f"--external {' '.join(external)}"] if external else []
    parts += [s.size.option] if s.size else []
    parts += [f"-gpu_memory_target {s.gpu_memory_target}"] if s.gpu_memory_target else []
    parts += ["--compile"] if s.compile_on_cpu else []
    parts += ["--bfloat16"] if s.bfloat16 else []
    parts += ["--inner_validation"] if s.inner_validation else []
    matched = len(named) < len(s.contenders)
    parts += [f"--baseline matched --match {s.match}" if matched else f"--baseline {s.baseline}"]
    return " ".join(parts)
