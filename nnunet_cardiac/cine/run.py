"""A patient, or a folder of patients, from study to report. What is finished is kept; what was interrupted goes on."""

import html
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from nnunet_cardiac.cine.analyse import analyse
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.dicom import is_dicom, pseudonym
from nnunet_cardiac.cine.output import INDICES_JSON, REPORT, write_output, write_whole
from nnunet_cardiac.cine.read import NIFTI, read_cine, with_size
from nnunet_cardiac.cine.segment import segment_cine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.inference.predict import StagePredictor, load_stages
from nnunet_cardiac.inference.unusual import unusual_image
from nnunet_cardiac.model import Model, trained_folder
from nnunet_cardiac.models.saved_model import SavedModel
from nnunet_cardiac.models.training_images import TrainingImages, fingerprinted
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import write_rows

LOCK = ".lock"
UNFINISHED = "unfinished"
"""Folder in the output with the phases that are segmented, until all are."""
COHORT, COHORT_PAGE = "cohort.csv", "index.html"


@dataclass(frozen=True)
class Segmenter:
    """A model that is loaded, and how it is used.

    Args:
        stages: first stage first
        words: about the model, for the report
        identity: of the model and of how it is used; the same for the same results
        clean_up: see ``nnunet_cardiac.inference.clean_up``
        training_images: what it has seen; None where that is not known
        whole: do not look for the heart first
    """

    stages: Sequence[StagePredictor]
    words: dict[str, str]
    identity: str
    clean_up: bool
    training_images: TrainingImages | None
    whole: bool = False


@dataclass(frozen=True)
class Options:
    """What is asked for one patient beside the images.

    Args:
        series: numbers of series to choose from
        ed, es: phases, from 0; None for those that are found
        height, weight: m and kg; None for what the files have
        keep_identifiers: in the DICOM objects, and in the names of a cohort's folders
        overwrite: replace a report of other images or another model
    """

    series: Sequence[int] = ()
    ed: int | None = None
    es: int | None = None
    height: float | None = None
    weight: float | None = None
    keep_identifiers: bool = False
    overwrite: bool = False


def load_segmenter(
    model: Model | SavedModel,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cpu",
    use_mirroring: bool = True,
    clean_up: bool | None = None,
    whole: bool = False,
) -> Segmenter:
    """Loads a model once, for any number of patients; arguments and errors as in ``predict``."""
    stages = load_stages(model, folds, checkpoint, torch.device(device), use_mirroring, tile_step_size=0.5)
    if isinstance(model, SavedModel):
        words = {
            "name": model.name,
            "version": model.versions.get("nnunet-cardiac", ""),
            "summary": model.summary,
            "licence": model.licence,
            "citation": model.citation,
        }
        training_images = model.training_images
        clean_up = model.clean_up if clean_up is None else clean_up
        identity = sha256((model.folder / "model.json").read_bytes()).hexdigest()
    else:
        words = {"name": model.name, "trained on": model.dataset, "folds": str(folds or "all")}
        training_images = fingerprinted(trained_folder(model))
        files = sorted(trained_folder(model).glob(f"fold_*/{checkpoint}"))
        identity = f"{model} {folds} {[(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]}"
    words |= {"mirrored copies averaged": "yes" if use_mirroring else "no", "cleaned up": "yes" if clean_up else "no"}
    identity += f" {use_mirroring} {clean_up} {whole}"
    words = {key: word for key, word in words.items() if word}
    return Segmenter(stages, words, identity, bool(clean_up), training_images, whole)


def report_patient(source: Path, output: Path, segmenter: Segmenter, options: Options = Options()) -> dict:  # noqa: B008
    """Reads, segments, measures and reports one patient.

    Args:
        source: see ``nnunet_cardiac.cine.read.read_cine``
        output: folder, made where it does not exist
        segmenter: model
        options: the rest

    Returns:
        what ``indices.json`` holds

    Raises:
        UserError: the study cannot be used, or ``output`` holds a report of other images or another model
    """
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is inside {source}: choose a folder outside the study with -o.")
    cine = with_size(read_cine(source, options.series), options.height, options.weight)
    _check_phases(cine, options)
    segmenter.stages[0].check_size(cine.voxels[:1], {"spacing": list(cine.spacing)}, source)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{output} cannot be made ({e.strerror}): choose another folder with -o.") from e
    with _alone(output):
        return _report(cine, output, segmenter, options)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """While one process writes to a folder, another does not.

    Raises:
        UserError: another one does
    """
    lock = FileLock(output / LOCK)
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as e:
        raise UserError(f"Another run is writing to {output}: wait for it, or choose another folder with -o.") from e
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e


