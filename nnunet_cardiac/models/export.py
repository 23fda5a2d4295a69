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
from nnunet_cardiac.model import Model, previous_stages, trained_folder
from nnunet_cardiac.models.saved_model import CARD, DATASET, PLANS, SavedModel, SavedStage, write_description
from nnunet_cardiac.models.store import pack
from nnunet_cardiac.models.training_images import fingerprinted
from nnunet_cardiac.system import versions

CHECKPOINT = "checkpoint_final.pth"


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
) -> SavedModel:
    """Writes all stages of a trained model as one zip file, ``target``.

    Args:
        model: its last stage
        target: file
        name: what ``-m`` will name
        folds: None for all that are trained
        card, summary, licence, citation, clean_up: see ``SavedModel``

    Raises:
        UserError: a stage or fold is not trained
    """
    plans = json.loads((trained_folder(model) / "plans.json").read_text())
    dataset_json = json.loads((trained_folder(model) / "dataset.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        (folder / PLANS).write_text(json.dumps(plans, indent=1))
        (folder / DATASET).write_text(json.dumps(dataset_json, indent=1))
        (folder / CARD).write_text(card or f"# {name}\n\nNo card was written for this model.\n")
        stages = tuple(_export_stage(stage, folds, folder) for stage in model.stages(previous_stages(plans)))
        saved = SavedModel(
            folder, name, summary, licence, citation, versions(), stages, plans, dataset_json, clean_up,
            fingerprinted(trained_folder(model)),
        )  # fmt: skip
        write_description(saved)
        saved = SavedModel.load(folder)
        pack(saved, target)
    return saved


def _export_stage(stage: Model, folds: Sequence[int | str] | None, folder: Path) -> SavedStage:
    found = [str(f) for f in folds or ()] or [
        file.parent.name.removeprefix("fold_") for file in sorted(trained_folder(stage).glob(f"fold_*/{CHECKPOINT}"))
    ]
    missing = [fold for fold in found if not (stage.fold_folder(fold) / CHECKPOINT).is_file()]
    if missing or not found:
        raise UserError(
            f"{stage.folder} has no {CHECKPOINT}"
            + (f" for fold {', '.join(missing)}" if missing else "")
            + ": train it "
            "with nnunet_cardiac train, or choose folds with -f."
        )
    weights, axes = [], None
    (folder / stage.configuration).mkdir()
    for fold in found:
        checkpoint = torch.load(stage.fold_folder(fold) / CHECKPOINT, map_location="cpu", weights_only=False)
        axes = checkpoint["inference_allowed_mirroring_axes"]
        file = f"{stage.configuration}/fold_{fold}.safetensors"
        save_file(
            {key: value.contiguous().clone() for key, value in checkpoint["network_weights"].items()}, folder / file
        )
        weights.append(file)
    return SavedStage(stage.configuration, stage.trainer, tuple(axes or ()), tuple(weights))


def to_nnunet(model: SavedModel, results: Path) -> list[Model]:
    """Writes a saved model as nnU-Net's folders of trained models, for ``nnUNetv2_predict``.

    Args:
        model: all its stages are written
        results: ``nnUNet_results``

    Returns:
        the stages

    Raises:
        UserError: a folder exists already
    """
    manager = PlansManager(model.plans)
    stages = [Model(manager.dataset_name, s.trainer, manager.plans_name, s.configuration) for s in model.stages]
    for stage in stages:
        if (results / stage.dataset / stage.name).exists():
            raise UserError(f"{results / stage.dataset / stage.name} exists already: move it away.")
    for stage, saved in zip(stages, model.stages, strict=True):
        folder = results / stage.dataset / stage.name
        for i, parameters in enumerate(model.read_weights(saved)):
            (folder / f"fold_{i}").mkdir(parents=True)
            checkpoint = {
                "network_weights": parameters, "trainer_name": stage.trainer,
                "init_args": {"configuration": stage.configuration},
                "inference_allowed_mirroring_axes": saved.mirroring_axes,
            }  # fmt: skip
            torch.save(checkpoint, folder / f"fold_{i}" / CHECKPOINT)
        for file in (PLANS, DATASET):
            shutil.copyfile(model.folder / file, folder / file)
    return stages
