"""Segmentation of images with a trained model, a cascade's stages one after the other in one call.

Per case, this does what nnU-Net's commands do, with nnU-Net's own preprocessing, resampling and writing; a stage gets
its predecessor's segmentation in memory instead of from a folder. While one case is segmented, the next is read and
preprocessed, and the last is written. Logits of one case alone are in memory at a time; with a GPU, those of the
next may wait there.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle

from nnunet_cardiac.environment import check_trainer, silence
from nnunet_cardiac.errors import UserError, sentence
from nnunet_cardiac.evaluation.segmentation import FILE_ENDINGS, Structures
from nnunet_cardiac.files import remove_partial, write_json, written_whole
from nnunet_cardiac.inference.clean_up import cleaned_up
from nnunet_cardiac.inference.predictor import BatchedPredictor
from nnunet_cardiac.inference.unusual import slices_along, unusual_image, unusual_segmentation
from nnunet_cardiac.model import CHECKPOINT, Model, chosen_folds, previous_stages, trained_folder
from nnunet_cardiac.models.saved_model import DESCRIPTION, SavedModel, sha256
from nnunet_cardiac.models.stage import Stage
from nnunet_cardiac.models.training_images import fingerprinted
from nnunet_cardiac.networks.network import Network, bare
from nnunet_cardiac.nifti import MOST_VOXELS, check_header, check_voxels, open_nifti, read_nifti
from nnunet_cardiac.progress import progress
from nnunet_cardiac.texts import printable, read_json, read_record, reason, unforeseen
from nnunet_cardiac.training.trust import load_checkpoint, trained_plans

LARGEST_SPACING = 100
"""mm, of an image."""
RECORD = "nnunet_cardiac.json"
"""In a folder of segmentations: which model made them, and how; and until they are replaced those that another made;
and what is unusual. nnU-Net knows no such file, and replaces its own."""
OF_OTHERS, UNUSUAL = "of_others", "unusual"
"""Of the record: file names of another model's segmentations; by case, what is unusual in sentences."""


@dataclass
class Prediction:
    """What came of it: cases ``segmented`` now, ``kept`` from before; in sentences ``problems``, of cases that are left
    out, and ``warnings``, of what is unusual about an image or its segmentation."""

    segmented: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """From reading the first case to having written the last; loading the model is not in it."""


