"""``nnunet_cardiac benchmark``."""

import argparse
import os
from pathlib import Path

from nnunet_cardiac.benchmark.settings import (
    CORRUPTED,
    CORRUPTIONS,
    POSTPROCESSED,
    SEVERITIES,
    SNAPSHOTS,
    TEST_SET,
    Settings,
)
from nnunet_cardiac.cli.options import (
    above_0,
    add_allow_code_option,
    add_command,
    add_cpu_options,
    add_device_option,
    add_inner_validation_option,
    add_memory_target_option,
    add_schedule_option,
    add_size_options,
    chosen_device,
    print_problems,
    whole_number,
    whole_number_or_0,
)
from nnunet_cardiac.cli.report import add_margin_option, print_report
from nnunet_cardiac.environment import dataset_name, folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.lock import waiting


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
            "nnunet_cardiac benchmark -d 27 --contenders nnunet_2d table:dadu3",
            "nnunet_cardiac benchmark -d 27 --budget 2000 --small -device cpu --cores 2   (small, but fair)",
            "nnunet_cardiac benchmark -d 27 --profile slurm",
        ),
    )  # fmt: skip
    p.add_argument("-d", metavar="ID", help="data set, by ID or name")
    p.add_argument("--list", action="store_true", help="print the contenders and the papers' tables, and do nothing")
    p.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="who takes part, or table:KEY for a paper's table; see --list"
    )
    p.add_argument(
        "--contenders_file", type=Path, metavar="FILE",
        help="YAML with more: 'NAME: {planner: ..., plans: ..., configuration: ..., trainer: ...}'",
    )  # fmt: skip
    p.add_argument("--test", action="store_true", help="also test the folds' ensemble on imagesTs and labelsTs")
    p.add_argument(
        "--external", nargs="+", default=[], metavar="ID",
        help="also test it on the labelled cases of other data sets; labels are matched by name",
    )  # fmt: skip
    p.add_argument(
        "--corruptions", nargs="*", choices=CORRUPTIONS, metavar="NAME",
        help=f"also test on images made worse in {SEVERITIES} steps: {', '.join(CORRUPTIONS)}; default all",
    )  # fmt: skip
    p.add_argument(
        "--postprocessing", action="store_true",
        help="also evaluate after nnU-Net's own postprocessing, determined on the other folds",
    )  # fmt: skip
    p.add_argument(
        "--snapshots", action="store_true", help="also evaluate after 20, 40, 60 and 80 percent of the training"
    )
    p.add_argument(
        "--baseline", metavar="NAME",
        help="contender that the others are compared with, default nnunet_2d; 'matched' adds, for each of them, "
        "nnU-Net's residual encoder U-Net at its cost",
    )  # fmt: skip
    p.add_argument("--match", choices=("flops", "parameters", "memory"), default="flops", help="default flops")
    add_margin_option(p)
    p.add_argument("-f", nargs="+", type=int, metavar="FOLD", help="folds, default all")
    p.add_argument("-o", type=Path, default=Path("benchmark"), metavar="FOLDER", help="default benchmark")
    p.add_argument("--budget", type=whole_number, metavar="STEPS", help="optimiser steps of every training alike")
    add_schedule_option(p)
    p.add_argument(
        "--seeds", nargs="+", type=whole_number_or_0, default=[0], metavar="N",
        help="train every contender with each of these, default 0: how much of a difference is chance",
    )  # fmt: skip
    rate = p.add_mutually_exclusive_group()
    rate.add_argument(
        "--initial_lr", type=above_0, metavar="LR", help="learning rate of all, default each recipe's own"
    )
    rate.add_argument(
        "--tune_lr", nargs="*", type=above_0, metavar="FACTOR",
        help="look for every contender's learning rate in short runs inside the training part of each fold: multiples "
        "of its recipe's, default 0.3 1 3",
    )  # fmt: skip
    p.add_argument(
        "--search_steps", type=whole_number, metavar="STEPS",
        help="with --tune_lr: optimiser steps of each run, default half of the budget, or 125000, so that a benchmark "
        "takes two and a half times as long; in much shorter runs the highest rate wins, which may not be the best",
    )  # fmt: skip
    size = p.add_mutually_exclusive_group()
    size.add_argument("--paper", action="store_true", help="the papers' fixed sizes, for planners that know them")
    add_size_options(size)
    add_memory_target_option(p)
    add_device_option(p)
    add_inner_validation_option(p, "with --budget, --initial_lr, --tune_lr, --snapshots and --bfloat16 they always do")
    add_cpu_options(p)
    add_allow_code_option(p)
    p.add_argument(
        "--cores", type=whole_number, default=os.cpu_count(), metavar="N", help="for all jobs together, default all"
    )
    p.add_argument("--gpus", type=whole_number, metavar="N", help="trainings at a time, default one for each GPU")
    p.add_argument("--profile", metavar="NAME", help="'slurm', or a folder with a profile of Snakemake's")
    p.add_argument("--dry_run", action="store_true", help="list the jobs, and do none of them")


