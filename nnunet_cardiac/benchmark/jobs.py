"""The jobs of a benchmark: ``python -m nnunet_cardiac.benchmark.jobs JOB ...`` in the benchmark's folder.

A job does nothing that is done already, and writes its record last. When it fails, the reason is left for the report.
``JOB`` is ``plan``, ``tune``, ``train``, ``evaluate``, ``cost`` or ``test``, as the workflow starts them, or ``ready``:
the worker, which does every job that takes no training, one after the other in one process.
"""

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nnunet_cardiac.architectures.architecture import Contender
from nnunet_cardiac.benchmark.folder import KINDS, BenchmarkFolder, Job
from nnunet_cardiac.benchmark.gpus import own_gpu, visible_gpus
from nnunet_cardiac.benchmark.schedule import Schedule, first_seed
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.environment import check_trainer, folder, load_plans, preprocessed_splits
from nnunet_cardiac.errors import UserError, sentence
from nnunet_cardiac.files import write_json
from nnunet_cardiac.lock import waiting
from nnunet_cardiac.model import CHECKPOINT, Model, previous_stages
from nnunet_cardiac.processes import Stopped, kill_children, stopped_by_signals
from nnunet_cardiac.system import omp_threads
from nnunet_cardiac.texts import read_json, write_rows

CASES_TIMED = 4
"""Cases, at most, that prediction is timed on."""


