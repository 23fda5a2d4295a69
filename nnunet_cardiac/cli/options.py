"""What the commands share: how their help reads, options of the same kind, what is said at the end."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cardiac.environment import dataset_name
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import CHECKPOINT, Model
from nnunet_cardiac.planners.sizes import SIZES
from nnunet_cardiac.texts import message

if TYPE_CHECKING:
    from nnunet_cardiac.models.saved_model import SavedModel

TRAINER, PLANS = "nnUNetTrainer", "nnUNetPlans"
"""nnU-Net's defaults."""
DEVICES = ("cuda", "cpu", "mps")


def add_command(
    commands,
    name: str,
    *,
    run: Callable[[argparse.Namespace], bool | None] | None,
    help: str,
    description: str,
    needs: str | None = None,
    writes: str | None = None,
    examples: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A command's parser.

    Args:
        commands: what ``add_subparsers`` has returned
        name: of the command
        run: does the work and returns whether something of it failed; None for a command that has commands
        help: a line for the list of commands
        description: what it does
        needs: what must be there before
        writes: what is there afterwards
        examples: whole command lines
    """
    fill = textwrap.TextWrapper(min(shutil.get_terminal_size().columns - 2, 100), break_on_hyphens=False)
    lines = [*fill.wrap(description), ""]
    fill.subsequent_indent = " " * 9
    for title, text in (("needs:", needs), ("writes:", writes)):
        if text:
            fill.initial_indent = f"{title:<9}"
            lines += fill.wrap(text)
    p = commands.add_parser(
        name,
        help=help,
        description="\n".join(lines),
        epilog="\n  ".join([f"example{'s' * (len(examples) > 1)}:", *examples]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.set_defaults(run=run)
    if run is not None and writes is not None and name != "demo":  # which wants a folder of its own
        p.add_argument("--wait", action="store_true", help="wait where another process writes to the same place")
    return p


def add_option(p, option: str, *former: str, **kwargs) -> None:
    """An option of ``p``, which is accepted in its ``former`` spellings too; help shows the one that holds."""
    action = p.add_argument(option, **kwargs)
    for spelling in former:
        p.add_argument(
            spelling, **kwargs | {"dest": action.dest, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        )


def add_model_options(p) -> None:
    """Data set, trainer, plans and configuration: what names a model that is trained here."""
    p.add_argument("-d", required=True, metavar="ID", help="data set, by ID or name")
    p.add_argument("-tr", default=TRAINER, metavar="TRAINER", help=f"trainer, default {TRAINER}")
    p.add_argument("-p", default=PLANS, metavar="PLANS", help=f"plans, default {PLANS}")
    p.add_argument("-c", required=True, metavar="CONFIGURATION", help="configuration in the plans, such as 2d_cascade")
    add_allow_code_option(p)


def add_any_model_options(p) -> None:
    """What names a model for segmentation: one that is installed, one that is trained here, or the package's own."""
    p.add_argument(
        "-m", metavar="NAME",
        help="an installed model, see 'models list'; in place of -d -tr -p -c. Without -m and -d: the package's own",
    )  # fmt: skip
    p.add_argument("-d", metavar="ID", help="data set that a model was trained on, by ID or name; needs -c")
    p.add_argument("-tr", metavar="TRAINER", help=f"with -d: trainer, default {TRAINER}")
    p.add_argument("-p", metavar="PLANS", help=f"with -d: plans, default {PLANS}")
    p.add_argument("-c", metavar="CONFIGURATION", help="with -d: configuration in the plans, such as 2d_cascade")
    p.add_argument(
        "-f", nargs="+", type=fold, metavar="FOLD", help="with -d: folds to average, default all that are trained"
    )
    p.add_argument("-chk", metavar="FILE", help=f"with -d: file of the weights, default {CHECKPOINT}")
    add_allow_code_option(p)


def add_allow_code_option(p) -> None:
    """``--allow_code``, which ``nnunet_cardiac.training.trust`` asks for."""
    p.add_argument(
        "--allow_code", action="store_true",
        help="build networks of any class that plans name, and load checkpoints that could run code: for models of "
        "people whom you trust",
    )  # fmt: skip


def any_model(options: argparse.Namespace) -> "Model | SavedModel":
    """The model that ``add_any_model_options``' options name; says which, if they name none.

    Raises:
        UserError: they name two, half of one, or one that is not there
    """
    if options.m is not None and options.d is not None:
        raise UserError("-m and -d name two models: leave out one.")
    given = [f"-{key}" for key in ("tr", "p", "c", "f", "chk") if getattr(options, key) is not None]
    if options.d is None and given:
        raise UserError(f"{given[0]} is for a model that was trained here: name its data set with -d, or leave it out.")
    if options.d is not None and options.c is None:
        raise UserError("-d needs a configuration: name it with -c.")
    if options.d is not None:
        name = dataset_name(options.d, "nnUNet_results")
        return Model(name, options.tr or TRAINER, options.p or PLANS, options.c)
    from nnunet_cardiac.models.store import MODEL_IN_THE_BOX, find_model

    model = find_model(options.m or MODEL_IN_THE_BOX)
    if options.m is None:
        print(f"With {model.name}, the model that comes with the package: nnunet_cardiac models show says more.")
    return model


def add_device_option(p) -> None:
    """``-device``; what it stands for without a value is told by ``chosen_device``."""
    p.add_argument("-device", choices=DEVICES, help="default cuda where there is a GPU, else cpu")


def add_cpu_options(p) -> None:
    """``--compile`` and ``--bfloat16``, of trainings."""
    p.add_argument(
        "--compile", action="store_true",
        help="on a CPU: compile the networks (torch.compile), as nnU-Net does on a GPU; takes minutes, then steps are "
        "faster",
    )  # fmt: skip
    add_bfloat16_option(p)


def add_bfloat16_option(p) -> None:
    """``--bfloat16``"""
    p.add_argument(
        "--bfloat16", action="store_true",
        help="on a CPU: compute in bfloat16, as nnU-Net does on a GPU in float16; much faster where lscpu lists "
        "avx512_bf16 or amx_bf16, perhaps slower elsewhere",
    )  # fmt: skip


def add_inner_validation_option(p, more: str) -> None:
    """``--inner_validation``; ``more`` ends its help."""
    p.add_argument(
        "--inner_validation", action="store_true",
        help="recipes that look at their validation (DADU's, HALSR-Net's), for their best epoch or their end, get a "
        f"fifth of the training patients for it, not the fold's held-out cases; {more}",
    )  # fmt: skip


def add_schedule_option(p) -> None:
    """``--unscaled_schedule``"""
    p.add_argument(
        "--unscaled_schedule", action="store_true", help="with --budget: cut the schedule off instead of scaling it"
    )


def add_memory_target_option(p, default: float | None = None) -> None:
    """``-gpu_memory_target`` in GB."""
    default_text = "the planner's own" if default is None else f"{default:g}"
    p.add_argument(
        "-gpu_memory_target", type=above_0, default=default, metavar="GB",
        help=f"GPU memory to plan for, default {default_text}",
    )  # fmt: skip


def add_size_options(p) -> None:
    """``--small`` and ``--half``, alone or with the size of a patch; what is chosen is ``size``.

    Args:
        p: a group in which they exclude each other
    """
    for name, size in SIZES.items():
        p.add_argument(
            f"--{name}", dest="size", type=lambda text, size=size: size.with_patch(whole_number(text)), nargs="?",
            const=size, metavar="PATCH", help=f"for a CPU and {size.purpose}: {size}",
        )  # fmt: skip


def add_table_options(p) -> None:
    """Where the names of labels and the facts about cases come from."""
    where = "default: in or above the folders given"
    p.add_argument(
        "--labels", nargs="+", type=label, metavar="NAME=VALUE",
        help="names of the labels, in place of a dataset.json: LV=3 MYO=2 RV=1; heart=1,2,3 for several in one; other "
        "labels are not looked at",
    )  # fmt: skip
    p.add_argument("-djfile", type=Path, metavar="FILE", help=f"dataset.json with the labels' names; {where}")
    add_option(
        p, "--case_table", "-cases", type=Path, metavar="FILE",
        help=f"cases.csv with patient, phase and group of each case; {where}",
    )  # fmt: skip


def whole_number(text: str, least: int = 1) -> int:
    """A number of things, at least ``least``."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least {least}; got {text}")
    return int(text)


def whole_number_or_0(text: str) -> int:
    """A number of things that may be none."""
    return whole_number(text, least=0)


def above_0(text: str) -> float:
    """A size."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text}")
    return value


