"""The page on adding an architecture, followed from its first line to its last in a copy of the checkout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATASET

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adding_an_architecture.md"
FOLDERS = ("nnunet_cardiac", "planners", "trainers", "dataset_conversion")
STEPS = """
import pydoc
import sys

from nnunet_cardiac import architectures
from nnunet_cardiac.cli import main

architecture = architectures.ARCHITECTURES["SE-UNet"]
model = ["-d", "27", "-tr", architecture.trainer, "-p", architecture.plans, "-c", "2d"]
if __name__ == "__main__":
    assert all(pydoc.locate(f"nnunet_cardiac.networks.{name}") for name in architecture.networks)
    main(["plan_and_preprocess", "-d", "27", "-pl", architecture.planner, "--small", "32"])
    main(["train", *model, "-f", "0", "-device", "cpu", "--budget", "2"])
    main(["predict", *model, "-i", sys.argv[1], "-o", sys.argv[2], "-device", "cpu", "--disable_tta"])
    main(["benchmark", "--list"])
"""


def files_of_the_page() -> dict[str, str]:
    """What stands in the page's blocks that follow a file's name."""
    return dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)```$", PAGE.read_text(), re.M | re.S))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the checkout with the page's files in it."""
    copy = tmp_path / "checkout"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files_of_the_page().items():
        assert not (copy / name).exists(), f"{name} is there already: the page says that nothing has to be edited"
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(text)
    return copy


def test_the_page_names_every_file_in_its_table():
    table = re.findall(r"^\| `([\w./]+)` \|", PAGE.read_text(), re.M)
    assert table == list(files_of_the_page()) and len(table) == 5


@pytest.mark.slow
def test_the_example_plans_trains_predicts_and_takes_part(checkout, planned, dataset, tmp_path, monkeypatch):
    """From the checkout, whatever is installed: the new files are in the checkout alone."""
    preprocessed = tmp_path / "preprocessed" / DATASET
    shutil.copytree(planned, preprocessed)
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_extTrainer", "")
    (checkout / "steps.py").write_text(STEPS)
    run = subprocess.run(
        [sys.executable, "steps.py", str(dataset / "imagesTs"), str(tmp_path / "segmentations")], cwd=checkout,
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "se_unet_nnunet_recipe" in run.stdout and "nnunet_2d" in run.stdout
    assert len(list((tmp_path / "segmentations").glob("*.nii.gz"))) == 2
    plans = (preprocessed / "nnUNetSEUNetPlans.json").read_text()
    assert "nnunet_cardiac.networks.se_unet.SEUNet" in plans and "2d_narrow_gates" in plans
