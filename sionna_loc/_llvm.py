"""Find LLVM and load it so that TensorFlow and Dr.Jit can share a process.

Dr.Jit compiles its CPU kernels with the LLVM shared library. TensorFlow carries
symbols of an LLVM of its own: if it is imported before Dr.Jit has loaded the
library, the first ray-traced solve ends in a segmentation fault. Loading the
library first with `RTLD_DEEPBIND` binds it to its own symbols and cures that in
either import order.
"""

import ctypes
import ctypes.util
import functools
import glob
import os
import sys
from pathlib import Path

_PATH_VARIABLE = "DRJIT_LIBLLVM_PATH"
_REMEDY = (
    "Install it with `pip install karellen-llvm-core` (Linux x86-64) or your "
    f"system's package manager, or set {_PATH_VARIABLE} to a libLLVM shared library."
)


@functools.cache
def load_llvm() -> str | None:
    """Load the LLVM shared library for Dr.Jit, once per process.

    Must run before `drjit`, `mitsuba` or `sionna.rt` is imported. The user's
    `DRJIT_LIBLLVM_PATH` wins over the library of the Python environment, which
    wins over the system's.

    Returns: path of the loaded library, or `None` if there is none but a CUDA
        device can do the work.

    Raises: ImportError if there is neither LLVM nor a CUDA device, or if the
        library that was found cannot be loaded.
    """
    path = _find_llvm()
    if path is None:
        if has_cuda():
            return None
        raise ImportError(
            f"Ray tracing needs the LLVM shared library or a CUDA device. {_REMEDY} "
            "Received: no libLLVM found, no CUDA device found."
        )
    mode = os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_DEEPBIND", 0)
    try:
        ctypes.CDLL(path, mode=mode)
    except OSError as error:
        raise ImportError(
            f"The LLVM shared library cannot be loaded: {error}. {_REMEDY} "
            f"Received: {_PATH_VARIABLE}={path!r}."
        ) from error
    os.environ[_PATH_VARIABLE] = path
    return path


@functools.cache
def has_cuda() -> bool:
    """Whether the NVIDIA driver is installed and reports at least one device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def _find_llvm() -> str | None:
    """Return the first LLVM library in order of precedence, or `None`."""
    if os.environ.get(_PATH_VARIABLE):
        return os.environ[_PATH_VARIABLE]
    prefixes = (sys.prefix, os.environ.get("CONDA_PREFIX", sys.prefix))
    for prefix in dict.fromkeys(prefixes):
        if found := _newest(Path(prefix) / "lib" / "libLLVM*.so*"):
            return found
    for pattern in (
        "/usr/lib/x86_64-linux-gnu/libLLVM*.so*",
        "/usr/lib/aarch64-linux-gnu/libLLVM*.so*",
        "/usr/lib/llvm-*/lib/libLLVM*.so*",
        "/usr/lib64/libLLVM*.so*",
        "/opt/homebrew/opt/llvm/lib/libLLVM.dylib",
    ):
        if found := _newest(pattern):
            return found
    return ctypes.util.find_library("LLVM")


def _newest(pattern: str | Path) -> str | None:
    """Return the last match of `pattern` in name order, or `None`."""
    matches = sorted(glob.glob(str(pattern)))
    return matches[-1] if matches else None
