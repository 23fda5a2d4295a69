"""Baselines of matched cost, on the phantom's plans."""

import json
import math
import shutil
from pathlib import Path

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.architectures import contenders
from nnunet_cardiac.benchmark.contenders import matched_baselines
from nnunet_cardiac.benchmark.settings import Settings
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.planners.matched import COSTS, MATCHED, flops, match
from nnunet_cardiac.planners.plan_and_preprocess import plan_and_preprocess


@pytest.fixture(scope="module")
def residual(planned, tmp_path_factory):
    """nnU-Net's residual encoder plans beside the data set's description; a function that gives a fresh copy."""
    name = plan_and_preprocess(planned.name, "nnUNetPlannerResEncM", ["2d"], plans_name="nnUNetToBeMatchedPlans")
    place = tmp_path_factory.mktemp("matched")
    shutil.copy(planned / "dataset.json", place)
    shutil.move(planned / f"{name}.json", place / "original.json")
    return lambda: shutil.copy(place / "original.json", place / "plans.json")


@pytest.mark.parametrize("by", (pytest.param("flops", marks=pytest.mark.slow), "parameters"))
def test_a_baseline_costs_what_both_stages_of_a_cascade_cost(by, residual, planned):
    other = PlansManager(str(planned / "nnUNetCroCNetPlans.json"))
    file = residual()
    match(str(file), "2d", "crocnet", other, ["2d", "2d_cascade"], by)
    configuration = PlansManager(str(file)).get_configuration("2d")
    first = other.get_configuration("2d")
    assert (list(configuration.patch_size), configuration.batch_size) == (list(first.patch_size), first.batch_size)
    record = configuration.configuration[MATCHED]
    stages = [COSTS[by](other.get_configuration(name), n, 4) for name, n in (("2d", 1), ("2d_cascade", 4))]
    assert record["its_cost"] == sum(stages)
    assert record["own_cost"] == COSTS[by](configuration, 1, 4)
    # of all widths the nearest
    kwargs = configuration.network_arch_init_kwargs
    width = kwargs["features_per_stage"][0]
    for neighbour in {max(2, width - 1), width + 1} - {width}:
        kwargs["features_per_stage"] = [neighbour * 2**i for i in range(kwargs["n_stages"])]
        costs = COSTS[by](configuration, 1, 4)
        assert abs(math.log(costs / record["its_cost"])) >= abs(math.log(record["own_cost"] / record["its_cost"]))


def test_plans_that_are_matched_are_kept(residual, planned):
    file = residual()
    for name in ("nnUNetCroCNetPlans", "nnUNetDADUPlans"):
        match(str(file), "2d", name, PlansManager(str(planned / f"{name}.json")), ["2d"], "parameters")
    assert json.loads(file.read_text())["configurations"]["2d"][MATCHED]["model"] == "nnUNetCroCNetPlans"


def test_plans_that_are_matched_by_something_else_are_refused(residual, planned):
    other = PlansManager(str(planned / "nnUNetDADUPlans.json"))
    file = str(residual())
    match(file, "2d", "dadu", other, ["2d"], "parameters")
    with pytest.raises(UserError, match="is matched by parameters, not by flops: move it away"):
        match(file, "2d", "dadu", other, ["2d"], "flops")


def test_contenders_that_differ_in_the_recipe_share_a_baseline_and_ways_of_matching_do_not():
    chosen = [contenders()[name] for name in ("dadu_nnunet_recipe", "dadu", "dadu_no_edges")]
    names = [[c.plans for c in matched_baselines(chosen, by)] for by in ("flops", "memory")]
    assert names == [
        ["nnUNetMatchedToDaduNnunetRecipePlans", "nnUNetMatchedToDaduNoEdgesPlans"],
        ["nnUNetMatchedMemoryToDaduNnunetRecipePlans", "nnUNetMatchedMemoryToDaduNoEdgesPlans"],
    ]


@pytest.mark.slow
def test_a_network_of_one_size_and_its_baseline_are_counted_at_that_size(residual, planned):
    name = plan_and_preprocess(planned.name, "MonaiPlanner", ["2d_unetr"], plans_name="nnUNetOneSizePlans")
    plans, file = planned / f"{name}.json", residual()
    for path in (plans, Path(file)):
        content = json.loads(path.read_text())
        content["configurations"]["2d"]["median_image_size_in_voxels"] = [160, 128]  # larger than the patch
        path.write_text(json.dumps(content))
    other = PlansManager(str(plans))
    plans.unlink()
    unetr = other.get_configuration("2d_unetr")
    match(str(file), "2d", "monai_unetr", other, ["2d_unetr"], "flops")
    baseline = PlansManager(str(file)).get_configuration("2d")
    record = baseline.configuration[MATCHED]
    assert record["its_cost"] == flops(unetr, 1, 4, unetr.patch_size)
    assert record["own_cost"] == flops(baseline, 1, 4, unetr.patch_size) != flops(baseline, 1, 4)


def test_every_contender_but_nnunets_own_gets_one():
    chosen = [contenders()[name] for name in ("nnunet_2d", "nnunet_resenc_m", "crocnet", "dadu_3d")]
    matched = matched_baselines(chosen)
    assert [(c.name, c.matched_to, c.configuration) for c in matched] == [
        ("matched_crocnet", "crocnet", "2d"), ("matched_dadu_3d", "dadu_3d", "3d_fullres"),
    ]  # fmt: skip
    settings = Settings("Dataset027_ACDC", [0], "nnunet_2d", {c.name: c for c in (*chosen, *matched)}, seeds=[0, 1])
    assert settings.matched_plans()["nnUNetMatchedToCrocnetPlans"] == "nnUNetCroCNetPlans"
    assert settings.copied_plans()["nnUNetSeed1MatchedToCrocnetPlans"] == "nnUNetMatchedToCrocnetPlans"
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
