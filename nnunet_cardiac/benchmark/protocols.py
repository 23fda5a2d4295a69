"""What a benchmark tests beyond each fold's held-out cases: jobs of the kind "test", all folds of a model in each.

Every function writes ``metrics.csv`` and returns what is missing, in sentences.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_cardiac.benchmark.corruptions import corrupt
from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.settings import CORRUPTED, POSTPROCESSED, SEVERITIES, SNAPSHOTS, TEST_SET, Settings
from nnunet_cardiac.environment import folder, preprocessed_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.evaluate import evaluate, write_evaluation
from nnunet_cardiac.evaluation.measure import measure, write_measurement
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.files import link
from nnunet_cardiac.inference.predict import predict
from nnunet_cardiac.model import CHECKPOINT, Model
from nnunet_cardiac.nifti import read_image
from nnunet_cardiac.texts import read_json, write_rows
from nnunet_cardiac.training.train import SNAPSHOT_SHARES, snapshot_file

LEAST_SLICES = 5
"""Of a stack that loses up to three between its ends."""


def test(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """One test of one model.

    Args:
        benchmark, settings: whose
        model: trained on the settings' folds, all of them
        where: one of the settings' ``tests``

    Raises:
        UserError: what is to be tested on is not there
    """
    trained = [benchmark.fold_folder(settings, model, fold) / CHECKPOINT for fold in settings.folds]
    place = benchmark.predictions(model, where)
    newest = max(file.stat().st_mtime for file in trained)
    if any(file.lstat().st_mtime < newest for file in place.rglob("*")):  # of networks that were trained anew since
        shutil.rmtree(place)
    return TESTS.get(where, _external)(benchmark, settings, model, where)


def evaluate_cases(
    predictions: Path,
    truth: Path,
    dataset_json: Path,
    output: Path,
    cases: Sequence[str] | None = None,
    labels: dict[str, tuple[int, ...]] | None = None,
) -> list[str]:
    """Tables of metrics, anatomy and, where there are ventricles and phases, clinical indices; returns problems.

    Args:
        predictions, truth, cases, labels: as in ``evaluate``
        dataset_json: in the data set's raw folder, where ``cases.csv`` may be
        output: folder for the tables
    """
    table = _case_table(dataset_json)
    result = evaluate(predictions, truth, dataset_json, table, cases, n_processes=1, labels=labels)
    write_evaluation(result, output, picture=False)
    problems = result.problems
    try:
        measurement = measure(predictions, truth, dataset_json, table, labels)
        write_measurement(measurement, output, picture=False)
        problems += measurement.problems
    except UserError as e:  # no ventricles, or no phases
        print(f"No clinical indices: {e}")
    return problems


def _case_table(dataset_json: Path) -> Path | None:
    table = dataset_json.with_name("cases.csv")
    return table if table.is_file() else None


def _test_set(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """The data set's own test cases, by the ensemble of the folds."""
    raw = folder("nnUNet_raw") / settings.dataset
    if not (raw / "labelsTs").is_dir():
        raise UserError(f"{raw} has no labelsTs: without labels nothing can be tested on imagesTs.")
    place = _of_ensemble(benchmark, settings, model, where)
    result = predict(
        raw / "imagesTs", place, model, settings.folds, device=settings.device, continue_prediction=True
    )  # fmt: skip
    found = evaluate_cases(place, raw / "labelsTs", raw / "dataset.json", benchmark.evaluation(model, where))
    return result.problems + found


