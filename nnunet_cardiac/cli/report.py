"""``nnunet_cardiac report``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import above_0, add_command, print_problems
from nnunet_cardiac.lock import locked
from nnunet_cardiac.texts import LINES, printable


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "report", run=run,
        help="a page with tables, tests and pictures from what a benchmark has finished",
        description="Writes the report on whatever a benchmark has finished, also while it is running. The command "
        "benchmark does this at its end.",
        needs="the folder of a benchmark",
        writes="index.html, one self-contained page, and its tables as CSV, Markdown and LaTeX",
        examples=(
            "nnunet_cardiac report -i benchmark",
            "nnunet_cardiac report -i benchmark --baseline e2aunet -o PAGE",
        ),
    )  # fmt: skip
    p.add_argument(
        "-i",
        type=Path,
        default=Path("benchmark"),
        metavar="BENCHMARK",
        help="folder of the benchmark, default benchmark",
    )
    p.add_argument("-o", type=Path, metavar="FOLDER", help="where the report goes, default BENCHMARK/report")
    p.add_argument(
        "--baseline", metavar="NAME", help="contender that the others are compared with, default the benchmark's"
    )
    add_margin_option(p)


def run(options: argparse.Namespace) -> bool:
    return print_report(options.i, options.o, options.baseline, options.margin)


def add_margin_option(p) -> None:
    """``--margin``"""
    p.add_argument(
        "--margin", type=above_0, metavar="DICE",
        help="difference of Dice that means nothing, for the tests of equivalence, default the benchmark's, or 0.01",
    )  # fmt: skip


def print_report(benchmark: Path, output: Path | None, baseline: str | None, margin: float | None) -> bool:
    """Writes a report and prints its main table; returns whether something is missing in it."""
    from nnunet_cardiac.benchmark.folder import BenchmarkFolder
    from nnunet_cardiac.benchmark.report import write_report

    with locked(output or BenchmarkFolder(benchmark).report):
        result = write_report(benchmark=benchmark, output=output, baseline=baseline, margin=margin)
    print(printable(result.text, more=LINES))
    print_problems([], result.problems)
    print(f"Report: {result.page}")
    return bool(result.problems)
