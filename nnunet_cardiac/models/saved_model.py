"""A trained model as files that execute nothing: safetensors for the weights, JSON for the rest.

A model is a folder:

- ``model.json``: what it is, its stages, and the size and SHA-256 of every other file
- ``plans.json``, ``dataset.json``: nnU-Net's
- ``card.md``: the model card
- ``CONFIGURATION/fold_F.safetensors``: the weights of a stage
- other texts, a licence for one

It is passed on as a zip file of that folder.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.models.stage import Stage
from nnunet_cardiac.models.training_images import TrainingImages
from nnunet_cardiac.system import versions
from nnunet_cardiac.texts import LINES, printable, reason, unforeseen
from nnunet_cardiac.training.memory import LOOKS_AT_VALUES, build_network, prediction_memory
from nnunet_cardiac.training.trust import OURS, check_plans

FORMAT = 1
DESCRIPTION, PLANS, DATASET, CARD = "model.json", "plans.json", "dataset.json", "card.md"
LARGEST_TEXT = 5_000_000
"""Bytes of a file that is no weights."""
LARGEST_HEADER = 1_000_000
"""Bytes of what a file of weights has before them: names and shapes of some thousand tensors."""
SMALLEST_SPACING = 0.01
"""mm; with less, no machine has the memory for a resampled heart."""
GET_AGAIN = "get it again"
LARGEST_PASS = 40_000_000_000
"""Bytes that a forward pass of one patch may take."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,98}[A-Za-z0-9_]|[A-Za-z0-9]")
"""Of a model, and of everything that names a folder."""
WEIGHTS = re.compile(r"[A-Za-z0-9_]+/fold_(all|\d{1,3})\.safetensors")


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
        versions: of the packages when it was exported
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
    def load(cls, folder: Path, known_as: Path | None = None) -> "SavedModel":
        """The model of a folder.

        Args:
            folder: where it is
            known_as: what the user calls it, for the errors; None for the folder

        Raises:
            UserError: a file is missing, damaged, not of this format or not to be trusted; names it
        """
        where = known_as or folder
        description = _json(folder, DESCRIPTION, where)
        if description.get("format") != FORMAT:
            raise UserError(
                f"{where}: {DESCRIPTION} has format {description.get('format')!r:.40}; this version reads {FORMAT}: "
                "update nnunet-cardiac, or get the model for this version."
            )
        way_out = _way_out(description)
        try:
            files = {
                _text(path): (_integer(f["bytes"]), _text(f["sha256"])) for path, f in description["files"].items()
            }
            stages = tuple(
                SavedStage(
                    _name(s["configuration"]), _name(s["trainer"]), tuple(_integer(a) for a in s["mirroring_axes"]),
                    tuple(_text(w, WEIGHTS) for w in s["weights"]),
                )
                for s in description["stages"]
            )  # fmt: skip
            texts = {key: _text(description[key]) for key in ("summary", "licence", "citation")}
            name = _name(description["name"])
            versions = {_text(k): _text(v) for k, v in description["versions"].items()}
            seen, clean_up = description["training_images"], description["clean_up"]
            training_images = None if seen is None else TrainingImages.from_json(seen)
            if not isinstance(clean_up, bool):
                raise TypeError(f"clean_up is {clean_up!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise UserError(f"{where}: {DESCRIPTION} does not describe a model ({unforeseen(e)}): {way_out}.") from e
        _check_files(folder, files, where)
        named = {weights for stage in stages for weights in stage.weights}
        if (
            not stages
            or not all(stage.weights for stage in stages)
            or named != {path for path in files if WEIGHTS.fullmatch(path)}
        ):
            raise UserError(f"{where}: {DESCRIPTION} names no weights, or others than are there: get it again.")
        plans, dataset_json = _json(folder, PLANS, where), _json(folder, DATASET, where)
        try:
            _check_plans(plans, dataset_json, stages)
        except Exception as e:  # whatever nnU-Net raises of plans that are not plans
            if isinstance(e, UserError) and way_out == GET_AGAIN:
                raise UserError(f"{where}: {e}") from e
            raise UserError(
                f"{where}: {PLANS} and {DATASET} are not those of a model ({unforeseen(e)}): {way_out}."
            ) from e
        return cls(
            folder, name, **texts, versions=versions, stages=stages, plans=plans, dataset_json=dataset_json,
            clean_up=clean_up, training_images=training_images,
        )  # fmt: skip

    @property
    def card(self) -> str:
        """The model card, in Markdown, without characters that a terminal would obey."""
        return printable((self.folder / CARD).read_text(encoding="utf-8"), LINES)

    def build_networks(self, stage: SavedStage) -> list[nn.Module]:
        """The networks of a stage with their weights, one for each fold. The trainer is not needed.

        Raises:
            UserError: the weights are not those of the network that the plans describe
        """
        networks = []
        for name in stage.weights:
            try:
                network = build_network(PlansManager(self.plans), self.dataset_json, stage.configuration)
                weights, own = _weights(self.folder / name), own_tensors(network)
                if weights.keys() != own.keys():
                    raise KeyError(f"other tensors: {min(weights.keys() ^ own.keys())}")
                for key, tensor in weights.items():
                    if tensor.shape != own[key].shape:
                        raise ValueError(f"{key} is {tuple(tensor.shape)}, not {tuple(own[key].shape)}")
                    if tensor.is_floating_point() != own[key].is_floating_point():
                        raise TypeError(f"{key} is {tensor.dtype}")
                    if not tensor.to(own[key].dtype).isfinite().all():
                        raise ValueError(f"{key} has values that are NaN or infinite")
                network.load_state_dict(weights, strict=False)  # the names left out are those of tensors that are there
            except SafetensorError as e:
                raise UserError(f"{name} of {self.name} holds no weights ({reason(e)}): get the model again.") from e
            except (RuntimeError, TypeError, ValueError, KeyError, AssertionError, AttributeError) as e:
                raise UserError(
                    f"{name} of {self.name} does not fit the network of {PLANS} ({unforeseen(e)}): get it again."
                ) from e
            networks.append(network)
        return networks

    def try_out(self) -> None:
        """Builds all networks with their weights, prepares and finishes a small image for each stage, and has the
        network take its patch, without values.

        Raises:
            UserError: it cannot be done, or would take more than ``LARGEST_PASS``
        """
        plans = PlansManager(self.plans)
        for stage in self.stages:
            network, configuration = self.build_networks(stage)[0], plans.get_configuration(stage.configuration)
            Stage(plans, configuration, self.dataset_json).try_out()
            channels = determine_num_input_channels(plans, configuration, self.dataset_json)
            try:
                n_bytes = prediction_memory(network, channels, configuration.patch_size)
            except LOOKS_AT_VALUES:  # it cannot be told
                continue
            except Exception as e:  # whatever a network raises of sizes that are not its own
                raise UserError(
                    f"the network of '{stage.configuration}' in {PLANS} does not take a patch of "
                    f"{configuration.patch_size} ({unforeseen(e)}): get it again."
                ) from e
            if n_bytes > LARGEST_PASS:
                raise UserError(
                    f"the network of '{stage.configuration}' in {PLANS} would take {n_bytes / 1e9:.0f} GB for a patch "
                    f"of {configuration.patch_size}: it is not used."
                )


def _weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file. The length of its header is checked first: safetensors reads one of 100 MB for minutes.

    Raises:
        SafetensorError: it is no file of weights, or damaged
    """
    with open(file, "rb") as opened:
        n_bytes = int.from_bytes(opened.read(8), "little")
    if n_bytes > LARGEST_HEADER:
        raise SafetensorError(f"it does not begin with a header of at most {LARGEST_HEADER / 1e6:g} MB")
    return load_file(file)


def own_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """A network's parameters and buffers, each under the first of its names: nnU-Net's modules share many."""
    named: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        named.setdefault(id(tensor), (name, tensor))
    return {name: tensor.detach() for name, tensor in named.values()}


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
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_name(name: str) -> None:
    """
    Raises:
        UserError: a name that not every system could give to a folder
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a model: it begins with a letter or digit and has letters, digits, '.', '-' and "
            "'_' alone, at most 100."
        )


