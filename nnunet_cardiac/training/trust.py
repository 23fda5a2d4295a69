"""Plans and checkpoints that others have made: what in them may be built and loaded, and what would be code of theirs.

Plans name the class of their network, which is imported; a checkpoint of nnU-Net's is a pickle, which can name any
function. Both are looked at before anything of them runs.
"""

import math
import pydoc
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch.overrides import TorchFunctionMode

from nnunet_cardiac.environment import code_is_allowed
from nnunet_cardiac.errors import DamagedError, UntrustedError, UserError, sentence
from nnunet_cardiac.model import Model, previous_stages, trained_folder
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.texts import printable, read_json, reason, unforeseen
from nnunet_cardiac.training.memory import PLANNED_MEMORY, PlannedNetwork

OURS = ("nnunet_cardiac.networks.", "dynamic_network_architectures.")
"""Where the network of a model may come from that is passed on as a file."""
NETWORKS = (*OURS, "nnunetv2.")
"""Where a network class may come from that plans name."""
LAYERS = ("torch.nn.modules.",)
"""Where the classes may come from that a network is built with."""
MOST_PARAMETERS = 500_000_000
"""Of a network: nnU-Net's largest has a quarter of that."""
MOST_LAYERS, LARGEST_SIZE, MOST_ENTRIES = 64, 4096, 64
"""Of a network: layers of a stage, and stages; any other number, of features for one; entries of a list."""
MOST_CHANNELS, MOST_ANISOTROPIC = 256, 100
"""Channels of an image, or labels; times that a spacing is as large as another. A small image is tried with these."""
LARGEST_PATCH, LONGEST_PATCH = 20_000_000, 2048
"""Voxels, and along an axis."""
MOST_THREADS = 64
"""Of resampling."""
RESAMPLING = ("resampling_fn_data_kwargs", "resampling_fn_seg_kwargs", "resampling_fn_probabilities_kwargs")
MOST_DEPTH = 50
"""Of lists and dictionaries in each other: what copies and saves them would fail far beyond."""
SMALL_KERNEL = 7
"""Up to this size, kernels are common on maps that are smaller."""
FREE_IN_PLANS = {"batch_size", PLANNED_MEMORY, "median_image_size_in_voxels"}
"""What folds of one model may differ in: a smaller batch for a smaller GPU, and what only describes."""
ARRAYS: list = [
    *((function, f"{module}.multiarray.{getattr(function, '__name__', '')}")  # as NumPy 1 and 2 call them
      for module in ("numpy.core", "numpy._core")
      for function in (np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0])),
    np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
]  # fmt: skip
"""Classes and functions that make nothing but numbers; nnU-Net's log and arguments hold some."""


def check_plans(
    plans: dict, dataset_json: dict, configurations: Sequence[str], where: object, networks: Sequence[str] = NETWORKS
) -> None:
    """Everything that plans and data set are asked for later is asked here, before anything is built.

    Args:
        plans, dataset_json: nnU-Net's
        configurations: of the plans, that are used
        where: the files, for the error
        networks: modules that a network's class may be from

    Raises:
        UserError: a class that may not be built, or plans that describe no model
    """
    try:
        if depth([plans, dataset_json]) > MOST_DEPTH:
            raise ValueError(f"lists in lists in lists, more than {MOST_DEPTH}")
        manager = PlansManager(plans)
        labels = manager.get_label_manager(dataset_json)
        heads = labels.num_segmentation_heads
        if not isinstance(dataset_json["file_ending"], str) or not labels.foreground_labels:
            raise ValueError("no file ending, or no labels")
        if not 2 <= heads <= MOST_CHANNELS:
            raise ValueError(f"{heads} labels")
        if not isinstance(dataset_json.get("modality", dataset_json.get("channel_names")), Mapping):
            raise ValueError("no names of channels")
        every = labels.all_labels
        if not (
            0 <= min(every) and max(every) < MOST_CHANNELS if labels.has_regions else every == [*range(len(every))]
        ):
            raise ValueError(f"labels {[int(v) for v in every]!s:.80}, where they must be 0, 1, 2 and so on")
        reader: Any = manager.image_reader_writer_class  # whatever class has the name
        if not (isinstance(reader, type) and issubclass(reader, BaseReaderWriter)):
            raise ValueError("no reader of images")
        if sorted(manager.transpose_forward) != [0, 1, 2]:
            raise ValueError("no order of axes")
        if sorted(manager.transpose_backward) != [0, 1, 2]:
            raise ValueError("no order of axes")
        for name in configurations:
            configuration = manager.get_configuration(name)
            if not isinstance(configuration.data_identifier, str):
                raise ValueError(f"no preprocessed data of '{name}'")
            if not isinstance(configuration.preprocessor_class, type):
                raise ValueError(f"no preprocessor of '{name}'")
            sides = configuration.patch_size
            if len(sides) not in (2, 3) or not _are_sizes(sides) or max(sides) > LONGEST_PATCH:
                raise ValueError(f"a patch of {sides!r:.80}")
            check_resampling(configuration.configuration)
            if math.prod(configuration.patch_size) * configuration.batch_size > 100 * LARGEST_PATCH:
                raise ValueError(f"{configuration.batch_size} images in a batch")
            if not _are_sizes([configuration.batch_size]):
                raise ValueError(f"a batch of {configuration.batch_size!r:.80}")
            if not all(0 < float(s) < 1000 for s in configuration.spacing):
                raise ValueError(f"a spacing of {configuration.spacing!r:.80}")
            if max(configuration.spacing) > MOST_ANISOTROPIC * min(configuration.spacing):
                raise ValueError(f"a spacing of {configuration.spacing!r:.80}")
            channels = determine_num_input_channels(manager, configuration, dataset_json)
            if not 1 <= channels <= MOST_CHANNELS:
                raise ValueError(f"{channels} channels")
            if networks is not NETWORKS or not code_is_allowed():
                check_classes(configuration, networks)
            check_sizes(configuration.network_arch_init_kwargs)
            check_axes(configuration.network_arch_init_kwargs, len(configuration.patch_size))
            with torch.device("meta"), _NumbersOfLayers():
                network = PlannedNetwork.of(configuration).build(channels, heads)
            if (n := sum(p.numel() for p in network.parameters())) > MOST_PARAMETERS:
                raise ValueError(f"a network of {n:.2g} parameters")
            check_kernels(network, channels, configuration.patch_size)
    except UserError as e:
        raise type(e)(f"{where}: {e}") from e
    except Exception as e:  # whatever nnU-Net raises of plans that are not plans
        raise UserError(f"{where}: they are not those of a model ({unforeseen(e)}): get them again.") from e


