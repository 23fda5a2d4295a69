"""The machine and the packages that a result depends on."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""
PACKAGES = ("nnunet-cardiac", "nnunetv2", "torch", "numpy", "dynamic-network-architectures", "batchgeneratorsv2")


def peak_process_memory() -> float | None:
    """GB that this process has held at most; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@contextmanager
def loading() -> Iterator[None]:
    """Without Python's search for garbage in cycles, while PyTorch and nnU-Net are loaded: there is none, but so many
    objects that searching is a quarter of the time. Nor are they searched when the process ends, another second."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def reuse_freed_memory(device: torch.device) -> None:
    """On a CPU, keeps freed memory for what is allocated next, for the rest of this process.

    glibc gives blocks above 32 MB back to the system as soon as they are freed. Maps of networks are as large, and each
    new one is paid for by page after page that the system must clear: 24 of the 45 ms of a 1x1 convolution from 32 to
    128 channels of 256 x 224 pixels, batch 2. Without glibc nothing is changed.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def omp_threads() -> int | None:
    """Threads that ``OMP_NUM_THREADS`` allows; of several levels ("4,2") the first, None where it gives no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if re.fullmatch(r"[1-9]\d{0,5}", first) else None


def hardware(device: torch.device) -> str:
    """The GPU, or the processor and the number of threads."""
    import torch  # here, so that versions and processor can be told without it

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo") as f:
            names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"
