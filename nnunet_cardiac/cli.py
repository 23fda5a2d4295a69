"""The command ``nnunet_cardiac``. Options are spelled as nnU-Net spells them.

Heavy imports stand in the functions, so that ``--help`` and mistakes are answered at once.
"""

import argparse
import shlex
import sys
import warnings
from pathlib import Path

from nnunet_cardiac.environment import check_trainer, dataset_name, ext_trainer, folder, load_plans
from nnunet_cardiac.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Exits with 1 and one sentence where the user can mend it, with 2 for wrong options."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    options = parser().parse_args(arguments)
    try:
        failures = options.run(options)
    except UserError as e:
        sys.exit(f"nnunet_cardiac: error: {e}")
    if failures:
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(
        "nnunet_cardiac",
        description="Published cardiac-MR segmentation architectures inside an unmodified nnU-Net v2.",
        epilog="A whole experiment: convert, plan_and_preprocess, train, predict. Try it in minutes with: "
        "nnunet_cardiac demo",
    )
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, **kwargs) -> argparse.ArgumentParser:
        p = commands.add_parser(
            name, help=help, description=kwargs.pop("description", help[0].upper() + help[1:] + "."),
            formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs,
        )  # fmt: skip
        p.set_defaults(run=run)
        return p

    p = command("convert", None, "write a public data set in nnU-Net's raw format")
    datasets = p.add_subparsers(title="data sets", required=True, metavar="DATASET")
    p = datasets.add_parser(
        "acdc",
        help="ACDC: 150 patients, short axis, labels RV, MYO, LV",
        description="Converts ACDC as its owners ship it to $nnUNet_raw/DatasetNNN_ACDC, with folds over patients "
        "and cases.csv. What was converted before is kept; source files are never touched.",
        epilog="example: nnunet_cardiac convert acdc -i ~/downloads/ACDC",
    )
    p.add_argument("-i", type=Path, required=True, metavar="SOURCE", help="folder with ACDC's 'training', or above it")
    p.add_argument("-d", type=int, default=27, metavar="ID", help="data set ID, default 27")
    p.add_argument("--folds", type=int, default=5, metavar="N", help="folds over the training patients, default 5")
    p.add_argument("-np", type=_positive, default=2, metavar="N", help="cases converted at a time, default 2")
    p.set_defaults(run=convert_acdc)

    p = command(
        "plan_and_preprocess", plan_and_preprocess, "fingerprint, plans and preprocessed data, with our planners",
        epilog="examples:\n  nnunet_cardiac plan_and_preprocess -d 27 -pl CroCNetPlanner\n"
        "  nnunet_cardiac plan_and_preprocess -d 27 -pl ExperimentPlanner --small   (nnU-Net's own, for a CPU)",
    )  # fmt: skip
    p.add_argument("-d", nargs="+", required=True, metavar="ID", help="data set IDs or names")
    p.add_argument("-pl", default="CroCNetPlanner", metavar="PLANNER", help="planner, ours or nnU-Net's")
    p.add_argument("-c", nargs="+", metavar="CONFIGURATION", help="what to preprocess for, default all 2D ones")
    p.add_argument("-gpu_memory_target", type=float, metavar="GB", help="memory to plan for, default the planner's")
    p.add_argument("-overwrite_plans_name", metavar="PLANS", help="name of the plans, default the planner's")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--paper", action="store_true", help="the paper's fixed sizes instead of planned ones")
    size.add_argument("--small", action="store_true", help="half the width, four resolutions, 128 x 128: for a CPU")
    p.add_argument("-np", type=_positive, metavar="N", help="processes, default nnUNet_def_n_proc or 8")
    p.add_argument("--verify_dataset_integrity", action="store_true", help="check the data set first")
    p.add_argument("--clean", action="store_true", help="make fingerprint and preprocessed data again")

    command(
        "env", env, "print the line that lets nnU-Net's own commands find our trainers",
        description='Use as: eval "$(nnunet_cardiac env)". Then nnUNetv2_train -tr nnUNetTrainerCroCNet works, and '
        "so do nnU-Net's other commands.",
    )  # fmt: skip

    p = command(
        "train", train, "train all that is missing, in order: folds of stage 1, then of stage 2",
        description="Trains what a configuration needs. Finished folds are skipped, killed ones continue.",
        epilog="example: nnunet_cardiac train -d 27 -tr nnUNetTrainerCroCNet -p nnUNetCroCNetPlans -c 2d_cascade",
    )  # fmt: skip
    _model_options(p)
    p.add_argument("-f", nargs="+", type=_fold, metavar="FOLD", help="folds of CONFIGURATION, default all")
    _device_option(p)
    p.add_argument("-num_gpus", type=_positive, default=1, metavar="N", help="more than one trains with DDP")
    p.add_argument("--npz", action="store_true", help="save the validation's probabilities too")
    p.add_argument("--budget", type=_positive, metavar="STEPS", help="optimiser steps of each fold, schedule scaled")
    p.add_argument("--initial_lr", type=float, metavar="LR", help="learning rate in place of the recipe's")
    p.add_argument("--unscaled_schedule", action="store_true", help="with --budget: cut the schedule off instead")

    p = command(
        "predict", predict, "segment an image or a folder of images, both stages in one call",
        epilog="example: nnunet_cardiac predict -i IMAGES -o SEGMENTATIONS -d 27 -tr nnUNetTrainerCroCNet "
        "-p nnUNetCroCNetPlans -c 2d_cascade",
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="IN", help="an image or a folder of images")
    p.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the segmentations")
    _model_options(p)
    p.add_argument("-f", nargs="+", type=_fold, metavar="FOLD", help="folds to average, default all that are trained")
    p.add_argument("-chk", default="checkpoint_final.pth", metavar="FILE", help="weights, default checkpoint_final.pth")
    p.add_argument("-step_size", type=float, default=0.5, help="step of the sliding window, default 0.5 of the patch")
    p.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little less accurate")
    p.add_argument("--save_probabilities", action="store_true", help="also write probabilities as .npz")
    present = p.add_mutually_exclusive_group()
    present.add_argument("--continue_prediction", action="store_true", help="keep segmentations that are there")
    present.add_argument("--overwrite", action="store_true", help="replace segmentations that are there")
    _device_option(p)

    p = command(
        "demo", demo, "all of the above on a phantom data set, on a laptop's CPU, in minutes",
        description="Makes phantom patients in ACDC's layout, converts, plans and preprocesses them, trains nnU-Net's "
        "baseline and both stages of CroCNet briefly, segments test patients, compares.",
    )  # fmt: skip
    p.add_argument("-o", type=Path, default=Path("demo"), metavar="FOLDER", help="where everything goes, default demo")
    p.add_argument("-device", default="cpu", choices=("cpu", "cuda", "mps"), help="default cpu")
    return root


