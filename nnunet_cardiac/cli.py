"""The command ``nnunet_cardiac``. Options are spelled as nnU-Net spells them.

Heavy imports stand in the functions, so that ``--help`` and mistakes are answered at once.
"""

import argparse
import os
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
        epilog="A whole experiment: convert, benchmark. By hand: plan_and_preprocess, train, predict, evaluate. Try: "
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

    def dataset(name: str, run, help: str, description: str, source: str, example: str) -> argparse.ArgumentParser:
        p = datasets.add_parser(
            name, help=help, epilog=f"example: nnunet_cardiac convert {name} {example}",
            description=f"{description} What was converted before is kept; source files are never touched.",
        )  # fmt: skip
        p.add_argument("-i", type=Path, required=True, metavar="SOURCE", help=source)
        p.add_argument("-d", type=int, metavar="ID", help="data set ID")
        p.add_argument("--folds", type=int, default=5, metavar="N", help="folds over the training patients, default 5")
        p.add_argument("-np", type=_positive, default=2, metavar="N", help="cases converted at a time, default 2")
        p.set_defaults(run=run)
        return p

    p = dataset(
        "acdc", convert_acdc, "ACDC: 150 patients, short axis, labels RV, MYO, LV",
        "Converts ACDC as its owners ship it to $nnUNet_raw/Dataset027_ACDC, with folds over patients and cases.csv.",
        "folder with ACDC's 'training', or above it", "-i ~/downloads/ACDC",
    )  # fmt: skip
    p.add_argument(
        "--labels", nargs="+", metavar="LABEL",
        help="keep only these, numbered in this order, as Dataset028_ACDC_LV_MYO: --labels LV MYO",
    )  # fmt: skip
    dataset(
        "lvquan19", convert_lvquan19, "LVQuan19: 56 patients, one short-axis slice in 20 frames, labels LV, MYO",
        "Converts the .mat files of LVQuan19 (MATLAB v5 or v7.3) to $nnUNet_raw/Dataset019_LVQuan19: every annotated "
        "frame is a case, with the frames of a patient in one fold.",
        "folder with the .mat files, or above it", "-i ~/downloads/LVQuan19/TrainingData",
    )  # fmt: skip
    p = dataset(
        "mnms2", convert_mnms2, "M&Ms-2: 360 subjects, long and short axis, labels LV, MYO, RV",
        "Converts one view of M&Ms-2 to $nnUNet_raw/DatasetNNN_MnM2_VIEW, with folds over subjects that are stratified "
        "by disease and vendor, and cases.csv.",
        "folder with the subjects' folders and dataset_information.csv, or above it", "-i ~/downloads/MnM2 --view LA",
    )  # fmt: skip
    p.add_argument("--view", choices=("LA", "SA"), default="LA", help="long or short axis, default LA")
    p.add_argument(
        "--split", choices=("all", "challenge"), default="all",
        help="all: 360 subjects in the folds (default, as CroCNet); challenge: 200 for training, 160 for testing, as "
        "DatasetNNN_MnM2_VIEW_challenge",
    )  # fmt: skip
    p = dataset(
        "sunnybrook", convert_sunnybrook, "Sunnybrook: 45 patients, short axis as DICOM, contours of the LV",
        "Converts Sunnybrook, in the challenge's layout or that of teaching material (dicoms, contourfiles, link.csv), "
        "to $nnUNet_raw/Dataset009_Sunnybrook: every frame with a contour of the cavity is a case of one slice.",
        "folder above the images and the contours", "-i ~/downloads/Sunnybrook",
    )  # fmt: skip
    p.add_argument(
        "--labels", nargs="+", default=["lv"], metavar="LABEL",
        help="lv: the cavity (default); lv myo: also the myocardium, as Dataset010_Sunnybrook_LV_MYO, of the frames "
        "that have both contours",
    )  # fmt: skip
    p.add_argument(
        "--keep-unknown", action="store_true",
        help="with lv myo: keep frames without the outer contour, all but their cavity as nnU-Net's ignore label, as "
        "Dataset011_Sunnybrook_LV_MYO_unknown",
    )  # fmt: skip

    p = command(
        "plan_and_preprocess", plan_and_preprocess, "fingerprint, plans and preprocessed data, with our planners",
        epilog="examples:\n  nnunet_cardiac plan_and_preprocess -d 27 -pl CroCNetPlanner\n"
        "  nnunet_cardiac plan_and_preprocess -d 27 -pl ExperimentPlanner --small   (nnU-Net's own, for a CPU)",
    )  # fmt: skip
    p.add_argument("-d", nargs="+", required=True, metavar="ID", help="data set IDs or names")
    p.add_argument("-pl", default="CroCNetPlanner", metavar="PLANNER", help="planner, ours or nnU-Net's")
    p.add_argument(
        "-c",
        nargs="+",
        metavar="CONFIGURATION",
        help="what to preprocess for, default all 2D ones; 3d_fullres, 3d_cascade_fullres",
    )
    p.add_argument("-gpu_memory_target", type=_above_0, metavar="GB", help="memory to plan for, default the planner's")
    p.add_argument("-overwrite_plans_name", metavar="PLANS", help="name of the plans, default the planner's")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--paper", action="store_true", help="the paper's fixed sizes instead of planned ones")
    _small_option(size)
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
    p.add_argument(
        "-memory", type=_above_0, metavar="GB",
        help="what running the network on several slices and mirrored copies at a time may take, "
        "default 4, but at most half of what a GPU has free; 0.1 without one",
    )  # fmt: skip
    p.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little less accurate")
    p.add_argument("--save_probabilities", action="store_true", help="also write probabilities as .npz")
    present = p.add_mutually_exclusive_group()
    present.add_argument("--continue_prediction", action="store_true", help="keep segmentations that are there")
    present.add_argument("--overwrite", action="store_true", help="replace segmentations that are there")
    _device_option(p)

    p = command(
        "evaluate", evaluate, "compare segmentations with ground truth: overlap, distances, volumes, anatomy",
        description="Compares every case of two folders, per structure, in 3D and in mm, and writes metrics.csv (a row "
        "for each case and structure), summary.csv, anatomy.csv and metrics.png. A structure that only one of both has "
        "counts with a Dice of 0 and the image's diagonal as distance; one that neither has is counted and left out.",
        epilog="example: nnunet_cardiac evaluate -i SEGMENTATIONS -g $nnUNet_raw/Dataset027_ACDC/labelsTs -o RESULTS",
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS", help="folder of segmentations")
    p.add_argument("-g", type=Path, required=True, metavar="GROUND_TRUTH", help="folder of the experts' segmentations")
    p.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="where the results go")
    _table_options(p)
    p.add_argument("-np", type=_positive, default=2, metavar="N", help="cases at a time, default 2")

    p = command(
        "measure", measure, "clinical indices: volumes, ejection fraction, mass, wall thickness",
        description="Measures every patient who has a segmentation at ED and at ES and writes indices.csv; with ground "
        "truth also agreement.csv (bias, limits of agreement, correlation) and bland_altman.png.",
        epilog="example: nnunet_cardiac measure -i SEGMENTATIONS -g $nnUNet_raw/Dataset027_ACDC/labelsTs -o INDICES",
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="SEGMENTATIONS", help="folder of segmentations")
    p.add_argument(
        "-g", type=Path, metavar="GROUND_TRUTH", help="folder of the experts' segmentations, to compare with"
    )
    p.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="where the results go")
    _table_options(p)

    p = command(
        "benchmark", benchmark, "train contenders on the same folds, evaluate them, and report against nnU-Net",
        description="Plans, trains, evaluates and times every contender on the same folds, as a Snakemake workflow on "
        "nnU-Net's own planning, training and prediction, then writes the report. What is finished is never done "
        "again: killed, it goes on where it was. Models lie in nnUNet_results, with --budget in FOLDER/nnUNet_results.",
        epilog="examples:\n  nnunet_cardiac benchmark -d 27 --contenders nnunet_2d crocnet\n"
        "  nnunet_cardiac benchmark -d 27 --budget 2000 --small -device cpu --cores 2   (small, but fair)\n"
        "  nnunet_cardiac benchmark -d 27 --profile slurm\n"
        "  nnunet_cardiac benchmark --list",
    )  # fmt: skip
    p.add_argument("-d", metavar="ID", help="data set ID or name")
    p.add_argument("--list", action="store_true", help="print the contenders, and do nothing")
    p.add_argument("--contenders", nargs="+", metavar="NAME", help="who takes part, default all in 2D; see --list")
    p.add_argument(
        "--contenders_file", type=Path, metavar="FILE",
        help="YAML with more: 'NAME: {planner: ..., plans: ..., configuration: ..., trainer: ...}'",
    )  # fmt: skip
    p.add_argument("--baseline", metavar="NAME", help="contender that the others are compared with, default nnunet_2d")
    p.add_argument("-f", nargs="+", type=int, metavar="FOLD", help="folds, default all")
    _benchmark_option(p, "-o")
    p.add_argument("--budget", type=_positive, metavar="STEPS", help="optimiser steps of every training alike")
    _small_option(p)
    p.add_argument("-gpu_memory_target", type=_above_0, metavar="GB", help="memory to plan for, default the planners'")
    _device_option(p)
    p.add_argument("--cores", type=_positive, default=os.cpu_count(), metavar="N", help="for all jobs, default all")
    p.add_argument("--gpus", type=_positive, metavar="N", help="trainings at a time, default one for each GPU")
    p.add_argument("--profile", metavar="NAME", help="'slurm', or a folder with a profile of Snakemake's")
    p.add_argument("--dry_run", action="store_true", help="list the jobs, and do nothing")

    p = command(
        "report", report, "a page with tables, tests and pictures from what a benchmark has finished",
        description="Writes one self-contained HTML page, and its tables as CSV, Markdown and LaTeX, from whatever has "
        "finished; nnunet_cardiac benchmark does this at its end.",
        epilog="example: nnunet_cardiac report -i benchmark",
    )  # fmt: skip
    _benchmark_option(p, "-i")
    p.add_argument("-o", type=Path, metavar="FOLDER", help="where it goes, default BENCHMARK/report")
    p.add_argument("--baseline", metavar="NAME", help="contender that the others are compared with")

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


