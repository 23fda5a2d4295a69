"""Networks of other libraries, planned, shrunk, trained and segmenting; and one of the user's own, as the page says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, DATASET, predict_with_nnunet
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.benchmark.contenders import choose
from nnunet_cardiac.cli import main
from nnunet_cardiac.cost.flops import example_slice, flops_per_slice
from nnunet_cardiac.environment import ALLOW_CODE
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import load_stages
from nnunet_cardiac.model import Model
from nnunet_cardiac.networks import monai
from nnunet_cardiac.nifti import read_nifti
from nnunet_cardiac.planners.foreign_planner import MonaiPlanner
from nnunet_cardiac.planners.plan_and_preprocess import find_planner
from nnunet_cardiac.planners.shrink import shrink
from nnunet_cardiac.planners.sizes import SIZES
from nnunet_cardiac.training.memory import PlannedNetwork
from nnunet_cardiac.training.trust import check_plans

PAGE = Path(__file__).parents[1] / "docs" / "monai.md"
UNETR = ("-d", "27", "-tr", "nnUNetTrainerNoDeepSupervision", "-p", "nnUNetMonaiPlans", "-c", "2d_unetr")


@pytest.fixture
def plans(planned, augmentation_workers):
    """Those of MONAI's networks at full size."""
    yield MonaiPlanner(DATASET, plans_name="nnUNetTestPlans", counts_memory=False).plan_experiment()
    (planned / "nnUNetTestPlans.json").unlink()


def test_sizes_are_the_papers_and_patches_fit_them(plans):
    manager = PlansManager(plans)
    for name, network in MonaiPlanner.networks.items():
        for base, dim in (("2d", 2), ("3d_fullres", 3)):
            configuration = manager.get_configuration(base + (name and f"_{name}"))
            arguments = configuration.network_arch_init_kwargs
            assert configuration.network_arch_class_name == f"nnunet_cardiac.networks.monai.{network.__name__}"
            assert tuple(arguments["features_per_stage"]) == network.features_per_stage
            divisors = [2 ** (len(network.features_per_stage) - 1)] * dim
            assert not np.any(np.array(configuration.patch_size) % divisors)
            assert arguments.get("patch_size") == (configuration.patch_size if network is monai.UNETR else None)


@pytest.mark.parametrize(("name", "parameters"), [("2d_mednext", 5.47), ("2d_segresnet", 6.30)])
def test_parameters_are_those_of_the_page(plans, name, parameters):
    network = PlannedNetwork.of(PlansManager(plans).get_configuration(name)).build(1, CLASSES)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.01)
    assert f"`{name}`" in PAGE.read_text() and f"{parameters:.2f}" in PAGE.read_text()


