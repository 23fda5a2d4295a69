"""``nnunet_cardiac measure``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import add_command, add_table_options, counted, named_labels, print_problems
from nnunet_cardiac.lock import locked
from nnunet_cardiac.texts import LINES, printable


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "measure", run=run,
        help="clinical indices: volumes, ejection fraction, mass, wall thickness",
        description="Measures every patient who has a segmentation at end-diastole (ED) and at end-systole (ES): "
        "volumes and ejection fraction of each ventricle, myocardial mass, wall thickness.",
        needs="a folder of segmentations. A dataset.json in or above it, or --labels, tells which label is LV, RV and "
        "MYO; cases.csv, or names like PATIENT_ED.nii.gz, tell patient and phase",
        writes="indices.csv; with ground truth also reference.csv, agreement.csv (bias, limits of agreement, "
        "correlation) and bland_altman.png",
        examples=(
            "nnunet_cardiac measure -i SEGMENTATIONS -o INDICES",
            "nnunet_cardiac measure -i SEGMENTATIONS -g $nnUNet_raw/Dataset027_ACDC/labelsTs -o INDICES",
            "nnunet_cardiac measure -i MINE -o INDICES --labels LV=3 MYO=2 RV=1",
        ),
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="SEGMENTATIONS", help="folder of segmentations")
    p.add_argument(
        "-g", type=Path, metavar="GROUND_TRUTH", help="folder of the experts' segmentations, to compare with"
    )
    p.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="where the results go")
    add_table_options(p)


def run(options: argparse.Namespace) -> bool:
    labels = named_labels(options.labels)
    from nnunet_cardiac.evaluation.measure import measure, write_measurement

    with locked(options.o):
        result = measure(
            segmentations=options.i,
            ground_truth=options.g,
            dataset_json=options.djfile,
            case_table=options.case_table,
            labels=labels,
        )
        write_measurement(measurement=result, output=options.o)
    print(printable(result.indices.to_string(float_format="{:.1f}".format), more=LINES))
    if result.reference is not None:
        print("\nagreement with the ground truth")
        print(result.agreement().to_string(float_format="{:.2f}".format))
    print_problems(result.warnings, result.problems)
    print(f"{options.o}: {counted(len(result.indices), 'patient')} measured, {len(result.problems)} left out.")
    return bool(result.problems)
