"""``nnunet_cardiac plan_and_preprocess``."""

import argparse

from nnunet_cardiac.cli.options import add_command, add_memory_target_option, add_size_options, whole_number
from nnunet_cardiac.environment import dataset_name, folder


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "plan_and_preprocess", run=run,
        help="fingerprint, plans and preprocessed data, with our planners",
        description="Does what nnUNetv2_plan_and_preprocess does, with our planners or nnU-Net's: extracts the data "
        "set's fingerprint, plans the networks, preprocesses the images. What is complete from an earlier run is kept.",
        needs="a data set in $nnUNet_raw (nnunet_cardiac convert); nnUNet_preprocessed",
        writes="$nnUNet_preprocessed/DATASET/PLANS.json and the preprocessed images; prints patch, batch and memory of "
        "every configuration",
        examples=(
            "nnunet_cardiac plan_and_preprocess -d 27 -pl CroCNetPlanner",
            "nnunet_cardiac plan_and_preprocess -d 27 -pl DADUPlanner -gpu_memory_target 24",
            "nnunet_cardiac plan_and_preprocess -d 27 -pl ExperimentPlanner --small   (nnU-Net's own, for a CPU)",
        ),
    )  # fmt: skip
    p.add_argument("-d", nargs="+", required=True, metavar="ID", help="data sets, by ID or name")
    p.add_argument(
        "-pl", default="CroCNetPlanner", metavar="PLANNER", help="planner, ours or nnU-Net's, default CroCNetPlanner"
    )
    p.add_argument(
        "-c", nargs="+", metavar="CONFIGURATION",
        help="configurations to preprocess for, default all in 2D; in 3D: 3d_fullres, 3d_cascade_fullres",
    )  # fmt: skip
    add_memory_target_option(p)
    p.add_argument("-overwrite_plans_name", metavar="PLANS", help="name of the plans, default the planner's")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--paper", action="store_true", help="the paper's fixed sizes instead of planned ones")
    add_size_options(size)
    p.add_argument("-np", type=whole_number, metavar="N", help="processes, default nnUNet_def_n_proc or 8")
    p.add_argument("--verify_dataset_integrity", action="store_true", help="check the data set first, as nnU-Net does")
    p.add_argument("--clean", action="store_true", help="make fingerprint and preprocessed data again")


def run(options: argparse.Namespace) -> None:
    folder("nnUNet_preprocessed")
    names = [dataset_name(d, "nnUNet_raw") for d in options.d]
    from nnunetv2.configuration import default_num_processes

    from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess

    for name in names:
        plans_name = plan_and_preprocess(
            dataset_name=name,
            planner_name=options.pl,
            configurations=options.c,
            gpu_memory_target=options.gpu_memory_target,
            paper=options.paper,
            size=options.size,
            plans_name=options.overwrite_plans_name,
            n_processes=options.np or default_num_processes,
            verify=options.verify_dataset_integrity,
            clean=options.clean,
        )
        print(f"Plans: {folder('nnUNet_preprocessed') / name / plans_name}.json")
