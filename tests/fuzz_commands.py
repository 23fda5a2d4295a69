"""The commands' trials, see ``fuzzing``."""

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mutations as m
import pytest
from conftest import DATASET, NNUNET
from fuzzing import Trial

from nnunet_cardiac.cli import main
from nnunet_cardiac.model import Model
from nnunet_cardiac.phantom import acdc, dicom, lvquan19, mnms2, sunnybrook

THOROUGH = bool({"FUZZ_SECONDS", "FUZZ_FILES"} & os.environ.keys())
PER_CALL = 6 if THOROUGH else 2
"""Damaged files in a call, where it takes many."""


@dataclass
class Bench:
    """Good files to damage.

    Args:
        sources: phantoms in the layout of each data set, and other files, by name
        place: for everything that is written
        context: what is changed for the time of a trial
    """

    sources: Path
    place: Path
    context: pytest.MonkeyPatch

    def copy(self, name: str) -> Path:
        target = self.place / name
        if (self.sources / name).is_dir():
            shutil.copytree(self.sources / name, target)
        else:
            shutil.copy(self.sources / name, target)
        return target

    def folder(self, name: str) -> Path:
        (self.place / name).mkdir()
        return self.place / name


TINY = {"shape": (20, 18), "spacing": 12.0, "n_slices": 3}


