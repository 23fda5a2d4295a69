"""``nnunet_cardiac benchmark``."""

import argparse
import os
from pathlib import Path

from nnunet_cardiac.cli.options import (
    add_allow_code_option,
    add_command,
    add_compile_option,
    add_device_option,
    add_memory_target_option,
    add_size_options,
    chosen_device,
    print_problems,
    whole_number,
)
from nnunet_cardiac.cli.report import add_margin_option, print_report
from nnunet_cardiac.environment import dataset_name, folder
from nnunet_cardiac.errors import UserError


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "benchmark", run=run,
        help="train contenders on the same folds, evaluate them, and report against nnU-Net",
        description="Plans, trains, evaluates and times every contender on the same folds, with nnU-Net's own "
        "planning, training and prediction, then writes the report. Finished jobs are never done again: a benchmark "
        "that was interrupted goes on where it was.",
        needs="a data set in $nnUNet_raw; nnU-Net's three folders; Snakemake: pip install 'nnunet-cardiac[benchmark]'",
        writes="FOLDER/report/index.html and its tables, FOLDER/evaluation, FOLDER/logs; models in nnUNet_results, "
        "with --budget in FOLDER/nnUNet_results",
        examples=(
            "nnunet_cardiac benchmark --list",
            "nnunet_cardiac benchmark -d 27 --contenders nnunet_2d crocnet",
            "nnunet_cardiac benchmark -d 27 --budget 2000 --small -device cpu --cores 2   (small, but fair)",
            "nnunet_cardiac benchmark -d 27 --profile slurm",
        ),
    )  # fmt: skip
    p.add_argument("-d", metavar="ID", help="data set, by ID or name")
    p.add_argument("--list", action="store_true", help="print the contenders, and do nothing")
    p.add_argument("--contenders", nargs="+", metavar="NAME", help="who takes part, default all in 2D; see --list")
    p.add_argument(
        "--contenders_file", type=Path, metavar="FILE",
        help="YAML with more: 'NAME: {planner: ..., plans: ..., configuration: ..., trainer: ...}'",
    )  # fmt: skip
    p.add_argument("--baseline", metavar="NAME", help="contender that the others are compared with, default nnunet_2d")
    add_margin_option(p)
    p.add_argument("-f", nargs="+", type=int, metavar="FOLD", help="folds, default all")
    p.add_argument("-o", type=Path, default=Path("benchmark"), metavar="FOLDER", help="default benchmark")
    p.add_argument("--budget", type=whole_number, metavar="STEPS", help="optimiser steps of every training alike")
    add_size_options(p.add_mutually_exclusive_group())
    add_memory_target_option(p)
    add_device_option(p)
    add_compile_option(p)
    add_allow_code_option(p)
    p.add_argument(
        "--cores", type=whole_number, default=os.cpu_count(), metavar="N", help="for all jobs together, default all"
    )
    p.add_argument("--gpus", type=whole_number, metavar="N", help="trainings at a time, default one for each GPU")
    p.add_argument("--profile", metavar="NAME", help="'slurm', or a folder with a profile of Snakemake's")
    p.add_argument("--dry_run", action="store_true", help="list the jobs, and do nothing")


def run(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.benchmark import contenders

    if options.list:
        everyone = contenders.everyone(file=options.contenders_file)
        width = max(map(len, everyone)) + 2
        for c in everyone.values():
            print(f"{c.name:<{width}}{c.description}")
            print(f"{'':<{width}}-pl {c.planner} -p {c.plans} -c {c.configuration} -tr {c.trainer}")
        return False
    chosen = contenders.choose(names=options.contenders, file=options.contenders_file)
    if options.d is None:
        raise UserError("Name a data set with -d.")
    from nnunet_cardiac.benchmark import workflow
    from nnunet_cardiac.benchmark.settings import Settings

    folder("nnUNet_preprocessed")
    folder("nnUNet_results")
    name = dataset_name(options.d, "nnUNet_raw")
    settings = Settings(
        dataset=name,
        folds=options.f or workflow.all_folds(dataset=name),
        baseline=options.baseline or contenders.BASELINE,
        contenders={c.name: c for c in chosen},
        budget=options.budget,
        size=options.size,
        gpu_memory_target=options.gpu_memory_target,
        compile_on_cpu=options.compile,
        # a cluster's front end may have no GPU
        device=(options.device or "cuda") if options.profile else chosen_device(options.device),
    )
    if settings.compile_on_cpu and settings.device != "cpu":
        raise UserError("--compile is for -device cpu.")
    problems = workflow.run(
        settings=settings,
        output=options.o,
        cores=options.cores,
        gpus=options.gpus,
        profile=options.profile,
        dry_run=options.dry_run,
    )
    if options.dry_run:
        return False
    print_problems([], problems)
    failed = print_report(options.o, None, options.baseline, options.margin)
    return failed or bool(problems)
