"""Let a process keep the memory that it frees, for the next step to use.

Each training step allocates and frees the same large arrays. The C library of Linux
gives those of some megabytes back to the kernel at once, and the kernel hands out
zeroed pages for the next ones: a quarter of the processor time of a training on
`paris_scn1` (`benchmarks/memory_reuse.py`), a third on `paris_scn2`.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt(3)
_LARGEST_INT = 2**31 - 1
_PAD = 64 * 2**20  # bytes to ask the kernel for at once
VARIABLE = "SIONNA_LOC_KEEP_MEMORY"
_told: list[bool] = []


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed and to map no large arrays of their own.

    With `SIONNA_LOC_KEEP_MEMORY=0` in the environment it is left as it is.

    Returns: whether it was told; only glibc can be.
    """
    mallopt = None
    if os.environ.get(VARIABLE) != "0" and sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    for parameter, value in (
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _LARGEST_INT),
        (_TOP_PAD, _PAD),
    ):
        mallopt(parameter, value)
    _told.append(True)
    return True


def release_unused_memory() -> None:
    """Give memory that is kept back to the kernel where no array is in it.

    Arrays of many sizes leave holes that fit no other: what a training on `paris_scn2`
    keeps grows by 4 GB in an hour if that is not done now and then.
    """
    if _told:
        ctypes.CDLL(None).malloc_trim(0)