def fold(text: str) -> int | str:
    """A fold's number, or "all"."""
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be the number of a fold, or all; got {text}")
    return int(text)


def label(text: str) -> tuple[str, tuple[int, ...]]:
    """A structure's name and label values; LV, MYO and RV in any case of letters."""
    name, _, values = text.partition("=")
    numbers = values.split(",")
    if not name or not all(number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE with a value above 0, such as LV=3; got {text}")
    return name.upper() if name.upper() in ("LV", "MYO", "RV") else name, tuple(map(int, numbers))


def named_labels(given: Sequence[tuple[str, tuple[int, ...]]] | None) -> dict[str, tuple[int, ...]] | None:
    """Label values by name, as ``--labels`` gives them.

    Raises:
        UserError: a name stands there twice
    """
    if given is None:
        return None
    names = [name for name, _ in given]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--labels names {twice[0]} twice: give several values as {twice[0]}=1,2.")
    return dict(given)


def chosen_device(given: str | None) -> str:
    """The device that ``-device`` names, or else the GPU where there is one.

    Raises:
        UserError: there is no GPU
    """
    import torch

    if given == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch sees no GPU here: use -device cpu.")
    return given or ("cuda" if torch.cuda.is_available() else "cpu")


def counted(n: int, noun: str) -> str:
    """A number and what it counts, in the singular or plural."""
    return f"{n} {noun}{'s' * (n != 1)}"


def print_problems(warnings: Sequence[str], problems: Sequence[str]) -> None:
    """Says on standard error what the user should know, and what was left out."""
    for warning in warnings:
        print(f"warning: {message(warning)}", file=sys.stderr)
    for problem in problems:
        print(f"left out: {message(problem)}", file=sys.stderr)