class StagePredictor(Stage):
    """One stage of a model with its networks, loaded once.

    Args:
        predictor: initialised with the stage
    """

    def __init__(self, predictor: BatchedPredictor):
        super().__init__(predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json)
        self.predictor = predictor

    @classmethod
    def of_trained(
        cls, model: Model, folds: Sequence[int | str] | None, checkpoint: str, predictor: BatchedPredictor
    ) -> "StagePredictor":
        """A stage in nnU-Net's folder of trained models.

        Args:
            model: which; of a cascade this stage alone
            folds: whose networks are averaged; None for all that are there
            checkpoint: file name of the weights
            predictor: that is to have it

        Raises:
            UserError: a fold was not trained, or the trainer is not installed
        """
        folder, folds = model.folder, chosen_folds(model, folds, checkpoint)
        check_trainer(model.trainer)
        for fold in folds:
            trainer = load_checkpoint(folder / f"fold_{fold}" / checkpoint, "meta").get("trainer_name")
            if trainer != model.trainer:
                raise UserError(
                    f"{folder / f'fold_{fold}' / checkpoint} is of {trainer!r:.80}, not of {model.trainer}."
                )
        with silence():  # nnU-Net's search for the trainer
            try:
                predictor.initialize_from_trained_model_folder(str(folder), tuple(folds), checkpoint)
            except (RuntimeError, KeyError, TypeError, AttributeError, ValueError, AssertionError) as e:
                raise UserError(
                    f"{folder}: {checkpoint} does not fit plans.json and dataset.json ({unforeseen(e)}): get all again."
                ) from e
        return cls(predictor)

    def check_size(self, image: np.ndarray, properties: dict, file: Path) -> None:
        """
        Args:
            image, properties: as for ``preprocess``
            file: for the error

        Raises:
            UserError: the image has no voxels at the model's spacing, or more than can be segmented
        """
        order = self.plans.transpose_forward
        spacing, shape = ([values[axis] for axis in order] for values in (properties["spacing"], image.shape[1:]))
        wanted = [*spacing[: 3 - len(self.configuration.spacing)], *self.configuration.spacing]
        size = [n * own / new for n, own, new in zip(shape, spacing, wanted, strict=True)]
        by, apart = (" x ".join(f"{v:.3g}" for v in values) for values in (size, spacing))
        between = [s for s, n in zip(spacing, shape, strict=True) if n > 1]  # that of one slice means nothing
        if not max(between, default=0) <= LARGEST_SPACING:
            raise UserError(f"{file} has a spacing of {apart} mm, where no image has more than {LARGEST_SPACING}.")
        if not (min(size) > 0.5 and math.prod(size) <= MOST_VOXELS):
            raise UserError(
                f"{file} has a spacing of {apart} mm: at the model's it would have {by} voxels, where each must be at "
                f"least 1 and all together at most {MOST_VOXELS:.0e}."
            )

    @property
    def network(self) -> torch.nn.Module:
        """The first fold's, as it was built."""
        return bare(self.predictor.networks[0])

    def input_size(self, size: Sequence[int]) -> list[int]:
        """The smallest input of the network that shows an image of ``size``, or the only one that it takes."""
        if isinstance(self.network, Network):
            if self.network.fixed_size is not None:
                return self.network.fixed_size
            divisors = self.network.divisible_by
        else:  # nnU-Net's
            strides = self.configuration.network_arch_init_kwargs["strides"]
            divisors = [math.prod(axis) for axis in zip(*strides, strict=True)]
        return [math.ceil(side / divisor) * divisor for side, divisor in zip(size, divisors, strict=True)]

    @property
    def on_gpu(self) -> bool:
        """Whether the processor is free while the network runs."""
        return self.predictor.device.type == "cuda"

    def logits(self, data: torch.Tensor) -> torch.Tensor:
        """Logits (K, Z, Y, X) in the model's spacing, on its device."""
        return self.predictor.predict_logits_from_preprocessed_data(data)

    def write(self, segmentation: np.ndarray, probabilities: np.ndarray | None, properties: dict, target: Path) -> None:
        """Writes what ``nnUNetv2_predict`` writes for a case: ``target``; with probabilities, ``.npz`` and ``.pkl``.

        Raises:
            UserError: it cannot be written
        """
        ending = self.dataset_json["file_ending"]
        case = target.name.removesuffix(ending)
        try:
            if probabilities is not None:
                with written_whole(target.with_name(f"{case}.npz")) as partial:
                    np.savez_compressed(partial, probabilities=probabilities)
                with written_whole(target.with_name(f"{case}.pkl")) as partial:
                    save_pickle(properties, str(partial))
            with written_whole(target) as partial:  # last: where it is, the case is done
                self.plans.image_reader_writer_class().write_seg(segmentation, str(partial), properties)
        except (OSError, RuntimeError) as e:  # SimpleITK's errors are RuntimeErrors
            raise UserError(f"{target} cannot be written ({reason(e)}): is the disk full?") from e


def load_stages(
    model: Model | SavedModel,
    folds: Sequence[int | str] | None,
    checkpoint: str,
    device: torch.device,
    use_mirroring: bool,
    tile_step_size: float,
    memory: float | None = None,
    bfloat16: bool = False,
) -> list[StagePredictor]:
    """The stages that lead to a model, first stage first. Arguments and errors as in ``predict``."""
    if bfloat16 and device.type != "cpu":
        raise UserError("--bfloat16 is for -device cpu: on a GPU nnU-Net computes in float16.")

    def predictor() -> BatchedPredictor:
        with silence():  # what nnU-Net says wherever there is no GPU
            return BatchedPredictor(
                memory=memory,
                bfloat16=bfloat16,
                tile_step_size=tile_step_size,
                use_mirroring=use_mirroring,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )

    if isinstance(model, SavedModel):
        predictors = [predictor() for _ in model.stages]
        for loaded, stage in zip(predictors, model.stages, strict=True):
            loaded.initialize_from_saved_model(model, stage)
        return [StagePredictor(loaded) for loaded in predictors]
    plans, _ = trained_plans(model)
    stages = model.stages(previous_stages(plans))
    return [StagePredictor.of_trained(stage, folds, checkpoint, predictor()) for stage in stages]


