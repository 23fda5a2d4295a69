"""The records of architectures, against the planners, trainers, networks and pages that they name."""

import json
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATASET

from nnunet_cardiac import networks
from nnunet_cardiac.architectures import ARCHITECTURES, contenders, find_architectures, published_for, tables
from nnunet_cardiac.architectures.architecture import Architecture
from nnunet_cardiac.benchmark.contenders import choose
from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import check_trainer
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.planners.plan_and_preprocess import find_planner, our_planners

REPOSITORY = Path(__file__).parents[1]
OURS = [architecture for architecture in ARCHITECTURES.values() if architecture.networks]
RECORD = """
from nnunet_cardiac.architectures.architecture import Architecture, Contender

ARCHITECTURE = Architecture(
    "{name}", "a paper", "a link", "a page", (), "APlanner", "nnUNetAPlans", "nnUNetTrainerA", {{"2d": "all of it"}},
    (Contender("{contender}", "APlanner", "nnUNetAPlans", "2d", "nnUNetTrainerA"),),
)
"""

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda a: a.name)


def test_every_planner_and_trainer_of_ours_has_a_record():
    assert next(iter(ARCHITECTURES)) == "nnU-Net"
    assert {a.planner for a in OURS} == our_planners().keys()
    trainers = {file.stem for file in (REPOSITORY / "trainers").glob("nnUNetTrainer*.py")}
    assert trainers <= {a.trainer for a in OURS} | {c.trainer for a in OURS for c in a.contenders}


@each_architecture
def test_records_name_what_exists(architecture, planned):
    planner = find_planner(architecture.planner)(DATASET)
    assert planner.plans_identifier == architecture.plans
    check_trainer(architecture.trainer)
    made = json.loads((planned / f"{architecture.plans}.json").read_text())["configurations"]
    assert set(architecture.configurations) == set(made)
    in_3d = [name.startswith("3d") for name in architecture.configurations]
    assert in_3d == sorted(in_3d)
    classes = {c["architecture"]["network_class_name"] for c in made.values()}
    if architecture.networks:
        assert classes == {f"nnunet_cardiac.networks.{name}" for name in architecture.networks}
    for name in architecture.networks:
        assert issubclass(pydoc.locate(f"{networks.__name__}.{name}"), Network)


@each_architecture
def test_records_lead_to_the_paper_and_the_page(architecture):
    assert architecture.link.startswith("https://") and architecture.paper
    page = REPOSITORY / architecture.page
    assert page.is_file()
    if architecture.networks:
        text = page.read_text()
        in_2d = [f"`{name}`" for name in architecture.configurations if not name.startswith("3d")]
        classes = [name.split(".")[-1] for name in architecture.networks]
        named = (architecture.link, architecture.planner, architecture.trainer, *classes, *in_2d)
        assert [name for name in named if name not in text] == []


@each_architecture
def test_contenders_are_of_their_architecture(architecture):
    for contender in architecture.contenders:
        if architecture.networks:
            assert architecture.planner == contender.planner or architecture.trainer == contender.trainer
        if contender.plans == architecture.plans:
            assert contender.configuration in architecture.configurations
    for figures in architecture.published:
        assert all(len(row) == len(figures.columns) for row in figures.rows.values())


@pytest.mark.parametrize("contender", contenders().values(), ids=lambda c: c.name)
def test_contenders_name_what_exists(contender, planned):
    assert find_planner(contender.planner)(DATASET).plans_identifier == contender.plans
    check_trainer(contender.trainer)
    assert contender.description


def test_those_in_3d_and_of_another_library_take_part_on_demand():
    everyone = contenders()
    assert len(everyone) == sum(len(architecture.contenders) for architecture in ARCHITECTURES.values()) >= 41
    names = [contender.name for contender in choose(None)]
    assert names == [n for n, c in everyone.items() if c.configuration.startswith("2d") and not n.startswith("monai")]
    assert list(everyone)[: len(names)] == names and names[0] == "nnunet_2d"
    assert [contender.name for contender in choose(["crocnet_3d", "nnunet_2d"])] == ["crocnet_3d", "nnunet_2d"]