def _external(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """The labelled cases of another data set, by the ensemble of the folds; labels are matched by name."""
    raw, other = folder("nnUNet_raw") / settings.dataset, folder("nnUNet_raw") / where
    mine, theirs = Structures.of(raw / "dataset.json"), Structures.of(other / "dataset.json")
    shared = matching_labels(mine, theirs)
    if not shared:
        raise UserError(
            f"{where} shares no structure with {settings.dataset}: {', '.join(theirs.values)} and "
            f"{', '.join(mine.values)}. Name what is the same alike in its dataset.json."
        )
    place = _of_ensemble(benchmark, settings, model, where)
    result = predict(other / "imagesTr", place, model, settings.folds, device=settings.device, continue_prediction=True)
    relabelled = place / "relabelled"
    relabelled.mkdir(exist_ok=True)
    for file in place.glob(f"*{mine.file_ending}"):
        image = sitk.ReadImage(str(file))
        voxels = sitk.GetArrayFromImage(image)
        named = np.zeros_like(voxels)
        for my_name, their_name in sorted(shared.items(), key=lambda pair: -len(mine.values[pair[0]])):  # regions first
            named[mine.mask(voxels, my_name)] = theirs.values[their_name][0]
        new = sitk.GetImageFromArray(named)
        new.CopyInformation(image)
        sitk.WriteImage(new, str(relabelled / file.name))
    labels = {name: theirs.values[name] for name in shared.values()}
    output = benchmark.evaluation(model, where)
    return result.problems + evaluate_cases(
        relabelled, other / "labelsTr", other / "dataset.json", output, labels=labels
    )


def _of_ensemble(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> Path:
    """For the segmentations of these folds together: another ensemble has another folder."""
    return benchmark.predictions(model, where) / "_".join(["folds", *map(str, settings.folds)])


def matching_labels(mine: Structures, theirs: Structures) -> dict[str, str]:
    """From the name of one data set's structure to another's name of the same: by role (LV, RV, MYO), else by name."""
    by_role = {mine.roles[role]: name for role, name in theirs.roles.items() if role in mine.roles}
    return by_role | {name: name for name in mine.values if name in theirs.values and name not in by_role}


def _held_out(settings: Settings, fold: int) -> list[str]:
    return preprocessed_splits(settings.dataset)[fold]["val"]


def _images(settings: Settings, cases: Sequence[str], place: Path) -> Path:
    """A folder that shows the raw images of some training cases."""
    place.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for file in (folder("nnUNet_raw") / settings.dataset / "imagesTr").glob(f"{case}_[0-9][0-9][0-9][0-9].*"):
            if not (place / file.name).exists():
                link(file, place / file.name)
    return place


def _by_fold(
    benchmark: BenchmarkFolder,
    settings: Settings,
    model: Model,
    where: str,
    predicted: Callable[[int, Path], tuple[Path, list[str]]],
    **about,
) -> tuple[list[pd.DataFrame], list[str]]:
    """Metrics of every fold's held-out cases.

    Args:
        benchmark, settings, model, where: what is tested
        predicted: from a fold and a folder for what it leaves, the folder of its segmentations, and problems
        about: columns that every row gets
    """
    raw, truth = folder("nnUNet_raw") / settings.dataset, folder("nnUNet_preprocessed") / settings.dataset
    key = "_".join(map(str, about.values()))
    tables, problems = [], []
    for fold in settings.folds:
        segmentations, wrong = predicted(fold, benchmark.predictions(model, where) / key / f"fold_{fold}")
        result = evaluate(
            segmentations, truth / "gt_segmentations", raw / "dataset.json", _case_table(raw / "dataset.json"),
            _held_out(settings, fold), n_processes=1,
        )  # fmt: skip
        tables.append(result.metrics.assign(fold=fold, **about))
        problems += wrong + result.problems
    return tables, problems


def _write(benchmark: BenchmarkFolder, model: Model, where: str, tables: Sequence[pd.DataFrame]) -> None:
    output = benchmark.evaluation(model, where)
    output.mkdir(parents=True, exist_ok=True)
    write_rows(output / "metrics.csv", pd.concat(tables), index=False, float_format="%.7g")


def _corrupted(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """Held-out cases whose images were made worse, by their own fold's network."""
    tables, problems = [], []
    for name in settings.corruptions:
        if name == "missing_slices" and not _are_stacks(settings):
            problems.append(
                f"missing_slices: images have fewer than {LEAST_SLICES} slices, of which none can be missed."
            )
            continue
        for severity in range(1, SEVERITIES + 1):

            def predicted(fold: int, place: Path, name=name, severity=severity) -> tuple[Path, list[str]]:
                images = _images(settings, _held_out(settings, fold), place / "images")
                worse = benchmark.corrupted / f"{name}_{severity}" / f"fold_{fold}"
                for file in images.iterdir():
                    if not (worse / file.name).is_file():
                        corrupt(file, worse / file.name, name, severity)
                result = predict(worse, place, model, [fold], device=settings.device, continue_prediction=True)
                return place, result.problems

            found = _by_fold(
                benchmark, settings, model, where, predicted, corruption=name, severity=severity
            )  # fmt: skip
            tables += found[0]
            problems += found[1]
    if not tables:
        raise UserError(problems[0])
    _write(benchmark, model, where, tables)
    return problems


def _are_stacks(settings: Settings) -> bool:
    """Whether most held-out images have slices to lose."""
    cases = {case for fold in settings.folds for case in _held_out(settings, fold)}
    raw = folder("nnUNet_raw") / settings.dataset / "imagesTr"
    slices = [(*read_image(file).GetSize(), 1)[2] for case in cases for file in raw.glob(f"{case}_0000.*")]
    return float(np.median(slices)) >= LEAST_SLICES


def _snapshots(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """Held-out cases by the networks of earlier moments of the training; of a cascade, all stages at the same share."""
    tables, problems = [], []
    for share in (*SNAPSHOT_SHARES, 100):

        def predicted(fold: int, place: Path, share=share) -> tuple[Path, list[str]]:
            if share == 100:
                return benchmark.fold_folder(settings, model, fold) / "validation", []
            images = _images(settings, _held_out(settings, fold), place / "images")
            result = predict(
                images, place, model, [fold], checkpoint=snapshot_file(share), device=settings.device,
                continue_prediction=True,
            )  # fmt: skip
            return place, result.problems

        found = _by_fold(benchmark, settings, model, where, predicted, share=share)
        tables += found[0]
        problems += found[1]
    _write(benchmark, model, where, tables)
    return problems


def _postprocessed(benchmark: BenchmarkFolder, settings: Settings, model: Model, where: str) -> list[str]:
    """Held-out cases after nnU-Net's own postprocessing, which is determined on the held-out cases of the other folds.

    Raises:
        UserError: there is only one fold
    """
    from batchgenerators.utilities.file_and_folder_operations import load_pickle
    from nnunetv2.postprocessing.remove_connected_components import (
        apply_postprocessing_to_folder,
        determine_postprocessing,
    )

    if len(settings.folds) < 2:
        raise UserError("--postprocessing is determined on other folds: train at least two with -f.")
    raw, preprocessed = folder("nnUNet_raw") / settings.dataset, folder("nnUNet_preprocessed") / settings.dataset
    described = str(preprocessed / f"{model.plans}.json"), str(raw / "dataset.json")
    ending = read_json(raw / "dataset.json")["file_ending"]

    def predicted(fold: int, place: Path) -> tuple[Path, list[str]]:
        others, done = place / "others", place / "segmentations"
        shutil.rmtree(others, ignore_errors=True)  # nnU-Net would take what it has found there of fewer folds
        others.mkdir(parents=True)
        done.mkdir(exist_ok=True)
        for other in settings.folds:
            for file in (benchmark.fold_folder(settings, model, other) / "validation").glob(f"*{ending}"):
                if other != fold and not (others / file.name).exists():
                    link(file, others / file.name)
        determine_postprocessing(
            str(others), str(preprocessed / "gt_segmentations"), *described, num_processes=1,
            keep_postprocessed_files=False,
        )  # fmt: skip
        chosen = load_pickle(str(others / "postprocessing.pkl"))
        source = benchmark.fold_folder(settings, model, fold) / "validation"
        apply_postprocessing_to_folder(str(source), str(done), *chosen, *described, num_processes=1)
        return done, []

    tables, problems = _by_fold(benchmark, settings, model, where, predicted)
    _write(benchmark, model, where, tables)
    return problems


TESTS: dict[str, Callable[[BenchmarkFolder, Settings, Model, str], list[str]]] = {
    TEST_SET: _test_set,
    CORRUPTED: _corrupted,
    SNAPSHOTS: _snapshots,
    POSTPROCESSED: _postprocessed,
}
"""By name; every other name is that of another data set."""
