"""Planning with any planner, ours or nnU-Net's, then nnU-Net's own preprocessing.

nnU-Net's command finds planners in its own tree only; that is all that is different here, but for finished work, which
is kept: a fingerprint or preprocessed images that are complete and still fit are not made again.
"""

import importlib
import inspect
import os
import pkgutil
import pydoc
import re
import shutil
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from filecmp import cmp
from io import StringIO
from os.path import getmtime, isdir, isfile, join
from pathlib import Path
from typing import TypedDict

import nnunetv2
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json, load_pickle, save_json, subfiles
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, preprocess_dataset
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

import nnunet_cardiac.planners
from nnunet_cardiac.environment import read_splits, silence
from nnunet_cardiac.errors import UserError, sentence
from nnunet_cardiac.files import is_json, set_aside, written_whole
from nnunet_cardiac.lock import locked
from nnunet_cardiac.nifti import MOST_VOXELS, check_header
from nnunet_cardiac.planners.network_planner import NetworkPlanner
from nnunet_cardiac.planners.shrink import shrink
from nnunet_cardiac.planners.sizes import Size
from nnunet_cardiac.texts import printable, read_json, reason, unforeseen
from nnunet_cardiac.training.memory import PLANNED_MEMORY
from nnunet_cardiac.training.trust import difference_of_plans

PREPROCESSING = (
    "spacing", "preprocessor_name", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data",
    "resampling_fn_seg", "resampling_fn_data_kwargs", "resampling_fn_seg_kwargs",
)  # fmt: skip
"""What in a configuration decides how its images look."""
INTENSITIES = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")
"""What a fingerprint tells of a channel."""


class DatasetJson(TypedDict):
    """What planning needs of nnU-Net's ``dataset.json``."""

    channel_names: dict[str, str]
    labels: dict
    file_ending: str
    numTraining: int


def our_planners() -> dict[str, type[ExperimentPlanner]]:
    """Name and class of every planner in ``nnunet_cardiac.planners``."""
    planners = {}
    for module_info in pkgutil.iter_modules(nnunet_cardiac.planners.__path__):
        module = importlib.import_module(f"nnunet_cardiac.planners.{module_info.name}")
        for name, value in inspect.getmembers(module, inspect.isclass):
            ours = issubclass(value, ExperimentPlanner) and value.__module__ == module.__name__
            if ours and not inspect.isabstract(value):
                planners[name] = value
    return planners


def find_planner(name: str) -> type[ExperimentPlanner]:
    """The planner class called ``name``, ours or nnU-Net's; with a dot in it, that of a module on the Python path.

    Raises:
        UserError: there is none
    """
    if "." in name:
        located = pydoc.locate(name)
        if not (isinstance(located, type) and issubclass(located, ExperimentPlanner)):
            raise UserError(f"There is no planner '{name}': is the folder of '{name.split('.')[0]}' in PYTHONPATH?")
        return located
    ours = our_planners()
    planner = ours.get(name) or recursive_find_python_class(
        join(nnunetv2.__path__[0], "experiment_planning"), name, "nnunetv2.experiment_planning"
    )
    if planner is None:
        raise UserError(f"There is no planner '{name}': ours are {', '.join(sorted(ours))}, nnU-Net's work too.")
    return planner


def follows_paper(planner_name: str) -> bool:
    """Whether a planner knows the fixed sizes of a paper."""
    return "paper" in inspect.signature(find_planner(planner_name)).parameters


