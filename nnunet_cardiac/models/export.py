"""A trained model of nnU-Net's as a saved model, and back."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import save_file

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import PARTIAL
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import CHECKPOINT, Model, chosen_folds, previous_stages, trained_folder
from nnunet_cardiac.models.saved_model import (
    CARD,
    DATASET,
    DESCRIPTION,
    PLANS,
    SavedModel,
    SavedStage,
    check_name,
    own_tensors,
    write_description,
)
from nnunet_cardiac.models.store import pack
from nnunet_cardiac.models.training_images import fingerprinted
from nnunet_cardiac.system import versions
from nnunet_cardiac.training.memory import build_network
from nnunet_cardiac.training.trust import load_checkpoint, trained_plans


def export(
    model: Model,
    target: Path,
    name: str,
    folds: Sequence[int | str] | None = None,
    card: str = "",
    summary: str = "",
    licence: str = "",
    citation: str = "",
    clean_up: bool = False,
    overwrite: bool = False,
) -> SavedModel:
    """Writes all stages of a trained model as one zip file, ``target``. Its networks are built once, to try it.

    Args:
        model: its last stage
        target: file
        name: what ``-m`` will name
        folds: None for all that are trained
        card, summary, licence, citation, clean_up: see ``SavedModel``
        overwrite: replace a file that is there

    Raises:
        UserError: a stage or fold is not trained, a name that is none, a file that is there already, or a trainer whose
            network is not the one of the plans
    """
    check_name(name)
    for option, text in (("summary", summary), ("licence", licence), ("citation", citation)):
        if not text.isprintable():
            raise UserError(f"The {option} is {text!r:.80}: give it in one line.")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already: use --overwrite to replace it.")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target.parent} does not exist: choose another file with -o, or make the folder.")
    plans, dataset_json = trained_plans(model)
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=PARTIAL) as temporary:
        folder = Path(temporary)
        for file, text in (
            (PLANS, json.dumps(plans, indent=1)),
            (DATASET, json.dumps(dataset_json, indent=1)),
            (CARD, card or f"# {name}\n\nNo card was written for this model.\n"),
        ):
            (folder / file).write_text(text, encoding="utf-8")
        stages = tuple(
            _export_stage(stage, folds, folder, plans, dataset_json) for stage in model.stages(previous_stages(plans))
        )
        seen = fingerprinted(trained_folder(model))
        write_description(
            SavedModel(
                folder, name, summary, licence, citation, versions(), stages, plans, dataset_json, clean_up, seen
            )
        )
        saved = SavedModel.load(folder, known_as=target)
        saved.try_out()  # as whoever gets the file will
        pack(saved, target)
    return saved


def _export_stage(
    stage: Model, folds: Sequence[int | str] | None, folder: Path, plans: dict, dataset_json: dict
) -> SavedStage:
    weights, axes = [], []
    (folder / stage.configuration).mkdir()
    for fold in chosen_folds(stage, folds):
        checkpoint = load_checkpoint(stage.fold_folder(fold) / CHECKPOINT)
        axes.append(checkpoint.get("inference_allowed_mirroring_axes"))
        file = f"{stage.configuration}/fold_{fold}.safetensors"
        network = build_network(PlansManager(plans), dataset_json, stage.configuration)
        try:
            network.load_state_dict(checkpoint["network_weights"])
        except (RuntimeError, AttributeError, TypeError) as e:
            raise UserError(
                f"{stage.trainer} trains another network than the one in the plans, so that it cannot be passed on "
                f"without the trainer ({' '.join(str(e).split())[:200]})."
            ) from e
        save_file(own_tensors(network), folder / file)
        weights.append(file)
    return SavedStage(stage.configuration, stage.trainer, tuple(axes[0] or ()), tuple(weights))  # nnU-Net's choice


def to_nnunet(model: SavedModel, results: Path) -> list[Model]:
    """Writes a saved model as nnU-Net's folders of trained models, for ``nnUNetv2_predict``.

    Args:
        model: all its stages are written
        results: ``nnUNet_results``

    Returns:
        the stages

    Raises:
        UserError: a folder exists already that is not of this model
    """
    manager = PlansManager(model.plans)
    stages = [Model(manager.dataset_name, s.trainer, manager.plans_name, s.configuration) for s in model.stages]
    with locked(results / manager.dataset_name, "write to another nnUNet_results"):
        folders = [results / stage.dataset / stage.name for stage in stages]
        for folder in folders:
            if folder.exists() and not _is_of(model, folder):
                raise UserError(f"{folder} exists already: move it away.")
        written = {}
        for stage, saved, folder in zip(stages, model.stages, folders, strict=True):
            if folder.exists():  # a kill came between the stages
                continue
            partial = written[folder] = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            for weights, network in zip(saved.weights, model.build_networks(saved), strict=True):
                fold = partial / Path(weights).stem
                fold.mkdir(parents=True)
                checkpoint = {
                    "network_weights": network.state_dict(), "trainer_name": stage.trainer,
                    "init_args": {"configuration": stage.configuration},
                    "inference_allowed_mirroring_axes": saved.mirroring_axes,
                }  # fmt: skip
                torch.save(checkpoint, fold / CHECKPOINT)
            for file in (PLANS, DATASET, DESCRIPTION):
                shutil.copyfile(model.folder / file, partial / file)
        for folder, partial in written.items():
            partial.rename(folder)
    return stages


def _is_of(model: SavedModel, folder: Path) -> bool:
    """Whether a folder of nnU-Net's was written from this model, whose description has the hashes of all weights."""
    copy = folder / DESCRIPTION
    return copy.is_file() and copy.read_bytes() == (model.folder / DESCRIPTION).read_bytes()