def check_path(path: str, where: Path) -> None:
    """
    Raises:
        UserError: a path that leads out of the folder that it is relative to
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or "\0" in path:
        raise UserError(f"{where} names a file {path!r}, which leads out of its folder: it is not used.")


def _check_plans(plans: dict, dataset_json: dict, stages: tuple[SavedStage, ...]) -> None:
    """Everything that plans and data set are asked for later is asked here, before weights are read.

    Raises:
        UserError: a class that may not be built, a name that leads elsewhere, or stages that are not the plans'
        Exception: whatever else is wrong
    """
    manager = PlansManager(plans)
    for name in (manager.dataset_name, manager.plans_name):
        check_name(name)
    chain: list[str] = []
    before: str | None = stages[-1].configuration
    while before is not None and before not in chain:
        chain.insert(0, before)
        before = manager.get_configuration(before).previous_stage_name
    if before is not None or chain != [stage.configuration for stage in stages]:
        raise UserError(f"its stages are not those that lead to '{stages[-1].configuration}' in {PLANS}: get it again.")
    Structures.named(dataset_json["labels"])
    check_plans(plans, dataset_json, chain, PLANS, OURS)
    reader = manager.image_reader_writer_class
    if dataset_json["file_ending"].lower() not in reader.supported_file_endings:
        raise ValueError(f"{reader.__name__} reads no {dataset_json['file_ending']!r:.40}")
    for stage in stages:
        configuration = manager.get_configuration(stage.configuration)
        if min(configuration.spacing) < SMALLEST_SPACING:
            raise ValueError(f"a spacing of {configuration.spacing!r:.80}")
        n_axes = len(configuration.patch_size)
        if not set(stage.mirroring_axes) <= set(range(n_axes)) or len(set(stage.mirroring_axes)) < len(
            stage.mirroring_axes
        ):
            raise ValueError(f"mirroring along {stage.mirroring_axes}")


def _way_out(description: dict) -> str:
    """What to do about a model whose files are whole and cannot be used."""
    made_with = description.get("versions")
    theirs = str(made_with.get("nnunet-cardiac") if isinstance(made_with, dict) else None)
    ours = versions()["nnunet-cardiac"]
    numbers, own = ([int(n[:9]) for n in re.findall(r"\d+", version)] for version in (theirs, ours))
    if own and numbers > own:
        return f"it was made with nnunet-cardiac {printable(theirs):.40}, update yours, which is {ours}"
    return GET_AGAIN


def _text(value: Any, pattern: re.Pattern = re.compile(r".*")) -> str:  # noqa: B008
    """One line that can be printed."""
    if not isinstance(value, str) or not value.isprintable() or not pattern.fullmatch(value):
        raise TypeError(f"{value!r:.80}")
    return value


def _name(value: Any) -> str:
    return _text(value, NAME)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r:.80}")
    return value


def _json(folder: Path, name: str, where: Path) -> dict:
    try:
        if (folder / name).stat().st_size > LARGEST_TEXT:
            raise UserError(f"{where}: {name} is too large to be a text: it is not read.")
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{where}: {name} cannot be read ({type(e).__name__}): get the model again.") from e
    if not isinstance(content, dict):
        raise UserError(f"{where}: {name} is not a model's: get the model again.")
    return content


def _is_text(file: Path) -> bool:
    try:
        return file.stat().st_size <= LARGEST_TEXT and "\0" not in file.read_text(encoding="utf-8")
    except ValueError:
        return False


def _check_files(folder: Path, files: Mapping[str, tuple[int, str]], where: Path) -> None:
    there = list(folder.rglob("*"))
    if links := [file for file in there if file.is_symlink()]:
        raise UserError(f"{where}: {links[0].relative_to(folder)} is a link: get the model again.")
    present = {file.relative_to(folder).as_posix() for file in there if not file.is_dir()} - {DESCRIPTION}
    for path in (PLANS, DATASET, CARD):
        if path not in files:
            raise UserError(f"{where}: {DESCRIPTION} does not list {path}: get the model again.")
    if unknown := present - files.keys():
        raise UserError(f"{where}: {min(unknown)} is no part of the model that {DESCRIPTION} describes: remove it.")
    for path, (size, digest) in files.items():
        check_path(path, where)
        file = folder / path
        if path not in present:
            raise UserError(f"{where}: {path} is missing: get the model again.")
        if file.stat().st_size != size or sha256(file) != digest:
            raise UserError(
                f"{where}: {path} is damaged, its size or SHA-256 is not what {DESCRIPTION} says: get it again."
            )
        if not WEIGHTS.fullmatch(path) and not _is_text(file):
            raise UserError(
                f"{where}: {path} is neither a text of at most {LARGEST_TEXT / 1e6:g} MB nor weights in safetensors: "
                "the model is not used."
            )
