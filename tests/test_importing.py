"""The package from a wheel and from a checkout, whatever else is installed and wherever one stands."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHERE = """
from importlib.util import find_spec
import nnunet_cardiac
from nnunet_cardiac.environment import trainers_folder
modules = "dataset_conversion.acdc", "planners.shrink", "trainers.nnUNetTrainerDADU", "phantom.acdc"
print(nnunet_cardiac.__file__, trainers_folder(), *(find_spec(f"nnunet_cardiac.{m}").origin for m in modules))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel's content, as pip puts it into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves a build folder behind, which would be packed the next time
    for name in ("nnunet_cardiac", "planners", "trainers", "dataset_conversion"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(list(map(str, build)), check=True, capture_output=True)
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder / "site-packages")
    return folder / "site-packages"


def python(*arguments: str, cwd: Path, path: Path | None = None) -> list[str]:
    """Lines that Python prints, started in ``cwd`` with ``path`` before all that is installed."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(path) if path else ""}
    run = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_wheel_holds_the_extension_folders_and_claims_no_other_name(wheel, tmp_path):
    assert {p.name.split("-")[0] for p in wheel.iterdir()} == {"nnunet_cardiac"}
    assert (wheel / "nnunet_cardiac" / "py.typed").is_file()
    assert (wheel / "nnunet_cardiac" / "benchmark" / "profiles" / "slurm" / "config.yaml").is_file()
    (places,) = python("-c", WHERE, cwd=tmp_path, path=wheel)
    assert all(place.startswith(str(wheel)) for place in places.split())
    python("-c", "import nnunet_cardiac.planners.plan_and_preprocess as p; p.our_planners()", cwd=tmp_path, path=wheel)


def test_checkout_as_working_directory_whatever_is_installed(wheel):
    """As with ``pip install .``, then ``python -m nnunet_cardiac`` in the checkout: the checkout's modules count."""
    (places,) = python("-c", WHERE, cwd=ROOT, path=wheel)
    assert all(place.startswith(str(ROOT)) for place in places.split())


def test_command_from_a_wheel_and_from_a_checkout(wheel, tmp_path):
    from_wheel = python("-m", "nnunet_cardiac", "--version", cwd=tmp_path, path=wheel)
    assert from_wheel == python("-m", "nnunet_cardiac", "--version", cwd=ROOT, path=wheel)
    (line,) = python("-m", "nnunet_cardiac", "env", cwd=tmp_path, path=wheel)
    assert str(wheel / "nnunet_cardiac" / "trainers") in line
    (line,) = python("-m", "nnunet_cardiac", "env", cwd=ROOT, path=wheel)
    assert str(ROOT / "trainers") in line


def test_type_checkers_find_the_extension_folders():
    """``typings``, on mypy's path, has them where the checkout's package has only a pointer."""
    for name in ("planners", "trainers", "dataset_conversion"):
        assert (ROOT / "typings" / "nnunet_cardiac" / name).resolve() == ROOT / name


def test_prediction_does_not_wait_for_what_trainings_need():
    """nnU-Net's trainer loads plotting and statistics: a second of every start."""
    code = "import sys, nnunet_cardiac.inference.predict; print([m for m in sys.modules if 'nnUNetTrainer' in m])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"[]\n"