def predict(
    source: Path,
    output: Path,
    model: Model | SavedModel,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
    device: str = "cuda",
    use_mirroring: bool = True,
    tile_step_size: float = 0.5,
    save_probabilities: bool = False,
    continue_prediction: bool = False,
    overwrite: bool = False,
    memory: float | None = None,
    hand_over: Callable[[str, np.ndarray], np.ndarray] | None = None,
    clean_up: bool | None = None,
    bfloat16: bool = False,
) -> Prediction:
    """Segments an image or a folder of images.

    Args:
        source: an image, or a folder of images named as nnU-Net's (``CASE_0000.nii.gz``); with one channel also
            without the channel's number
        output: folder for ``CASE.nii.gz``
        model: trained, previous stages are found by its plans; or saved
        folds: whose networks are averaged, in every stage; None for all that are trained, and for a saved model
        checkpoint: file name of the weights of a trained model
        device: "cuda", "cpu" or "mps"
        use_mirroring: average over mirrored copies
        tile_step_size: step of the sliding window, as a share of the patch
        save_probabilities: also write ``CASE.npz``
        continue_prediction: keep segmentations that are in ``output`` already and do the others
        overwrite: replace them
        memory: bytes that a forward pass may take, see ``BatchedPredictor``
        hand_over: from a case and a stage's segmentation (Z, Y, X), what the next stage gets to see in its place; None
            for the segmentation itself
        clean_up: leave out islands and close gaps, see ``nnunet_cardiac.inference.clean_up``; None for what a saved
            model asks for, and for a trained one not to
        bfloat16: run the networks in it; on a CPU

    Raises:
        UserError: no model, no images; bfloat16 on a GPU; ``output`` is the images' folder, holds segmentations with
            neither way to deal with them or of another model, or a data set's files
    """
    if isinstance(model, SavedModel):
        dataset_json, training_images = model.dataset_json, model.training_images
        clean_up = model.clean_up if clean_up is None else clean_up
    else:
        _, dataset_json = trained_plans(model)
        training_images = fingerprinted(trained_folder(model))
    try:
        structures = Structures.named(dataset_json["labels"])
    except (ValueError, KeyError) as e:
        raise UserError(f"dataset.json of {model} does not tell the labels' names ({reason(e)}): get it again.") from e
    ending = dataset_json["file_ending"]
    cases = find_cases(source, ending)
    targets = {case: output / f"{case}{ending}" for case in cases}
    _check_no_input_is_output(cases, targets)
    present = [case for case, target in targets.items() if target.exists()]
    if present and not (continue_prediction or overwrite):
        raise UserError(
            f"{len(present)} of {len(cases)} segmentations are already in {output}, {targets[present[0]].name} first: "
            "use --continue_prediction to keep them and do the rest, or --overwrite to replace them."
        )
    stages = load_stages(
        model, folds, checkpoint, torch.device(device), use_mirroring, tile_step_size, memory, bfloat16
    )
    for stage in stages:
        stage.try_out()
    last = stages[-1]
    made_by = identity(model, folds, checkpoint) | {
        "mirroring": use_mirroring, "step_size": tile_step_size, "clean_up": bool(clean_up), "bfloat16": bfloat16,
    }  # fmt: skip
    described = {"dataset.json": dataset_json, "plans.json": last.plans.plans}
    known, of_others = _check_same_model(
        output, made_by, described, overwrite, [targets[case].name for case in present]
    )
    result = Prediction(problems=_passed_over(source, ending))
    folders = [case for case in present if targets[case].is_dir()]
    result.problems += [f"{targets[case]} is a folder: move it away." for case in folders]
    experts = [f.name for f in sorted(source.iterdir()) if _is_segmentation(f, ending)] if source.is_dir() else []
    if experts:
        more = " and others" * (len(experts) > 1)
        result.warnings.append(f"{source}: segmentations lie among the images ({experts[0]}{more}) and are left out.")
    if continue_prediction:
        whole = [case for case in present if not save_probabilities or (output / f"{case}.npz").exists()]
        result.kept = [case for case in whole if case not in folders and targets[case].name not in of_others]
    if result.kept and not known:
        result.warnings.append(f"{output}: nothing tells which model made the segmentations that are kept.")
    before = read_record(output / RECORD).get(UNUSUAL) if known else None
    earlier = {  # of segmentations that stay, whether or not this call asks for them
        case: [printable(str(said)) for said in sentences]
        for case, sentences in (before if isinstance(before, dict) else {}).items()
        if isinstance(sentences, list) and (case not in cases or case in result.kept)
        if (name := f"{case}{ending}") not in of_others and (output / name).is_file()
    }
    unusual: dict[str, list[str]] = {}

    def write_record() -> None:
        said = earlier | {case: sentences for case, sentences in list(unusual.items()) if sentences}
        write_json(made_by | {OF_OTHERS: of_others, UNUSUAL: said}, output / RECORD)

    output.mkdir(parents=True, exist_ok=True)
    write_record()
    for name, content in described.items():
        write_json(content, output / name)
    cut_axis = last.plans.transpose_forward[0]

    def finish(case: str, logits: torch.Tensor, properties: dict) -> tuple[np.ndarray, np.ndarray | None]:
        """Segmentation and probabilities of a case, as they are written."""
        segmentation, probabilities = last.segment(logits, properties, save_probabilities)
        slice_axis = slices_along(segmentation.shape, cut_axis)
        unusual[case] += unusual_segmentation(segmentation, properties["spacing"], structures, slice_axis)
        return cleaned_up(segmentation, structures, slice_axis) if clean_up else segmentation, probabilities

    def leave_out(case: str, e: Exception) -> None:
        of_case = "" if isinstance(e, UserError) else f"{cases[case][0]} cannot be segmented: "
        result.problems.append(of_case + (sentence(e) or unforeseen(e)))

    def write(case: str, finished: tuple[np.ndarray, np.ndarray | None], properties: dict) -> None:
        if unusual[case]:
            write_record()  # before the segmentation: whoever continues hears of it too
        last.write(*finished, properties, targets[case])
        if (name := targets[case].name) in of_others:
            of_others.remove(name)
            write_record()
        result.segmented.append(case)

    def finish_and_write(case: str, logits: torch.Tensor, properties: dict) -> None:
        try:
            finished = finish(case, logits, properties)
        except Exception as e:  # as below
            leave_out(case, e)
        else:
            write(case, finished, properties)

    started = time.perf_counter()
    todo = {case: files for case, files in cases.items() if case not in (*result.kept, *folders)}
    with (
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as writing,
        progress(total=len(todo), desc="Segmenting", unit="case") as bar,
    ):
        ahead: list[Future] = []
        waiting = iter(todo.items())
        written: Future | None = None
        for case in todo:
            while len(ahead) < 2 and (following := next(waiting, None)) is not None:
                ahead.append(reading.submit(_read_and_preprocess, *following, stages[0]))
            try:
                image, properties, (data, shape) = ahead.pop(0).result()
                unusual[case] = unusual_image(image, properties["spacing"], training_images, cut_axis)
                for stage, following_stage in zip(stages[:-1], stages[1:], strict=True):
                    previous, _ = stage.segment(stage.logits(data), shape)
                    if hand_over is not None:
                        previous = hand_over(case, previous)
                    data, shape = following_stage.preprocess(image, properties, previous)
                logits = last.logits(data)
                if not last.on_gpu:  # the cores are busy anyway, and the next case's logits would come beside these
                    finished = finish(case, logits, shape)
            except Exception as e:  # one case never stops the others; a full disk, which writing finds, does
                leave_out(case, e)
                continue
            finally:
                bar.update()
            if written is not None:
                written.result()
            if last.on_gpu:
                written = writing.submit(finish_and_write, case, logits, shape)
            else:
                written = writing.submit(write, case, finished, shape)
            del logits
        if written is not None:
            written.result()
    unusual = {case: earlier[case] for case in result.kept if case in earlier} | unusual
    result.warnings += [f"{case}: {sentence}." for case, sentences in unusual.items() for sentence in sentences]
    if of_others:
        more = f" and {len(of_others) - 1} more" if len(of_others) > 1 else ""
        result.warnings.append(f"{output}: {of_others[0]}{more} may be of another model, or with other options.")
    remove_partial(output)
    result.seconds = time.perf_counter() - started
    return result