def write_sources(folder: Path) -> None:
    """Phantoms as small as they can be."""
    acdc.write_patients(folder / "acdc" / "training", range(1, 3 + PER_CALL), **TINY)
    mnms2.write_subjects(folder / "mnms2", range(1, 3 + PER_CALL), **TINY)
    lvquan19.write_patients(folder / "lvquan19", range(1, 3 + PER_CALL // 2), size=20, spacing=12.0)
    lvquan19.write_patients(folder / "lvquan19", range(10, 10 + PER_CALL // 2), size=20, spacing=12.0, v73=True)
    sunnybrook.write_patients(folder / "sunnybrook", range(1, 3 + PER_CALL), size=32, spacing=8.0)
    for layout in ("ge", "siemens", "enhanced"):
        dicom.write_study(folder / f"study_{layout}", layout, 1, "NOR", 3, 5, (24, 20), 10.0, others=layout == "ge")


def some(files: list[Path], r: random.Random, n: int) -> list[Path]:
    return r.sample(sorted(files), min(len(files), n))


def convert_acdc(bench: Bench, r: random.Random) -> Trial:
    return _convert(
        bench,
        r,
        "acdc",
        lambda source: sorted((source / "training").iterdir()),
        lambda p: {f"{p.name}_ED", f"{p.name}_ES"},
    )


def convert_mnms2(bench: Bench, r: random.Random) -> Trial:
    def subjects(source):
        return sorted(p for p in (source / "dataset").iterdir() if p.is_dir())

    return _convert(
        bench,
        r,
        "mnms2",
        subjects,
        lambda p: {f"{p.name}_ED", f"{p.name}_ES"},
        more="dataset_information.csv",
        view="SA",
    )


def convert_lvquan19(bench: Bench, r: random.Random) -> Trial:
    return _convert(bench, r, "lvquan19", lambda source: sorted(source.glob("*.mat")), lambda p: {f"{p.stem}_frame01"})


def convert_sunnybrook(bench: Bench, r: random.Random) -> Trial:
    def patients(source):
        return sorted((source / "TrainingDataContours").iterdir())

    def cases(folder):
        return {f"{folder.name}_{int(f.name.split('-')[2]):04d}" for f in folder.rglob("*icontour*")}

    def files(folder):
        return [*folder.rglob("*.txt"), *(folder.parents[1] / "challenge_training" / folder.name).rglob("*.dcm")]

    return _convert(bench, r, "sunnybrook", patients, cases, files=files, labels=("LV", "MYO"), keep_unknown=True)


def _convert(bench, r, name, units_of, cases_of, files=None, more=None, **options) -> Trial:
    import importlib

    converter = importlib.import_module(f"nnunet_cardiac.dataset_conversion.{name}")
    source = bench.copy(name)
    units = units_of(source)
    cases = {unit.name: cases_of(unit) for unit in units}
    chosen = some(units, r, PER_CALL if len(units) > PER_CALL else len(units) - 2)
    shared = ()
    if more and r.random() < 0.2:
        (file,) = source.rglob(more)
        m.damage_text(file, r)
        shared = (more,)
    for unit in chosen:
        inside = files(unit) if files else [f for f in unit.rglob("*") if f.is_file()] if unit.is_dir() else [unit]
        file = r.choice(sorted(inside))
        damage = {".gz": m.damage_nifti, ".mat": m.damage_mat, ".dcm": m.damage_dicom}.get(file.suffix, m.damage_text)
        damage(file, r)
    raw = bench.folder("raw")
    bench.context.setenv("nnUNet_raw", str(raw))
    messages: list[str] = []

    def call():
        result = converter.convert(source, n_folds=2, n_processes=1, **options)
        messages.extend(result.problems + result.warnings)
        return result.problems + result.warnings

    def done():
        written = {f.name.removesuffix("_0000.nii.gz") for f in raw.rglob("*_0000.nii.gz")}
        return {unit for unit, wanted in cases.items() if wanted <= written}

    names = {unit.name: (unit.name, unit.name.removeprefix("SC-")) for unit in chosen}
    return Trial(call, done, names, {unit.name for unit in units} - names.keys(), shared)


MODEL = Model(DATASET, *(NNUNET[i] for i in (3, 5, 7)))


def predict_images(bench: Bench, r: random.Random) -> Trial:
    from nnunet_cardiac.inference import predict as module

    source = bench.folder("images")
    good = bench.sources / "acdc" / "training" / "patient001" / "patient001_frame01.nii.gz"
    names = {}
    for i in range(PER_CALL):
        ending = ".nii.gz"
        shutil.copy(good, source / f"d{i}{ending}")
        m.damage_nifti(source / f"d{i}{ending}", r)
        names[f"d{i}"] = (f"d{i}{ending}", f"d{i}:", f"d{i} ")
    shutil.copy(good, source / "good.nii.gz")
    output = bench.place / "out"
    if "stages" not in vars(bench):
        bench.stages = module.load_stages(MODEL, [0], "checkpoint_final.pth", _cpu(), False, 0.5)
    bench.context.setattr(module, "load_stages", lambda *a, **k: bench.stages)

    def call():
        result = module.predict(source, output, MODEL, device="cpu", use_mirroring=False, clean_up=r.random() < 0.3)
        return result.problems + result.warnings

    return Trial(
        call,
        lambda: {f.name.removesuffix(".nii.gz") for f in output.glob("*.nii.gz")},
        names,
        {"good"},
        unforeseen="cannot be segmented",
    )


def _cpu():
    import torch

    return torch.device("cpu")


def predict_model(bench: Bench, r: random.Random) -> Trial:
    """A trained model's folder."""
    from nnunet_cardiac.inference.predict import predict

    source = bench.folder("images")
    shutil.copy(
        bench.sources / "acdc" / "training" / "patient001" / "patient001_frame01.nii.gz", source / "good.nii.gz"
    )
    results, place = _model_folder(bench)
    file = r.choice(
        [place / "plans.json", place / "plans.json", place / "dataset.json", place / "fold_0" / "checkpoint_final.pth"]
    )
    if file.suffix == ".pth":
        m.damage_checkpoint(file, r, bench.place / "run")
    else:
        m.damage_json(file, r)
    bench.context.setenv("nnUNet_results", str(results))
    output = bench.place / "out"

    def call():
        result = predict(source, output, MODEL, [0], device="cpu", use_mirroring=False)
        return result.problems + result.warnings

    return Trial(
        call, lambda: {"model"} if list(output.glob("good.*")) else set(),
        {"model": (file.name, "good", "images holds")}, forbidden=bench.place / "run",
    )  # fmt: skip


def _model_folder(bench: Bench) -> tuple[Path, Path]:
    results = bench.folder("results")
    place = results / DATASET / MODEL.name
    shutil.copytree(
        Path(os.environ["nnUNet_results"]) / DATASET / MODEL.name,
        place,
        ignore=shutil.ignore_patterns("validation", "*.png", "*best*"),
    )
    return results, place


def models(bench: Bench, r: random.Random) -> Trial:
    """A model's file."""
    from nnunet_cardiac.models.saved_model import sha256
    from nnunet_cardiac.models.store import find_model, install

    file = bench.copy("model.zip")
    if r.random() < 0.2:
        m.damage_bytes(file, r)
    else:
        folder = bench.folder("unpacked")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
        member = r.choice(sorted(f for f in folder.rglob("*") if f.is_file()))
        if member.suffix == ".json":
            m.damage_json(member, r)
        elif member.suffix == ".safetensors":
            m.damage_safetensors(member, r)
        else:
            m.damage_text(member, r)
        if member.name != "model.json" and r.random() < 0.9:  # an attacker knows the hashes
            described = json.loads((folder / "model.json").read_text())
            for path, entry in described["files"].items():
                entry |= {"bytes": (folder / path).stat().st_size, "sha256": sha256(folder / path)}
            (folder / "model.json").write_text(json.dumps(described))
        with zipfile.ZipFile(
            file, "w", r.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        ) as archive:
            for member in folder.rglob("*"):
                if member.is_file():
                    name = str(member.relative_to(folder))
                    archive.write(member, name if r.random() < 0.97 else r.choice(m.NAMES[2:6]) + name)
    if r.random() < 0.003:
        m.zip_bomb(file, "plans.json", 9_000_000_000)
    store = bench.place / "models"
    bench.context.setenv("NNUNET_CARDIAC_MODELS", str(store))

    def call():
        find_model(install(file).name)
        main(["models", "list"])
        return []

    return Trial(call, lambda: {"model"} if list(store.glob("[!.]*")) else set(), {"model": ("model.zip",)})


def evaluate(bench: Bench, r: random.Random) -> Trial:
    from nnunet_cardiac.evaluation.evaluate import evaluate, summary_text, write_evaluation

    source, names, good, shared, options = _segmentations(bench, r)
    places = source / "mine", source / "experts"
    found: list[str] = []

    def call():
        result = evaluate(*places, n_processes=1, **options)
        summary = write_evaluation(result, bench.place / "out", picture=False)
        summary_text(summary, result.anatomy)
        found.extend(result.metrics["case"])
        return result.problems + result.warnings

    return Trial(call, lambda: set(found), names, good, shared)


def measure(bench: Bench, r: random.Random) -> Trial:
    from nnunet_cardiac.evaluation.measure import measure, write_measurement

    source, names, good, shared, options = _segmentations(bench, r)
    found: list[str] = []

    def call():
        truth = source / "experts" if r.random() < 0.5 else None
        result = measure(source / "mine", truth, **options)
        write_measurement(result, bench.place / "out", picture=False)
        for table in (result.indices, result.reference):
            if table is not None and not found:
                found.extend(f"{patient}_{phase}" for patient in table.index for phase in ("ED", "ES"))
        return result.problems + result.warnings

    patients = {name[:-3]: name for name in names}
    names = {f"{p}_{phase}": (p,) for p in patients for phase in ("ED", "ES")}
    return Trial(call, lambda: set(found), names, good - names.keys(), shared)


def _segmentations(bench: Bench, r: random.Random):
    source = bench.folder("segmentations")
    cases = {}
    for side in ("mine", "experts"):
        (source / side).mkdir()
        for file in sorted((bench.sources / "acdc").rglob("*_gt.nii.gz")):
            phase = "ED" if file.name.endswith("frame01_gt.nii.gz") else "ES"
            case = f"{file.name[:10]}_{phase}"
            cases[case] = source / side / f"{case}.nii.gz"
            shutil.copy(file, cases[case])
    (source / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}, "file_ending": ".nii.gz"})
    )
    (source / "cases.csv").write_text(
        "case,patient,phase,group,vendor\n" + "".join(f"{c},{c[:-3]},{c[-2:]},NOR,GE\n" for c in sorted(cases))
    )
    names = {}
    for case in some(cases, r, PER_CALL):
        file = source / r.choice(("mine", "experts")) / f"{case}.nii.gz"
        m.damage_nifti(file, r)
        names[case] = (case,)
    shared: tuple[str, ...] = ()
    options: dict = {}
    if r.random() < 0.3:
        # of a damaged dataset.json, all that is told may be that its labels are not those of the files
        shared = (r.choice(("dataset.json", "cases.csv")), "known are")
        (m.damage_json if shared[0].endswith("json") else m.damage_text)(source / shared[0], r)
    elif r.random() < 0.2:
        (source / "dataset.json").unlink()
        options = {"labels": {"LV": (3,), "MYO": (2,), "RV": (1,)}}
    good = cases.keys() - names.keys()
    return source, names, good, shared, options


def cine_dicom(bench: Bench, r: random.Random) -> Trial:
    layout = r.choice(("ge", "siemens", "enhanced"))
    study = bench.copy(f"study_{layout}")
    files = some([f for f in study.rglob("*") if f.is_file()], r, r.choice((1, 3, PER_CALL)))
    if layout == "enhanced":
        files = files[:1]
    for file in files:
        m.damage_dicom(file, r)
    if r.random() < 0.1:  # all of them alike
        state = r.random()
        for file in sorted(f for f in study.rglob("*") if f.is_file()):
            m.damage_dicom(file, random.Random(state))
    return _cine(bench, r, study, tuple(f.name for f in files), bench.secrets)


def cine_nifti(bench: Bench, r: random.Random) -> Trial:
    study = bench.folder("study")
    shutil.copy(bench.sources / "cine.nii.gz", study / "cine.nii.gz")
    (study / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: NOR\nHeight: 171.0\nWeight: 70.0\n")
    m.damage_nifti(study / "cine.nii.gz", r)
    m.damage_text(study / "Info.cfg", r)
    return _cine(bench, r, study if r.random() < 0.5 else study / "cine.nii.gz", ("cine.nii.gz",), ())


def _cine(bench: Bench, r: random.Random, study: Path, names: tuple[str, ...], secrets: tuple[str, ...]) -> Trial:
    from nnunet_cardiac.cine.read import read_cine
    from nnunet_cardiac.cine.run import Options, load_segmenter, report_patient

    reports = r.random() < 0.1
    output = bench.place / "out"
    done: set[str] = set()
    if "segmenter" not in vars(bench):
        bench.segmenter = load_segmenter(MODEL, [0], use_mirroring=False)

    def call():
        if not reports and r.random() < 0.2:
            try:
                main(["cine", "-i", str(study), "--list"])
            except SystemExit as e:
                if str(study) not in str(e):
                    raise
        if not reports:
            cine = read_cine(study)
            done.add("study")
            return list(cine.problems)
        report_patient(study, output, bench.segmenter, Options())
        done.add("study")
        written = [f for f in output.rglob("*") if f.is_file() and f.suffix != ".gz"]
        return [f"{f.name}: {s}" for f in written for s in secrets if s.encode() in f.read_bytes()]

    return Trial(call, lambda: done, {"study": (*names, study.name)}, secrets=secrets)


def train(bench: Bench, r: random.Random) -> Trial:
    """Plans, splits, preprocessed images, a checkpoint to continue from."""

    preprocessed = bench.folder("preprocessed")
    origin = Path(os.environ["nnUNet_preprocessed"]) / DATASET
    target = preprocessed / DATASET
    target.mkdir()
    for file in origin.iterdir():
        if file.is_dir() and file.name != "nnUNetPlans_2d":
            (target / file.name).symlink_to(file)
        elif file.is_dir():
            shutil.copytree(file, target / file.name)
        else:
            shutil.copy(file, target / file.name)
    results = bench.folder("results")
    files = [
        target / name
        for name in (
            "nnUNetPlans.json",
            "nnUNetPlans.json",
            "dataset.json",
            "splits_final.json",
            "dataset_fingerprint.json",
        )
    ]
    files += some([*(target / "nnUNetPlans_2d").iterdir()], r, 2) + [
        results / DATASET / MODEL.name / "fold_0" / "checkpoint_latest.pth"
    ]
    file = r.choice(files)
    if file.suffix == ".pth":
        file.parent.mkdir(parents=True)
        shutil.copy(Path(os.environ["nnUNet_results"]) / DATASET / MODEL.name / "fold_0" / "checkpoint_final.pth", file)
        m.damage_checkpoint(file, r, bench.place / "run")
    else:
        (m.damage_json if file.suffix == ".json" else m.damage_bytes)(file, r)
    for name in ("preprocessed", "results"):
        bench.context.setenv(f"nnUNet_{name}", str(bench.place / name))
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    bench.context.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, npz=False: None)
    final = results / DATASET / MODEL.name / "fold_0" / "checkpoint_final.pth"

    def call():
        main(["train", *NNUNET, "-f", "0", "-device", "cpu", "--budget", "1"])
        return []

    return Trial(
        call,
        lambda: {"model"} if final.exists() else set(),
        {"model": (file.name, file.stem.removesuffix("_seg"))},
        forbidden=bench.place / "run",
    )


def plan_and_preprocess(bench: Bench, r: random.Random) -> Trial:
    """A raw data set, and what is left of an earlier plan."""
    raw, preprocessed = bench.folder("raw"), bench.folder("preprocessed")
    shutil.copytree(Path(os.environ["nnUNet_raw"]) / DATASET, raw / DATASET)
    origin = Path(os.environ["nnUNet_preprocessed"]) / DATASET
    files = [
        raw / DATASET / "dataset.json",
        raw / DATASET / "splits_final.json",
        *(raw / DATASET / "imagesTr").iterdir(),
    ]
    files += (raw / DATASET / "labelsTr").iterdir()
    if r.random() < 0.3:
        (preprocessed / DATASET).mkdir()
        for name in ("dataset_fingerprint.json", "nnUNetPlans.json", "splits_final.json"):
            shutil.copy(origin / name, preprocessed / DATASET)
        files = [
            preprocessed / DATASET / name
            for name in ("dataset_fingerprint.json", "nnUNetPlans.json", "splits_final.json")
        ]
    file = r.choice(sorted(files))
    {".gz": m.damage_nifti, ".json": m.damage_json}[file.suffix](file, r)
    for name in ("raw", "preprocessed"):
        bench.context.setenv(f"nnUNet_{name}", str(bench.place / name))
    done: set[str] = set()

    def call():
        main(["plan_and_preprocess", "-d", "27", "-pl", "ExperimentPlanner", "--small", "16", "-c", "2d"])
        done.add("data")
        return []

    return Trial(call, lambda: done, {"data": (file.name, file.name.split("_0000")[0])})


def cost(bench: Bench, r: random.Random) -> Trial:
    preprocessed = bench.folder("preprocessed")
    origin, target = Path(os.environ["nnUNet_preprocessed"]) / DATASET, preprocessed / DATASET
    target.mkdir()
    for file in origin.iterdir():
        (target / file.name).symlink_to(file) if file.is_dir() else shutil.copy(file, target / file.name)
    file = target / r.choice(
        ("dataset_fingerprint.json", "dataset.json", "splits_final.json", "dataset_fingerprint.json")
    )
    m.damage_json(file, r)
    bench.context.setenv("nnUNet_preprocessed", str(preprocessed))
    done: set[str] = set()

    def call():
        main(
            [
                "cost",
                "-d",
                "27",
                "--contenders",
                "nnunet_2d",
                "--small",
                "16",
                "-device",
                "cpu",
                "--steps",
                "1",
                "--cases",
                "0",
            ]
        )
        done.add("data")
        return []

    return Trial(call, lambda: done, {"data": (file.name,)})


CONTENDERS = ("nnunet_2d", "e2aunet", "crocnet", "dadu")


def report(bench: Bench, r: random.Random) -> Trial:
    """A benchmark's folder: what all contenders share, or a file of each but the baseline."""
    import gc

    from markupsafe import Markup

    from nnunet_cardiac.benchmark import report as module
    from nnunet_cardiac.benchmark import sections
    from nnunet_cardiac.benchmark.folder import BenchmarkFolder
    from nnunet_cardiac.evaluation import statistics

    folder = bench.copy("benchmark")
    settings = BenchmarkFolder(folder).read_settings()
    names: dict[str, tuple[str, ...]] = {}
    shared: tuple[str, ...] = ()
    good = set(CONTENDERS)
    if r.random() < 0.2:
        m.damage_json(folder / "settings.json", r)
        # with the name of another model in them, or without a contender, settings are in order
        shared = ("settings.json", "takes no part", "no finished fold", "its training has not finished")
        good = {name for name in good if f'"{name}"' in (folder / "settings.json").read_text(errors="replace")}
    else:
        for name in CONTENDERS[1:]:
            model = settings.model(settings.contenders[name]).name
            file = r.choice(sorted(f for f in folder.rglob("*") if f.is_file() and model in str(f)))
            (m.damage_json if file.suffix == ".json" else m.damage_text)(file, r)
            names[name] = (file.name, name)
    for name in ("distributions", "bland_altman", "dice_against_cost", "learning_curves"):
        bench.context.setattr(sections, name, lambda *arguments, **options: None)
    bench.context.setattr(sections, "_embed", lambda figure, svg: Markup(""))
    bench.context.setattr(statistics, "DRAWS", 20)
    bench.context.setattr(gc, "collect", lambda *arguments: 0)  # statsmodels does, all the time
    done: set[str] = set()

    def call():
        result = module.write_report(folder)
        done.update(name for name in CONTENDERS if f"{name} " in result.text)
        return result.problems

    return Trial(call, lambda: done, names, good - names.keys(), shared)


def benchmark(bench: Bench, r: random.Random) -> Trial:
    folder = bench.copy("benchmark")
    preprocessed = bench.folder("preprocessed")
    (preprocessed / DATASET).mkdir()
    shutil.copy(Path(os.environ["nnUNet_preprocessed"]) / DATASET / "splits_final.json", preprocessed / DATASET)
    more = bench.place / "more.yaml"
    more.write_text(
        "mine: {planner: ExperimentPlanner, plans: nnUNetPlans, configuration: 2d, trainer: nnUNetTrainer}\n"
    )
    file = r.choice(
        [
            folder / "settings.json",
            folder / "settings.json",
            preprocessed / DATASET / "splits_final.json",
            more,
            more,
            *folder.rglob("*.json"),
        ]
    )
    (m.damage_text if file == more else m.damage_json)(file, r)
    bench.context.setenv("nnUNet_preprocessed", str(preprocessed))
    done: set[str] = set()

    def call():
        main([
            "benchmark", "-d", "27", "--contenders", "nnunet_2d", "mine", "--contenders_file", str(more), "-f", "0",
            "-device", "cpu", "-o", str(folder), "--dry_run",
        ])  # fmt: skip
        done.add("jobs")
        return []

    return Trial(call, lambda: done, {"jobs": (file.name, "holds a benchmark with")})


def write_benchmark(folder: Path, sources: Path) -> None:
    """A benchmark of nnU-Net's baseline that has finished a fold."""
    from nnunet_cardiac.benchmark.contenders import BUILT_IN
    from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
    from nnunet_cardiac.benchmark.settings import Settings
    from nnunet_cardiac.evaluation.evaluate import evaluate, write_evaluation
    from nnunet_cardiac.evaluation.measure import measure, write_measurement
    from nnunet_cardiac.system import versions

    settings = Settings(DATASET, [0], "nnunet_2d", {name: BUILT_IN[name] for name in CONTENDERS}, device="cpu")
    place = BenchmarkFolder(folder)
    place.write_settings(settings)
    place.write_workflow({})
    labels = folder / "labels"
    labels.mkdir()
    for file in sorted((sources / "acdc").rglob("patient00[1-3]*_gt.nii.gz")):
        phase = "ED" if file.name.endswith("frame01_gt.nii.gz") else "ES"
        shutil.copy(file, labels / f"{file.name[:10]}_{phase}.nii.gz")
    named = {"RV": 1, "MYO": 2, "LV": 3}
    cost = {
        "steps": 4, "seconds": 3.0, "peak_memory_GB": 1.0, "peak_memory_of": "process", "hardware": "none", "seed": 0,
        "versions": versions(), "budget": None, "initial_lr": 0.01, "is_own_rate": True, "bfloat16": False,
        "chosen_on": None, "plans": "nnUNetPlans", "configuration": "2d", "network": "Network", "batch_size": 2,
        "features_per_stage": [4, 8], "spacing": [1.5, 1.5], "patch_size": [32, 32],
    }  # fmt: skip
    evaluation, measurement = (
        evaluate(labels, labels, n_processes=1, labels=named),
        measure(labels, labels, labels=named),
    )
    for contender in settings.contenders.values():
        model = settings.model(contender)
        output = place.evaluation(model, 0)
        write_evaluation(evaluation, output, picture=False)
        write_measurement(measurement, output, picture=False)
        place.finish(
            Job("plan", model.plans),
            {"previous_stages": {model.configuration: None}, "configurations": [model.configuration], "seconds": 1},
        )
        place.finish(
            Job("train", model.name, 0),
            {"cost": cost, "curve": {"mean_fg_dice": [0.1, 0.2], "train_losses": [1, 1], "val_losses": [1, 1]}},
        )
        place.finish(Job("evaluate", model.name, 0), {"cases": 4, "problems": []})
        place.finish(
            Job("cost", model.name), {"parameters": 5, "flops_per_slice": 6, "prediction_seconds_per_case": 1.0}
        )
    shutil.rmtree(labels)


TRIALS: dict[str, Callable[[Bench, random.Random], Trial]] = {
    f.__name__: f
    for f in (
        convert_acdc, convert_mnms2, convert_lvquan19, convert_sunnybrook, plan_and_preprocess, train, predict_images,
        predict_model, evaluate, measure, cine_dicom, cine_nifti, models, report, cost, benchmark,
    )
}  # fmt: skip
SLOW = {"plan_and_preprocess", "cost", "report"}
"""A call takes seconds, so only ``make fuzz`` tries them."""