def test_shrunk_plans_keep_the_resolutions_that_a_network_must_have(plans):
    full = {name: c["architecture"]["arch_kwargs"] for name, c in plans["configurations"].items()}
    for name, configuration in shrink(plans, SIZES["small"].with_patch(40))["configurations"].items():
        arguments = configuration["architecture"]["arch_kwargs"]
        network = MonaiPlanner.networks["_".join(name.removeprefix("3d_fullres").removeprefix("2d").split("_")[1:])]
        n = full[name]["n_stages"]
        assert arguments["n_stages"] == (n if network.has_fixed_depth else 4)
        widths = [f // 4 for f in network.features_per_stage[: arguments["n_stages"]]]
        assert arguments["features_per_stage"] == widths
        divisor = 2 ** (arguments["n_stages"] - 1)
        assert configuration["patch_size"][-1] == -(-40 // divisor) * divisor
        assert arguments.get("patch_size", configuration["patch_size"]) == configuration["patch_size"]


def test_plans_with_all_of_them_are_trusted(plans, dataset):
    """What trains and what is read back is built without memory first; SwinUNETR asks for numbers while it is."""
    dataset_json = json.loads((dataset / "dataset.json").read_text())
    check_plans(plans, dataset_json, list(plans["configurations"]), "the plans")


def test_a_network_too_large_for_the_target_is_left_out(planned, augmentation_workers, monkeypatch, capsys):
    batch = MonaiPlanner.batch

    def refuse_unetr(self, patch_size, architecture, *arguments):
        if self.network is monai.UNETR:
            self._refuse(PlannedNetwork("networks.monai.UNETR", {}, []), patch_size, 9e9)
        return batch(self, patch_size, architecture, *arguments)

    monkeypatch.setattr(MonaiPlanner, "batch", refuse_unetr)
    plans = MonaiPlanner(DATASET, plans_name="nnUNetTestPlans", counts_memory=False).plan_experiment()
    (planned / "nnUNetTestPlans.json").unlink()
    assert {"2d_unetpp", "3d_fullres_swinunetr"} < plans["configurations"].keys()
    assert not any("unetr" in name and "swin" not in name for name in plans["configurations"])
    assert "unetr is left out in 2D. 8 GB is too small for UNETR in 2D: use at least" in capsys.readouterr().out


def test_a_transformer_of_one_size_trains_and_segments_like_nnunet(planned, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    main(["train", *UNETR, "-f", "0", "-device", "cpu", "--budget", "2"])
    images = dataset / "imagesTs"
    main(["predict", *UNETR, "-f", "0", "-i", str(images), "-o", str(tmp_path / "ours"), "-device", "cpu"])
    predict_with_nnunet(images, tmp_path / "theirs", UNETR, "-f", "0")
    segmented = sorted((tmp_path / "theirs").glob("*.nii.gz"))
    assert len(segmented) == 2
    for file in segmented:
        ours, theirs = (read_nifti(f)[0] for f in (tmp_path / "ours" / file.name, file))
        assert (ours == theirs).mean() > 0.999
    model = Model(DATASET, *UNETR[3::2])
    stages = load_stages(model, [0], "checkpoint_final.pth", torch.device("cpu"), use_mirroring=False, tile_step_size=1)
    assert flops_per_slice(stages[0], example_slice(DATASET, stages[0], "patient003_ED")) > 1e6  # of another size


def test_the_users_own_network_as_the_page_says(planned, dataset, tmp_path, monkeypatch):
    for name, text in re.findall(r"^`([\w.]+)`\n\n```\w+\n(.*?)```$", PAGE.read_text(), re.M | re.S):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (contender,) = choose(["my_network"], tmp_path / "mine.yaml")
    assert contender in choose(None, tmp_path / "mine.yaml")
    main(["plan_and_preprocess", "-d", "27", "-pl", contender.planner, "--small", "64"])
    file = planned / f"{contender.plans}.json"
    configuration = PlansManager(json.loads(file.read_text())).get_configuration("2d")
    assert configuration.network_arch_class_name == "my_networks.MyNetwork"
    planner = find_planner(contender.planner)(DATASET)
    assert planner.memory(PlannedNetwork.of(configuration), 1, configuration.patch_size).of_sample > 1e5
    model = ("-d", "27", "-tr", contender.trainer, "-p", contender.plans, "-c", contender.configuration)
    with pytest.raises(SystemExit, match="my_networks.MyNetwork.*--allow_code"):
        main(["train", *model, "-f", "0", "-device", "cpu", "--budget", "2"])
    monkeypatch.setenv(ALLOW_CODE, "")  # which the option sets for the rest of the process
    main(["train", *model, "-f", "0", "-device", "cpu", "--budget", "2", "--allow_code"])
    main(["predict", *model, "-f", "0", "-i", str(dataset / "imagesTs"), "-o", str(tmp_path / "out"), "-device", "cpu"])
    file.unlink()
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


@pytest.mark.parametrize("name", ["nowhere.MyPlanner", "json.JSONDecoder"])
def test_a_planner_that_is_none_is_named(name):
    with pytest.raises(UserError, match=f"There is no planner '{name}': is the folder of '{name.split('.')[0]}' in"):
        find_planner(name)


def test_a_library_that_is_not_installed_is_named(network_case, monkeypatch):
    monkeypatch.setattr(monai.MedNeXt, "library_class", "monai.networks.nets.NoNet")
    with pytest.raises(UserError, match="MedNeXt needs monai.networks.nets.NoNet, which is not installed"):
        network_case("nnUNetMonaiPlans", "2d_mednext").build()


def test_weights_that_no_output_depends_on_do_not_learn(network_case):
    case = network_case("nnUNetMonaiPlans", "2d_unetpp")
    network = case.build()
    network(case.images()).square().mean().backward()
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == [f"network.final_conv_0_{i}.{what}" for i in (1, 2, 3) for what in ("weight", "bias")]
    assert all((p.grad is None) == (name in frozen) for name, p in network.named_parameters())
    assert isinstance(network.network, torch.nn.Module)