def identity(model: Model | SavedModel, folds: Sequence[int | str] | None, checkpoint: str) -> dict:
    """What tells a model from others, ready for JSON: its name and what its weights' SHA-256 are.

    Args:
        model, folds, checkpoint: as in ``predict``; they are there
    """
    if isinstance(model, SavedModel):
        return {"model": model.name, "weights": {DESCRIPTION: sha256(model.folder / DESCRIPTION)}}
    weights = {}
    for stage in model.stages(previous_stages(read_json(trained_folder(model) / "plans.json"))):
        for fold in chosen_folds(stage, folds, checkpoint):
            weights[f"{stage.configuration}/fold_{fold}/{checkpoint}"] = sha256(stage.fold_folder(fold) / checkpoint)
    return {"model": f"{model.dataset}/{model.name}", "weights": weights}


def _check_same_model(
    output: Path, made_by: dict, described: Mapping[str, dict], overwrite: bool, present: Sequence[str]
) -> tuple[bool, list[str]]:
    """Whether a record in ``output`` tells which model its segmentations are of, and those that another model may have
    made; ``present`` are those that are asked for and there.

    Raises:
        UserError: they are of another model, or other options, and nobody wants to overwrite them; or ``output`` has
            files of somebody else's that would be replaced
    """
    files = output.glob(f"*{described['dataset.json']['file_ending']}")
    there = sorted(file.name for file in files if file.is_file())
    if (output / RECORD).exists():
        before = read_record(output / RECORD)
        of_others = before.pop(OF_OTHERS, [])
        before.pop(UNUSUAL, None)
        if before == made_by:
            return True, [name for name in there if isinstance(of_others, list) and name in of_others]
        if there and not overwrite:
            differs = [key for key in made_by if before.get(key) != made_by[key]]
            raise UserError(
                f"{output} holds segmentations of another model or with other options ({', '.join(differs)}): choose "
                "another folder with -o, or use --overwrite."
            )
        return True, there
    for name, content in described.items():
        if (output / name).exists() and read_record(output / name) != json.loads(json.dumps(content)):
            raise UserError(f"{output / name} is there already and not this model's: choose another folder with -o.")
    return False, [name for name in there if overwrite and name in present]


