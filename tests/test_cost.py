"""The command that measures every architecture beside nnU-Net's U-Nets."""

import os
from dataclasses import replace

import pytest
import torch
from conftest import DATASET, HALSR

from nnunet_cardiac.cli import main
from nnunet_cardiac.cost import table as cost_table
from nnunet_cardiac.cost.flops import example_slice, flops_per_slice
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import Prediction, load_stages
from nnunet_cardiac.model import Model


def table(printed: str) -> list[dict]:
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.slow
def test_a_row_for_every_stage(planned, capsys, tmp_path):
    places = {name: os.environ[name] for name in ("nnUNet_preprocessed", "nnUNet_results")}
    plans = sorted(planned.glob("*.json"))
    arguments = ["-d", "27", "-device", "cpu", "--small", "32", "--steps", "1", "--cases", "1"]
    main(["cost", *arguments, "--contenders", "nnunet_2d", "crocnet"])
    rows = table(capsys.readouterr().out)
    assert [(row["contender"], row["configuration"]) for row in rows] == [
        ("nnunet_2d", "2d"), ("crocnet", "2d"), ("crocnet", "2d_cascade"),
    ]  # fmt: skip
    for row in rows:
        assert all(
            float(value) > 0 for name, value in row.items() if name not in ("contender", "configuration", "patch")
        )
        assert float(row["planned GB"]) == pytest.approx(float(row["measured GB"]), rel=0.5)  # a few features: noise
    assert {name: os.environ[name] for name in places} == places
    assert sorted(planned.glob("*.json")) == plans  # nothing of it stays


def test_a_prediction_that_failed_has_no_time(planned, capsys, monkeypatch):
    monkeypatch.setattr(cost_table, "time_nnunet", lambda *_, **__: 2.0)
    monkeypatch.setattr(cost_table, "time_prediction", lambda *_, **__: Prediction(problems=["It broke."], seconds=1))
    arguments = ["-d", "27", "-device", "cpu", "--small", "32", "--steps", "1", "--cases", "1"]
    main(["cost", *arguments, "--contenders", "nnunet_2d"])
    printed = capsys.readouterr()
    assert "nnUNetPlans" in printed.err and "It broke." in printed.err
    (row,) = table(printed.out)
    assert float(row["s per volume, nnU-Net"]) == 2
    assert row["s per volume"] == row["times faster"] == "nan"


def test_what_cannot_be_measured_is_said_in_a_sentence(planned, nnunet_folders):
    other = nnunet_folders / "nnUNet_preprocessed" / "Dataset098_Unplanned"
    other.mkdir()
    for arguments, reason in (
        (["-d", "27", "--contenders", "nobody"], "There is no contender 'nobody'"),
        (["-d", "99"], "There is no data set 99"),
        (["-d", "98"], "dataset_fingerprint.json is not there: run nnunet_cardiac plan_and_preprocess -d 98"),
        (["-d", DATASET, "-gpu_memory_target", "0.05", "--contenders", "dadu"], "use at least -gpu_memory_target"),
    ):
        with pytest.raises(SystemExit) as error:
            main(["cost", *arguments, "-device", "cpu", "--steps", "1", "--cases", "0"])
        assert reason in str(error.value.code)
    other.rmdir()


def test_cost_of_networks_that_want_other_sizes_than_their_strides_tell(trained_halsr_net):
    stages = load_stages(Model(DATASET, *HALSR[3::2]), [0], "checkpoint_final.pth", torch.device("cpu"), True, 0.5)
    example = example_slice(DATASET, stages[0], "patient001_ED")
    example = replace(example, image=example.image[:, :-3, :-5], labels=example.labels[:-3, :-5])
    box, inside = (flops_per_slice(stage, example) for stage in stages)
    assert 0 < box < inside
    with pytest.raises(UserError, match="nnUNetPlans_2d has no nobody"):
        example_slice(DATASET, stages[0], "nobody")
