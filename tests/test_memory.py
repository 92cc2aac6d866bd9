import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from sionna_loc._memory import keep_freed_memory

told = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    array = libc.malloc(64 * 2**20)
    libc.memset(array, 1, 64 * 2**20)
    libc.free(array)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def told_and_faults(monkeypatch, keep):
    """Whether the C library was told, and page faults of ten arrays in turn."""
    monkeypatch.setenv("SIONNA_LOC_KEEP_MEMORY", keep)
    command = [sys.executable, "-c", FAULTS]
    words = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    told, faults = words.split()
    return told == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_large_arrays_that_are_freed_serve_the_next_ones(monkeypatch):
    told, kept = told_and_faults(monkeypatch, "1")
    if not told:
        pytest.skip("the C library is not glibc")
    untold, plain = told_and_faults(monkeypatch, "0")
    assert not untold
    assert kept < 0.2 * plain