class _NumbersOfLayers(TorchFunctionMode):
    """On the meta device: series of numbers have values, which MONAI's SwinUNETR gives to its layers one by one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}) | ({"device": "cpu"} if func is torch.linspace else {}))


def trained_plans(model: Model) -> tuple[dict, dict]:
    """Plans and ``dataset.json`` of a trained model, checked for all its stages.

    Raises:
        UserError: it was not trained, or as ``check_plans``
    """
    folder = trained_folder(model)
    plans, dataset_json = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    stages = stage_names(model, plans, folder / "plans.json")
    check_plans(plans, dataset_json, stages, f"plans.json and dataset.json of {folder}")
    return plans, dataset_json


def difference_of_plans(before: Mapping, now: Mapping, configurations: Iterable[str]) -> str | None:
    """What makes the networks of two versions of plans, or what they see, differ; None if nothing does.

    Args:
        before, now: nnU-Net's plans (their JSON)
        configurations: that are compared, where both have them

    Raises:
        KeyError, TypeError, RuntimeError: they are no plans
    """
    managers = PlansManager(dict(before)), PlansManager(dict(now))
    for name in configurations:
        if all(name in manager.available_configurations for manager in managers):
            was, is_now = (manager.get_configuration(name).configuration for manager in managers)
            for key in sorted(was.keys() & is_now.keys() - FREE_IN_PLANS):
                if was[key] != is_now[key]:
                    values = "" if isinstance(was[key], dict) else f" {was[key]!s:.60}, now {is_now[key]!s:.60}"
                    return f"{name}: {key.replace('_', ' ')}{values}"
    return None


def stage_names(model: Model, plans: dict, file: Path) -> list[str]:
    """The configurations that lead to a model's, first stage first, itself last.

    Raises:
        UserError: the plans of ``file`` do not have them, or they lead in a circle
    """
    try:
        names = [stage.configuration for stage in model.stages(previous_stages(plans))]
        if unknown := [name for name in names if name not in plans["configurations"]]:
            raise KeyError(f"there is no {unknown[0]}")
        return names
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise UserError(
            f"{file} does not tell the stages of {model.configuration} ({unforeseen(e)}): get it again."
        ) from e


def _are_sizes(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int) and v > 0 for v in values) and math.prod(values) <= LARGEST_PATCH


def check_sizes(arguments: Any, name: str = "") -> None:
    """What a network is built with, with all that is in it, since building one of a million layers would take days.

    Args:
        arguments: ``arch_kwargs`` of plans
        name: of these, where they are a part of others

    Raises:
        ValueError: a number or a list that is larger than any network's
    """
    if isinstance(arguments, Mapping):
        for key, value in arguments.items():
            check_sizes(value, str(key))
    elif isinstance(arguments, list | tuple):
        if len(arguments) > MOST_ENTRIES:
            raise ValueError(f"{name} has {len(arguments)} entries")
        for value in arguments:
            check_sizes(value, name)
    elif isinstance(arguments, int) and abs(arguments) > (MOST_LAYERS if name.startswith("n_") else LARGEST_SIZE):
        raise ValueError(f"{name} is too large")


def check_resampling(configuration: Mapping[str, Any]) -> None:
    """What images and segmentations are resampled with: of a million threads, the process dies without a word.

    Args:
        configuration: of plans

    Raises:
        ValueError: a number that is no order and no count of threads, or a device that has no values
    """
    for key in RESAMPLING:
        for name, value in configuration[key].items():
            if isinstance(value, int | float) and not 0 <= value <= MOST_THREADS:
                raise ValueError(f"{key}: {name} of {value!r:.80}")
            if name == "device" and torch.device(value).type not in ("cpu", "cuda", "mps"):
                raise ValueError(f"{key}: {name} {value!r:.80}")


def depth(content: Any) -> int:
    """How deep lists and dictionaries are in each other; 0 for anything else."""
    inside, n = [content], -1
    while inside:
        inside = [
            value
            for outer in inside
            if isinstance(outer, Mapping | list | tuple)
            for value in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        n += 1
    return n


def check_axes(arguments: Mapping[str, Any], dim: int) -> None:
    """
    Args:
        arguments: ``arch_kwargs`` of plans
        dim: 2 or 3

    Raises:
        ValueError: kernels or strides that are not for each axis, nor all for all axes: PyTorch takes some of them, and
            a training fails once it has begun
    """
    for name in ("kernel_sizes", "strides"):
        values = arguments.get(name, 1)
        entries = values if isinstance(values, list | tuple) else [values]
        lists = [entry for entry in entries if isinstance(entry, list | tuple)]
        if len(lists) not in (0, len(entries)):
            raise ValueError(f"{name} of {values!r:.80}")
        for entry in lists or [entries]:
            if (lists and len(entry) != dim) or not _are_sizes(entry):
                raise ValueError(f"{name} of {entry!r:.80} in {dim}D")


def check_kernels(network: nn.Module, channels: int, patch_size: Sequence[int]) -> None:
    """Kernels against the maps that they see: of one larger than its map, oneDNN's backward pass on the CPU writes
    outside of its memory, and the process dies without a word.

    Only a network with large kernels is run, without values; one that needs some is looked at as far as it gets. A
    convolution of each channel by itself is safe at any size.

    Args:
        network: on the meta device; it is left with hooks
        channels, patch_size: of its input

    Raises:
        ValueError: a kernel that is larger than its map, and than ``SMALL_KERNEL``
    """
    found: list[str] = []

    def look(convolution: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        kernel, sides = convolution.kernel_size, inputs[0].shape[2:]
        if any(k > max(SMALL_KERNEL, side) for k, side in zip(kernel, sides, strict=True)):
            found.append(f"a kernel of {' x '.join(map(str, kernel))} on a map of {' x '.join(map(str, sides))}")

    large = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.groups == 1 and max(module.kernel_size) > SMALL_KERNEL
    ]
    if not large:
        return
    for module in large:
        module.register_forward_pre_hook(look)
    if isinstance(network, Network):
        network.look_nowhere()
    with suppress(Exception), torch.device("meta"), _NumbersOfLayers(), torch.no_grad():
        network.eval()(torch.empty(1, channels, *patch_size))
    if found:
        raise ValueError(found[0])


def check_classes(configuration: ConfigurationManager, networks: Sequence[str] = NETWORKS) -> None:
    """
    Raises:
        UserError: plans name a network or a layer that is not one of those that may be built
    """
    network = PlannedNetwork.of(configuration)
    layers = [network.arguments[key] for key in network.imports if network.arguments[key] is not None]
    for name, allowed in [(network.class_name, networks), *((layer, LAYERS) for layer in layers)]:
        # by its name first: looking for it imports it
        found = pydoc.locate(name) if isinstance(name, str) and name.startswith((*networks, "torch.nn.")) else None
        if not (
            isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(tuple(allowed))
        ):
            way_out = "; if you trust whoever made the plans, say --allow_code" if networks is NETWORKS else ""
            raise UntrustedError(
                f"it names {name!r:.200}, which is none of the networks and layers of nnU-Net, PyTorch and "
                f"this project: it is not built{way_out}."
            )


def load_checkpoint(file: Path | str, map_location: Any = "cpu") -> dict:
    """One of nnU-Net's checkpoints, of which nothing is executed unless the user allows it.

    Args:
        file: ``checkpoint_final.pth`` and the like
        map_location: of ``torch.load``

    Raises:
        UserError: it cannot be read, or would run code
        DamagedError: it is damaged, or no checkpoint
    """
    try:
        with torch.serialization.safe_globals(ARRAYS):
            checkpoint = torch.load(file, map_location=map_location, weights_only=not code_is_allowed())
    except OSError as e:
        raise UserError(f"{file} cannot be read ({e.strerror or e}): check the file.") from e
    except Exception as e:  # damaged files make torch and pickle raise all kinds
        if "Weights only load failed" in str(e) and (name := _global_in(str(e))):
            raise UntrustedError(
                f"{file} is not loaded: it names {printable(name)}, which could run code of whoever made it. If you "
                "trust them, say --allow_code."
            ) from e
        if said := sentence(e):  # of memory, on this machine or a GPU
            raise UserError(f"{file} cannot be loaded. {said}") from e
        raise DamagedError(f"{file} is damaged, or no checkpoint ({reason(e)}): get it again.") from e
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise DamagedError(f"{file} is no checkpoint of nnU-Net's: get it again.")
    return checkpoint


def _global_in(text: str) -> str | None:
    """The class or function that a refusal of PyTorch's names."""
    found = re.search(r"(?:GLOBAL|global) (\S+)", text)
    return found[1] if found else None
