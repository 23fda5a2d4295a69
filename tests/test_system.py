"""What a process does about the system that it runs on."""

import gc
import platform
import subprocess
import sys

import pytest

from nnunet_cardiac.system import loading

CLEARED = """
import resource, torch
from nnunet_cardiac.system import reuse_freed_memory
def megabytes():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MB
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**20
reuse_freed_memory(torch.device("cuda"))
print(megabytes())
reuse_freed_memory(torch.device("cpu"))
megabytes(), megabytes()  # the heap finds its size
print(megabytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_freed_memory_is_used_again():
    printed = subprocess.run([sys.executable, "-c", CLEARED], capture_output=True, check=True, text=True).stdout
    before, after = map(float, printed.split())
    if before < 500:
        pytest.skip("huge pages, or another allocator: there is nothing to help")
    assert after < 64, f"{after} MB had to be cleared by the system"


def test_pythons_search_for_garbage_is_off_while_something_is_loaded_and_then_as_before():
    for was_on in (True, False):
        (gc.enable if was_on else gc.disable)()
        try:
            with pytest.raises(ImportError), loading():
                assert not gc.isenabled()
                raise ImportError
            assert gc.isenabled() == was_on
        finally:
            gc.enable()
