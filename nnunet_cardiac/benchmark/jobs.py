"""The jobs of a benchmark, as the workflow starts them: ``python -m nnunet_cardiac.benchmark.jobs JOB ...``.

Each runs in the benchmark's folder, does nothing that is done already, and writes its record last. What goes wrong is
left beside it as ``.failed``, for the report.
"""

import argparse
import fcntl
import json
import os
import shutil
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from nnunet_cardiac.benchmark import settings as benchmark_settings
from nnunet_cardiac.benchmark.gpus import own_gpu, visible_gpus
from nnunet_cardiac.benchmark.settings import Settings, write_json
from nnunet_cardiac.environment import check_trainer, folder, load_plans
from nnunet_cardiac.errors import UserError

HERE = Path(".")
CASES_TIMED = 4
"""Cases, at most, that prediction is timed on."""


def record_file(benchmark: Path, *job: str | int) -> Path:
    """Record of a job: ("plan", PLANS), ("train", MODEL, FOLD), ("evaluate", MODEL, FOLD) or ("cost", MODEL)."""
    kind, name, *fold = job
    place = benchmark / "jobs" / kind / name
    return place / f"fold_{fold[0]}.json" if fold else place.with_name(f"{name}.json")


def plan(settings: Settings, plans_name: str) -> dict:
    """Plans and preprocessed data; what exists is kept. Records configurations, and every stage before another."""
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess

    members = [c for c in settings.contenders.values() if settings.plans_name(c.plans) == plans_name]
    started = time.monotonic()
    wrong = {}
    for configuration in sorted({c.configuration for c in members}):
        try:
            plan_and_preprocess(
                settings.dataset, members[0].planner, [configuration], settings.gpu_memory_target,
                small=settings.small, plans_name=plans_name, n_processes=default_num_processes, keep_plans=True,
            )  # fmt: skip
        except UserError as e:  # the configuration's own training will fail by it, the others go on
            wrong[configuration] = e
    if len(wrong) == len({c.configuration for c in members}):
        raise next(iter(wrong.values()))
    manager = PlansManager(str(folder("nnUNet_preprocessed") / settings.dataset / f"{plans_name}.json"))
    stages = {
        name: manager.get_configuration(name).previous_stage_name
        for name in manager.available_configurations
        if "architecture" in manager.get_configuration(name).configuration
    }
    configurations = sorted({c.configuration for c in members})
    return {
        "previous_stages": stages,
        "configurations": configurations,
        "seconds": round(time.monotonic() - started, 1),
    }


def train(settings: Settings, model: str, fold: int) -> dict:
    """One fold of one stage. Records what it cost, and its learning curve."""
    from nnunet_cardiac.training import run
    from nnunet_cardiac.training.cost import COST_FILE

    trainer, plans_name, configuration = model.split("__")
    load_plans(settings.dataset, plans_name, configuration)
    check_trainer(trainer)
    run.train(settings.dataset, trainer, plans_name, configuration, [fold], settings.device, budget=settings.budget)
    place = folder("nnUNet_results") / settings.dataset / model / f"fold_{fold}"
    cost_file = place / COST_FILE
    cost = json.loads(cost_file.read_text()) if cost_file.is_file() else {}
    if settings.budget and cost.get("budget") != settings.budget:
        raise UserError(
            f"{place} was trained with a budget of {cost.get('budget')} steps, not {settings.budget}: move it away."
        )
    return {"cost": cost, "curve": _learning_curve(place / "checkpoint_final.pth")}


def _learning_curve(checkpoint: Path) -> dict[str, list[float]]:
    import torch

    logging = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]
    return {key: [float(v) for v in logging[key]] for key in ("train_losses", "val_losses", "mean_fg_dice")}


def evaluate(settings: Settings, model: str, fold: int) -> dict:
    """The validation cases of one fold: metrics, anatomy and clinical indices, as tables in ``evaluation/``."""
    from nnunet_cardiac.evaluation.evaluate import evaluate, write_evaluation
    from nnunet_cardiac.evaluation.measure import measure, write_measurement

    raw, preprocessed = (folder(f"nnUNet_{name}") / settings.dataset for name in ("raw", "preprocessed"))
    cases = json.loads((preprocessed / "splits_final.json").read_text())[fold]["val"]
    predictions = folder("nnUNet_results") / settings.dataset / model / f"fold_{fold}" / "validation"
    truth, output = preprocessed / "gt_segmentations", HERE / "evaluation" / model / f"fold_{fold}"
    table = raw / "cases.csv" if (raw / "cases.csv").is_file() else None
    result = evaluate(predictions, truth, raw / "dataset.json", table, cases, n_processes=1)
    write_evaluation(result, output, picture=False)
    problems = result.problems
    try:
        measurement = measure(predictions, truth, raw / "dataset.json", table)
        write_measurement(measurement, output, picture=False)
        problems += measurement.problems
    except UserError as e:  # no ventricles, or no phases
        print(f"No clinical indices: {e}")
    _evaluate_crop(settings, model, cases, output / "crop.csv")
    return {"cases": len(cases), "problems": problems}


