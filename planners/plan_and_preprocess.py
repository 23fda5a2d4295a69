"""Planning with any planner, ours or nnU-Net's, then nnU-Net's own preprocessing.

nnU-Net's command finds planners in its own tree only; that is all that is different here, but for finished work, which
is kept: a fingerprint or preprocessed images that are complete and still fit are not made again.
"""

import importlib
import inspect
import os
import pkgutil
import pydoc
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from filecmp import cmp
from os.path import getmtime, isdir, isfile, join
from pathlib import Path

import nnunetv2
from batchgenerators.utilities.file_and_folder_operations import load_json, load_pickle, save_json, subfiles
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, preprocess_dataset
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

import nnunet_cardiac.planners
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import is_json, set_aside
from nnunet_cardiac.lock import locked
from nnunet_cardiac.planners.network_planner import NetworkPlanner
from nnunet_cardiac.planners.shrink import shrink
from nnunet_cardiac.planners.sizes import Size
from nnunet_cardiac.training.memory import PLANNED_MEMORY

PREPROCESSING = (
    "spacing", "preprocessor_name", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data",
    "resampling_fn_seg", "resampling_fn_data_kwargs", "resampling_fn_seg_kwargs",
)  # fmt: skip
"""What in a configuration decides how its images look."""


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
        UserError: unknown planner or configuration, a planner without fixed sizes, or splits that changed
    """
    planner_class = find_planner(planner_name)
    if paper and not follows_paper(planner_name):
        raise UserError(f"{planner_name} follows no paper: leave out --paper.")
    raw, preprocessed = join(nnUNet_raw, dataset_name), join(nnUNet_preprocessed, dataset_name)
    dataset_json = load_json(join(raw, "dataset.json"))
    dataset_id = int(dataset_name[7:10])
    with locked(Path(preprocessed), "plan another data set"):
        if verify:
            verify_dataset_integrity(raw, n_processes)
        _set_cut_off_files_aside(Path(preprocessed))
        _check_splits(raw, preprocessed)

        fingerprint_file = join(preprocessed, "dataset_fingerprint.json")
        cases = get_filenames_of_train_images_and_targets(raw, dataset_json)
        stale = not isfile(fingerprint_file) or len(load_json(fingerprint_file)["spacings"]) != len(cases)
        extract_fingerprint_dataset(dataset_id, num_processes=n_processes, clean=clean or stale)

        kwargs = {"plans_name": plans_name, "gpu_memory_target_in_gb": gpu_memory_target, "paper": paper or None}
        if size and issubclass(planner_class, NetworkPlanner):
            kwargs["counts_memory"] = False  # shrunk plans have sizes of their own
        planner = planner_class(dataset_name, **{key: value for key, value in kwargs.items() if value is not None})
        plans_file = join(preprocessed, planner.plans_identifier + ".json")
        unfinished = Path(preprocessed) / f".{planner.plans_identifier}.unfinished"
        keep_plans = keep_plans and isfile(plans_file) and not unfinished.exists()
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
                preprocess_dataset(dataset_id, manager.plans_name, (name,), [n_processes])
        _copy_ground_truth(cases, Path(preprocessed) / "gt_segmentations", dataset_json["file_ending"])
        return manager.plans_name


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
        if not is_json(file):
            set_aside(file, "it is cut off")


def _copy_ground_truth(cases: dict, target: Path, ending: str) -> None:
    """What nnU-Net has not copied, because it was killed at it or before it; it takes half a file for a newer one."""
    target.mkdir(exist_ok=True)
    for case, files in cases.items():
        copy = target / f"{case}{ending}"
        if not copy.is_file() or not cmp(files["label"], copy, shallow=False):
            partial = copy.with_name(f".{copy.name}.partial")
            shutil.copy2(files["label"], partial)
            partial.replace(copy)


def _check_splits(raw: str, preprocessed: str) -> None:
    ours, theirs = join(raw, "splits_final.json"), join(preprocessed, "splits_final.json")
    if isfile(ours) and isfile(theirs) and load_json(ours) != load_json(theirs):
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
        other = PlansManager(plans_file)
        for other_name in other.available_configurations:
            configuration = other.get_configuration(other_name).configuration
            if configuration["data_identifier"] == identifier:
                if any(configuration[key] != wanted[key] for key in PREPROCESSING):
                    return False
    return True