def _small_option(p) -> None:
    p.add_argument(
        "--small", type=_positive, nargs="?", const=128, metavar="PATCH",
        help="for a CPU: a quarter of the width, four resolutions, patches of PATCH (default 128) pixels a side",
    )  # fmt: skip


def _benchmark_option(p: argparse.ArgumentParser, option: str) -> None:
    p.add_argument(option, type=Path, default=Path("benchmark"), metavar="FOLDER", help="default: benchmark")


def _table_options(p: argparse.ArgumentParser) -> None:
    where = "default: in or above the folders given"
    p.add_argument("-djfile", type=Path, metavar="FILE", help=f"dataset.json with the labels' names; {where}")
    p.add_argument("-cases", type=Path, metavar="FILE", help=f"cases.csv with patient, phase and group; {where}")


def _device_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("-device", choices=("cuda", "cpu", "mps"), help="default cuda where there is a GPU, else cpu")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _above_0(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
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

    return _converted(acdc.convert(options.i, options.d, options.folds, options.np, options.labels))


def convert_lvquan19(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import lvquan19

    return _converted(lvquan19.convert(options.i, options.d, options.folds, options.np))


def convert_mnms2(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import mnms2

    return _converted(mnms2.convert(options.i, options.d, options.folds, options.np, options.view, options.split))


def convert_sunnybrook(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.dataset_conversion import sunnybrook

    return _converted(
        sunnybrook.convert(options.i, options.d, options.folds, options.np, options.labels, options.keep_unknown)
    )


def _converted(result) -> bool:
    _report(result.warnings, result.problems)
    print(
        f"{result.folder}: {result.converted} cases converted"
        + (f" ({result.repaired} repaired)" if result.repaired else "")
        + f", {result.kept} kept from before, {len(result.problems)} left out."
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
        options.overwrite, options.memory and options.memory * 1e9,
    )  # fmt: skip
    _report([], result.problems)
    print(
        f"{options.o}: {len(result.segmented)} cases segmented, {len(result.kept)} kept from before, "
        f"{len(result.problems)} left out."
    )
    return bool(result.problems)


def evaluate(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.evaluation import evaluate as evaluation

    result = evaluation.evaluate(options.i, options.g, options.djfile, options.cases, n_processes=options.np)
    summary = evaluation.write_evaluation(result, options.o)
    print(evaluation.summary_text(summary, result.anatomy))
    _report([], result.problems)
    print(f"{options.o}: {result.metrics['case'].nunique()} cases evaluated, {len(result.problems)} left out.")
    return bool(result.problems)


def measure(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.evaluation import measure as measuring

    result = measuring.measure(options.i, options.g, options.djfile, options.cases)
    measuring.write_measurement(result, options.o)
    print(result.indices.to_string(float_format="{:.1f}".format))
    if result.reference is not None:
        print("\nagreement with the ground truth")
        print(result.agreement().to_string(float_format="{:.2f}".format))
    _report([], result.problems)
    print(f"{options.o}: {len(result.indices)} patients measured, {len(result.problems)} left out.")
    return bool(result.problems)


def benchmark(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.benchmark import contenders

    if options.list:
        for c in contenders.everyone(options.contenders_file).values():
            print(
                f"{c.name:<26}{c.description}\n"
                f"{'':<26}-pl {c.planner} -p {c.plans} -c {c.configuration} -tr {c.trainer}"
            )
        return False
    chosen = contenders.choose(options.contenders, options.contenders_file)
    if options.d is None:
        raise UserError("Name a data set with -d.")
    from nnunet_cardiac.benchmark import run
    from nnunet_cardiac.benchmark.settings import Settings

    folder("nnUNet_preprocessed"), folder("nnUNet_results")
    name = dataset_name(options.d, "nnUNet_raw")
    settings = Settings(
        name, options.f or run.all_folds(name), options.baseline or contenders.BASELINE, {c.name: c for c in chosen},
        options.budget, options.small, options.gpu_memory_target,
        options.device or "cuda" if options.profile else _device(options),  # a cluster's front end may have no GPU
    )  # fmt: skip
    problems = run.run(settings, options.o, options.cores, options.gpus, options.profile, options.dry_run)
    if options.dry_run:
        return False
    _report([], problems)
    options.i, options.o = options.o, None
    return report(options) or bool(problems)


def report(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.benchmark import report as reporting

    result = reporting.write_report(options.i, options.o, options.baseline)
    print(result.text)
    _report([], result.problems)
    print(f"Report: {result.page}")
    return bool(result.problems)


def demo(options: argparse.Namespace) -> None:
    from nnunet_cardiac import demo

    demo.run(options.o, options.device)
