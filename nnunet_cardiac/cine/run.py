"""A patient from study to report. What is finished is kept; what was interrupted goes on."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from nnunet_cardiac.cine.analyse import analyse
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.output import DICOM, INDICES_JSON, write_output
from nnunet_cardiac.cine.read import read_cine, with_size
from nnunet_cardiac.cine.segment import SegmentedPhase, segment_cine
from nnunet_cardiac.dicom import read_dicom
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.files import DISK_FULL, remove_partial, writing, written_whole
from nnunet_cardiac.inference.predict import StagePredictor, identity, load_stages
from nnunet_cardiac.inference.unusual import unusual_image
from nnunet_cardiac.lock import locked
from nnunet_cardiac.model import CHECKPOINT, Model, trained_folder
from nnunet_cardiac.models.saved_model import SavedModel
from nnunet_cardiac.models.training_images import TrainingImages, fingerprinted
from nnunet_cardiac.texts import message, read_record

UNFINISHED = "unfinished"
"""Folder in the output with the phases that are segmented, until all are."""


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
    checkpoint: str = CHECKPOINT,
    device: str = "cpu",
    use_mirroring: bool = True,
    whole: bool = False,
    bfloat16: bool = False,
) -> Segmenter:
    """Loads a model once, for any number of patients; arguments and errors as in ``predict``."""
    stages = load_stages(
        model, folds, checkpoint, torch.device(device), use_mirroring, tile_step_size=0.5, bfloat16=bfloat16
    )
    if isinstance(model, SavedModel):
        words = {
            "name": model.name,
            "version": model.versions.get("nnunet-cardiac", ""),
            "summary": model.summary,
            "licence": model.licence,
            "citation": model.citation,
        }
        training_images, clean_up = model.training_images, model.clean_up
    else:
        words = {"name": model.name, "trained on": model.dataset, "folds": str(folds or "all")}
        training_images, clean_up = fingerprinted(trained_folder(model)), False
    words |= {"mirrored copies averaged": "yes" if use_mirroring else "no", "cleaned up": "yes" if clean_up else "no"}
    words |= {"computed in": "bfloat16" if bfloat16 else ""}
    words = {key: word for key, word in words.items() if word}
    used = f"{identity(model, folds, checkpoint)} {use_mirroring} {clean_up} {whole} {bfloat16}"
    return Segmenter(stages, words, used, clean_up, training_images, whole)


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
    with locked(output):
        return _report(cine, output, segmenter, options)


def _report(cine: Cine, output: Path, segmenter: Segmenter, options: Options) -> dict:
    pixels = sha256(np.ascontiguousarray(cine.voxels).data).hexdigest()
    key = _key(cine, pixels, segmenter, options)
    before = read_record(output / INDICES_JSON)
    if before and before.get("key") == key and not options.overwrite:
        return before
    if before and not options.overwrite:
        raise UserError(
            f"{output} holds a report of another study, other images, options or another model: choose another folder "
            "with -o, or use --overwrite."
        )
    of_pieces = f"{pixels} {cine.affine.tolist()} {segmenter.identity}"
    pieces = output / UNFINISHED / sha256(of_pieces.encode()).hexdigest()[:16]
    with writing(output):
        (output / INDICES_JSON).unlink(missing_ok=True)
        pieces.mkdir(parents=True, exist_ok=True)

    def kept(phase: int) -> SegmentedPhase | None:
        try:
            with np.load(pieces / f"{phase}.npz", allow_pickle=False) as piece:
                found = SegmentedPhase(piece["labels"], float(piece["disagreement"]))
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None
        return found if found.labels.shape == cine.voxels[phase].shape else None

    def keep(phase: int, segmented: SegmentedPhase) -> None:
        with writing(pieces, DISK_FULL):
            with written_whole(pieces / f"{phase}.npz") as file:
                np.savez_compressed(file, **segmented._asdict())

    segmented = segment_cine(cine, segmenter.stages, segmenter.clean_up, segmenter.whole, kept, keep)
    for problem in cine.problems:
        print(message(f"left out: {problem}"), file=sys.stderr)
    structures = Structures.named(segmenter.stages[-1].dataset_json["labels"])
    unusual = unusual_image(cine.voxels[:1], cine.spacing, segmenter.training_images)
    analysis = analyse(cine, segmented, structures, segmenter.words, options.ed, options.es, unusual)
    write_output(analysis, output, key, options.keep_identifiers)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    remove_partial(output, output / DICOM)
    return read_record(output / INDICES_JSON)


def _check_phases(cine: Cine, options: Options) -> None:
    n_phases = len(cine.voxels)
    for name, phase in (("--ed", options.ed), ("--es", options.es)):
        if phase is not None and not 0 <= phase < n_phases:
            raise UserError(f"{name} {phase + 1}: the phases are 1 to {n_phases}.")


def _key(cine: Cine, pixels: str, segmenter: Segmenter, options: Options) -> str:
    facts = (cine.affine.tolist(), None if cine.times is None else cine.times.tolist(), cine.heart_rate, cine.patient)
    asked = (options.ed, options.es, options.keep_identifiers)
    told = (cine.doubts, [(s.sop_instance, s.frame) for phase in cine.sources or () for s in phase])
    named: tuple[str, ...] = ()
    if cine.sources:  # of whom the DICOM objects are
        header = read_dicom(cine.sources[0][0].file, stop_before_pixels=True, force=True)
        kept = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyID")
        keywords = ("StudyInstanceUID", *(kept if options.keep_identifiers else ()))
        named = tuple(str(header.get(keyword, "")) for keyword in keywords)
    return sha256(f"{pixels} {segmenter.identity} {facts} {asked} {told} {named}".encode()).hexdigest()
