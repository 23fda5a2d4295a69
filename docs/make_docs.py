"""Writes the tables and pictures of the documentation: ``make docs``, or ``make docs ACDC=FOLDER`` for all of them.

A table stands between ``<!-- NAME: written by make docs -->`` and ``<!-- end -->``. Those of names come from the
records in ``nnunet_cardiac/architectures``; the picture from a demo that has run; those of sizes, memory and time from
ACDC, planned on this machine (half an hour without a GPU); the learning curves from trainings of fold 0, finished or
not, whose steps are timed here (``make docs CURVES=nnUNet_results``).
"""

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from nnunet_cardiac.architectures import ARCHITECTURES, contenders, costed
from nnunet_cardiac.environment import silence
from nnunet_cardiac.model import CHECKPOINT

ROOT = Path(__file__).parents[1]
MEMORY_TARGETS = (8, 11, 24)
"""GB, of the table of plans."""
LEAST_DICE = 0.79
"""Of the picture of Dice against hours; what is below is left out."""
BASELINE = ("Dataset027_ACDC", "nnUNetTrainer_250epochs", "nnUNetPlans", "2d")
CURVES = {
    "CroCNet's, on E-2AUNet (stage 1)": ("Dataset027_ACDC", "nnUNetTrainerCroCNet", "nnUNetCroCNetPlans", "2d"),
    "CroCNet's, on the specialists (stage 2)": (
        "Dataset027_ACDC", "nnUNetTrainerCroCNet", "nnUNetCroCNetPlans", "2d_cascade",
    ),
    "DADU's, on DADU": ("Dataset027_ACDC", "nnUNetTrainerDADU", "nnUNetDADUPlans", "2d"),
    "HALSR-Net's, on HALSR-Net": ("Dataset028_ACDC_LV_MYO", "nnUNetTrainerHALSRNet", "nnUNetHALSRNetPlans", "2d"),
    "HALSR-Net's, inside its box (phase 2)": (
        "Dataset028_ACDC_LV_MYO", "nnUNetTrainerHALSRNet", "nnUNetHALSRNetPlans", "2d_cascade",
    ),
    "the spatial-attention U-Net's, on it": (
        "Dataset027_ACDC", "nnUNetTrainerSpatialAttentionUNet", "nnUNetSpatialAttentionUNetPlans", "2d",
    ),
}  # fmt: skip
"""Trainings of uncut recipes, each drawn beside nnU-Net's: data set, trainer, plans, configuration."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acdc", type=Path, metavar="FOLDER", help="ACDC as its owners ship it")
    parser.add_argument(
        "--curves",
        type=Path,
        metavar="FOLDER",
        help="nnUNet_results with trainings of the recipes; nnUNet_raw and so on",
    )
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="of a demo that has run, for its picture")
    options = parser.parse_args()
    write(names())
    draw_half_width()
    if options.demo:
        draw_demo(options.demo)
    if options.curves:
        draw_curves(collected_curves(options.curves))
    if options.acdc:
        with tempfile.TemporaryDirectory() as place:
            write(measured(options.acdc, Path(place)))


def write(tables: Iterable[tuple[str, str, str]]) -> None:
    """Puts tables where they belong.

    Args:
        tables: page, name and text of each
    """
    for page, name, text in tables:
        file = ROOT / page
        file.write_text(filled(file.read_text(encoding="utf-8"), name, text), encoding="utf-8")
        print(f"{page}: {name}", flush=True)


def filled(page: str, name: str, table: str) -> str:
    """A page's text with a table in its place.

    Raises:
        ValueError: the page has no such place, or several
    """
    place = re.compile(rf"(<!-- {name}: written by make docs -->\n).*?(<!-- end -->)", re.S)
    new, n = place.subn(lambda match: f"{match[1]}{table}\n{match[2]}", page)
    if n != 1:
        raise ValueError(f"The page has {n} places for the table '{name}', not one.")
    return new


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def names() -> Iterator[tuple[str, str, str]]:
    """The tables that follow from the records alone."""
    rows = [
        [f"[{a.name}]({a.page})", f"[{a.paper}]({a.link})", ", ".join(f"`{c}`" for c in a.configurations)]
        for a in ARCHITECTURES.values()
        if a.networks
    ]
    yield "README.md", "architectures", markdown(["architecture", "paper", "configurations"], rows)
    rows = [
        [f"`{c.name}`", c.description, f"`{c.plans}` `{c.configuration}`", f"`{c.trainer}`"]
        for c in contenders().values()
    ]
    titles = ["name", "architecture and recipe", "plans and configuration", "trainer"]
    yield "docs/contenders.md", "contenders", markdown(titles, rows)


def draw_half_width() -> None:
    """``docs/half_width.png``: Dice against hours of a core, as the table of docs/benchmark.md has them."""
    from matplotlib.figure import Figure

    from nnunet_cardiac.evaluation.figures import colour, own_style

    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    table = text.split("### At half the width, at length")[1].split("\n| ", 1)[1].split("\n\n")[0]
    titles, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    with own_style():
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        ax = figure.subplots()
        for cells in rows:
            row = dict(zip(titles, cells, strict=True))
            hours, dice = float(row["hours"]), float(row["Dice"].split()[0])
            if dice < LEAST_DICE or not row["RV"]:
                continue
            kind = 2 if row["recipe"].startswith("own, rate") else int(row["recipe"] == "own")
            another_seed = "seed" in row["contender"]
            ax.plot(hours, dice, "os^"[kind], color=colour(kind), fillstyle="none" if another_seed else "full")
            if not another_seed:
                name, up = row["contender"].removeprefix("nnU-Net's ").split(", an ")[0], row["recipe"] == "nnU-Net's"
                place = dict(rotation=60 if up else -20, rotation_mode="anchor", fontsize=7)
                ax.annotate(name, (hours, dice), (4, 4) if up else (6, -6), textcoords="offset points", **place)
        for kind, label in enumerate(("nnU-Net's recipe", "own recipe", "own recipe, rate searched for")):
            ax.plot([], [], "os^"[kind], color=colour(kind), label=label)
        ax.plot([], [], "o", color=colour(0), fillstyle="none", label="another seed")
        ax.set(xlabel="hours of a core, all stages", ylabel="mean Dice", xlim=(0.2, 1.9))
        ax.set_ylim(LEAST_DICE - 0.01, 0.93)
        ax.grid(alpha=0.3)
        ax.legend(loc="lower left", fontsize=8)
        figure.savefig(ROOT / "docs" / "half_width.png", dpi=130)
    print("docs/half_width.png", flush=True)


def draw_demo(demo: Path) -> None:
    """``docs/demo.png``: the median case of the demo's benchmark, the expert beside all contenders; and
    ``docs/heart.png``, the real heart that it begins with."""
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(demo.resolve() / f"nnUNet_{variable}")
    from nnunet_cardiac.benchmark.figures import compared
    from nnunet_cardiac.benchmark.folder import BenchmarkFolder
    from nnunet_cardiac.benchmark.pictures import choose, draw_case
    from nnunet_cardiac.benchmark.results import load
    from nnunet_cardiac.evaluation.figures import own_style

    with own_style():
        benchmark = BenchmarkFolder(demo / "benchmark")
        results = load(benchmark)
        case = next(case for case, why in choose(results) if why == "median")
        picture = draw_case(case, "median", results, benchmark)
        compared(picture, results).savefig(ROOT / "docs" / "demo.png", dpi=110)
    shutil.copyfile(demo / "heart" / "heart.png", ROOT / "docs" / "heart.png")
    print("docs/demo.png, docs/heart.png", flush=True)


def collected_curves(results: Path) -> dict:
    """Online Dice against hours of one core, and the weights of DADU's losses, of every training that has begun.

    Trainings that are not in ``results`` stay as they were drawn before. Steps of all are timed now, one recipe's
    after the other's, and the hours are those of the training steps: what ran beside the trainings does not count.
    """
    import torch

    os.environ["nnUNet_results"] = str(results.resolve())
    torch.set_num_threads(1)
    file = ROOT / "docs" / "recipes.json"
    before, curves = json.loads(file.read_text()), {}
    for title, model in {"nnU-Net's, on its U-Net": BASELINE, **CURVES}.items():
        checkpoint = results / model[0] / "__".join(model[1:]) / "fold_0" / "checkpoint_latest.pth"
        if not checkpoint.is_file():
            checkpoint = checkpoint.with_name(CHECKPOINT)
        curve = before.get(title, {})
        if checkpoint.is_file():
            logging = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]
            curve = {"dice": [round(float(d), 4) for d in logging["mean_fg_dice"]]}
            if "loss_weights" in logging:
                curve["loss_weights"] = logging["loss_weights"]
        if not curve:
            print(f"{title}: not trained")
            continue
        steps, seconds = steps_and_seconds(model)
        curves[title] = curve | {"steps_per_epoch": steps, "seconds_per_step": round(seconds, 3)}
        print(f"{title}: {len(curve['dice'])} epochs of {steps} steps, {seconds:.3f} s each", flush=True)
    file.write_text(json.dumps(curves) + "\n")
    return curves


def steps_and_seconds(model: tuple[str, str, str, str]) -> tuple[int, float]:
    """Steps of an epoch of a training, and seconds of one on one core."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_cardiac.cost.training_step import step_cost
    from nnunet_cardiac.environment import ext_trainer

    os.environ["nnUNet_extTrainer"] = ext_trainer()
    dataset, trainer_name, plans, configuration = model
    trainer = get_trainer_from_args(dataset, configuration, 0, trainer_name, plans, device=torch.device("cpu"))
    trainer.initialize()
    trainer.get_tr_and_val_datasets()
    return trainer.num_iterations_per_epoch, step_cost(trainer, 15).seconds


