import subprocess
import sys

import pytest

ALLOCATOR = """
import ctypes, resource
from pathlib import Path
from sionna_loc import _memory

told = _memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
"""
FAULTS = """
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    array = libc.malloc(64 * 2**20)
    libc.memset(array, 1, 64 * 2**20)
    libc.free(array)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HOLES = """
arrays = [libc.malloc(2**20) for _ in range(400)]
for array in arrays:
    libc.memset(array, 1, 2**20)
for array in arrays[:-1]:  # what lies under the last one cannot be cut off
    libc.free(array)
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
before = pages()
_memory.release_unused_memory()
print(told, (before - pages()) * resource.getpagesize() // 2**20)
"""


def run(monkeypatch, code, keep):
    """Whether the C library was told, and the number that the code prints."""
    monkeypatch.setenv("SIONNA_LOC_KEEP_MEMORY", keep)
    command = [sys.executable, "-c", ALLOCATOR + code]
    words = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    told, number = words.split()
    return told == "True", int(number)


@pytest.fixture
def glibc(monkeypatch):
    """Only where the C library can be told."""
    if not run(monkeypatch, "print(told, 0)", "1")[0]:
        pytest.skip("the C library is not glibc")


@pytest.mark.usefixtures("glibc")
def test_large_arrays_that_are_freed_serve_the_next_ones(monkeypatch):
    _, kept = run(monkeypatch, FAULTS, "1")
    told, plain = run(monkeypatch, FAULTS, "0")
    assert not told
    assert kept < 0.2 * plain


@pytest.mark.usefixtures("glibc")
def test_holes_between_arrays_are_given_back_on_demand(monkeypatch):
    assert run(monkeypatch, HOLES, "1")[1] > 350  # MB of 400


@pytest.mark.usefixtures("glibc")
def test_a_c_library_that_was_not_told_is_left_alone(monkeypatch):
    told, released = run(monkeypatch, HOLES, "0")
    assert not told and abs(released) < 50
