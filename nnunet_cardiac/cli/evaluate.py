"""``nnunet_cardiac evaluate``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import (
    add_command,
    add_table_options,
    counted,
    named_labels,
    print_problems,
    whole_number,
)
from nnunet_cardiac.lock import locked
from nnunet_cardiac.texts import LINES, printable


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "evaluate", run=run,
        help="compare segmentations with ground truth: overlap, distances, volumes, anatomy",
        description="Compares every case of two folders, per structure, in 3D and in mm. A structure that only one of "
        "both has counts with a Dice of 0 and the image's diagonal as distance; one that neither has is counted and "
        "left out.",
        needs="two folders with files of the same names. A dataset.json in or above them, or --labels, names the "
        "structures; without, they are named by their label values",
        writes="metrics.csv (a row for each case and structure), summary.csv, anatomy.csv and metrics.png",
        examples=(
            "nnunet_cardiac evaluate -i SEGMENTATIONS -g $nnUNet_raw/Dataset027_ACDC/labelsTs -o RESULTS",
            "nnunet_cardiac evaluate -i MINE -g EXPERTS -o RESULTS --labels LV=3 MYO=2 RV=1",
        ),
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS", help="folder of segmentations")
    p.add_argument("-g", type=Path, required=True, metavar="GROUND_TRUTH", help="folder of the experts' segmentations")
    p.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="where the results go")
    add_table_options(p)
    p.add_argument("-np", type=whole_number, default=2, metavar="N", help="cases at a time, default 2")


def run(options: argparse.Namespace) -> bool:
    labels = named_labels(options.labels)
    from nnunet_cardiac.evaluation.evaluate import evaluate, summary_text, write_evaluation

    with locked(options.o):
        result = evaluate(
            predictions=options.i,
            ground_truth=options.g,
            dataset_json=options.djfile,
            case_table=options.case_table,
            n_processes=options.np,
            labels=labels,
        )
        summary = write_evaluation(evaluation=result, output=options.o)
    print(printable(summary_text(summary=summary, anatomy=result.anatomy), more=LINES))
    print_problems(result.warnings, result.problems)
    n = result.metrics["case"].nunique()
    print(f"{options.o}: {counted(n, 'case')} evaluated, {len(result.problems)} left out.")
    return bool(result.problems)