def _report(cine: Cine, output: Path, segmenter: Segmenter, options: Options) -> dict:
    pixels = sha256(np.ascontiguousarray(cine.voxels).data).hexdigest()
    key = _key(cine, pixels, segmenter, options)
    before = _record(output / INDICES_JSON)
    if before is not None and before.get("key") == key and not options.overwrite:
        return before
    if before is not None and not options.overwrite:
        raise UserError(
            f"{output} holds a report of other images, options or another model: choose another folder with -o, or use "
            "--overwrite."
        )
    pieces = output / UNFINISHED / sha256(f"{pixels} {segmenter.identity}".encode()).hexdigest()[:16]
    try:
        (output / INDICES_JSON).unlink(missing_ok=True)
        pieces.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e

    def kept(phase: int) -> np.ndarray | None:
        try:
            piece = np.load(pieces / f"{phase}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return piece if piece.shape == (cine.voxels[phase].size + 1,) else None

    def keep(phase: int, labels: np.ndarray, disagreement: float) -> None:
        partial = pieces / f"partial_{phase}.npy"
        try:
            np.save(partial, np.append(labels.ravel().astype(np.float32), disagreement), allow_pickle=False)
            partial.replace(pieces / f"{phase}.npy")
        except OSError as e:
            raise UserError(f"{pieces} cannot be written ({e.strerror}): is the disk full?") from e

    segmented = segment_cine(cine, segmenter.stages, segmenter.clean_up, segmenter.whole, kept, keep)
    for problem in cine.problems:
        print(f"left out: {problem}", file=sys.stderr)
    structures = Structures.named(segmenter.stages[-1].dataset_json["labels"])
    unusual = unusual_image(cine.voxels[:1], cine.spacing, segmenter.training_images)
    analysis = analyse(cine, segmented, structures, segmenter.words, options.ed, options.es, unusual)
    write_output(analysis, output, key, options.keep_identifiers)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    record = _record(output / INDICES_JSON)
    assert record is not None  # it has just been written
    return record


def _check_phases(cine: Cine, options: Options) -> None:
    n_phases = len(cine.voxels)
    for name, phase in (("--ed", options.ed), ("--es", options.es)):
        if phase is not None and not 0 <= phase < n_phases:
            raise UserError(f"{name} {phase + 1}: the phases are 1 to {n_phases}.")


def _key(cine: Cine, pixels: str, segmenter: Segmenter, options: Options) -> str:
    facts = (cine.affine.tolist(), None if cine.times is None else cine.times.tolist(), cine.heart_rate, cine.patient)
    asked = (options.ed, options.es, options.keep_identifiers)
    return sha256(f"{pixels} {segmenter.identity} {facts} {asked}".encode()).hexdigest()


def _record(file: Path) -> dict | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def report_cohort(source: Path, output: Path, segmenter: Segmenter, options: Options) -> list[str]:
    """Every patient in a folder, each in a folder or file of its own; one bad study does not stop the rest.

    Writes ``cohort.csv``, a line for each patient, and ``index.html``, which links the reports; both are there from the
    first patient on.

    Args:
        source: folder of patients
        output: folder, with one for each patient in it
        segmenter, options: see ``report_patient``

    Returns:
        problems in sentences, one for each patient without a report

    Raises:
        UserError: the folder holds no patients, or two of one name
    """
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is inside {source}: choose a folder outside the patients' with -o.")
    patients = [p for p in sorted(source.iterdir()) if p.is_dir() or p.name.endswith(NIFTI) or is_dicom(p)]
    if not patients:
        raise UserError(f"{source} holds no folder and no image: give -i a folder with one for each patient.")
    names = {patient: folder_name(patient, options.keep_identifiers) for patient in patients}
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise UserError(f"Two patients in {source} would be called {twice}: rename one, or leave one out.")
    rows = {row["patient"]: row for row in _earlier(output / COHORT) if row["patient"] in names.values()}
    problems: list[str] = []
    for patient, name in progress(names.items(), desc="Patients", unit="patient"):
        if name != patient.name:
            print(f"{patient} is called {name} in the output.", file=sys.stderr)
        row: dict = {"patient": name, "report": "", "problem": ""}
        try:
            record = report_patient(patient, output / name, segmenter, options)
            row |= {"report": f"{name}/{REPORT}", "ed_phase": record["ed_phase"], "es_phase": record["es_phase"]}
            row |= record["indices"] | {"flags": "; ".join(flag["title"] for flag in record["flags"])}
        except UserError as e:
            row["problem"] = _without_paths(str(e).splitlines()[0], patient, name)
            problems.append(f"{patient}: {e}")
        except Exception as e:  # one patient never stops the others
            row["problem"] = f"It failed in a way that nobody foresaw ({type(e).__name__})."
            problems.append(f"{patient}: {type(e).__name__}: {e}")
        rows[name] = row
        _write_cohort([rows[other] for other in names.values() if other in rows], output)
    return problems


def folder_name(patient: Path, keep_identifiers: bool) -> str:
    """What a patient's folder in the output is called: of DICOM a pseudonym, else as in the input."""
    found = None if keep_identifiers else pseudonym(patient)
    return found or patient.name.removesuffix(".gz").removesuffix(".nii")


def _without_paths(sentence: str, patient: Path, name: str) -> str:
    """A sentence with the pseudonym in place of every path in the patient's folder."""
    paths = [patient, *patient.rglob("*")] if patient.is_dir() else [patient]
    for path in sorted(map(str, paths), key=len, reverse=True):
        sentence = sentence.replace(path, name)
    return sentence


def _earlier(file: Path) -> list[dict]:
    try:
        return [
            {key: "" if pd.isna(value) else value for key, value in row.items()}
            for row in pd.read_csv(file).to_dict("records")
        ]
    except (OSError, ValueError):
        return []


def _write_cohort(rows: Sequence[dict], output: Path) -> None:
    table = pd.DataFrame(rows)
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / COHORT, lambda file: write_rows(file, table, index=False, float_format="%.6g"))
        write_whole(output / COHORT_PAGE, lambda file: file.write_text(_cohort_page(table), encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e.strerror}): choose another folder with -o.") from e