def run(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.architectures import tables
    from nnunet_cardiac.benchmark import contenders

    if options.list:
        everyone = contenders.everyone(file=options.contenders_file)
        width = max(map(len, everyone)) + 2
        for c in everyone.values():
            print(f"{c.name:<{width}}{c.description}")
            print(f"{'':<{width}}-pl {c.planner} -p {c.plans} -c {c.configuration} -tr {c.trainer}")
        for key, figures in tables().items():
            print(f"{contenders.TABLE + key:<{width}}{figures.paper}, {figures.table}")
            print(f"{'':<{width}}{' '.join(dict.fromkeys(figures.contenders.values()))}")
        return False
    chosen = contenders.choose(names=options.contenders, file=options.contenders_file)
    if options.d is None:
        raise UserError("Name a data set with -d.")
    from nnunet_cardiac.benchmark import workflow

    folder("nnUNet_preprocessed")
    folder("nnUNet_results")
    name = dataset_name(options.d, "nnUNet_raw")
    if options.baseline == "matched":
        options.baseline = None
        baseline = contenders.choose(names=[contenders.BASELINE], file=options.contenders_file)
        chosen = list(dict.fromkeys([*baseline, *chosen, *contenders.matched_baselines(chosen, options.match)]))
    settings = Settings(
        dataset=name,
        folds=sorted(set(options.f or workflow.all_folds(dataset=name))),
        baseline=options.baseline or contenders.BASELINE,
        contenders={c.name: c for c in chosen},
        budget=options.budget,
        size=options.size,
        gpu_memory_target=options.gpu_memory_target,
        compile_on_cpu=options.compile,
        bfloat16=options.bfloat16,
        inner_validation=options.inner_validation,
        seeds=sorted(set(options.seeds)),
        paper=options.paper,
        initial_lr=options.initial_lr,
        scale_schedule=not options.unscaled_schedule,
        tests=_tests(options),
        corruptions=list(CORRUPTIONS) if options.corruptions == [] else options.corruptions or [],
        snapshots=options.snapshots,
        match=options.match,
        margin=options.margin,
        **_search(options),
        # a cluster's front end may have no GPU
        device=(options.device or "cuda") if options.profile else chosen_device(options.device),
    )
    settings.training_options("")  # refuses what excludes each other before anything is written
    if settings.device == "cpu" and settings.budget is None:
        print_problems(["whole trainings take weeks without a GPU: give --budget 2000 and --small, say."], [])
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
    with waiting():  # nnunet_cardiac report may look at it too, for seconds
        failed = print_report(options.o, None, options.baseline, options.margin)
    return failed or bool(problems)


def _tests(options: argparse.Namespace) -> list[str]:
    """What is tested beyond the held-out cases."""
    asked = {
        TEST_SET: options.test,
        CORRUPTED: options.corruptions is not None,
        POSTPROCESSED: options.postprocessing,
        SNAPSHOTS: options.snapshots,
    }
    return [name for name, wanted in asked.items() if wanted] + [
        dataset_name(d, "nnUNet_raw") for d in options.external
    ]


def _search(options: argparse.Namespace) -> dict:
    """What of the settings a search for learning rates is."""
    if options.tune_lr is None:
        if options.search_steps:
            raise UserError("--search_steps is for --tune_lr.")
        return {}
    return {
        "lr_factors": sorted(set(map(float, options.tune_lr or [0.3, 1, 3]))),
        "search_steps": options.search_steps or (max(1, options.budget // 2) if options.budget else 125_000),
    }
