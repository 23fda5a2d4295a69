"""Tests of a benchmark beyond the held-out cases, on the phantom: all jobs in pytest's process, one model."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DATASET

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark import jobs, protocol_tables, protocols
from nnunet_cardiac.benchmark.corruptions import STRENGTHS, corrupt
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.protocols import matching_labels
from nnunet_cardiac.benchmark.report import write_report
from nnunet_cardiac.benchmark.results import Results, load
from nnunet_cardiac.benchmark.schedule import Schedule
from nnunet_cardiac.benchmark.settings import CORRUPTIONS, Settings
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.training import train

OTHER = "Dataset030_Renamed"
TESTS = ["imagesTs", "corrupted", "postprocessed", "snapshots", OTHER]


@pytest.fixture(scope="module")
def other(dataset) -> Path:
    """The training cases of the phantom under another data set's name, with other names and values of the labels."""
    place = dataset.with_name(OTHER)
    shutil.copytree(dataset, place)
    description = json.loads((place / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    description["labels"] = {"background": 0, "left ventricle": 1, "myocardium": 2, "scar": 4}
    (place / "dataset.json").write_text(json.dumps(description))
    for file in (place / "labelsTr").iterdir():
        image = sitk.ReadImage(str(file))
        new = sitk.GetImageFromArray(np.array([0, 4, 2, 1], np.uint8)[sitk.GetArrayFromImage(image)])
        new.CopyInformation(image)
        sitk.WriteImage(new, str(file))
    return place


@pytest.fixture(scope="module")
def benchmark(planned, other, tmp_path_factory) -> BenchmarkFolder:
    """nnU-Net on both folds, with everything that can be tested."""
    (planned / "nnUNetTestedPlans.json").write_text(
        (planned / "nnUNetPlans.json").read_text().replace('"nnUNetPlans"', '"nnUNetTestedPlans"')
    )
    contender = replace(contenders()["nnunet_2d"], plans="nnUNetTestedPlans")
    settings = Settings(
        DATASET, [0, 1], contender.name, {contender.name: contender}, budget=5, device="cpu", tests=TESTS,
        corruptions=["noise"], snapshots=True,
    )  # fmt: skip
    benchmark = BenchmarkFolder(tmp_path_factory.mktemp("protocols"))
    model = settings.model(contender)
    benchmark.write_settings(settings)
    benchmark.write_workflow(
        {"dataset": DATASET, "models": [model.name], "folds": [0, 1], "all_folds": [0, 1], "tests": TESTS}
    )
    schedule = Schedule.of_call(benchmark, benchmark.read_workflow())
    with pytest.MonkeyPatch.context() as context:
        context.setenv("nnUNet_results", str(benchmark.results(settings)))
        context.setattr(train, "BUDGET_EPOCHS", 5)
        context.setattr(train, "BUDGET_STEPS_PER_EPOCH", 1)
        while ready := [job for job, state in schedule.states().items() if state == "ready" and job.kind != "cost"]:
            assert jobs.run(benchmark, ready[0]), benchmark.failure(ready[0])
    (planned / "nnUNetTestedPlans.json").unlink()
    assert [job.where for job in schedule.jobs() if job.kind == "test"] == TESTS
    assert benchmark.log(Job("test", model.name, where="corrupted")).name == "corrupted.log"
    return benchmark


@pytest.fixture(scope="module")
def results(benchmark) -> Results:
    """What it has finished."""
    return load(benchmark)


def test_the_report_shows_all_of_it(benchmark):
    result = write_report(benchmark.path)
    page = result.page.read_text()
    for words in (
        "Another data set: Dataset030_Renamed", "own test cases", "Images made worse", "postprocessing",
        "Earlier moments of the training", "--test --postprocessing --snapshots --corruptions noise --external",
    ):  # fmt: skip
        assert words in page, words
    written = {file.stem for file in result.page.parent.glob("*.csv")}
    assert {"imagesTs_summary", f"{OTHER}_subsets", "corruptions", "postprocessing", "snapshots", "variance"} <= written
    assert "ranks" not in written and "matched" not in written  # there is one contender


def test_every_test_has_its_cases(results, dataset):
    held_out = results.contenders[0].metrics["case"].nunique()
    assert held_out == 8
    cases = {where: test.contenders[0].metrics["case"].nunique() for where, test in results.tests.items()}
    assert cases == {"imagesTs": 2, OTHER: 8, "corrupted": 8, "postprocessed": 8, "snapshots": 8}
    assert results.problems == ["nnunet_2d, cost: not measured."]


def test_labels_of_another_data_set_are_matched_by_what_they_mean(results, benchmark, dataset):
    mine, theirs = (Structures.of(place / "dataset.json") for place in (dataset, dataset.with_name(OTHER)))
    assert matching_labels(mine, theirs) == {"LV": "left ventricle", "MYO": "myocardium"}
    metrics = results.tests[OTHER].contenders[0].metrics
    assert set(metrics["structure"]) == {"left ventricle", "myocardium"}
    case = metrics["case"].iloc[0]
    place = next(benchmark.path.glob(f"predictions/*/{OTHER}/folds_0_1/{case}.nii.gz"))
    predicted, truth = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (place, dataset / "labelsTr" / place.name)
    )
    both = np.count_nonzero((predicted == 3) & (truth == 3))
    expected = 2 * both / (np.count_nonzero(predicted == 3) + np.count_nonzero(truth == 3))
    row = metrics[(metrics["case"] == case) & (metrics["structure"] == "left ventricle")].iloc[0]
    assert row["dice"] == pytest.approx(expected, abs=1e-6)


def test_snapshots_end_with_the_network_that_is_evaluated(results):
    table = protocol_tables.snapshot_table(results)
    assert list(table["phase"].unique()) == ["ED", "ES"] and list(table.columns[-5:]) == [
        "20 %", "40 %", "60 %", "80 %", "100 %",
    ]  # fmt: skip
    own = results.contenders[0].metrics
    expected = own[(own["phase"] == "ED") & (own["structure"] == "LV")]["dice"].mean()
    row = table[(table["phase"] == "ED") & (table["structure"] == "LV")].iloc[0]
    assert row["100 %"] == f"{expected:.3f}"
    assert len({*table.iloc[-1, -5:]}) > 1  # something was learned, or unlearned


def test_segmentations_of_other_networks_are_made_anew(benchmark, monkeypatch):
    settings = benchmark.read_settings()
    model = settings.model(settings.contenders["nnunet_2d"])
    kept = []

    def look(*call) -> list[str]:
        old = protocols._of_ensemble(*call) / "old.nii.gz"
        kept.append(old.exists())
        old.parent.mkdir(parents=True, exist_ok=True)
        old.touch()
        return []

    monkeypatch.setitem(protocols.TESTS, "imagesTs", look)
    look(benchmark, settings, model, "imagesTs")
    protocols.test(benchmark, settings, model, "imagesTs")
    os.utime(benchmark.fold_folder(settings, model, 1) / "checkpoint_final.pth", (time.time() + 60,) * 2)
    protocols.test(benchmark, settings, model, "imagesTs")  # trained anew
    os.utime(benchmark.fold_folder(settings, model, 1) / "checkpoint_final.pth", (time.time() - 60,) * 2)
    protocols.test(benchmark, replace(settings, folds=[0]), model, "imagesTs")  # an ensemble of fewer
    protocols.test(benchmark, replace(settings, folds=[0]), model, "imagesTs")
    assert kept == [False, True, False, False, True]


def test_a_test_takes_the_folds_that_are_trained(benchmark, monkeypatch):
    settings = benchmark.read_settings()
    model = settings.model(settings.contenders["nnunet_2d"])
    seen = []
    monkeypatch.setattr(protocols, "test", lambda b, asked, *_: seen.append(asked.folds) or [])
    record = jobs.test(benchmark, replace(settings, folds=[0, 1, 2]), Job("test", model.name, where="imagesTs"))
    assert seen == [[0, 1]] and record["folds"] == [0, 1]


def test_images_made_worse_are_compared_with_the_same_folds_as_they_are(results):
    own, tested = results.contenders[0], results.tests["corrupted"].contenders[0]
    of_one = replace(tested, metrics=tested.metrics[tested.metrics["fold"] == 1])
    few = replace(results, tests={"corrupted": replace(results.tests["corrupted"], contenders=[of_one])})
    expected = own.metrics[own.metrics["fold"] == 1].groupby("case")["dice"].mean().mean()
    assert protocol_tables.corruption_table(few).iloc[0]["as it is"] == f"{expected:.3f}"


def test_of_another_data_set_only_shared_structures_are_measured(results):
    indices = results.tests[OTHER].contenders[0].measurement.agreement().index
    assert "LV_EDV_mL" in indices and "LV_mass_g" in indices and not [name for name in indices if "RV" in name]


def test_postprocessing_removes_islands_alone(results):
    raw, cleaned = results.contenders[0], results.tests["postprocessed"].contenders[0]
    volumes = [c.metrics.groupby(["case", "structure"])["volume_mL"].sum() for c in (raw, cleaned)]
    assert (volumes[1] <= volumes[0] + 1e-9).all()
    table = protocol_tables.postprocessing_table(results)
    assert set(table["structure"]) == {"mean", "RV", "MYO", "LV"} and "HD95 mm, postprocessed" in table


def test_tables_of_images_made_worse(results):
    table = protocol_tables.corruption_table(results)
    assert list(table["corruption"]) == ["noise"]
    row = table.iloc[0]
    assert row["as it is"] == f"{results.contenders[0].by_case('dice').mean():.3f}"
    assert float(row["change 3"]) == pytest.approx(float(row["step 3"]) - float(row["as it is"]), abs=1.1e-3)
    curve = protocol_tables.corruption_curves(results)["noise"]["nnunet_2d"]
    assert [f"{step['mean']:.3f}" for step in curve] == [row[c] for c in ("as it is", "step 1", "step 2", "step 3")]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_are_made_worse_in_steps_and_always_alike(name, dataset, tmp_path):
    assert set(STRENGTHS) == set(CORRUPTIONS)
    source = next(iter(sorted((dataset / "imagesTr").iterdir())))
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(source))).astype(float)
    differences = []
    for severity in (1, 2, 3):
        for copy in ("a", "b"):
            corrupt(source, tmp_path / copy / f"{severity}" / source.name, name, severity)
        first, second = (sitk.ReadImage(str(tmp_path / copy / f"{severity}" / source.name)) for copy in ("a", "b"))
        assert first.GetSpacing() == sitk.ReadImage(str(source)).GetSpacing()
        assert np.array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
        differences.append(np.abs(sitk.GetArrayFromImage(first) - image).mean())
    assert 0 < differences[0] < differences[1] < differences[2]
