"""``nnunet_cardiac models``: what is installed, and how models are passed on."""

import argparse
import textwrap
from pathlib import Path

from nnunet_cardiac.cli.options import add_command, add_model_options, fold
from nnunet_cardiac.environment import dataset_name, folder, our_trainers
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import Model


def add_parser(commands) -> None:
    """The command, and a command in it for everything that is done with models."""
    p = add_command(
        commands, "models", run=list_models,
        help="list, show, export and install trained models",
        description="Trained models that are passed on. A model is one file; nothing in it is executed, neither when "
        "it is installed nor when it segments. Without an action: what is installed.",
        examples=("nnunet_cardiac models", "nnunet_cardiac models export --help"),
    )  # fmt: skip
    actions = p.add_subparsers(title="actions", metavar="ACTION")
    add_command(
        actions, "list", run=list_models,
        help="what is installed",
        description="Lists the models that are installed, those that come with the package among them.",
        examples=("nnunet_cardiac models list",),
    )  # fmt: skip
    p = add_command(
        actions, "show", run=show,
        help="a model's card",
        description="Prints a model's card: data, licence, training, figures, known failures.",
        examples=("nnunet_cardiac models show",),
    )  # fmt: skip
    p.add_argument("name", metavar="NAME", nargs="?", help="of the model, default the one that comes with the package")
    p = add_command(
        actions, "export", run=export_model,
        help="one file of a trained model, all its stages and folds",
        description="Makes one file of a trained model: the weights of all stages and folds, plans, versions, card.",
        needs="a trained model (nnunet_cardiac train, or nnUNetv2_train)",
        writes="FILE, for 'models install'",
        examples=(
            "nnunet_cardiac models export -d 27 -tr nnUNetTrainerCroCNet -p nnUNetCroCNetPlans -c 2d_cascade "
            "--name crocnet -o crocnet.zip --card card.md --licence CC-BY-4.0",
        ),
    )  # fmt: skip
    add_model_options(p)
    p.add_argument("-f", nargs="+", type=fold, metavar="FOLD", help="default all that are trained")
    p.add_argument("-o", type=Path, required=True, metavar="FILE", help="the zip file to write")
    p.add_argument("--name", required=True, help="what -m of predict will name")
    p.add_argument("--card", type=Path, metavar="FILE", help="the model card, in Markdown")
    p.add_argument("--summary", default="", metavar="TEXT", help="the model in a sentence, for 'models list'")
    p.add_argument("--licence", default="", metavar="TEXT", help="of the weights")
    p.add_argument("--citation", default="", metavar="TEXT", help="what users are to cite")
    p.add_argument("--clean_up", action="store_true", help="predict leaves out islands and closes gaps, see there")
    p.add_argument("--overwrite", action="store_true", help="replace FILE")
    p = add_command(
        actions, "install", run=install_model,
        help="check a model's file and install it",
        description="Checks a model's file (hashes, paths, sizes, what its network is built of) and installs it.",
        writes="a folder in the user's data folder, or in $NNUNET_CARDIAC_MODELS",
        examples=("nnunet_cardiac models install crocnet.zip",),
    )  # fmt: skip
    p.add_argument("file", type=Path, metavar="FILE", help="from 'models export'")
    p.add_argument("--overwrite", action="store_true", help="replace an installed model of the same name")
    p = add_command(
        actions, "to_nnunet", run=write_nnunet,
        help="a model as nnU-Net's folder, for nnUNetv2_predict",
        description="Writes a model as nnU-Net's folders of trained models, for nnU-Net's own commands.",
        needs="nnUNet_results",
        writes="$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION, one for each stage",
        examples=("nnunet_cardiac models to_nnunet NAME",),
    )  # fmt: skip
    p.add_argument("name", metavar="NAME", help="of the model, see 'models list'")


def list_models(options: argparse.Namespace) -> bool:
    from nnunet_cardiac.errors import UserError
    from nnunet_cardiac.models.store import find_model, installed_folders
    from nnunet_cardiac.texts import printable

    damaged = False
    for name in installed_folders():
        try:
            model = find_model(name)
        except (UserError, OSError) as e:
            print(printable(f"{name}: {e}"))
            damaged = True
            continue
        stages = " -> ".join(f"{stage.configuration} ({len(stage.weights)})" for stage in model.stages)
        print(f"{name}: {model.summary or 'no summary'}")
        print(textwrap.indent(f"stages (networks): {stages}; licence: {model.licence or 'not given'}", "  "))
    return damaged


def show(options: argparse.Namespace) -> None:
    from nnunet_cardiac.models.store import MODEL_IN_THE_BOX, find_model

    print(find_model(options.name or MODEL_IN_THE_BOX).card)


def export_model(options: argparse.Namespace) -> None:
    from nnunet_cardiac.errors import UserError
    from nnunet_cardiac.models.export import export

    name = dataset_name(options.d, "nnUNet_results")
    try:
        card = options.card.read_text(encoding="utf-8") if options.card else ""
    except (OSError, ValueError) as e:
        raise UserError(f"{options.card} cannot be read ({e}): give --card a text.") from e
    with locked(options.o, "choose another file with -o", is_file=True):
        model = export(
            model=Model(dataset=name, trainer=options.tr, plans=options.p, configuration=options.c),
            target=options.o,
            name=options.name,
            folds=options.f,
            card=card,
            summary=options.summary,
            licence=options.licence,
            citation=options.citation,
            clean_up=options.clean_up,
            overwrite=options.overwrite,
        )
    n = sum(len(stage.weights) for stage in model.stages)
    print(f"{options.o}: {model.name}, {n} network{'s' * (n > 1)}, {options.o.stat().st_size / 1e6:.1f} MB.")


def install_model(options: argparse.Namespace) -> None:
    from nnunet_cardiac.models.store import install

    model = install(options.file, options.overwrite)
    print(f"{model.folder}: {model.name} is installed; nnunet_cardiac predict -m {model.name} segments with it.")


def write_nnunet(options: argparse.Namespace) -> None:
    from nnunet_cardiac.models.export import to_nnunet
    from nnunet_cardiac.models.store import find_model

    results, model = folder("nnUNet_results"), find_model(options.name)
    stages = to_nnunet(model, results)
    for stage in stages:
        print(results / stage.dataset / stage.name)
    print("To segment with nnU-Net, which leaves islands and gaps as they are:" if model.clean_up else "To segment:")
    for i, (stage, saved) in enumerate(zip(stages, model.stages, strict=True), 1):
        out = "SEGMENTATIONS" if i == len(stages) else f"STAGE_{i}"
        folds = " ".join(Path(weights).stem.removeprefix("fold_") for weights in saved.weights)
        print(
            f"  nnUNetv2_predict -i IMAGES -o {out} -d {stage.dataset} -tr {stage.trainer} -p {stage.plans} "
            f"-c {stage.configuration} -f {folds}" + (f" -prev_stage_predictions STAGE_{i - 1}" if i > 1 else "")
        )
    if {stage.trainer for stage in stages} & set(our_trainers()):
        print('nnU-Net must know our trainers, also to predict: eval "$(nnunet_cardiac env)"')
