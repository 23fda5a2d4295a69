"""``nnunet_cardiac env``."""

import argparse
import shlex

from nnunet_cardiac.cli.options import add_command
from nnunet_cardiac.environment import ext_trainer


def add_parser(commands) -> None:
    """The command, which has no options."""
    add_command(
        commands, "env", run=run,
        help="print the line that lets nnU-Net's own commands find our trainers",
        description="Prints the line that sets nnUNet_extTrainer, to be evaluated by the shell. nnU-Net's own commands "
        "then find our trainers, as -tr nnUNetTrainerCroCNet, beside those that they already know. Our commands need "
        "no such line.",
        examples=('eval "$(nnunet_cardiac env)"',),
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    print(f"export nnUNet_extTrainer={shlex.quote(ext_trainer())}")