def _check_no_input_is_output(cases: Mapping[str, list[Path]], targets: Mapping[str, Path]) -> None:
    """
    Raises:
        UserError: the segmentations would lie among the images, or take the place of one
    """
    for case, files in cases.items():
        output = targets[case].parent
        if output.exists() and output.samefile(files[0].parent):
            raise UserError(f"{output} is the folder of the images: choose another folder with -o.")
        if targets[case].exists() and any(file.samefile(targets[case]) for file in files):
            raise UserError(f"{targets[case]} is an image that is to be segmented: choose another folder with -o.")


def find_cases(source: Path, ending: str) -> dict[str, list[Path]]:
    """Files of each case, by channel; segmentations beside their images are none.

    Raises:
        UserError: nothing there, or names of both kinds, with and without the channel's number
    """
    if not (source.is_file() or source.is_dir()):
        there = "is neither a file nor a folder" if source.exists() else "does not exist"
        raise UserError(f"{source} {there}: give -i an image or a folder of images.")
    files = [source] if source.is_file() else sorted(p for p in source.iterdir() if p.is_file())
    images = [f for f in files if f.name.endswith(ending) and (f == source or not _is_segmentation(f, ending))]
    if not images:
        raise UserError(
            f"{source} {'does not end' if source.is_file() else 'holds no image that ends'} in {printable(ending)}, "
            "as the images that the model was trained on; for a study in DICOM there is nnunet_cardiac cine."
        )
    cases: dict[str, list[Path]] = {}
    numbered = {f: re.fullmatch(r"(.+)_(\d{4})", f.name.removesuffix(ending), re.DOTALL) for f in images}
    plain = [f for f, match in numbered.items() if not match]
    if plain and len(plain) < len(images):
        raise UserError(
            f"{source} holds images with a channel number and images without, {plain[0].name} among them: name all "
            f"of them CASE_0000{ending}, or none."
        )
    for file, match in numbered.items():
        cases.setdefault(match[1] if match else file.name.removesuffix(ending), []).append(file)
    return cases


