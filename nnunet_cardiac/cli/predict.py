"""``nnunet_cardiac predict``."""

import argparse
from pathlib import Path

from nnunet_cardiac.cli.options import (
    above_0,
    add_any_model_options,
    add_bfloat16_option,
    add_command,
    add_device_option,
    add_option,
    any_model,
    chosen_device,
    counted,
    print_problems,
)
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import CHECKPOINT
from nnunet_cardiac.system import loading


def add_parser(commands) -> None:
    """The command's options."""
    p = add_command(
        commands, "predict", run=run,
        help="segment an image or a folder of images, both stages in one call",
        description="Segments an image or a folder of images, with the model that comes with the package or with any "
        "other. The stages of a cascade run one after the other, in one call. What is unusual about an image or its "
        "segmentation is said.",
        needs="images named CASE_0000.nii.gz, or CASE.nii.gz where they have one channel; with -d, a model that was "
        "trained here (nnunet_cardiac train, or nnUNetv2_train)",
        writes="OUT/CASE.nii.gz for every case, with the model's dataset.json and plans.json, and "
        "nnunet_cardiac.json, which tells the model and how it was used",
        examples=(
            "nnunet_cardiac predict -i IMAGES -o SEGMENTATIONS   (the model that comes with the package)",
            "nnunet_cardiac predict -i IMAGES -o SEGMENTATIONS -d 27 -tr nnUNetTrainerCroCNet -p nnUNetCroCNetPlans "
            "-c 2d_cascade",
            "nnunet_cardiac predict -i heart.nii.gz -o SEGMENTATIONS -d 27 -c 2d -f 0   (the baseline, one fold)",
            "nnunet_cardiac predict -i IMAGES -o SEGMENTATIONS -m crocnet   (an installed model)",
        ),
    )  # fmt: skip
    p.add_argument("-i", type=Path, required=True, metavar="IN", help="an image or a folder of images")
    p.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the segmentations")
    add_any_model_options(p)
    p.add_argument(
        "-step_size", type=above_0, default=0.5, metavar="SHARE",
        help="step of the sliding window, default 0.5 of the patch",
    )  # fmt: skip
    add_option(
        p, "--memory", "-memory", type=above_0, metavar="GB",
        help="what running the network on several slices and mirrored copies at a time may take; default 4, but at "
        "most half of what a GPU has free; 0.1 without one",
    )  # fmt: skip
    p.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little less accurate")
    tidy = p.add_mutually_exclusive_group()
    tidy.add_argument(
        "--clean_up", action="store_true", default=None,
        help="keep the largest heart and close gaps in its wall; models that were made for it do so of themselves",
    )  # fmt: skip
    tidy.add_argument("--no_clean_up", dest="clean_up", action="store_false", help="what the network gives, as it is")
    p.add_argument("--save_probabilities", action="store_true", help="also write probabilities, as CASE.npz")
    present = p.add_mutually_exclusive_group()
    present.add_argument(
        "--continue_prediction", action="store_true", help="keep segmentations that this model has made there"
    )
    present.add_argument("--overwrite", action="store_true", help="replace segmentations that are there")
    add_device_option(p)
    add_bfloat16_option(p)


def run(options: argparse.Namespace) -> bool:
    with loading():
        model = any_model(options)
        from nnunet_cardiac.inference.predict import predict

    with locked(options.o):
        result = predict(
            source=options.i,
            output=options.o,
            model=model,
            folds=options.f,
            checkpoint=options.chk or CHECKPOINT,
            device=chosen_device(options.device),
            use_mirroring=not options.disable_tta,
            tile_step_size=options.step_size,
            save_probabilities=options.save_probabilities,
            continue_prediction=options.continue_prediction,
            overwrite=options.overwrite,
            memory=options.memory and options.memory * 1e9,
            clean_up=options.clean_up,
            bfloat16=options.bfloat16,
        )
    print_problems(result.warnings, result.problems)
    print(
        f"{options.o}: {counted(len(result.segmented), 'case')} segmented, {len(result.kept)} kept from before, "
        f"{len(result.problems)} left out."
    )
    return bool(result.problems)