def plan_and_preprocess(
    dataset_name: str,
    planner_name: str = "CroCNetPlanner",
    configurations: Sequence[str] | None = None,
    gpu_memory_target: float | None = None,
    paper: bool = False,
    size: Size | None = None,
    plans_name: str | None = None,
    n_processes: int = 2,
    verify: bool = False,
    clean: bool = False,
    keep_plans: bool = False,
) -> str:
    """Fingerprint, plans, preprocessing. What is complete from an earlier run is kept, unless ``clean``.

    Args:
        dataset_name: ``DatasetNNN_NAME``
        planner_name: class name of the planner
        configurations: those to preprocess; None for all 2D ones
        gpu_memory_target: GB, None for the planner's own default
        paper: the paper's fixed sizes, for planners that know them
        size: shrink the plans to it; None for plans as they are
        plans_name: in place of the planner's own
        n_processes: for fingerprint and preprocessing
        verify: check the data set's integrity first, as nnU-Net does
        clean: make fingerprint and preprocessed images again
        keep_plans: do not plan again where plans of that name exist

    Returns:
        the plans' name

    Raises:
        UserError: unknown planner or configuration, a planner without fixed sizes, splits that changed, kept plans of
            another planner, or a data set that nnU-Net cannot use
    """
    planner_class = find_planner(planner_name)
    if paper and not follows_paper(planner_name):
        raise UserError(f"{planner_name} follows no paper: leave out --paper.")
    raw, preprocessed = join(nnUNet_raw, dataset_name), join(nnUNet_preprocessed, dataset_name)
    if not re.fullmatch(r"Dataset\d{3}_.+", dataset_name):
        raise UserError(f"{raw} is not named as nnU-Net's data sets are: call the folder DatasetNNN_NAME.")
    dataset_json = read_json(Path(raw, "dataset.json"), DatasetJson, "convert the data set again")
    dataset_id = int(dataset_name[7:10])
    with locked(Path(preprocessed), "plan another data set"):
        _set_cut_off_files_aside(Path(preprocessed))
        _check_splits(raw, preprocessed)

        fingerprint_file = join(preprocessed, "dataset_fingerprint.json")
        cases = _cases(Path(raw), dataset_json)
        if verify:
            _verify(raw, cases, n_processes)
        stale = not isfile(fingerprint_file) or len(read_fingerprint(Path(fingerprint_file))["spacings"]) != len(cases)
        with _naming(cases):
            _check_reader(cases, dataset_json)
            extract_fingerprint_dataset(dataset_id, num_processes=n_processes, clean=clean or stale)

        kwargs = {"plans_name": plans_name, "gpu_memory_target_in_gb": gpu_memory_target, "paper": paper or None}
        if size and issubclass(planner_class, NetworkPlanner):
            kwargs["counts_memory"] = False  # shrunk plans have sizes of their own
        planner = planner_class(dataset_name, **{key: value for key, value in kwargs.items() if value is not None})
        plans_file = join(preprocessed, planner.plans_identifier + ".json")
        before = read_json(Path(plans_file)) if isfile(plans_file) else None
        if before and not isinstance(before.get("configurations"), dict):
            raise UserError(f"{plans_file} are no plans: delete the file.")
        unfinished = Path(preprocessed) / f".{planner.plans_identifier}.unfinished"
        before = None if unfinished.exists() else before
        keep_plans = keep_plans and isfile(plans_file) and not unfinished.exists()
        made_by = (before or {}).get("experiment_planner_used", planner_name)
        if keep_plans and made_by != planner_name:
            raise UserError(f"{plans_file} was made by {made_by}, not {planner_name}: give its plans another name.")
        if not keep_plans:
            unfinished.touch()  # plans that are not shrunk yet must not be kept
            with augmentation_workers():
                planner.plan_experiment()
            if size:
                save_json(shrink(load_json(plans_file), size), plans_file, sort_keys=False)
            unfinished.unlink()

        manager = PlansManager(plans_file)
        known = manager.available_configurations
        if not keep_plans:
            _print_sizes(manager)
            if before:
                _tell_replaced(before, manager)
        for configuration in configurations or ():
            in_3d = configuration.startswith("3d")
            if configuration not in known and in_3d and not any(c.startswith("3d") for c in known):
                images = "images of one slice" if manager.original_median_shape_after_transp[0] == 1 else "no 3D plans"
                raise UserError(f"{plans_file} has no configuration '{configuration}': {dataset_name} has {images}.")
            if configuration not in known:
                raise UserError(f"{plans_file} has no configuration '{configuration}': it has {', '.join(known)}.")
        by_data = {
            manager.get_configuration(name).data_identifier: name
            for name in reversed(configurations or [name for name in known if name.startswith("2d")])
        }
        for identifier, name in by_data.items():
            if not clean and _is_preprocessed(preprocessed, identifier, name, manager, cases):
                print(f"{join(preprocessed, identifier)} is complete and is kept.")
            else:
                with _naming(cases):
                    preprocess_dataset(dataset_id, manager.plans_name, (name,), [n_processes])
        _copy_ground_truth(cases, Path(preprocessed) / "gt_segmentations", dataset_json["file_ending"])
        return manager.plans_name


