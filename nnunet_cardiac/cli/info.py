"""``nnunet_cardiac info``: what a bug report should tell, and what is missing on this machine."""

import argparse
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shlex import quote

import psutil

from nnunet_cardiac.cli.options import add_command
from nnunet_cardiac.environment import PURPOSES, trainers_folder
from nnunet_cardiac.system import processor

DISTRIBUTION = "nnunet-cardiac"
MAIN_PACKAGES = ("nnunetv2", "torch", "dynamic-network-architectures", "monai")
"""Asked for where nothing tells what this project requires."""
SETTINGS = ("nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_compile", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Variables that change what nnU-Net and PyTorch do."""


def add_parser(commands) -> None:
    """The command, which has no options."""
    add_command(
        commands, "info", run=run,
        help="versions, folders, devices, and what of them is missing; for bug reports",
        description="Prints versions, nnU-Net's three folders and the data sets in them, the devices that PyTorch "
        "sees, and what of all that is missing, with the command that mends it. Paste it into a bug report.",
        examples=("nnunet_cardiac info",),
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Prints a section each; whatever is wrong with the machine, it is told and is no reason to stop."""
    missing: list[str] = []
    for title, section in SECTIONS.items():
        print(title)
        try:
            for name, value in section(missing):
                print(f"  {name:<30}{value}")
        except Exception as e:  # broken installations raise all kinds
            print(f"  could not be found out: {type(e).__name__}: {e}")
        print()
    print("Missing\n" + "\n".join(f"  {line}" for line in missing or ["nothing"]))


def versions(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Python, the system, this project and the packages that it requires."""
    yield "python", platform.python_version()
    yield "system", platform.platform()
    try:
        yield DISTRIBUTION, version(DISTRIBUTION)
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        yield DISTRIBUTION, "not installed"
        missing.append("nnunet-cardiac is not installed: pip install '.[benchmark]' in its checkout")
        requirements = list(MAIN_PACKAGES)
    for requirement in ["snakemake", *requirements]:
        if ";" in requirement:
            continue  # of an extra, or for other systems
        name = re.split(r"[^\w.-]", requirement)[0]
        wanted = requirement.removeprefix(name)
        try:
            found = version(name)
        except PackageNotFoundError:
            mend = f"pip install '{requirement}'"
            if name == "snakemake":
                mend = f"benchmark and demo need it, pip install '{DISTRIBUTION}[benchmark]'"
            missing.append(f"{name} is not installed: {mend}")
            yield name, "not installed"
            continue
        if not _fits(found, wanted):
            missing.append(f"{name} {found} is another version than {wanted}: pip install '{name}{wanted}'")
        yield name, found


def _fits(found: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True  # cannot be told
    return SpecifierSet(wanted).contains(found, prereleases=True)


def folders(missing: list[str]) -> Iterator[tuple[str, str]]:
    """nnU-Net's three folders with their data sets, and the variables that nnU-Net and PyTorch look at."""
    for variable, purpose in PURPOSES.items():
        value = os.environ.get(variable)
        if not value:
            yield variable, "not set"
            missing.append(f"{variable} is not set: export {variable}=FOLDER, where nnU-Net keeps {purpose}")
            continue
        path = Path(value)
        if not path.is_dir():
            yield variable, f"{path}, which does not exist"
            missing.append(f"{variable} names a folder that does not exist: mkdir -p {quote(value)}")
            continue
        writable = os.access(path, os.W_OK)
        if not writable:
            missing.append(f"{variable} cannot be written: chmod u+w {quote(value)}, or choose another folder")
        free = shutil.disk_usage(path).free / 1e9
        yield variable, f"{path}, {'writable' if writable else 'not writable'}, {free:.0f} GB free"
        for data_set in sorted(p for p in path.glob("Dataset[0-9][0-9][0-9]_*") if p.is_dir()):
            yield "", data_set.name + _content(variable, data_set)
    trainers = os.environ.get("nnUNet_extTrainer")
    yield "nnUNet_extTrainer", trainers or "not set"
    if trainers_folder() not in (trainers or "").split(os.pathsep):
        missing.append(
            'nnU-Net\'s own commands do not find our trainers in this shell (ours do): eval "$(nnunet_cardiac env)"'
        )
    for variable in SETTINGS:
        if variable in os.environ:
            yield variable, os.environ[variable]


def _content(variable: str, data_set: Path) -> str:
    """Plans of a preprocessed data set, number of models of a trained one."""
    if variable == "nnUNet_preprocessed":
        return "".join(f" {file.stem}" for file in sorted(data_set.glob("*lans.json"))) or " without plans"
    if variable == "nnUNet_results":
        n = len(list(data_set.glob("*/plans.json")))
        return f", {n} model{'s' * (n != 1)}"
    return "" if (data_set / "dataset.json").is_file() else " without dataset.json"


def devices(missing: list[str]) -> Iterator[tuple[str, str]]:
    """Processor, memory, and what PyTorch can compute on."""
    cores = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    yield "processor", f"{processor()}, {usable} of {cores} cores"
    yield "memory", f"{psutil.virtual_memory().total / 1e9:.1f} GB"
    try:
        import torch
    except (ImportError, OSError) as e:  # a library of CUDA's that is missing is an OSError
        missing.append(f"PyTorch cannot be imported ({e}): pip install --force-reinstall torch")
        yield "PyTorch", "cannot be imported"
        return
    yield "CUDA of PyTorch", str(torch.version.cuda or "none")
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    for i, gpu in enumerate(gpus):
        yield f"GPU {i}", f"{gpu.name}, {gpu.total_memory / 1e9:.1f} GB, compute capability {gpu.major}.{gpu.minor}"
    if torch.backends.mps.is_available():
        yield "GPU", "Apple's, -device mps"
    elif not gpus:
        yield "GPU", "none, -device cpu"
    if shutil.which("nvidia-smi") and not gpus:
        missing.append(
            "nvidia-smi is here, but PyTorch sees no GPU: install PyTorch for the driver's CUDA, "
            "https://pytorch.org/get-started/locally/"
        )


SECTIONS: dict[str, Callable[[list[str]], Iterator[tuple[str, str]]]] = {
    "Versions": versions, "Folders": folders, "Devices": devices,
}  # fmt: skip
