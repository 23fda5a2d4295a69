"""Clinical indices of the heart from segmentations at end-diastole and end-systole."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import patient_indices
from nnunet_cardiac.evaluation.segmentation import (
    Structures,
    find_case_table,
    find_segmentations,
    find_structures,
    read_segmentation,
)
from nnunet_cardiac.evaluation.statistics import agreement
from nnunet_cardiac.files import writing, written_whole
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import unforeseen, write_rows

PHASE_IN_NAME = re.compile(r"(?P<patient>.+)_(?P<phase>ED|ES)")


@dataclass
class Measurement:
    """Indices by patient, and those of the ground truth where it is known; ``problems`` (what is left out) and
    ``warnings`` in sentences."""

    indices: pd.DataFrame
    reference: pd.DataFrame | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def pairs(self) -> dict[str, pd.DataFrame]:
        """By index: ``measured`` and ``reference``, a row for each patient that has both."""
        if self.reference is None:
            return {}
        return {
            index: pd.concat(
                [self.indices[index], self.reference[index]], axis=1, keys=["measured", "reference"]
            ).dropna()
            for index in index_columns(self.indices)
        }

    def agreement(self) -> pd.DataFrame:
        """A row for each index, see ``nnunet_cardiac.evaluation.statistics.agreement``."""
        return pd.DataFrame({index: agreement(pair) for index, pair in self.pairs().items()}).T.rename_axis("index")


def index_columns(indices: pd.DataFrame) -> list[str]:
    """The columns that are indices, not facts about the patient."""
    return [column for column in indices if column not in ("group", "vendor")]


def measure(
    segmentations: Path,
    ground_truth: Path | None = None,
    dataset_json: Path | None = None,
    case_table: Path | None = None,
    labels: Mapping[str, int | Sequence[int]] | None = None,
) -> Measurement:
    """Indices of every patient with a segmentation at ED and at ES.

    Args:
        segmentations, ground_truth: folders of ``CASE.nii.gz``
        dataset_json: names the labels; None to look in and above both folders
        case_table: ``cases.csv``, which tells patient and phase of a case; None to look likewise; without one, cases
            must be called ``PATIENT_ED`` and ``PATIENT_ES``
        labels: names the labels instead of ``dataset_json``; labels without a name are left out

    Raises:
        UserError: nothing names a ventricle, no patient can be measured, or none of them in the ground truth
    """
    places = [folder for folder in (segmentations, ground_truth) if folder is not None]
    structures = find_structures(places, dataset_json, labels)
    if structures is None:
        raise UserError(
            f"No dataset.json in or above {' or '.join(map(str, places))} tells which of the labels "
            f"{', '.join(Structures.by_value(places).values)} is which ventricle: say it with --labels, for instance "
            "--labels LV=3 MYO=2 RV=1, or name a dataset.json with -djfile."
        )
    if not {"LV", "RV"} & structures.roles.keys():
        raise UserError(
            f"None of the labels in {segmentations} ({', '.join(structures.values)}) is called LV or RV: say with "
            "--labels which is which ventricle, for instance --labels LV=3 MYO=2 RV=1."
        )
    table = find_case_table(case_table, places)
    indices, problems = _measure_folder(segmentations, structures, table)
    if indices.empty:
        raise UserError(f"No patient in {segmentations} can be measured; the first reason: {problems[0]}")
    remarks = [
        f"{structures.roles[role]} has no volume at ED in any file of {segmentations}: check which label it is."
        for role, index in (("LV", "LV_EDV_mL"), ("RV", "RV_EDV_mL"), ("MYO", "LV_mass_g"))
        if index in indices and not indices[index].any()
    ]
    if ground_truth is None:
        return Measurement(indices, None, problems, remarks)
    reference, more = _measure_folder(ground_truth, structures, table, set(indices.index))
    if reference.empty:
        raise UserError(f"No patient of {segmentations} has ground truth at ED and ES in {ground_truth}.")
    unnamed = [
        p for p in indices.index.difference(reference.index) if not any(text.startswith(f"{p}:") for text in more)
    ]
    more += [f"{patient}: not measured in {ground_truth}." for patient in unnamed]
    return Measurement(indices, reference, problems + more, remarks)


def _measure_folder(
    folder: Path, structures: Structures, table: Mapping, wanted: set[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Indices of the patients that are ``wanted`` (None for all), and what is wrong with the others."""
    problems: list[str] = []
    patients: dict[str, dict[str, Path]] = {}
    about: dict[str, dict[str, str]] = {}
    for case, file in find_segmentations(folder, structures.file_ending).items():
        row, match = table.get(case), PHASE_IN_NAME.fullmatch(case)
        if match and not (row and row.get("patient") and row.get("phase")):
            row = match.groupdict()
        if row is None or not row.get("patient") or row.get("phase") not in ("ED", "ES"):
            problems.append(
                f"{file}: patient and phase (ED, ES) are neither in cases.csv nor in the name: call it PATIENT_ED or "
                "PATIENT_ES, or name a table with --case_table."
            )
            continue
        own = patients.setdefault(row["patient"], {})
        if row["phase"] in own:
            problems.append(
                f"{file} is {row['patient']} at {row['phase']} once more, after {own[row['phase']]}: left out."
            )
            continue
        own[row["phase"]] = file
        about[row["patient"]] = {key: row[key] for key in ("group", "vendor") if row.get(key)}
    rows = {}
    for patient, files in progress(sorted(patients.items()), desc="Measuring", unit="patient"):
        if wanted is not None and patient not in wanted:
            continue
        missing = {"ED", "ES"} - files.keys()
        if missing:
            problems.append(f"{patient}: no segmentation at {missing.pop()} in {folder}.")
            continue
        try:
            phases = {phase: read_segmentation(file) for phase, file in files.items()}
            for phase, file in files.items():
                structures.check_labels(phases[phase].labels, file)
            rows[patient] = about[patient] | patient_indices(phases["ED"], phases["ES"], structures)
        except UserError as e:
            problems.append(str(e))
        except Exception as e:  # one patient never stops the others
            problems.append(f"{patient}: it failed in a way that nobody foresaw ({unforeseen(e)}).")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("patient"), problems


def write_measurement(measurement: Measurement, output: Path, picture: bool = True) -> None:
    """Writes ``indices.csv``; with ground truth also ``reference.csv``, ``agreement.csv`` and ``bland_altman.png``.

    Raises:
        UserError: the folder cannot be written
    """
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        tables = {"indices": measurement.indices}
        if measurement.reference is not None:
            statistics = measurement.agreement()
            tables |= {"reference": measurement.reference, "agreement": statistics}
        for name, table in tables.items():
            write_rows(output / f"{name}.csv", table, float_format="%.6g")
        if measurement.reference is not None and picture:
            from nnunet_cardiac.evaluation.figures import bland_altman, own_style

            with own_style():
                figure = bland_altman(measurement.pairs(), statistics.T.to_dict())
                with written_whole(output / "bland_altman.png") as partial:
                    figure.savefig(partial, dpi=130)
