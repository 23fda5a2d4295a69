"""A trained model as files that execute nothing: safetensors for the weights, JSON for the rest.

A model is a folder, or a zip file of it:

- ``model.json``: what it is, its stages, and the size and SHA-256 of every other file
- ``plans.json``, ``dataset.json``: nnU-Net's
- ``card.md``: the model card
- ``CONFIGURATION/fold_F.safetensors``: the weights of a stage
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.models.training_images import TrainingImages

FORMAT = 1
DESCRIPTION, PLANS, DATASET, CARD = "model.json", "plans.json", "dataset.json", "card.md"
LARGEST_TEXT = 5_000_000
"""Bytes of a file that is no weights."""
LARGEST_HEADER = 5_000_000
"""Bytes of the header of a file of weights."""
NETWORKS = ("nnunet_cardiac.networks.", "dynamic_network_architectures.", "monai.networks.")
"""Where a network class may come from that a model file names."""
OPERATIONS = ("torch.nn.",)
"""Where the classes may come from that a network is built with."""


@dataclass(frozen=True)
class SavedStage:
    """A stage of a model.

    Args:
        configuration: of the plans
        trainer: that it was trained with
        mirroring_axes: that prediction may mirror along, as in nnU-Net's checkpoints
        weights: a file for each fold, in the model's folder
    """

    configuration: str
    trainer: str
    mirroring_axes: tuple[int, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class SavedModel:
    """A model in a folder, whose files were checked.

    Args:
        folder: where it is
        name: what ``-m`` names
        summary: in a sentence
        licence, citation: of the weights
        versions: of the packages that it was trained with
        stages: first stage first
        plans, dataset_json: nnU-Net's
        clean_up: whether its segmentations are cleaned up unless somebody asks for them as they are
        training_images: what it has seen; None where that is not known
    """

    folder: Path
    name: str
    summary: str
    licence: str
    citation: str
    versions: Mapping[str, str]
    stages: tuple[SavedStage, ...]
    plans: dict
    dataset_json: dict
    clean_up: bool = False
    training_images: TrainingImages | None = None

    @classmethod
    def load(cls, folder: Path) -> "SavedModel":
        """The model of a folder.

        Raises:
            UserError: a file is missing, damaged, not of this format or not to be trusted; names it
        """
        description = _json(folder / DESCRIPTION)
        if description.get("format") != FORMAT:
            raise UserError(
                f"{folder / DESCRIPTION} has format {description.get('format')!r}; this version reads {FORMAT}: "
                "update nnunet-cardiac, or get the model for this version."
            )
        try:
            files = {str(path): (int(f["bytes"]), str(f["sha256"])) for path, f in description["files"].items()}
            stages = tuple(
                SavedStage(
                    str(s["configuration"]), str(s["trainer"]), tuple(int(a) for a in s["mirroring_axes"]),
                    tuple(str(w) for w in s["weights"]),
                )
                for s in description["stages"]
            )  # fmt: skip
            texts = {key: str(description[key]) for key in ("name", "summary", "licence", "citation")}
            versions = {str(k): str(v) for k, v in description["versions"].items()}
            seen = description["training_images"]
            training_images = None if seen is None else TrainingImages.from_json(seen)
            clean_up = bool(description["clean_up"])
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise UserError(f"{folder / DESCRIPTION} is not a model's description ({e}): get the model again.") from e
        _check_files(folder, files)
        named = {weights for stage in stages for weights in stage.weights}
        if not stages or not all(stage.weights for stage in stages) or not named <= files.keys():
            raise UserError(f"{folder / DESCRIPTION} names no weights, or weights that are not there: get it again.")
        plans, dataset_json = _json(folder / PLANS), _json(folder / DATASET)
        for stage in stages:
            check_network(plans, stage.configuration, folder / PLANS)
        return cls(
            folder, **texts, versions=versions, stages=stages, plans=plans, dataset_json=dataset_json,
            clean_up=clean_up, training_images=training_images,
        )  # fmt: skip

    @property
    def card(self) -> str:
        """The model card, in Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    def read_weights(self, stage: SavedStage) -> list[dict]:
        """Parameters of the networks of a stage, one for each fold.

        Raises:
            UserError: a file is not one of weights
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        parameters = []
        for name in stage.weights:
            file = self.folder / name
            _check_header(file)
            try:
                parameters.append(load_file(file))
            except (SafetensorError, OSError) as e:
                raise UserError(f"{file} holds no weights ({e}): get the model again.") from e
        return parameters


def write_description(model: SavedModel) -> None:
    """Writes ``model.json`` of a folder in which everything else is."""
    files = {}
    for file in sorted(model.folder.rglob("*")):
        if file.is_file() and file.name != DESCRIPTION:
            path = file.relative_to(model.folder).as_posix()
            files[path] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    description = {
        "format": FORMAT, "name": model.name, "summary": model.summary, "licence": model.licence,
        "citation": model.citation, "versions": dict(model.versions),
        "clean_up": model.clean_up, "training_images": model.training_images and model.training_images.to_json(),
        "stages": [asdict(stage) for stage in model.stages], "files": files,
    }  # fmt: skip
    (model.folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(opened)


def check_network(plans: Mapping[str, Any], configuration: str, file: Path) -> None:
    """
    Args:
        plans: nnU-Net's
        configuration: whose network is looked at
        file: that the plans come from, for the message

    Raises:
        UserError: a class is named that is none of nnU-Net's, MONAI's, PyTorch's or this project's
    """
    try:
        own = plans["configurations"][configuration]
        while "architecture" not in own:
            own = plans["configurations"][own["inherits_from"]]
        architecture = own["architecture"]
        network = architecture["network_class_name"]
        arguments, imported = architecture["arch_kwargs"], architecture["_kw_requires_import"]
        named = [arguments[key] for key in imported if arguments[key] is not None]
    except (KeyError, TypeError) as e:
        raise UserError(f"{file} has no network for '{configuration}' ({e}): get the model again.") from e
    allowed = isinstance(network, str) and network.startswith(NETWORKS)
    for name in [network] * (not allowed) + [n for n in named if not (isinstance(n, str) and n.startswith(OPERATIONS))]:
        raise UserError(
            f"{file} names {name!r}, which is none of the networks and layers of nnU-Net, MONAI, PyTorch and this "
            "project: it is not built."
        )


def _json(file: Path) -> dict:
    try:
        if file.stat().st_size > LARGEST_TEXT:
            raise UserError(f"{file} has {file.stat().st_size} bytes, which is too large to be a text: it is not read.")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{file} cannot be read ({type(e).__name__}): get the model again.") from e
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a model's: get the model again.")
    return content


def check_path(path: str) -> None:
    """
    Raises:
        UserError: a path that leads out of the folder that it is relative to
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or "\0" in path:
        raise UserError(f"The model names a file {path!r}, which leads out of its folder: it is not installed.")


