"""``nnunet_cardiac demo``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import DEVICES, add_command


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "demo", run=run,
        help="all of the above on a phantom data set, on a laptop's CPU, in minutes",
        description="Shows the whole way on synthetic patients: converts, plans and preprocesses them, trains "
        "nnU-Net's baseline and both stages of CroCNet briefly, compares them in a benchmark, segments and measures "
        "patients whom nobody has trained on.",
        needs="Snakemake, for the benchmark: pip install 'nnunet-cardiac[benchmark]'",
        writes="FOLDER with everything in it: data, models, segmentations, benchmark/report/index.html",
        examples=("nnunet_cardiac demo", "nnunet_cardiac demo -o ~/nnunet_cardiac_demo -device cuda"),
    )  # fmt: skip
    p.add_argument(
        "-o",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="where everything goes, default demo; must be empty",
    )
    p.add_argument("-device", default="cpu", choices=DEVICES, help="default cpu")


def run(options: argparse.Namespace) -> None:
    from nnunet_cardiac.demo import run as run_demo

    run_demo(output=options.o, device=options.device)
