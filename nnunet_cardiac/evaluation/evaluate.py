"""A folder of predictions against a folder of ground truth."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.anatomy import implausible_anatomy
from nnunet_cardiac.evaluation.segmentation import (
    CASE_COLUMNS,
    Structures,
    find_case_table,
    find_segmentations,
    find_structures,
    read_segmentation,
)
from nnunet_cardiac.files import writing, written_whole
from nnunet_cardiac.processes import worker_processes
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import unforeseen, write_rows

METRICS = (
    "dice", "jaccard", "hausdorff_mm", "hausdorff95_mm", "assd_mm", "precision", "recall", "f1", "accuracy",
    "volume_error_mL",
)  # fmt: skip
STATES = ("scored", "absent", "missed", "spurious")


@dataclass
class Evaluation:
    """Results by case and structure, implausible anatomy by case; ``problems`` (what is left out) and ``warnings`` in
    sentences."""

    metrics: pd.DataFrame
    anatomy: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def evaluate(
    predictions: Path,
    ground_truth: Path,
    dataset_json: Path | None = None,
    case_table: Path | None = None,
    cases: Sequence[str] | None = None,
    n_processes: int = 2,
    labels: Mapping[str, int | Sequence[int]] | None = None,
) -> Evaluation:
    """Compares every predicted case with its ground truth.

    Args:
        predictions, ground_truth: folders of ``CASE.nii.gz`` (or the ``file_ending`` of ``dataset.json``, or what else
            is there)
        dataset_json: names the labels; None to look in and above both folders. Where there is none, structures are
            named by their label values
        case_table: ``cases.csv`` with patient, phase, group and vendor; None to look likewise, absent is fine
        cases: those that are expected; None for all in both folders
        n_processes: cases at a time
        labels: names the labels instead of ``dataset_json``; labels without a name are left out

    Raises:
        UserError: nothing can be compared
    """
    places = [ground_truth, predictions]
    structures, remarks = find_structures(places, dataset_json, labels), []
    if structures is None:
        structures = Structures.by_value(places)
        remarks.append(
            f"No dataset.json in or above {ground_truth} or {predictions}: structures are named by their label values, "
            f"{', '.join(structures.values)}. Name them with --labels or -djfile."
        )
    known = find_case_table(case_table, places)
    predicted = find_segmentations(predictions, structures.file_ending)
    truths = find_segmentations(ground_truth, structures.file_ending)
    expected = sorted(cases if cases is not None else predicted.keys() | truths.keys())

    problems = [f"{case}: no ground truth in {ground_truth}." for case in expected if case not in truths]
    problems += [f"{case}: no prediction in {predictions}." for case in expected if case not in predicted]
    jobs = [(c, predicted[c], truths[c], structures) for c in expected if c in predicted and c in truths]
    rows, anatomies = [], []
    with ExitStack() as stack:
        mapped: Callable = map
        if n_processes > 1 and len(jobs) > 1:
            # spawned, because a forked process would miss the threads that PyTorch has started
            mapped = stack.enter_context(worker_processes(min(n_processes, len(jobs)), "spawn")).map
        results = progress(mapped(_evaluate_case, jobs), total=len(jobs), desc="Evaluating", unit="case")
        for (case, *_), result in zip(jobs, results, strict=True):
            if isinstance(result, str):
                problems.append(result)
                continue
            about = {"case": case} | {key: known.get(case, {}).get(key, "") for key in CASE_COLUMNS}
            rows += [about | row for row in result[0]]
            anatomies += [about | row for row in result[1]]
    if not rows:
        raise UserError(f"No case of {predictions} could be evaluated; the first reason: {problems[0]}")
    metrics = pd.DataFrame(rows)
    if labels is not None:
        nowhere = (metrics["state"] == "absent").groupby(metrics["structure"], sort=False).all()
        remarks += [
            f"No file holds {name}, {' or '.join(map(str, structures.values[name]))}: check --labels."
            for name in nowhere[nowhere].index
        ]
    return Evaluation(metrics, pd.DataFrame(anatomies), problems, remarks)


def _evaluate_case(job: tuple[str, Path, Path, Structures]) -> tuple[list[dict], list[dict]] | str:
    """Rows of metrics and of anatomy, or what is wrong."""
    import torch

    warnings.filterwarnings("ignore", module="monai")  # of its own deprecations, when imported and at every call
    torch.set_num_threads(1)
    try:
        return _compare(*job)
    except UserError as e:
        return str(e)
    except Exception as e:  # one case never stops the others
        return f"{job[0]}: it failed in a way that nobody foresaw ({unforeseen(e)}): {job[1]}, {job[2]}."


def _compare(
    case: str, predicted_file: Path, truth_file: Path, structures: Structures
) -> tuple[list[dict], list[dict]]:
    """Rows of metrics and of anatomy."""
    from nnunet_cardiac.evaluation.metrics import structure_metrics

    prediction, truth = read_segmentation(predicted_file), read_segmentation(truth_file)
    structures.check_labels(prediction.labels, predicted_file)
    structures.check_labels(truth.labels, truth_file)
    truth.check_geometry(prediction, f"{case}: ground truth and prediction")
    ignore = None if structures.ignore is None else truth.labels == structures.ignore
    metrics = [
        {
            "structure": name,
            **structure_metrics(
                structures.mask(prediction.labels, name), structures.mask(truth.labels, name), truth.spacing,
                truth.diagonal, ignore,
            ),
        }
        for name in structures.values
    ]  # fmt: skip
    anatomies = [
        {"source": source, **implausible_anatomy(segmentation, structures)}
        for source, segmentation in (("prediction", prediction), ("ground truth", truth))
    ]
    return metrics, anatomies


def summarise(metrics: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations over cases: of all cases, of each phase, and of each group.

    Args:
        metrics: of an ``Evaluation``

    Returns:
        a row for every subset and structure, and one for the mean of the structures; ``cases`` and the number of those
        in which the structure is scored, absent, missed or spurious (see ``nnunet_cardiac.evaluation.metrics``); then
        for every metric ``_mean`` and ``_sd``, over all cases but those where the structure is absent in both
    """
    rows = []
    for subset, part in subsets(metrics):
        for structure, group in [*part.groupby("structure", sort=False), ("mean", part)]:
            by_case = group.groupby("case")[list(METRICS)].mean()
            row = {"subset": subset, "structure": structure, "cases": len(by_case)}
            row |= {state: int((group["state"] == state).sum()) for state in STATES}
            for metric in METRICS:
                row |= {f"{metric}_mean": by_case[metric].mean(), f"{metric}_sd": by_case[metric].std()}
            rows.append(row)
    return pd.DataFrame(rows)


