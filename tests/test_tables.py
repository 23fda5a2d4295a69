"""A paper's table beside what a benchmark measured."""

from dataclasses import replace

import pandas as pd
import pytest

from nnunet_cardiac.architectures import contenders, tables
from nnunet_cardiac.benchmark.results import ContenderResults, Results
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.benchmark.tables import paper_table
from nnunet_cardiac.model import Model

DICE = {("a", "LV"): 0.9, ("a", "RV"): 0.7, ("b", "LV"): 0.8, ("b", "RV"): 0.5}
"""Of a case and a structure: case a is at ED, case b at ES."""


@pytest.fixture
def results() -> Results:
    """CroCNet and DADU on two cases; nothing of anybody else."""
    metrics = pd.DataFrame(
        {"case": case, "phase": {"a": "ED", "b": "ES"}[case], "structure": structure, "dice": dice,
         "hausdorff_mm": 10 * dice, "f1": dice, "accuracy": 0.99}
        for (case, structure), dice in DICE.items()
    )  # fmt: skip
    settings = Settings("Dataset027_ACDC", [0], "nnunet_2d")
    return Results(settings, [
        ContenderResults(contender, Model("Dataset027_ACDC", contender.trainer, contender.plans, "2d"), [0], metrics,
                         pd.DataFrame(), None, {}, {})
        for contender in (contenders()[name] for name in ("crocnet", "dadu"))
    ], [])  # fmt: skip


def row(results: Results, key: str, method: str) -> dict:
    table = paper_table(results, tables()[key])
    assert list(table["method"]) == list(tables()[key].rows)
    return table.set_index("method").loc[method].to_dict()


def test_the_papers_numbers_and_ours_in_the_papers_units(results):
    crocnet = row(results, "crocnet1", "CroCNet")
    assert crocnet["here"] == "crocnet" and crocnet["remark"] == ""
    assert (crocnet["Dice LV %"], crocnet["Dice LV %, here"]) == ("95.01", "85.00")
    assert (crocnet["HD RV mm"], crocnet["HD RV mm, here"]) == ("4.1", "6.00")
    assert crocnet["Dice average %, here"] == "72.50"
    assert crocnet["Dice MYO %, here"] == "-"  # the data set has none


def test_rows_without_a_contender_say_why(results):
    transunet, unet = (row(results, "crocnet1", method) for method in ("TransUNet", "UNet"))
    assert transunet["here"] == "-" and transunet["remark"] == "no maintained package has it"
    assert unet["here"] == "monai_unet" and unet["remark"].startswith("takes no part in this benchmark")
    assert transunet["Dice LV %, here"] == unet["Dice LV %, here"] == "-"
    assert "crocnet_single" == row(results, "crocnet2", "single network")["here"]


def test_phases_are_those_of_the_column_or_of_the_row(results):
    assert row(results, "dadu3", "DADU")["Dice LV ED, here"] == "0.900"
    assert row(results, "dadu3", "DADU")["HD RV ES mm, here"] == "5.00"
    assert row(results, "dadu1", "DADU, ES")["Dice LV, here"] == "0.800"
    assert row(results, "dadu2", "DADU, 100 epochs")["HD LV ED, here"] == "9.00"


def test_earlier_moments_of_a_training_are_of_its_snapshots(results):
    early = row(results, "dadu2", "DADU, 20 epochs")
    assert early["Dice LV ED, here"] == "-" and early["remark"] == "--snapshots would tell"
    dadu = results.contenders[1]
    metrics = pd.concat(dadu.metrics.assign(share=share, dice=dadu.metrics["dice"] * share / 100) for share in (20, 40))
    results.tests = {"snapshots": replace(results, contenders=[replace(dadu, metrics=metrics)])}
    early = row(results, "dadu2", "DADU, 40 epochs")
    assert early["Dice LV ED, here"] == "0.360" and early["remark"] == ""


def test_columns_without_a_structure_are_means_of_those_that_the_table_is_of(results):
    """HALSR-Net's is of the left ventricle: its cavity, and its myocardium, which is not there."""
    halsrnet = contenders()["halsrnet"]
    results.contenders[0].contender = halsrnet
    published = row(results, "halsrnet", "HALSR-Net, up to")
    assert (published["F1, %, here"], published["accuracy, %, here"]) == ("85.00", "99.00")
