"""One GPU for each job that runs on this machine at the same time. (On a cluster the scheduler does this.)"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def own_gpu(locks: Path, visible: list[str]) -> Iterator[str]:
    """Waits for a GPU that no other job holds and makes it the only visible one.

    The lock is the operating system's: a job that dies lets go of its GPU.

    Args:
        locks: folder for one file a GPU
        visible: the GPUs to choose from, as in CUDA_VISIBLE_DEVICES
    """
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for gpu in visible:
            lock = FileLock(locks / gpu)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                yield gpu
            finally:
                lock.release()
            return
        time.sleep(1)


def visible_gpus() -> list[str]:
    """Those of CUDA_VISIBLE_DEVICES; without it, all that PyTorch sees."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu.strip() for gpu in given.split(",") if gpu.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