def test_published_figures_are_of_those_who_take_part():
    assert published_for(["ExperimentPlanner", "nnUNetTrainer"]) == []
    crocnet = published_for(["CroCNetPlanner", "nnUNetTrainer"])
    assert [figures.rows["CroCNet"][0] for figures in crocnet] == [95.01, 95.01]
    assert published_for(["ExperimentPlanner", "nnUNetTrainerCroCNet"]) == crocnet
    everything = published_for(name for a in ARCHITECTURES.values() for name in (a.planner, a.trainer))
    assert everything == [figures for a in ARCHITECTURES.values() for figures in a.published]


@pytest.mark.parametrize("figures", tables().values(), ids=lambda figures: figures.key)
def test_every_row_of_a_paper_has_a_contender_or_a_reason(figures):
    assert sorted([*figures.contenders, *figures.missing]) == sorted(figures.rows)
    assert all(figures.missing.values())
    assert [c.name for c in choose([f"table:{figures.key}"])] == list(dict.fromkeys(figures.contenders.values()))


def test_a_table_stands_for_its_contenders(capsys):
    chosen = [c.name for c in choose(["nnunet_2d", "table:crocnet1", "crocnet", "table:dadu3"])]
    papers = ["monai_unet", "monai_resunet", "e2aunet", "crocnet", "monai_unetpp", "monai_attention_unet", "dadu"]
    assert chosen == ["nnunet_2d", *papers]
    assert len(tables()) == sum(len(architecture.published) for architecture in ARCHITECTURES.values())
    main(["benchmark", "--list"])
    assert re.search(
        "table:dadu3 .*Table 3\n +monai_unet monai_unetpp monai_attention_unet dadu$", capsys.readouterr().out, re.M
    )
    with pytest.raises(UserError, match="There is no table 'table:dadu4': there are table:crocnet1, table:crocnet2, "):
        choose(["table:dadu4"])


def test_plans_are_of_one_planner(tmp_path):
    """Else one of two contenders would train the other's network under its own name."""
    file = tmp_path / "contenders.yaml"
    mine = "{}: {{planner: {}, plans: MyPlans, configuration: 2d, trainer: nnUNetTrainer}}\n"
    file.write_text(mine.format("a", "DADUPlanner") + mine.format("b", "CroCNetPlanner"))
    assert len(choose(["a", "nnunet_2d"], file)) == 2
    with pytest.raises(UserError, match="a and b have different planners.* MyPlans"):
        choose(["a", "b"], file)


def find_in(folder: Path, monkeypatch, **modules: str) -> dict[str, Architecture]:
    """What a package of records has that consists of these modules."""
    package = folder / folder.name
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return find_architectures(folder.name, [str(package)])


def record(name: str, contender: str) -> str:
    return RECORD.format(name=name, contender=contender)


def test_a_new_architecture_is_a_new_file(tmp_path, monkeypatch):
    modules = {"b_module": record("Second", "b"), "a_module": record("First", "a"), "nnunet": record("Baseline", "n")}
    found = find_in(tmp_path, monkeypatch, **modules)
    assert list(found) == ["Baseline", "First", "Second"]
    assert found["First"].contenders[0].name == "a"


@pytest.mark.parametrize(
    ("other", "error", "words"),
    [
        ("ARCHITECTURES = {}", TypeError, "other.py has no ARCHITECTURE"),
        (record("Other", "net"), ValueError, "other.py declares the contender 'net', and so does net"),
        (record("Net", "other"), ValueError, "other.py declares 'Net', and so does"),
    ],
)
def test_mistakes_in_records_are_named(other, error, words, tmp_path, monkeypatch):
    with pytest.raises(error, match=words):
        find_in(tmp_path, monkeypatch, net=record("Net", "net"), other=other)


def test_lists_do_not_wait_for_pytorch():
    code = "import sys, nnunet_cardiac.benchmark.contenders as c; c.everyone(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