def _cases(raw: Path, dataset_json: dict) -> dict:
    """Files of every training case, as nnU-Net finds them.

    Raises:
        UserError: ``dataset.json`` describes no data set, or a file is missing or of a size that no image has
    """
    file = raw / "dataset.json"
    channels, ending = dataset_json["channel_names"], dataset_json["file_ending"]
    if not channels or not ending or dataset_json["numTraining"] < 1:
        raise UserError(f"{file} tells of no channels, files or cases: convert the data set again.")
    try:
        if LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order")).num_segmentation_heads < 2:
            raise ValueError("there are none")
        cases = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
    except Exception as e:  # whatever nnU-Net raises of a data set that is none
        raise UserError(f"{file} describes no data set of {raw} ({unforeseen(e)}): convert it again.") from e
    if not cases:
        raise UserError(f"{raw} has no training case whose files end in {ending}, as {file} says they do.")
    for files in cases.values():
        for image in (*files["images"], files["label"]):
            if not isfile(image):
                raise UserError(f"{image} is missing: {file} wants {len(channels)} images of a case, and a label.")
            check_header(Path(image))
    return cases


def _check_reader(cases: dict, dataset_json: dict) -> None:
    """
    Raises:
        UserError: nnU-Net would take another reader for all images, as it does where its usual one fails on the first
    """
    two = [files["images"][0] for files in list(cases.values())[:2]]
    with silence(), redirect_stderr(StringIO()):
        readers = {determine_reader_writer_from_dataset_json(dataset_json, image) for image in two}
    if len(readers) > 1:
        raise UserError(f"{' and '.join(two)} cannot be read in the same way: repair the first, or leave it out.")


@contextmanager
def _naming(cases: dict):
    """Where nnU-Net fails, the case whose files cannot be read is named, if there is one.

    Raises:
        UserError: it is one of ``cases``
    """
    try:
        yield
    except Exception as e:
        reader = SimpleITKIO()
        for files in cases.values():
            try:
                image, properties = reader.read_images(files["images"])
                label, of_label = reader.read_seg(files["label"])
                if image.shape[1:] != label.shape[1:]:
                    raise ValueError(f"the image is {image.shape[1:]}, the label {label.shape[1:]} voxels")
                spacing, other = properties["spacing"], of_label["spacing"]
                if not (0 < min(spacing) and max(spacing) < 1000 and np.allclose(spacing, other, rtol=0.01)):
                    raise ValueError(f"its spacing is {spacing} mm, the label's {other}")
                if not (np.isfinite(image).all() and np.isfinite(label).all()):
                    raise ValueError("it has voxels that are NaN or infinite")
            except Exception as found:
                names = " or ".join(map(str, (*files["images"], files["label"])))
                raise UserError(f"{names} cannot be used ({reason(found)}): repair the case, or leave it out.") from e
        raise


def _verify(raw: str, cases: dict, n_processes: int) -> None:
    """
    Raises:
        UserError: the data set is not as nnU-Net wants it
    """
    try:
        with _naming(cases):
            verify_dataset_integrity(raw, n_processes)
    except Exception as e:  # nnU-Net raises AssertionError, KeyError and others
        if sentence(e):
            raise
        raise UserError(f"{raw} is not as nnU-Net wants it ({unforeseen(e)}): mend it, or convert it again.") from e


def read_fingerprint(file: Path) -> dict:
    """nnU-Net's ``dataset_fingerprint.json``.

    Raises:
        UserError: it cannot be read, or is no fingerprint
    """
    fingerprint = read_json(file)
    try:
        spacings, shapes = (np.array(fingerprint[key], float) for key in ("spacings", "shapes_after_crop"))
        fits = spacings.shape == shapes.shape == (len(spacings), 3) and len(spacings) > 0
        sizes = np.concatenate([spacings, shapes])
        intensities = fingerprint["foreground_intensity_properties_per_channel"]
        numbers = [float(values[key]) for values in intensities.values() for key in INTENSITIES]
        numbers.append(float(fingerprint["median_relative_size_after_cropping"]))
        if not (
            fits and 0 < sizes.min() and np.isfinite(sizes).all() and np.isfinite(numbers).all() and len(numbers) > 1
        ):
            raise ValueError("values that no images have")
        if spacings.max() > 1000 or shapes.prod(1).max() > MOST_VOXELS:
            raise ValueError("sizes that no images have")
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(
            f"{file} is no fingerprint of a data set ({unforeseen(e)}): make it again with nnunet_cardiac "
            "plan_and_preprocess --clean, or delete it."
        ) from e
    return fingerprint


