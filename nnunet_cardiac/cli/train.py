"""``nnunet_cardiac train``."""

import argparse

from nnunet_cardiac.cli.options import (
    above_0,
    add_command,
    add_cpu_options,
    add_device_option,
    add_inner_validation_option,
    add_model_options,
    add_schedule_option,
    chosen_device,
    fold,
    whole_number,
    whole_number_or_0,
)
from nnunet_cardiac.environment import check_trainer, dataset_name, folder, load_plans
from nnunet_cardiac.model import Model
from nnunet_cardiac.training.options import TrainingOptions


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "train", run=run,
        help="train all that is missing, in order: folds of stage 1, then of stage 2",
        description="Trains a configuration with nnU-Net's own training. The stages before it, which a cascade needs, "
        "are trained first. Finished folds are skipped, interrupted ones continue, "
        "with the options that they were begun with.",
        needs="plans and preprocessed data (nnunet_cardiac plan_and_preprocess); nnUNet_results",
        writes="$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION, as nnUNetv2_train does",
        examples=(
            "nnunet_cardiac train -d 27 -tr nnUNetTrainerCroCNet -p nnUNetCroCNetPlans -c 2d_cascade",
            "nnunet_cardiac train -d 27 -c 2d -f 0 --budget 2000 -device cpu   (the baseline, briefly)",
        ),
    )  # fmt: skip
    add_model_options(p)
    p.add_argument("-f", nargs="+", type=fold, metavar="FOLD", help="folds of CONFIGURATION, default all")
    add_device_option(p)
    p.add_argument("-num_gpus", type=whole_number, default=1, metavar="N", help="more than one trains with DDP")
    p.add_argument("--npz", action="store_true", help="save the validation's probabilities too")
    p.add_argument("--budget", type=whole_number, metavar="STEPS", help="optimiser steps of each fold, schedule scaled")
    p.add_argument("--initial_lr", type=above_0, metavar="LR", help="learning rate in place of the recipe's")
    add_schedule_option(p)
    p.add_argument("--seed", type=whole_number_or_0, metavar="N", help="of all random numbers, default the recipe's, 0")
    add_inner_validation_option(p, "as in a benchmark with a budget")
    add_cpu_options(p)


def run(options: argparse.Namespace) -> None:
    folder("nnUNet_results")
    name = dataset_name(options.d, "nnUNet_preprocessed")
    load_plans(name, options.p, options.c)
    check_trainer(options.tr)
    how = TrainingOptions(
        device=chosen_device(options.device),
        num_gpus=options.num_gpus,
        budget=options.budget,
        scale_schedule=not options.unscaled_schedule,
        initial_lr=options.initial_lr,
        seed=options.seed,
        compile_on_cpu=options.compile,
        bfloat16=options.bfloat16,
        inner_validation=options.inner_validation,
        npz=options.npz,
    )
    from nnunet_cardiac.training.train import train

    train(
        model=Model(dataset=name, trainer=options.tr, plans=options.p, configuration=options.c),
        folds=options.f,
        options=how,
    )
