"""``nnunet_cardiac cine``."""

import argparse
import warnings
from pathlib import Path

from nnunet_cardiac.cli.options import (
    above_0,
    add_any_model_options,
    add_bfloat16_option,
    add_command,
    add_device_option,
    any_model,
    chosen_device,
    counted,
    print_problems,
    whole_number,
)
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import CHECKPOINT
from nnunet_cardiac.system import loading
from nnunet_cardiac.texts import LINES, printable


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "cine", run=run,
        help="a patient's cine in (DICOM, NIfTI), volumes over the cycle and a report out",
        description="Finds the short-axis cine in a patient's study, segments every phase, and writes volumes over the "
        "cycle, clinical indices and a report to look at. Research only, not for clinical use.",
        needs="a DICOM file or folder of any depth, with whatever else the study holds; or a 4D NIfTI file, or a "
        "folder of 3D frames",
        writes="OUT/report.html, indices.json, indices.csv, volumes.csv, segmentation.nii.gz; of DICOM also dicom/, a "
        "segmentation for each phase and a structured report",
        examples=(
            "nnunet_cardiac cine -i STUDY -o OUT",
            "nnunet_cardiac cine -i STUDY --list   (what the study holds)",
            "nnunet_cardiac cine -i PATIENTS -o OUT --cohort   (a folder of patients, one line each in cohort.csv)",
        ),
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="IN", help="the study: a file or a folder")
    p.add_argument("-o", type=Path, metavar="OUT", help="folder for the report and everything else")
    p.add_argument("--list", action="store_true", help="print what a DICOM study holds as a table, and do nothing")
    p.add_argument(
        "--series", nargs="+", type=whole_number, default=(), metavar="#",
        help="choose from these series alone; numbers of the first column of --list",
    )  # fmt: skip
    p.add_argument("--cohort", action="store_true", help="IN is a folder of patients, each in a folder or file")
    add_any_model_options(p)
    p.add_argument("--ed", type=whole_number, metavar="PHASE", help="end-diastole, from 1; default as found")
    p.add_argument("--es", type=whole_number, metavar="PHASE", help="end-systole, from 1; default as found")
    p.add_argument("--height", type=above_0, metavar="CM", help="of the patient; default as in the files")
    p.add_argument("--weight", type=above_0, metavar="KG", help="of the patient; default as in the files")
    p.add_argument("--whole", action="store_true", help="segment whole slices, without finding the heart first: slower")
    p.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little less accurate")
    p.add_argument(
        "--keep_identifiers", action="store_true",
        help="name the patient in the DICOM objects as the study does; without it no output has names or identifiers",
    )  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace a report of other images or another model")
    add_device_option(p)
    add_bfloat16_option(p)


def run(options: argparse.Namespace) -> bool | None:
    for module in ("pydicom", "highdicom"):  # of values that do not follow the standard, which they quote
        warnings.filterwarnings("ignore", module=module)
    if not options.i.exists():
        raise UserError(f"{options.i} does not exist: give -i a file or a folder.")
    if options.list:
        _print_study(options.i, options.series)
        return None
    if options.o is None:
        raise UserError("-o is missing: name a folder for the report, or use --list to look at the study.")
    if options.height is not None and not 30 < options.height < 250:
        raise UserError(f"--height is in cm; got {options.height:g}.")
    if options.cohort and not options.i.is_dir():
        raise UserError(f"{options.i} is no folder: --cohort wants a folder of patients.")
    of_one = [name for name in ("height", "weight", "series", "ed", "es") if getattr(options, name)]
    if options.cohort and of_one:
        raise UserError(f"--{of_one[0]} is of one patient: leave it out, or --cohort.")
    with loading():
        model = any_model(options)
        from nnunet_cardiac.cine.cohort import PAGE, report_cohort
        from nnunet_cardiac.cine.output import REPORT
        from nnunet_cardiac.cine.run import Options, load_segmenter, report_patient

    segmenter = load_segmenter(
        model=model,
        folds=options.f,
        checkpoint=options.chk or CHECKPOINT,
        device=chosen_device(options.device),
        use_mirroring=not options.disable_tta,
        whole=options.whole,
        bfloat16=options.bfloat16,
    )
    asked = Options(
        series=options.series,
        ed=options.ed and options.ed - 1,
        es=options.es and options.es - 1,
        height=options.height and options.height / 100,
        weight=options.weight,
        keep_identifiers=options.keep_identifiers,
        overwrite=options.overwrite,
    )
    if options.cohort:
        with locked(options.o):
            problems = report_cohort(options.i, options.o, segmenter, asked)
        print_problems([], problems)
        without = f": {counted(len(problems), 'patient')} without a report." if problems else ""
        print(f"{options.o / PAGE}{without}")
        return bool(problems)
    record = report_patient(options.i, options.o, segmenter, asked)
    print(_summary(record))
    print_problems([f"{flag['title']}: {flag['reason']}" for flag in record["flags"]], [])
    print(options.o / REPORT)
    return None


def _print_study(source: Path, series: list[int]) -> None:
    from nnunet_cardiac.cine.read import read_study
    from nnunet_cardiac.cine.study import find_short_axis, format_table, table

    frames, remarks, problems = read_study(source)
    try:
        stack = find_short_axis(frames, series)
        remarks += stack.remarks
    except UserError as e:
        stack = None
        remarks.append(str(e).splitlines()[0].removesuffix(" What there is:"))
    for text in (format_table(table(frames, stack)), *remarks):
        print(printable(text, more=LINES))
    print_problems([], problems)


def _summary(record: dict) -> str:
    """The main numbers in a line each."""
    from nnunet_cardiac.evaluation.indices import INDICES

    lines = [
        record["origin"],
        *record["remarks"],
        f"ED is phase {record['ed_phase']}, ES is phase {record['es_phase']}.",
    ]
    for name in ("LV_EF_percent", "LV_EDV_mL", "LV_ESV_mL", "LV_mass_g", "RV_EF_percent", "RV_EDV_mL", "RV_ESV_mL"):
        value = record["indices"].get(name)
        if value is not None:
            marked = " (see warnings)" if any(name in flag["indices"] for flag in record["flags"]) else ""
            lines.append(f"  {INDICES[name].title}: {value:.0f} {INDICES[name].unit}{marked}")
    return "\n".join(lines)
