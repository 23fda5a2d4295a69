"""``nnunet_cardiac convert``. A data set is a parser, the function that it serves, and an entry in ``DATA_SETS``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import add_command, add_option, counted, print_problems, whole_number


def add_parser(commands) -> None:
    """The command, and a command in it for each data set."""
    p = add_command(
        commands, "convert", run=None,
        help="write a public data set in nnU-Net's raw format",
        description="Converts a public data set to nnU-Net's raw format. Files are checked on the way: what can be "
        "repaired is repaired and reported, what cannot be used is named and left out.",
        needs="the data set as its owners ship it; nnUNet_raw",
        writes="$nnUNet_raw/DatasetNNN_NAME with splits_final.json (folds over patients) and cases.csv (patient, phase "
        "and group of each case)",
        examples=("nnunet_cardiac convert acdc -i ~/downloads/ACDC", "nnunet_cardiac convert mnms2 --help"),
    )  # fmt: skip
    data_sets = p.add_subparsers(title="data sets", required=True, metavar="DATASET")
    for add in DATA_SETS:
        add(data_sets)


def add_data_set(
    data_sets, name: str, *, source: str, description: str, example: str, **kwargs
) -> argparse.ArgumentParser:
    """The parser of one data set, with the options that all have; others as in ``add_command``."""
    p = add_command(
        data_sets, name,
        description=f"{description} What was converted before of the same files is kept, what is no case any more is "
        "deleted; source files are never touched.",
        needs=f"the {source}; nnUNet_raw",
        examples=(f"nnunet_cardiac convert {name} {example}",),
        **kwargs,
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="SOURCE", help=source)
    p.add_argument("-d", type=whole_number, metavar="ID", help="ID of the data set, default the one above")
    p.add_argument("--folds", type=int, default=5, metavar="N", help="folds over the training patients, default 5")
    p.add_argument("-np", type=whole_number, default=2, metavar="N", help="cases converted at a time, default 2")
    return p


def converted(convert, options: argparse.Namespace, **more) -> bool:
    """Calls a data set's ``convert`` and says what came of it; returns whether something was left out."""
    result = convert(
        source=options.i, dataset_id=options.d, n_folds=options.folds, n_processes=options.np, **more
    )  # fmt: skip
    print_problems(result.warnings, result.problems)
    print(
        f"{result.folder}: {counted(result.converted, 'case')} converted"
        + (f" ({result.repaired} repaired)" if result.repaired else "")
        + f", {result.kept} kept from before, {len(result.problems)} left out. "
        f"{counted(result.patients['train'], 'patient')} to train on, {result.patients['test']} to test on."
    )
    return bool(result.problems)


def add_acdc(data_sets) -> None:
    p = add_data_set(
        data_sets, "acdc", run=convert_acdc,
        help="ACDC: 150 patients, short axis, labels RV, MYO, LV",
        description="Converts ACDC as its owners ship it. ED and ES of 100 patients are for training, of 50 for "
        "testing.",
        source="folder with ACDC's 'training', or above it",
        writes="$nnUNet_raw/Dataset027_ACDC; with --labels LV MYO Dataset028_ACDC_LV_MYO",
        example="-i ~/downloads/ACDC",
    )  # fmt: skip
    p.add_argument(
        "--labels", nargs="+", type=str.upper, metavar="LABEL",
        help="keep only these, numbered in this order: --labels LV MYO",
    )  # fmt: skip


def convert_acdc(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import acdc

    return converted(acdc.convert, options, labels=options.labels)


def add_lvquan19(data_sets) -> None:
    add_data_set(
        data_sets, "lvquan19", run=convert_lvquan19,
        help="LVQuan19: 56 patients, one short-axis slice in 20 frames, labels LV, MYO",
        description="Converts the .mat files of LVQuan19 (MATLAB v5 or v7.3). Every annotated frame is a case; the "
        "frames of a patient are in one fold.",
        source="folder with the .mat files, or above it",
        writes="$nnUNet_raw/Dataset019_LVQuan19",
        example="-i ~/downloads/LVQuan19/TrainingData",
    )  # fmt: skip


def convert_lvquan19(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import lvquan19

    return converted(lvquan19.convert, options)


def add_mnms2(data_sets) -> None:
    p = add_data_set(
        data_sets, "mnms2", run=convert_mnms2,
        help="M&Ms-2: 360 subjects, long and short axis, labels LV, MYO, RV",
        description="Converts one view of M&Ms-2. Folds are stratified by disease and vendor.",
        source="folder with the subjects' folders and dataset_information.csv, or above it",
        writes="$nnUNet_raw/Dataset032_MnM2_LA or Dataset033_MnM2_SA; with --split challenge "
        "Dataset034_MnM2_LA_challenge or Dataset035_MnM2_SA_challenge",
        example="-i ~/downloads/MnM2 --view LA",
    )  # fmt: skip
    p.add_argument("--view", type=str.upper, choices=("LA", "SA"), default="LA", help="long or short axis, default LA")
    p.add_argument(
        "--split", choices=("all", "challenge"), default="all",
        help="all: 360 subjects in the folds (default, as CroCNet); challenge: 200 for training, 160 for testing",
    )  # fmt: skip


def convert_mnms2(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import mnms2

    return converted(mnms2.convert, options, view=options.view, split=options.split)


def add_sunnybrook(data_sets) -> None:
    p = add_data_set(
        data_sets, "sunnybrook", run=convert_sunnybrook,
        help="Sunnybrook: 45 patients, short axis as DICOM, contours of the LV",
        description="Converts Sunnybrook, in the challenge's layout or that of teaching material (dicoms, "
        "contourfiles, link.csv). Every frame with a contour of the cavity is a case of one slice.",
        source="folder above the images and the contours",
        writes="$nnUNet_raw/Dataset009_Sunnybrook; with --labels LV MYO Dataset010_Sunnybrook_LV_MYO; with "
        "--keep_unknown Dataset011_Sunnybrook_LV_MYO_unknown",
        example="-i ~/downloads/Sunnybrook",
    )  # fmt: skip
    p.add_argument(
        "--labels", nargs="+", type=str.upper, default=["LV"], metavar="LABEL",
        help="LV: the cavity (default); LV MYO: also the myocardium, of the frames that have both contours",
    )  # fmt: skip
    add_option(
        p, "--keep_unknown", "--keep-unknown", action="store_true",
        help="with --labels LV MYO: keep frames without the outer contour; there, all but the cavity is nnU-Net's "
        "ignore label",
    )  # fmt: skip


def convert_sunnybrook(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import sunnybrook

    return converted(sunnybrook.convert, options, labels=options.labels, keep_unknown=options.keep_unknown)


DATA_SETS = (add_acdc, add_lvquan19, add_mnms2, add_sunnybrook)
