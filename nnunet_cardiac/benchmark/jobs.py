"""The jobs of a benchmark: ``python -m nnunet_cardiac.benchmark.jobs JOB ...`` in the benchmark's folder.

A job does nothing that is done already, and writes its record last. When it fails, the reason is left for the report.
``JOB`` is ``plan``, ``train``, ``evaluate`` or ``cost``, as the workflow starts them, or ``ready``: the worker, which
does every job that takes no training, one after the other in one process.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from nnunet_cardiac.benchmark.folder import KINDS, BenchmarkFolder, Job
from nnunet_cardiac.benchmark.gpus import own_gpu, visible_gpus
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.environment import check_trainer, folder, load_plans
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model, previous_stages
from nnunet_cardiac.texts import write_rows

CASES_TIMED = 4
"""Cases, at most, that prediction is timed on."""


def plan(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Plans and preprocessed data; what exists is kept. Records configurations, and every stage before another."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess

    members = [c for c in settings.contenders.values() if settings.plans_name(c.plans) == job.name]
    configurations = sorted({c.configuration for c in members})
    started = time.monotonic()
    wrong = {}
    for configuration in configurations:
        try:
            plan_and_preprocess(
                settings.dataset, members[0].planner, [configuration], settings.gpu_memory_target,
                size=settings.size, plans_name=job.name, n_processes=default_num_processes, keep_plans=True,
            )  # fmt: skip
        except UserError as e:  # the configuration's own training will fail by it, the others go on
            wrong[configuration] = e
    if len(wrong) == len(configurations):
        raise next(iter(wrong.values()))
    planned = next(configuration for configuration in configurations if configuration not in wrong)
    return {
        "previous_stages": previous_stages(load_plans(settings.dataset, job.name, planned)),
        "configurations": configurations,
        "seconds": round(time.monotonic() - started, 1),
    }


def train(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """One fold of one stage. Records what it cost, and its learning curve."""
    from nnunet_cardiac.training import train as training
    from nnunet_cardiac.training.training_cost import COST_FILE

    model, fold = job.model_and_fold(settings.dataset)
    load_plans(model.dataset, model.plans, model.configuration)
    check_trainer(model.trainer)
    training.train(model, [fold], settings.device, budget=settings.budget, compile_on_cpu=settings.compile_on_cpu)
    place = benchmark.fold_folder(settings, model, fold)
    cost_file = place / COST_FILE
    cost = json.loads(cost_file.read_text()) if cost_file.is_file() else {}
    if settings.budget and cost.get("budget") != settings.budget:
        raise UserError(
            f"{place} was trained with a budget of {cost.get('budget')} steps, not {settings.budget}: move it away."
        )
    return {"cost": cost, "curve": _learning_curve(place / "checkpoint_final.pth")}


def _learning_curve(checkpoint: Path) -> dict[str, list[float]]:
    from nnunet_cardiac.training.trust import load_checkpoint

    logging = load_checkpoint(checkpoint)["logging"]
    return {key: [float(v) for v in logging[key]] for key in ("train_losses", "val_losses", "mean_fg_dice")}


def evaluate(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """The validation cases of one fold: tables of metrics, anatomy, clinical indices and the crop."""
    from nnunet_cardiac.evaluation.evaluate import evaluate, write_evaluation
    from nnunet_cardiac.evaluation.measure import measure, write_measurement

    model, fold = job.model_and_fold(settings.dataset)
    raw, preprocessed = (folder(f"nnUNet_{name}") / settings.dataset for name in ("raw", "preprocessed"))
    cases = json.loads((preprocessed / "splits_final.json").read_text())[fold]["val"]
    table = raw / "cases.csv" if (raw / "cases.csv").is_file() else None
    predictions = benchmark.fold_folder(settings, model, fold) / "validation"
    truth, output = preprocessed / "gt_segmentations", benchmark.evaluation(model, fold)
    result = evaluate(predictions, truth, raw / "dataset.json", table, cases, n_processes=1)
    write_evaluation(result, output, picture=False)
    problems = result.problems
    try:
        measurement = measure(predictions, truth, raw / "dataset.json", table)
        write_measurement(measurement, output, picture=False)
        problems += measurement.problems
    except UserError as e:  # no ventricles, or no phases
        print(f"No clinical indices: {e}")
    _evaluate_crop(benchmark, settings, model, cases, output / "crop.csv")
    return {"cases": len(cases), "problems": problems}


def _evaluate_crop(benchmark: BenchmarkFolder, settings: Settings, model: Model, cases: list[str], table: Path) -> None:
    """What the last stage of a cascade gets to see of the heart; nothing for a model without a crop."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_cardiac.evaluation.crop import evaluate_crop

    *before, _ = model.stages(benchmark.previous_stages(model.plans) or {})
    if not before:
        return
    preprocessed = folder("nnUNet_preprocessed") / settings.dataset
    plans = PlansManager(str(preprocessed / f"{model.plans}.json"))
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    stage = benchmark.results(settings) / model.dataset / before[-1].name
    result = evaluate_crop(preprocessed, stage, plans, dataset_json, model.configuration, cases)
    if result is not None:
        write_rows(table, result, index=False)