SHOWN = {
    "LV_EDV_mL": "LV EDV mL", "LV_ESV_mL": "LV ESV mL", "LV_EF_percent": "LV EF %", "LV_mass_g": "LV mass g",
    "RV_EDV_mL": "RV EDV mL", "RV_EF_percent": "RV EF %",
}  # fmt: skip
"""Indices in the cohort's page, and their titles there."""


def _cohort_page(table: pd.DataFrame) -> str:
    def cell(row: pd.Series, column: str) -> str:
        value = row.get(column)
        return "" if value is None or value == "" or pd.isna(value) else f"{float(value):.0f}"

    lines = []
    for _, row in table.iterrows():
        name, report = html.escape(row["patient"]), html.escape(row["report"])
        link = f'<a href="{report}">{name}</a>' if report else name
        remark = html.escape(str(row["problem"] or row.get("flags") or ""))
        numbers = "".join(f"<td>{cell(row, column)}</td>" for column in SHOWN)
        lines.append(f"<tr><td>{link}</td>{numbers}<td>{'' if remark == 'nan' else remark}</td></tr>")
    titles = "".join(f"<th>{title}</th>" for title in ("patient", *SHOWN.values(), "flags and problems"))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        "<title>Cohort</title><style>body{font:16px system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left}"
        f"</style><h1>{len(table)} patients</h1><p>Research only, not for clinical use.</p><table><tr>{titles}</tr>"
        + "\n".join(lines)
        + "</table></html>\n"
    )