def _evaluate_crop(settings: Settings, model: str, cases: list[str], table: Path) -> None:
    """What the last stage of a cascade gets to see of the heart; nothing for a model without a crop."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_cardiac.evaluation.crop import evaluate_crop

    trainer, plans_name, configuration = model.split("__")
    preprocessed = folder("nnUNet_preprocessed") / settings.dataset
    plans = PlansManager(str(preprocessed / f"{plans_name}.json"))
    previous = plans.get_configuration(configuration).previous_stage_name
    if previous is not None:
        stage = folder("nnUNet_results") / settings.dataset / f"{trainer}__{plans_name}__{previous}"
        dataset_json = json.loads((preprocessed / "dataset.json").read_text())
        result = evaluate_crop(preprocessed, stage, plans, dataset_json, configuration, cases)
        if result is not None:
            result.to_csv(table, index=False)


def cost(settings: Settings, model: str) -> dict:
    """Parameters, FLOPs of a slice and prediction time of a case, all stages of the model together."""
    import torch

    from nnunet_cardiac.benchmark.cost import flops_per_slice, middle_slice
    from nnunet_cardiac.inference.predict import load_stages, predict
    from nnunet_cardiac.training.cost import hardware, peak_process_memory, versions

    trainer, plans_name, configuration = model.split("__")
    device = torch.device(settings.device)
    fold = next(f for f in settings.folds if record_file(HERE, "train", model, f).is_file())
    threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    if threads:
        torch.set_num_threads(threads)
    arguments = (settings.dataset, trainer, plans_name, configuration, [fold])
    stages = load_stages(*arguments, "checkpoint_final.pth", device, True, 0.5)
    case, image, labels = middle_slice(settings.dataset, stages[0].plans, stages[0].configuration, fold)
    record = {
        "parameters": sum(p.numel() for stage in stages for p in stage.predictor.network.parameters()),
        "flops_per_slice": sum(flops_per_slice(stage, image, labels) for stage in stages),
        "flops_of": f"{case}, {' x '.join(map(str, image.shape[1:]))} pixels",
    }
    images = _some_images(settings, fold)
    target = HERE / "scratch" / model
    result = predict(images, target, *arguments, device=settings.device, overwrite=True)
    shutil.rmtree(images)
    shutil.rmtree(target)
    if not result.segmented:
        raise UserError(f"No case was left to time the prediction on: {' '.join(result.problems)}")
    return record | {
        "prediction_seconds_per_case": result.seconds / len(result.segmented),
        "prediction_cases": len(result.segmented),
        "prediction_peak_memory_GB": (
            torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else peak_process_memory()
        ),
        "hardware": hardware(device),
        "versions": versions(),
    }


def _some_images(settings: Settings, fold: int) -> Path:
    """A folder with links to the images of a few validation cases."""
    raw, preprocessed = (folder(f"nnUNet_{name}") / settings.dataset for name in ("raw", "preprocessed"))
    cases = json.loads((preprocessed / "splits_final.json").read_text())[fold]["val"][:CASES_TIMED]
    place = HERE / "scratch" / f"images_{os.getpid()}"
    place.mkdir(parents=True)
    for case in cases:
        for image in raw.glob(f"imagesTr/{case}_[0-9][0-9][0-9][0-9].*"):
            (place / image.name).symlink_to(image.resolve())
    return place


def main(arguments: list[str] | None = None) -> None:
    """Runs one job in the current folder. Exits with 1 where it fails."""
    parser = argparse.ArgumentParser("nnunet_cardiac.benchmark.jobs", description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("plan", "train", "evaluate", "cost"))
    parser.add_argument("name", help="plans or model")
    parser.add_argument("fold", nargs="?", type=int)
    parser.add_argument("--own_gpu", action="store_true", help="wait for a GPU that no other job of this machine has")
    options = parser.parse_args(arguments)
    job = [options.name] + ([] if options.fold is None else [options.fold])
    settings = benchmark_settings.read(HERE)
    settings.use_results_folder(HERE.resolve())
    record = record_file(HERE, options.job, *job)
    record.parent.mkdir(parents=True, exist_ok=True)
    failed = record.with_suffix(".failed")
    with ExitStack() as stack:
        # a job that outlived the workflow that started it is not disturbed, but waited for
        lock = stack.enter_context(open(record.with_suffix(".lock"), "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        if options.own_gpu:
            stack.enter_context(own_gpu(HERE / "gpus", visible_gpus()))
        try:
            content = globals()[options.job](settings, *job)
        except Exception as e:
            traceback.print_exc()
            failed.write_text(str(e) if isinstance(e, UserError) else f"{type(e).__name__}: {e}")
            sys.exit(1)
    failed.unlink(missing_ok=True)
    write_json(content, record)


if __name__ == "__main__":
    main()
