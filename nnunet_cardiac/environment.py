"""What nnU-Net works in: its folders, data sets, plans and folds, and the trainers of this project.

Bad input is answered with one sentence, before nnU-Net meets it.
"""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TypedDict

import nnunet_cardiac.trainers
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import printable, read_json

ALLOW_CODE = "NNUNET_CARDIAC_ALLOW_CODE"
"""Environment variable, which ``--allow_code`` sets: classes that plans name are built whatever they are, and
checkpoints are loaded that could run code."""
PURPOSES = {
    "nnUNet_raw": "raw data sets",
    "nnUNet_preprocessed": "plans and preprocessed data",
    "nnUNet_results": "trained models",
}


class Fold(TypedDict):
    """Of ``splits_final.json``."""

    train: list[str]
    val: list[str]


def trainers_folder() -> str:
    """The folder with this project's trainers, which a checkout has at its top level."""
    return list(nnunet_cardiac.trainers.__path__)[0]


def our_trainers() -> list[str]:
    """Names of this project's trainers, in order."""
    return sorted(file.stem for file in Path(trainers_folder()).glob("nnUNetTrainer*.py"))


def ext_trainer() -> str:
    """Value of ``nnUNet_extTrainer`` that lets nnU-Net find this project's trainers beside those it already knows."""
    paths = [p for p in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if p]
    return os.pathsep.join(dict.fromkeys([*paths, trainers_folder()]))


def folder(variable: str) -> Path:
    """nnU-Net's folder ``nnUNet_raw``, ``nnUNet_preprocessed`` or ``nnUNet_results``.

    Raises:
        UserError: the variable is not set
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(f"{variable} is not set: export {variable}=FOLDER, where nnU-Net keeps {PURPOSES[variable]}.")
    return Path(value)


def dataset_name(name_or_id: str, variable: str) -> str:
    """Full name of a data set that exists below the folder ``variable``, given by ID (27), name (ACDC) or whole.

    Raises:
        UserError: there is none, or several
    """
    parent = folder(variable)
    name = glob.escape(name_or_id)
    of_name = name if name.startswith("Dataset") else f"Dataset[0-9][0-9][0-9]_{name}"
    pattern = f"Dataset{name:0>3}_*" if name.isdecimal() else of_name
    found = sorted(p.name for p in parent.glob(pattern) if p.is_dir())
    if not found:
        before = {
            "nnUNet_raw": "convert it first",
            "nnUNet_preprocessed": "run nnunet_cardiac plan_and_preprocess first",
            "nnUNet_results": "train a model first",
        }
        raise UserError(f"There is no data set {name_or_id} in {parent} ({variable}): {before[variable]}.")
    if len(found) > 1:
        raise UserError(f"{name_or_id} is ambiguous in {parent}: {', '.join(found)}; give the whole name.")
    return found[0]


def load_plans(dataset: str, plans_name: str, configuration: str) -> dict:
    """The plans of a preprocessed data set, known to have ``configuration``.

    Raises:
        UserError: no such plans, made for another data set, or without the configuration
    """
    file = folder("nnUNet_preprocessed") / dataset / f"{plans_name}.json"
    if not file.is_file():
        plans = sorted(p.stem for p in file.parent.glob("*lans.json"))
        raise UserError(
            f"{file} does not exist: run nnunet_cardiac plan_and_preprocess with the planner of these plans"
            + (" (-pl ExperimentPlanner)" if plans_name == "nnUNetPlans" else "")
            + (f", or choose from {', '.join(plans)}." if plans else ".")
        )
    plans = read_json(file)
    if plans.get("dataset_name") != dataset:
        made_for = printable(str(plans.get("dataset_name")))
        raise UserError(f"{file} was made for {made_for}, not for {dataset}: plan {dataset} itself.")
    if not isinstance(plans.get("configurations"), dict):
        raise UserError(f"{file} has no configurations: plan {dataset} again.")
    if configuration not in plans["configurations"]:
        raise UserError(f"{file} has no configuration '{configuration}': it has {', '.join(plans['configurations'])}.")
    return plans


def code_is_allowed() -> bool:
    """Whether the user trusts those who made plans and checkpoints."""
    return os.environ.get(ALLOW_CODE, "0") not in ("", "0")


def preprocessed_splits(dataset: str) -> list[dict[str, list[str]]]:
    """The folds that a preprocessed data set is trained by; see ``read_splits``."""
    return read_splits(folder("nnUNet_preprocessed") / dataset / "splits_final.json")


def read_splits(file: Path) -> list[dict[str, list[str]]]:
    """nnU-Net's ``splits_final.json``: for each fold the cases to "train" and to validate ("val") on.

    Raises:
        UserError: it cannot be read, or holds no folds
    """
    splits = read_json(file, list[Fold], "convert or plan again")
    if not splits:
        raise UserError(f"{file} holds no folds: convert or plan again.")
    return splits


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed to standard output, where nnU-Net prints plans, tables and all kinds of news."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def check_trainer(name: str) -> None:
    """Makes this project's trainers known to nnU-Net, and makes sure that one is called ``name``.

    Raises:
        UserError: there is none
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    os.environ["nnUNet_extTrainer"] = ext_trainer()
    try:
        with silence():
            recursive_find_trainer_class_by_name(name)
    except RuntimeError as e:
        raise UserError(
            f"There is no trainer '{name}': ours are {', '.join(our_trainers())}, nnU-Net's work too, and others are "
            "found in the folders of nnUNet_extTrainer."
        ) from e