def _tell_replaced(before: dict, manager: PlansManager) -> None:
    with suppress(KeyError, TypeError, RuntimeError):  # what were no plans is no loss
        if differs := difference_of_plans(before, manager.plans, manager.available_configurations):
            print(
                f"{manager.plans_name} was planned otherwise before ({printable(differs)}) and is replaced: to have "
                "both, plan one of them again with -overwrite_plans_name."
            )


def _print_sizes(manager: PlansManager) -> None:
    """Patch and batch of every configuration, and the memory of a training step where it was counted."""
    for name in manager.available_configurations:
        configuration = manager.get_configuration(name).configuration
        patch = " x ".join(map(str, configuration["patch_size"]))
        memory = configuration.get(PLANNED_MEMORY)
        step = "" if memory is None else f", a training step takes {memory:.1f} GB"
        print(f"{name}: patch {patch}, batch {configuration['batch_size']}{step}")


@contextmanager
def augmentation_workers():
    """nnU-Net's planners hand ``nnUNet_n_proc_DA`` to ``torch.set_num_threads``, which fails on 0."""
    given = os.environ.get("nnUNet_n_proc_DA")
    if given == "0":
        os.environ["nnUNet_n_proc_DA"] = "1"
    try:
        yield
    finally:
        if given is not None:
            os.environ["nnUNet_n_proc_DA"] = given


def _set_cut_off_files_aside(preprocessed: Path) -> None:
    """nnU-Net's files that a kill has cut off would stop the planning, and are made again by it."""
    for file in preprocessed.glob("*.json"):
        if file.is_file() and not is_json(file):
            set_aside(file, "it is cut off")


def _copy_ground_truth(cases: dict, target: Path, ending: str) -> None:
    """What nnU-Net has not copied, because it was killed at it or before it; it takes half a file for a newer one."""
    target.mkdir(exist_ok=True)
    for case, files in cases.items():
        copy = target / f"{case}{ending}"
        if not copy.is_file() or not cmp(files["label"], copy, shallow=False):
            with written_whole(copy) as partial:
                shutil.copy2(files["label"], partial)


def _check_splits(raw: str, preprocessed: str) -> None:
    ours, theirs = join(raw, "splits_final.json"), join(preprocessed, "splits_final.json")
    splits = [read_splits(Path(file)) for file in (ours, theirs) if isfile(file)]
    if len(splits) == 2 and splits[0] != splits[1]:
        raise UserError(
            f"{theirs} has other folds than {ours}: delete the first to use the second, "
            "and train again what was trained with it."
        )


def _is_preprocessed(preprocessed: str, identifier: str, name: str, manager: PlansManager, cases: dict) -> bool:
    """Whether every case is there, newer than its source, and no plans of the same data want other images."""
    folder = join(preprocessed, identifier)
    if not isdir(folder):
        return False
    for case, files in cases.items():
        done = join(folder, case + ".pkl")  # written last
        if not isfile(done) or getmtime(done) < max(map(getmtime, [*files["images"], files["label"]])):
            return False
        try:
            load_pickle(done)
        except Exception:  # cut off, for which pickle has many kinds
            return False
    wanted = manager.get_configuration(name).configuration
    for plans_file in subfiles(preprocessed, suffix="lans.json"):
        try:
            other = PlansManager(read_json(Path(plans_file)))
            configurations = [other.get_configuration(o).configuration for o in other.available_configurations]
            identifiers = [configuration["data_identifier"] for configuration in configurations]
        except (KeyError, TypeError, AttributeError, RuntimeError) as e:
            raise UserError(f"{plans_file} are no plans ({unforeseen(e)}): plan again, or delete the file.") from e
        for configuration, other_identifier in zip(configurations, identifiers, strict=True):
            if other_identifier == identifier and any(configuration.get(key) != wanted[key] for key in PREPROCESSING):
                return False
    return True