def subsets(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The whole table, then its phases, groups and vendors (if there are several) where known, each under a name."""
    parts = [("all", table)]
    for column in ("phase", "group", "vendor"):
        if column == "vendor" and table[column].nunique() < 2:
            continue
        parts += [(f"{column} {value}", part) for value, part in table.groupby(column) if value]
    return parts


def write_evaluation(evaluation: Evaluation, output: Path, picture: bool = True) -> pd.DataFrame:
    """Writes ``metrics.csv``, ``summary.csv``, ``anatomy.csv`` and, if asked for, ``metrics.png``; returns the summary.

    Raises:
        UserError: the folder cannot be written
    """
    summary = summarise(evaluation.metrics)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        tables = {"metrics": evaluation.metrics, "anatomy": evaluation.anatomy, "summary": summary}
        for name, table in tables.items():
            write_rows(output / f"{name}.csv", table, index=False, float_format="%.7g")
        if picture:
            from nnunet_cardiac.evaluation.figures import distributions, own_style

            with own_style():
                figure = distributions({"": evaluation.metrics}, ("dice", "hausdorff95_mm"))
                with written_whole(output / "metrics.png") as partial:
                    figure.savefig(partial, dpi=110)
    return summary


def summary_text(summary: pd.DataFrame, anatomy: pd.DataFrame) -> str:
    """What ``nnunet_cardiac evaluate`` prints: the most asked-for columns, and counts of what is not plausible."""
    columns = {
        "dice": "Dice", "jaccard": "Jaccard", "hausdorff_mm": "HD mm", "hausdorff95_mm": "HD95 mm",
        "assd_mm": "ASSD mm", "volume_error_mL": "vol. error mL",
    }  # fmt: skip
    table = summary[["subset", "structure", "cases", *STATES[1:]]].copy()
    for metric, title in columns.items():
        digits = 3 if metric in ("dice", "jaccard") else 1
        table[title] = [
            f"{mean:.{digits}f} ({sd:.{digits}f})"
            for mean, sd in zip(summary[f"{metric}_mean"], summary[f"{metric}_sd"], strict=True)
        ]
    table["subset"] = table["subset"].where(~table["subset"].duplicated(), "")
    lines = [table.to_string(index=False), "", "mean (standard deviation) over cases"]
    for source, part in anatomy.groupby("source", sort=False):
        cases = int((part["implausible_slices"] > 0).sum())
        lines.append(
            f"implausible anatomy, {source}: {part['implausible_slices'].sum()} of {part['slices'].sum()} slices, "
            f"in {cases} of {len(part)} cases"
        )
    return "\n".join(lines)