def draw_curves(curves: Mapping[str, dict]) -> None:
    """``docs/recipes.png`` and ``docs/dadu_weights.png``."""
    from matplotlib.figure import Figure

    from nnunet_cardiac.evaluation.figures import colour, own_style

    with own_style():
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        ax = figure.subplots()
        for i, (title, curve) in enumerate(curves.items()):
            hours = np.arange(1, len(curve["dice"]) + 1) * curve["steps_per_epoch"] * curve["seconds_per_step"] / 3600
            ax.plot(hours, curve["dice"], color=colour(i), linewidth=1.2, label=title)
        ax.set(xlabel="hours of training steps on one core", ylabel="online Dice on fold 0", xlim=(0, 3), ylim=(0, 1))
        ax.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        figure.savefig(ROOT / "docs" / "recipes.png", dpi=130)
        weights = next((curve["loss_weights"] for curve in curves.values() if "loss_weights" in curve), None)
        if weights:
            figure = Figure(figsize=(7.5, 2.8), layout="constrained")
            ax = figure.subplots()
            for level, values in enumerate(zip(*weights, strict=True)):
                label = "final output" if level == 0 else f"auxiliary output at 1/{2**level} of the resolution"
                ax.plot(range(1, len(values) + 1), values, color=colour(level), linewidth=1.5, label=label)
            ax.set(xlabel="epoch", ylabel="weight of its loss")
            ax.grid(alpha=0.3)
            figure.legend(loc="outside right center", fontsize=8, frameon=False)
            figure.savefig(ROOT / "docs" / "dadu_weights.png", dpi=130)
    print("docs/recipes.png, docs/dadu_weights.png", flush=True)