def _check_files(folder: Path, files: Mapping[str, tuple[int, str]]) -> None:
    present = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if not f.is_dir()} - {DESCRIPTION}
    for path in [PLANS, DATASET, CARD]:
        if path not in files:
            raise UserError(f"{folder / DESCRIPTION} does not list {path}: get the model again.")
    if unknown := present - files.keys():
        raise UserError(f"{folder / min(unknown)} is no part of the model that {DESCRIPTION} describes: remove it.")
    for path, (size, digest) in files.items():
        check_path(path)
        file = folder / path
        if file.is_symlink() or not file.is_file():
            raise UserError(f"{file} is missing: get the model again.")
        if file.stat().st_size != size or sha256(file) != digest:
            raise UserError(f"{file} is damaged: its size or SHA-256 is not what {DESCRIPTION} says; get it again.")


def _check_header(file: Path) -> None:
    with open(file, "rb") as opened:
        beginning = opened.read(8)
    length = struct.unpack("<Q", beginning)[0] if len(beginning) == 8 else LARGEST_HEADER + 1
    if length > min(LARGEST_HEADER, file.stat().st_size):
        raise UserError(f"{file} holds no weights: its header is larger than any of a network's; get the model again.")


def _digest(opened) -> str:
    digest = hashlib.sha256()
    while block := opened.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
