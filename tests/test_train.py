"""The command that trains what is missing: order, skipping, killing and going on."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import CASCADE, DATASET, NNUNET, run_nnunet

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model
from nnunet_cardiac.system import omp_threads
from nnunet_cardiac.training import train
from nnunet_cardiac.training.train import keep_snapshots, snapshot_file
from nnunet_cardiac.training.trainer import RecipeTrainer
from nnunet_cardiac.training.training_cost import training_cost

STAGE_1, STAGE_2 = (f"nnUNetTrainerCroCNet__nnUNetCroCNetPlans__{c}" for c in ("2d", "2d_cascade"))


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_status:
        main(["train", *arguments])
    return str(exit_status.value.code)


def test_everything_that_the_cascade_needs_is_there(trained_crocnet):
    for stage in (STAGE_1, STAGE_2):
        for fold in ("fold_0", "fold_1"):
            assert (trained_crocnet / stage / fold / "checkpoint_final.pth").is_file()
            assert (trained_crocnet / stage / fold / "validation" / "summary.json").is_file()
    assert len(list((trained_crocnet / STAGE_1 / "predicted_next_stage" / "2d_cascade").glob("*.b2nd"))) == 8


def test_finished_folds_are_skipped(trained_crocnet, capsys):
    before = {p: p.stat().st_mtime_ns for p in trained_crocnet.rglob("*") if p.is_file()}
    main(["train", *CASCADE, "-device", "cpu", "--budget", "4"])
    assert capsys.readouterr().out.count("finished already") == 4
    assert {p: p.stat().st_mtime_ns for p in trained_crocnet.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "options, told",
    [
        ("--budget 8", "with --budget 4, not with --budget 8"),
        ("", "with --budget 4, not without --budget"),
        ("--budget 4 --seed 5", "with --seed 0, not with --seed 5"),
        ("--budget 4 --initial_lr 0.5", "without --initial_lr, not with --initial_lr 0.5"),
        ("--budget 4 --bfloat16", "without --bfloat16, not with --bfloat16"),
        ("--budget 4 --unscaled_schedule", "without --unscaled_schedule, not with --unscaled_schedule"),
    ],
)
def test_a_finished_fold_is_what_the_options_say(trained_nnunet, capsys, options, told):
    error = error_of(capsys, *NNUNET, "-f", "0", "-device", "cpu", *options.split())
    assert f"fold_0 was begun {told}: give the options that it was begun with, or move it away" in error


def test_folds_of_other_plans_of_the_same_name_are_not_mixed(trained_nnunet, tmp_path, monkeypatch, capsys):
    """Before, the next fold replaced the plans in the model's folder, and finished ones could not be loaded."""
    folder = shutil.copytree(trained_nnunet, tmp_path / DATASET) / "nnUNetTrainer__nnUNetPlans__2d"
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    kept = {name: json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json")}

    def error_with(name: str, change) -> str:
        content = deepcopy(kept[name])
        change(content["configurations"]["2d"] if name == "plans.json" else content)
        (folder / name).write_text(json.dumps(content))
        error = error_of(capsys, *NNUNET, "-f", "0", "-device", "cpu")
        assert json.loads((folder / name).read_text()) == content
        (folder / name).write_text(json.dumps(kept[name]))
        return error

    now = kept["plans.json"]["configurations"]["2d"]["patch_size"]
    other, options = "was trained with other plans of that name", "was begun with --budget 4, not without"
    said = error_with("plans.json", lambda c: c.update(patch_size=[7, 9]))
    assert f"{other} (2d: patch size [7, 9], now {now}): plan as before" in said
    said = error_with("plans.json", lambda c: c.update(normalization_schemes=["CTNormalization"]))
    assert f"{other} (2d: normalization schemes" in said
    assert f"{other} (labels)" in error_with("dataset.json", lambda d: d["labels"].update(atrium=4))
    assert options in error_with("plans.json", lambda c: c.update(batch_size=1))  # for a smaller GPU
    assert options in error_with("plans.json", lambda c: c.update(inherits_from="2d"))  # no plans: they are replaced
    (folder / "plans.json").write_text("{")  # cut off by a kill: likewise
    assert options in error_of(capsys, *NNUNET, "-f", "0", "-device", "cpu")


def test_a_record_of_an_earlier_version_lacks_what_was_the_default(trained_nnunet, tmp_path, monkeypatch, capsys):
    results = shutil.copytree(trained_nnunet, tmp_path / DATASET)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    record = results / Model(DATASET, *NNUNET[3::2]).name / "fold_0" / "training_cost.json"
    record.write_text(json.dumps({"budget": 4, "initial_lr": 0.01}))
    arguments = (*NNUNET, "-f", "0", "-device", "cpu", "--budget", "4")
    main(["train", *arguments, "--seed", "0", "--initial_lr", "0.01"])
    assert "with --seed 0, not with --seed 1" in error_of(capsys, *arguments, "--seed", "1")
    record.unlink()  # as nnU-Net's own command leaves it
    main(["train", *arguments, "--seed", "1"])


KILLED = """
import os, signal, sys
from nnunet_cardiac.cli import main
from nnunet_cardiac.training import train
from nnunet_cardiac.training.train import keep_snapshots, snapshot_file
from nnunet_cardiac.training.trainer import RecipeTrainer

def kill(trainer, on_epoch_end=RecipeTrainer.on_epoch_end):
    on_epoch_end(trainer)
    os.kill(os.getpid(), signal.SIGKILL)

RecipeTrainer.on_epoch_end = kill
train.BUDGET_STEPS_PER_EPOCH = 2
main(sys.argv[1:])
"""


def test_killed_in_stage_1_and_in_stage_2_and_started_again(planned, tmp_path, monkeypatch, capsys):
    """Killed hard in the middle of stage 1's training, stopped in that of stage 2, and a checkpoint was cut off."""
    results = tmp_path / "results" / DATASET
    monkeypatch.setenv("nnUNet_results", str(results.parent))
    arguments = ["train", *CASCADE, "-f", "0", "-device", "cpu", "--budget", "4"]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    first = results / STAGE_1 / "fold_0"
    assert (first / "checkpoint_latest.pth").exists() and not (first / "checkpoint_final.pth").exists()

    monkeypatch.setattr(train, "BUDGET_STEPS_PER_EPOCH", 2)
    on_epoch_end = RecipeTrainer.on_epoch_end

    def stop_in_stage_2(trainer):
        on_epoch_end(trainer)
        if trainer.is_cascaded:
            raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(RecipeTrainer, "on_epoch_end", stop_in_stage_2)
        main(arguments)
    record = results / STAGE_2 / "fold_0" / "training_cost.json"
    before = record.read_bytes()
    seeded = error_of(capsys, *arguments[1:], "--seed", "5")
    assert "fold_0 was begun with --seed 0, not with --seed 5: give the options that it was begun with" in seeded
    assert record.read_bytes() == before
    latest = results / STAGE_2 / "fold_0" / "checkpoint_latest.pth"
    latest.write_bytes(latest.read_bytes()[:1000])
    printed = capsys.readouterr().out
    assert printed.index("Epoch 1") < printed.index("Epoch 0")  # went on with fold 0, then began with fold 1
    main(arguments)
    printed = capsys.readouterr().out
    assert "[1/3] nnUNetTrainerCroCNet nnUNetCroCNetPlans 2d, fold 0: finished already" in printed
    assert "was set aside as checkpoint_latest.pth.unreadable" in printed
    for fold in (results / STAGE_1 / "fold_0", results / STAGE_1 / "fold_1", results / STAGE_2 / "fold_0"):
        checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
        assert checkpoint["current_epoch"] == 2
        assert (fold / "validation" / "summary.json").is_file()


def test_missing_next_stage_predictions_are_made_again(trained_crocnet, tmp_path, monkeypatch, capsys):
    results = shutil.copytree(trained_crocnet, tmp_path / "results" / DATASET)
    monkeypatch.setenv("nnUNet_results", str(results.parent))
    predictions = sorted((results / STAGE_1 / "predicted_next_stage" / "2d_cascade_single").glob("*.b2nd"))
    predictions[0].unlink()
    shutil.rmtree(results / STAGE_2)
    single = [*CASCADE[:-1], "2d_cascade_single"]
    main(["train", *single, "-f", "0", "-device", "cpu", "--budget", "2"])
    assert predictions[0].is_file()
    assert (results / STAGE_1.replace("__2d", "__2d_cascade_single") / "fold_0" / "checkpoint_final.pth").is_file()


def test_bad_input(planned, capsys, monkeypatch):
    for arguments, expected in (
        (("-d", "99", "-c", "2d"), "There is no data set 99"),
        (("-d", "27", "-c", "2d", "-p", "nnUNetOtherPlans"), "nnUNetOtherPlans.json does not exist"),
        (("-d", "27", "-c", "3d_cascade", "-p", "nnUNetCroCNetPlans"), "no configuration '3d_cascade'"),
        (("-d", "27", "-c", "2d", "-tr", "nnUNetTrainerNobody"), "no trainer 'nnUNetTrainerNobody': ours are nnUNet"),
        (("-d", "27", "-c", "2d", "-f", "7", "-device", "cpu"), "There is no fold 7"),
        (
            ("-d", "27", "-c", "2d", "-num_gpus", "2", "--budget", "4", "-device", "cpu"),
            "--budget, --initial_lr, --seed and --inner_validation work with one GPU",
        ),
    ):
        assert expected in error_of(capsys, *arguments)
    if not torch.cuda.is_available():
        assert "PyTorch sees no GPU" in error_of(capsys, "-d", "27", "-c", "2d", "-device", "cuda")
    monkeypatch.delenv("nnUNet_results")
    assert "nnUNet_results is not set" in error_of(capsys, "-d", "27", "-c", "2d")


def test_data_that_are_not_preprocessed_and_data_without_folds(planned, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "pre" / DATASET
    copy.mkdir(parents=True)
    for name in ("nnUNetPlans.json", "dataset.json"):
        shutil.copy(planned / name, copy)
    monkeypatch.setenv("nnUNet_preprocessed", str(copy.parent))
    arguments = ("-d", "27", "-c", "2d", "-f", "7", "-device", "cpu")
    assert "nnUNetPlans_2d does not exist: run nnunet_cardiac plan_and_preprocess" in error_of(capsys, *arguments)
    shutil.copytree(planned / "nnUNetPlans_2d", copy / "nnUNetPlans_2d")
    assert f"{DATASET} has folds 0 to 4" in error_of(capsys, *arguments)
    splits = json.loads((copy / "splits_final.json").read_text())
    assert len(splits) == 5 and sum(len(split["val"]) for split in splits) == 8


def test_plans_of_another_data_set(planned, tmp_path, capsys, monkeypatch):
    other = tmp_path / "pre" / "Dataset028_Other"
    other.mkdir(parents=True)
    shutil.copy(planned / "nnUNetPlans.json", other)
    monkeypatch.setenv("nnUNet_preprocessed", str(other.parent))
    assert f"was made for {DATASET}, not for Dataset028_Other" in error_of(capsys, "-d", "28", "-c", "2d")


def test_plans_that_were_copied_under_another_name(planned, tmp_path, capsys, monkeypatch):
    """nnU-Net would train them, and write to the folder of the first."""
    copy = tmp_path / "pre" / DATASET
    copy.mkdir(parents=True)
    shutil.copy(planned / "nnUNetPlans.json", copy / "nnUNetMinePlans.json")
    shutil.copy(planned / "dataset.json", copy)
    monkeypatch.setenv("nnUNet_preprocessed", str(copy.parent))
    error = error_of(capsys, "-d", "27", "-c", "2d", "-p", "nnUNetMinePlans")
    assert "nnUNetMinePlans.json has another plans_name in it" in error and "make it nnUNetMinePlans" in error


def test_channels_that_were_not_preprocessed(planned, tmp_path, capsys, monkeypatch):
    copy = shutil.copytree(planned, tmp_path / "pre" / DATASET)
    content = json.loads((copy / "dataset.json").read_text())
    content["channel_names"]["1"] = "T2"
    (copy / "dataset.json").write_text(json.dumps(content))
    monkeypatch.setenv("nnUNet_preprocessed", str(copy.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    error = error_of(capsys, *NNUNET, "-f", "0", "-device", "cpu", "--budget", "1")
    assert "nnUNetPlans_2d cannot be used (ValueError: channels: 1, in dataset.json: 2): preprocess" in error


def test_the_cost_of_a_network_of_equally_wide_stages():
    """nnU-Net's networks take one number of features for all."""
    planned = SimpleNamespace(
        network_arch_class_name="x.Net", network_arch_init_kwargs={"features_per_stage": 8}, spacing=[1],
        patch_size=[8], batch_size=2,
    )  # fmt: skip
    trainer = SimpleNamespace(
        configuration_manager=planned, plans_manager=SimpleNamespace(plans_name="x"), configuration_name="2d",
        logger=SimpleNamespace(get_value=lambda key, step: [1.0]), device=torch.device("cpu"), current_epoch=1,
        num_iterations_per_epoch=2,
    )  # fmt: skip
    assert training_cost(trainer)["features_per_stage"] == [8]


def test_names_in_plans_do_not_command_a_terminal(planned, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(planned, tmp_path / "pre" / DATASET)
    file = copy / f"{CASCADE[5]}.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["x\x1b[2J"] = plans["configurations"]["2d"]
    plans["configurations"]["2d_cascade"]["previous_stage"] = "x\x1b[2J"
    file.write_text(json.dumps(plans))
    monkeypatch.setenv("nnUNet_preprocessed", str(copy.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setattr(train, "is_finished", lambda *arguments: True)
    main(["train", *CASCADE, "-device", "cpu"])
    printed = capsys.readouterr().out
    assert "x [2J, fold 0: finished already" in printed and "\x1b" not in printed


@pytest.mark.parametrize("given, threads", [("4,2", 4), ("", None), (" 3 ", 3), ("0", None), ("many", None)])
def test_threads_that_the_environment_allows(monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert omp_threads() == threads


@pytest.mark.parametrize("given", ["1,2", ""])
def test_a_trainer_is_made_whatever_the_environment_says_of_threads(planned, tmp_path, monkeypatch, given):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    with monkeypatch.context() as context:
        threads = []
        context.setattr(torch, "set_num_threads", threads.append)
        train.get_trainer(Model(DATASET, *NNUNET[3::2]), 0, torch.device("cpu"))
    assert threads and (given == "" or threads == [1])


def test_nnunetv2_train_does_the_same_work(trained_crocnet, tmp_path, monkeypatch):
    """Stock nnUNetv2_train refuses stage 2 before stage 1 with our sentence; the trainer is the same class."""
    arguments = ("27", "2d_cascade", "0", "-tr", CASCADE[3], "-p", CASCADE[5], "-device", "cpu")
    summary = trained_crocnet / STAGE_2 / "fold_0" / "validation" / "summary.json"
    before = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    run_nnunet("nnUNetv2_train", *arguments, "--val")
    assert json.loads(summary.read_text())["foreground_mean"] == pytest.approx(before, nan_ok=True)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    with pytest.raises(UserError, match="first train 2d, folds 0, 1"):
        run_nnunet("nnUNetv2_train", *arguments)


def test_a_training_that_stops_early_has_all_snapshots():
    """Of 10 epochs 5 are trained; a kill at the end of the second leaves its snapshot, and the epoch is done again."""
    kept, killed = [], []

    def end_epoch() -> None:
        if trainer.current_epoch == 1 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        trainer.current_epoch += 1

    trainer = SimpleNamespace(
        num_epochs=10, current_epoch=0, output_folder="", on_epoch_end=end_epoch, on_train_end=lambda: None,
        save_checkpoint=lambda name: kept.append((name, trainer.current_epoch)),
    )  # fmt: skip
    keep_snapshots(trainer)
    while trainer.current_epoch < 5:
        with suppress(KeyboardInterrupt):
            trainer.on_epoch_end()
    trainer.on_train_end()
    names = [snapshot_file(share) for share in (20, 20, 40, 60, 80)]
    assert kept == list(zip(names, (1, 1, 3, 5, 5), strict=True))