def _is_segmentation(file: Path, ending: str) -> bool:
    """Of ACDC, where it lies beside its image: ``CASE_gt`` beside ``CASE``."""
    mark = f"_gt{ending}"
    return file.name.endswith(mark) and file.with_name(file.name.removesuffix(mark) + ending).exists()


def _passed_over(source: Path, ending: str) -> list[str]:
    """A sentence for each file in a folder of images that is an image, by its name, and of no case."""
    said = []
    for file in sorted(source.iterdir()) if source.is_dir() else []:
        if file.name.lower().endswith((ending, *FILE_ENDINGS)):
            if file.is_symlink() and not file.exists():
                said.append(f"{file} is a link to a file that is not there.")
            elif not file.name.endswith(ending):
                said.append(f"{file} does not end in {ending}, as the model's images do: convert it.")
    return said


def _read(case: str, files: list[Path], reader, channels: dict) -> tuple[np.ndarray, dict]:
    if len(files) != len(channels):
        raise UserError(
            f"{case} has {len(files)} image{'s' * (len(files) != 1)} ({', '.join(f.name for f in files)}), but the "
            f"model wants {len(channels)}: {', '.join(channels.values())}."
        )
    if files[0].name.startswith(f"{case}_"):
        for i, file in enumerate(files):
            if not file.name.startswith(f"{case}_{i:04d}."):
                raise UserError(f"{file} is not channel {i} of {case}, which is {case}_{i:04d}: rename it.")
    for file in files:
        check_header(file)
        if file.name.endswith((".nii", ".nii.gz")):
            shape = open_nifti(file).shape
            if any(n > 1 for n in shape[3:]):
                n = math.prod(shape[3:])
                raise UserError(f"{file} has {n} volumes: give each in a file of its own, or a cine to cine.")
            read_nifti(file)
    try:
        image, properties = reader.read_images([str(f) for f in files])
    except Exception as e:  # SimpleITK and nnU-Net raise all kinds
        raise UserError(f"{files[0]} cannot be read ({reason(e)}): get the file again.") from e
    if image.ndim != 4 or min(image.shape) < 1:
        raise UserError(f"{files[0]} is no volume: it has {' x '.join(map(str, image.shape[1:]))} voxels.")
    check_voxels(image, files[0])
    return image, properties


def _read_and_preprocess(
    case: str, files: list[Path], stage: StagePredictor
) -> tuple[np.ndarray, dict, tuple[torch.Tensor, dict]]:
    image, properties = _read(case, files, stage.plans.image_reader_writer_class(), stage.dataset_json["channel_names"])
    stage.check_size(image, properties, files[0])
    return image, properties, stage.preprocess(image, properties, None)