def measured(acdc: Path, place: Path) -> Iterator[tuple[str, str, str]]:
    """The tables that need images: sizes, memory, time."""
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(place / variable)
        (place / variable).mkdir()
    os.environ.setdefault("nnUNet_n_proc_DA", "0")
    from nnunet_cardiac.cli import main as command

    command(["convert", "acdc", "-i", str(acdc)])
    command(["plan_and_preprocess", "-d", "27", "-pl", "ExperimentPlanner", "-c", "2d"])
    yield "docs/planning.md", "plans", plans_table()
    for architecture in ARCHITECTURES.values():
        if "<!-- sizes:" in (ROOT / architecture.page).read_text(encoding="utf-8"):
            yield architecture.page, "sizes", sizes_table(architecture.planner, architecture.configurations)
    yield "docs/planning.md", "cost", costs()


def plan(planner: str, **options) -> dict:
    """Plans of a planner of ours for ACDC."""
    from nnunet_cardiac.planners.plan_and_preprocess import augmentation_workers, find_planner

    with silence(), augmentation_workers():
        return find_planner(planner)("Dataset027_ACDC", **options).plan_experiment()


def plans_table() -> str:
    """Patch, batch and memory of every configuration that is not an ablation, by memory target."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_cardiac.training.memory import PLANNED_MEMORY

    rows = []
    for architecture in ARCHITECTURES.values():
        if not architecture.networks:
            continue
        plans = [PlansManager(plan(architecture.planner, gpu_memory_target_in_gb=gb)) for gb in MEMORY_TARGETS]
        for name, words in architecture.configurations.items():
            own = plans[0].plans["configurations"].get(name, {})
            if "ablation" in words or (own.get("inherits_from") and "patch_size" not in own):
                continue  # sizes are those of the full network
            cells = []
            for manager in plans:
                if name not in manager.available_configurations:
                    cells.append("does not fit")
                    continue
                c = manager.get_configuration(name).configuration
                crop = c["architecture"]["arch_kwargs"].get("crop_size")
                size = f"crop {by(crop)}" if crop else by(c["patch_size"])
                cells.append(f"{size}, {c['batch_size']} ({c[PLANNED_MEMORY]:.2f})")
            rows.append([f"{architecture.name} `{name}`", *cells])
    return markdown(["", *(f"{gb} GB" for gb in MEMORY_TARGETS)], rows)


def sizes_table(planner: str, configurations: Mapping[str, str]) -> str:
    """Parameters and FLOPs of one image, of every 2D configuration at the paper's sizes."""
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from torch.utils.flop_counter import FlopCounterMode

    from nnunet_cardiac.training.memory import PlannedNetwork

    manager = PlansManager(plan(planner, paper=True))
    rows = []
    for name, words in configurations.items():
        if name.startswith("3d"):
            continue
        c = manager.get_configuration(name)
        channels = 1 if c.previous_stage_name is None else 4
        network = PlannedNetwork.of(c).build(channels, 4).eval()
        network.look_nowhere()
        size = network.crop.crop_size if network.crop else network.resize.size if network.resize else c.patch_size
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, channels, *c.patch_size))
        parameters = sum(p.numel() for p in network.parameters()) / 1e6
        gflops = counter.get_total_flops() / 1e9
        rows.append([f"`{name}`", words, by(size), f"{parameters:.2f}", f"{gflops:.2f}"])
    return markdown(["configuration", "what it is", "pixels", "M parameters", "GFLOPs"], rows)


def by(size) -> str:
    """A size as people write it."""
    return " x ".join(map(str, size))


def costs() -> str:
    """What ``nnunet_cardiac cost`` prints."""
    from nnunet_cardiac.cost.table import cost_table

    table = cost_table("Dataset027_ACDC", costed(), n_steps=4, n_cases=2)
    return table.to_markdown(index=False, floatfmt=".3g")


if __name__ == "__main__":
    main()
