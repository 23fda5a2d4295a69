"""A folder of patients, one after the other, with a table of them and a page that links their reports."""

import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from nnunet_cardiac.cine.dicom import SALT, is_dicom, pseudonym
from nnunet_cardiac.cine.output import REPORT
from nnunet_cardiac.cine.read import NIFTI
from nnunet_cardiac.cine.run import Options, Segmenter, report_patient
from nnunet_cardiac.errors import UserError, sentence
from nnunet_cardiac.files import write_text, writing
from nnunet_cardiac.pages import template
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import printable, unforeseen, write_rows

TABLE, PAGE = "cohort.csv", "index.html"
SHOWN = {
    "LV_EDV_mL": "LV EDV mL", "LV_ESV_mL": "LV ESV mL", "LV_EF_percent": "LV EF %", "LV_mass_g": "LV mass g",
    "RV_EDV_mL": "RV EDV mL", "RV_EF_percent": "RV EF %",
}  # fmt: skip
"""Indices in the page, and their titles there."""


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
        UserError: the folder holds no patients
    """
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is inside {source}: choose a folder outside the patients' with -o.")
    found = [p for p in sorted(source.iterdir()) if p.is_dir() or p.name.endswith(NIFTI) or is_dicom(p)]
    patients = [p for p in found if p.name != "DICOMDIR"]
    if not patients:
        raise UserError(f"{source} holds no folder and no image: give -i a folder with one for each patient.")
    names: dict[Path, str] = {}
    problems: list[str] = []
    for patient in patients:
        name = folder_name(patient, options.keep_identifiers)
        if name in names.values():
            other = next(other for other, given in names.items() if given == name)
            problems.append(f"{patient} is the same study as {other}, or has its name: it is left out.")
        else:
            names[patient] = name
    rows = {row["patient"]: row for row in _earlier(output / TABLE) if row.get("patient") in names.values()}
    for patient, name in progress(names.items(), desc="Patients", unit="patient"):
        if name != patient.name:
            print(printable(f"{patient} is called {name} in the output."), file=sys.stderr)
        row: dict = {"patient": name, "report": "", "problem": ""}
        try:
            record = report_patient(patient, output / name, segmenter, options)
            row |= {"report": f"{name}/{REPORT}", "ed_phase": record["ed_phase"], "es_phase": record["es_phase"]}
            row |= record["indices"] | {"flags": "; ".join(flag["title"] for flag in record["flags"])}
        except Exception as e:  # one patient never stops the others
            said = sentence(e)
            shown = said or f"It failed in a way that nobody foresaw ({type(e).__name__})."  # its text may name someone
            row["problem"] = _without_paths(shown.splitlines()[0], patient, name)
            problems.append(f"{patient}: {said or unforeseen(e)}")
        rows[name] = row
        _write([rows[other] for other in names.values() if other in rows], output)
    return problems


def folder_name(patient: Path, keep_identifiers: bool) -> str:
    """What a patient's folder in the output is called: of NIfTI as in the input, else a pseudonym."""
    if not keep_identifiers and (found := pseudonym(patient)):
        return found
    files = [patient] if patient.is_file() else patient.glob("*")  # which finds nothing where it may not look
    holds_nifti = any(file.name.endswith(NIFTI) for file in files)
    if keep_identifiers or holds_nifti:
        return patient.name.removesuffix(".gz").removesuffix(".nii")
    return f"patient_{sha256(SALT + patient.name.encode(errors='replace')).hexdigest()[:8]}"  # it will have no report


def _without_paths(sentence: str, patient: Path, name: str) -> str:
    """A sentence with the pseudonym in place of every path in the patient's folder."""
    paths = [patient, *patient.rglob("*")] if patient.is_dir() else [patient]
    for path in sorted(map(str, paths), key=len, reverse=True):
        sentence = sentence.replace(path, name)
    return sentence


def _earlier(file: Path) -> list[dict]:
    try:
        return [
            {"report": "", "problem": ""} | {key: "" if pd.isna(value) else value for key, value in row.items()}
            for row in pd.read_csv(file, dtype={"patient": str}).to_dict("records")
        ]
    except (OSError, ValueError):
        return []


def _write(rows: Sequence[dict], output: Path) -> None:
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_rows(output / TABLE, pd.DataFrame(rows), index=False, float_format="%.6g")
        write_text(template("nnunet_cardiac.cine", "cohort.html.j2").render(rows=rows, shown=SHOWN), output / PAGE)