def plan(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Plans and preprocessed data; what exists is kept. Records configurations, and every stage before another."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_cardiac.planners.plan_and_preprocess import follows_paper, plan_and_preprocess

    started = time.monotonic()
    if original := settings.copied_plans().get(job.name):
        return _copy_plans(settings.dataset, original, job.name) | (benchmark.read_record(Job("plan", original)) or {})
    members = [c for c in settings.contenders.values() if settings.plans_name(c.plans) == job.name]
    configurations = sorted({c.configuration for c in members})
    wrong = {}
    for configuration in configurations:
        try:
            plan_and_preprocess(
                settings.dataset, members[0].planner, [configuration], settings.gpu_memory_target,
                paper=settings.paper and follows_paper(members[0].planner), size=settings.size, plans_name=job.name,
                n_processes=default_num_processes, keep_plans=True,
            )  # fmt: skip
        except UserError as e:  # the configuration's own training will fail by it, the others go on
            wrong[configuration] = e
    if len(wrong) == len(configurations):
        raise next(iter(wrong.values()))
    if members[0].matched_to:
        _match(settings, members[0])
    planned = next(configuration for configuration in configurations if configuration not in wrong)
    return {
        "previous_stages": previous_stages(load_plans(settings.dataset, job.name, planned)),
        "configurations": configurations,
        "seconds": round(time.monotonic() - started, 1),
    }


def _match(settings: Settings, baseline: Contender) -> None:
    """Gives a baseline's plans the cost of the contender that it is matched to."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_cardiac.planners.matched import match

    other = settings.model(settings.contenders[baseline.matched_to])
    plans = load_plans(settings.dataset, other.plans, other.configuration)
    file = folder("nnUNet_preprocessed") / settings.dataset / f"{settings.plans_name(baseline.plans)}.json"
    stages = [stage.configuration for stage in other.stages(previous_stages(plans))]
    match(str(file), baseline.configuration, baseline.matched_to, PlansManager(plans), stages, settings.match)


def _copy_plans(dataset: str, original: str, copy: str) -> dict:
    """Plans under another name: of the same preprocessed images, and for models of their own."""
    place = folder("nnUNet_preprocessed") / dataset
    plans = read_json(place / f"{original}.json") | {"plans_name": copy}
    write_json(plans, place / f"{copy}.json")
    return {"copy_of": original}


def tune(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Short runs of one fold of one stage, on a part of its training cases. Records every rate's Dice and the best."""
    from nnunet_cardiac.training.inner_split import inner_split
    from nnunet_cardiac.training.learning_rate_search import search_learning_rate
    from nnunet_cardiac.training.training_cost import COST_FILE

    model, fold = job.model_and_fold(settings.dataset)
    load_plans(model.dataset, model.plans, model.configuration)
    check_trainer(model.trainer)
    place = benchmark.search(model, fold)
    cases = preprocessed_splits(settings.dataset)[fold]["train"]
    dice = search_learning_rate(
        model, fold, inner_split(settings.dataset, cases), settings.lr_factors, settings.search_steps, place,
        settings.training_options(model.plans),
    )  # fmt: skip
    costs = [read_json(file) for file in place.rglob(COST_FILE)]
    shutil.rmtree(place)  # after another training of the stage before, nothing of it holds
    return {
        "initial_lr": max(dice, key=lambda rate: dice[rate]),
        "dice": {f"{rate:g}": round(value, 4) for rate, value in dice.items()},
        "steps": settings.search_steps * len(dice),
        "seconds": round(sum(cost["seconds"] for cost in costs), 3),
    }


def train(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """One fold of one stage. Records what it cost, and its learning curve."""
    from nnunet_cardiac.training import train as training
    from nnunet_cardiac.training.training_cost import COST_FILE

    model, fold = job.model_and_fold(settings.dataset)
    load_plans(model.dataset, model.plans, model.configuration)
    check_trainer(model.trainer)
    options = settings.training_options(model.plans)
    if settings.lr_factors:
        first = first_seed(model, settings.copied_plans())
        found = benchmark.read_record(Job("tune", first.name, fold)) or {}
        options = replace(options, initial_lr=found["initial_lr"])
    training.train(model, [fold], options, as_found=True)  # the report says so of those that differ
    place = benchmark.fold_folder(settings, model, fold)
    cost_file = place / COST_FILE
    cost = read_json(cost_file) if cost_file.is_file() else {}
    if settings.budget and cost.get("budget") != settings.budget:
        raise UserError(
            f"{place} was trained with a budget of {cost.get('budget')} steps, not {settings.budget}: move it away."
        )
    return {"cost": cost, "curve": _learning_curve(place / CHECKPOINT)}


def _learning_curve(checkpoint: Path) -> dict[str, list[float]]:
    from nnunet_cardiac.training.trust import load_checkpoint

    logging = load_checkpoint(checkpoint)["logging"]
    return {key: [float(v) for v in logging[key]] for key in ("train_losses", "val_losses", "mean_fg_dice")}


def evaluate(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """The validation cases of one fold: tables of metrics, anatomy, clinical indices and the crop."""
    from nnunet_cardiac.benchmark.protocols import evaluate_cases

    model, fold = job.model_and_fold(settings.dataset)
    raw, preprocessed = (folder(f"nnUNet_{name}") / settings.dataset for name in ("raw", "preprocessed"))
    cases = preprocessed_splits(settings.dataset)[fold]["val"]
    predictions = benchmark.fold_folder(settings, model, fold) / "validation"
    truth, output = preprocessed / "gt_segmentations", benchmark.evaluation(model, fold)
    problems = evaluate_cases(predictions, truth, raw / "dataset.json", output, cases)
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
    dataset_json = read_json(preprocessed / "dataset.json")
    stage = benchmark.results(settings) / model.dataset / before[-1].name
    result = evaluate_crop(preprocessed, stage, plans, dataset_json, model.configuration, cases)
    if result is not None:
        write_rows(table, result, index=False)


def test(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """A test beyond the held-out cases. Records what is missing."""
    from nnunet_cardiac.benchmark import protocols

    model = Model.named(settings.dataset, job.name)
    folds = [fold for fold in settings.folds if benchmark.record(Job("train", model.name, fold)).is_file()]
    problems = protocols.test(benchmark, replace(settings, folds=folds), model, str(job.where))
    return {"problems": problems, "folds": folds, "corruptions": settings.corruptions}


def cost(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> dict:
    """Parameters, FLOPs of a slice and prediction time of a case, all stages of the model together."""
    import torch

    from nnunet_cardiac.cost.network_cost import network_cost

    if threads := omp_threads():
        torch.set_num_threads(threads)
    model = Model.named(settings.dataset, job.name)
    fold = next(f for f in settings.folds if benchmark.record(Job("train", model.name, f)).is_file())
    return network_cost(model, fold, settings.device, CASES_TIMED)


JOBS: dict[str, Callable[[BenchmarkFolder, Settings, Job], dict]] = {
    "plan": plan, "tune": tune, "train": train, "evaluate": evaluate, "cost": cost, "test": test,
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
            benchmark.fail(job, sentence(e) or f"{type(e).__name__}: {e}")
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
        if state == "ready" and job.name == trained.name and job.fold in (None, trained.fold) and job.kind != "tune":
            with output_to(benchmark.log(job)):
                run(benchmark, job)


def takes_training(benchmark: BenchmarkFolder, settings: Settings, job: Job) -> bool:
    """Whether a job that is ready has something to train. One that must fail, for want of a configuration, has not."""
    if job.kind not in ("tune", "train"):
        return False
    model, fold = job.model_and_fold(settings.dataset)
    try:
        load_plans(model.dataset, model.plans, model.configuration)
    except UserError:
        return False
    place = benchmark.fold_folder(settings, model, fold)
    return job.kind == "tune" or not all((place / file).is_file() for file in (CHECKPOINT, "validation/summary.json"))


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
    parser.add_argument("part", nargs="?", help="fold, or what a test is on")
    parser.add_argument("--own_gpu", action="store_true", help="wait for a GPU that no other job of this machine has")
    parser.add_argument("--follow_up", action="store_true", help="after a training, evaluate it and measure its cost")
    options = parser.parse_args(arguments)
    benchmark = BenchmarkFolder(Path.cwd())
    benchmark.use_results(benchmark.read_settings())
    try:
        with stopped_by_signals(), waiting():  # for a training of the same fold by hand, say
            if options.job == "ready":
                run_ready(benchmark)
                return
            job = Job.at(PurePosixPath(options.job, options.name, *filter(None, [options.part])))
            if not run(benchmark, job, options.own_gpu):
                sys.exit(1)
            if options.follow_up:
                run_following(benchmark, job)
    except Stopped as e:
        kill_children()
        sys.exit(e.exit_status)


if __name__ == "__main__":
    main()
