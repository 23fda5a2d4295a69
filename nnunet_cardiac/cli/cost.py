"""``nnunet_cardiac cost``."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from nnunet_cardiac.cli.options import (
    add_command,
    add_device_option,
    add_memory_target_option,
    add_size_options,
    chosen_device,
    whole_number,
    whole_number_or_0,
)
from nnunet_cardiac.environment import dataset_name
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import write_text, writing
from nnunet_cardiac.lock import locked
from nnunet_cardiac.texts import write_rows


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "cost", run=run,
        help="what every architecture costs: parameters, FLOPs, memory, time",
        description="Plans every network for the same data and memory and measures it, without any training: "
        "parameters, FLOPs of a slice, planned and measured memory of a training step, its time, and the time to "
        "segment a volume, by nnU-Net's commands and by ours. Networks are as they are initialised; a second stage is "
        "shown the heart where the experts saw it.",
        needs="a data set that was planned once (nnunet_cardiac plan_and_preprocess, with any planner); its raw images",
        writes="the table in Markdown, to the terminal; with -o also to a file",
        examples=(
            "nnunet_cardiac cost -d 27",
            "nnunet_cardiac cost -d 27 --contenders nnunet_3d e2aunet_3d crocnet_3d -gpu_memory_target 24 -o cost.csv",
            "nnunet_cardiac cost -d 27 --small 64 -device cpu --steps 5 --cases 0   (minutes, without a GPU)",
        ),
    )  # fmt: skip
    p.add_argument("-d", required=True, metavar="ID", help="data set, by ID or name")
    p.add_argument(
        "--contenders", nargs="+", metavar="NAME",
        help="what to measure, default one for each 2D network; names: nnunet_cardiac benchmark --list",
    )  # fmt: skip
    add_memory_target_option(p, default=8)
    add_device_option(p)
    p.add_argument(
        "--batch_size", type=whole_number, metavar="N",
        help="of the training steps, default the planned one, or 2 without a GPU",
    )  # fmt: skip
    add_size_options(p.add_mutually_exclusive_group())
    p.add_argument(
        "--steps", type=whole_number, default=20, metavar="N", help="training steps that are timed, default 20"
    )
    p.add_argument(
        "--cases", type=whole_number_or_0, default=3, metavar="N", help="volumes to segment, default 3; 0 for none"
    )
    p.add_argument("-o", type=_table_file, metavar="FILE", help="also write the table to FILE.csv or FILE.md")


def run(options: argparse.Namespace) -> None:
    name = dataset_name(options.d, "nnUNet_preprocessed")
    if options.o is not None and not options.o.absolute().parent.is_dir():
        raise UserError(f"{options.o.parent} does not exist: choose another file with -o, or make the folder.")
    alone = nullcontext() if options.o is None else locked(options.o, "choose another file with -o", is_file=True)
    with alone:
        _run(options, name)


def _run(options: argparse.Namespace, name: str) -> None:
    from nnunet_cardiac.architectures import costed
    from nnunet_cardiac.benchmark.contenders import choose
    from nnunet_cardiac.cost.table import cost_table

    contenders = choose(names=options.contenders) if options.contenders else costed()
    device = chosen_device(options.device)
    table = cost_table(
        dataset=name,
        contenders=contenders,
        gpu_memory_target=options.gpu_memory_target,
        device=device,
        batch_size=options.batch_size,
        size=options.size,
        n_steps=options.steps,
        n_cases=options.cases,
    )
    text = f"{table.to_markdown(index=False, floatfmt='.3g')}\n\n{_conditions(options, device)}"
    print(text)
    if options.o is None:
        return
    with writing(options.o, "choose another file with -o."):
        if options.o.suffix == ".md":
            write_text(f"{text}\n", options.o)
        else:
            write_rows(options.o, table, index=False, float_format="%.6g")


def _conditions(options: argparse.Namespace, device: str) -> str:
    """What the numbers depend on: hardware, plans, versions."""
    import torch

    from nnunet_cardiac.system import hardware, versions

    plans = f"planned for {options.gpu_memory_target:g} GB"
    if options.size:
        plans = f"plans shrunk for a CPU: {options.size}"
    prediction = f"prediction of up to {options.cases} volumes with mirroring; " if options.cases else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{hardware(torch.device(device))}; {plans}; {prediction}{packages}"


def _table_file(text: str) -> Path:
    if Path(text).suffix not in (".csv", ".md"):
        raise argparse.ArgumentTypeError(f"must end in .csv or .md; got {text}")
    return Path(text)