def cost(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Parameters, FLOPs of a slice and prediction time of a case, all stages of the model together."""
    import torch

    from nnunet_cardiac.cost.network_cost import network_cost

    if threads := int(os.environ.get("OMP_NUM_THREADS", 0)):
        torch.set_num_threads(threads)
    model = Model.named(settings.dataset, job.name)
    fold = next(f for f in settings.folds if benchmark.record(Job("train", model.name, f)).is_file())
    return network_cost(model, fold, settings.device, CASES_TIMED)


JOBS: dict[str, Callable[[BenchmarkFolder, Settings, Job], dict]] = {
    "plan": plan, "train": train, "evaluate": evaluate, "cost": cost,
}  # fmt: skip
"""What makes the record of a job, by its kind."""


def run(benchmark: BenchmarkFolder, job: Job, gpu_of_its_own: bool = False) -> bool:
    """Does a job, unless it is done by now, and leaves its record or the reason why it failed.

    Args:
        benchmark: where
        job: which
        gpu_of_its_own: wait for a GPU that no other job of this machine has

    Returns:
        whether it is done
    """
    with ExitStack() as stack:
        stack.enter_context(benchmark.locked(job))
        if Schedule.of_call(benchmark, benchmark.read_workflow()).states().get(job) == "done":
            return True  # by a job of an earlier call, which was still running
        benchmark.begin(job)
        if gpu_of_its_own:
            stack.enter_context(own_gpu(benchmark.gpus, visible_gpus()))
        try:
            record = JOBS[job.kind](benchmark, benchmark.read_settings(), job)
        except Exception as e:
            traceback.print_exc()
            benchmark.fail(job, str(e) if isinstance(e, UserError) else f"{type(e).__name__}: {e}")
            return False
        benchmark.finish(job, record)
    return True


def run_ready(benchmark: BenchmarkFolder) -> None:
    """The worker: does all jobs that take no training, also those that become possible by them."""
    schedule, settings = Schedule.of_call(benchmark, benchmark.read_workflow()), benchmark.read_settings()
    while True:
        ready = (job for job, state in schedule.states().items() if state == "ready")
        job = next((job for job in ready if not takes_training(benchmark, settings, job)), None)
        benchmark.set_running(job)
        if job is None:
            return
        with output_to(benchmark.log(job)):
            run(benchmark, job)


def run_following(benchmark: BenchmarkFolder, trained: Job) -> None:
    """Does what has become possible for a model and fold that have just been trained: evaluation and cost."""
    for job, state in Schedule.of_call(benchmark, benchmark.read_workflow()).states().items():
        if state == "ready" and job.name == trained.name and job.fold in (None, trained.fold):
            with output_to(benchmark.log(job)):
                run(benchmark, job)


def takes_training(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> bool:
    """Whether a job that is ready has something to train. One that must fail, for want of a configuration, has not."""
    if job.kind != "train":
        return False
    model, fold = job.model_and_fold(settings.dataset)
    try:
        load_plans(model.dataset, model.plans, model.configuration)
    except UserError:
        return False
    place = benchmark.fold_folder(settings, model, fold)
    return not all((place / file).is_file() for file in ("checkpoint_final.pth", "validation/summary.json"))


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Sends all that this process prints to a file, what comes from other languages and child processes too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", buffering=1, encoding="utf-8") as file, ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            before = os.dup(descriptor)
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, descriptor)
            os.dup2(file.fileno(), descriptor)
        stack.callback(file.flush)
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(redirect_stderr(file))
        yield


def main(arguments: list[str] | None = None) -> None:
    """Runs one job, or the worker, in the current folder. Exits with 1 when a job fails; the worker does not."""
    parser = argparse.ArgumentParser("nnunet_cardiac.benchmark.jobs", description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=(*KINDS, "ready"))
    parser.add_argument("name", nargs="?", help="plans or model")
    parser.add_argument("fold", nargs="?", type=int)
    parser.add_argument("--own_gpu", action="store_true", help="wait for a GPU that no other job of this machine has")
    parser.add_argument("--follow_up", action="store_true", help="after a training, evaluate it and measure its cost")
    options = parser.parse_args(arguments)
    benchmark = BenchmarkFolder(Path.cwd())
    benchmark.use_results(benchmark.read_settings())
    if options.job == "ready":
        run_ready(benchmark)
        return
    job = Job(options.job, options.name, options.fold)
    if not run(benchmark, job, options.own_gpu):
        sys.exit(1)
    if options.follow_up:
        run_following(benchmark, job)


if __name__ == "__main__":
    main()