def _model_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("-d", required=True, metavar="ID", help="data set ID or name")
    p.add_argument("-tr", default="nnUNetTrainer", metavar="TRAINER", help="trainer, default nnUNetTrainer")
    p.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans, default nnUNetPlans")
    p.add_argument("-c", required=True, metavar="CONFIGURATION", help="configuration in the plans, e.g. 2d_cascade")


def _device_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("-device", choices=("cuda", "cpu", "mps"), help="default cuda where there is a GPU, else cpu")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _fold(text: str) -> int | str:
    return text if text == "all" else int(text)


def _device(options: argparse.Namespace) -> str:
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch sees no GPU here: use -device cpu.")
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _report(warnings: list[str], problems: list[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)


def convert_acdc(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import acdc

    result = acdc.convert(options.i, options.d, options.folds, options.np)
    _report(result.warnings, result.problems)
    print(
        f"{result.folder}: {result.converted} cases converted, {result.kept} kept from before, "
        f"{len(result.problems)} left out."
    )
    return bool(result.problems)


def plan_and_preprocess(options: argparse.Namespace) -> None:
    folder("nnUNet_preprocessed")
    names = [dataset_name(d, "nnUNet_raw") for d in options.d]
    from nnunetv2.configuration import default_num_processes

    from nnunet_cardiac.planners import plan_and_preprocess as planning

    for name in names:
        plans_name = planning.plan_and_preprocess(
            name, options.pl, options.c, options.gpu_memory_target, options.paper, options.small,
            options.overwrite_plans_name, options.np or default_num_processes, options.verify_dataset_integrity,
            options.clean,
        )  # fmt: skip
        print(f"Plans: {folder('nnUNet_preprocessed') / name / plans_name}.json")


def env(options: argparse.Namespace) -> None:
    print(f"export nnUNet_extTrainer={shlex.quote(ext_trainer())}")


def train(options: argparse.Namespace) -> None:
    folder("nnUNet_results")
    name = dataset_name(options.d, "nnUNet_preprocessed")
    load_plans(name, options.p, options.c)
    check_trainer(options.tr)
    from nnunet_cardiac.training import run

    run.train(
        name, options.tr, options.p, options.c, options.f, _device(options), options.num_gpus, options.budget,
        not options.unscaled_schedule, options.initial_lr, options.npz,
    )  # fmt: skip


def predict(options: argparse.Namespace) -> bool:
    name = dataset_name(options.d, "nnUNet_results")
    from nnunet_cardiac.inference import predict as inference

    result = inference.predict(
        options.i, options.o, name, options.tr, options.p, options.c, options.f, options.chk, _device(options),
        not options.disable_tta, options.step_size, options.save_probabilities, options.continue_prediction,
        options.overwrite,
    )  # fmt: skip
    _report([], result.problems)
    print(
        f"{options.o}: {len(result.segmented)} cases segmented, {len(result.kept)} kept from before, "
        f"{len(result.problems)} left out."
    )
    return bool(result.problems)


def demo(options: argparse.Namespace) -> None:
    from nnunet_cardiac import demo

    demo.run(options.o, options.device)
