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
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable

_PATH_VARIABLE = "DRJIT_LIBLLVM_PATH"
_DISTRIBUTION = "karellen-llvm-core"
_FILES = "libLLVM*.so*"
_SYSTEM = (
    f"/usr/lib/x86_64-linux-gnu/{_FILES}",
    f"/usr/lib/aarch64-linux-gnu/{_FILES}",
    f"/usr/lib/llvm-*/lib/{_FILES}",
    f"/usr/lib64/{_FILES}",
    "/opt/homebrew/opt/llvm/lib/libLLVM.dylib",
)
_REMEDY = (
    f"Install it with `pip install {_DISTRIBUTION}` (Linux x86-64) or your "
    f"system's package manager, or set {_PATH_VARIABLE} to a libLLVM shared library."
)


@functools.cache
def load_llvm() -> str | None:
    """Load the LLVM shared library for Dr.Jit, once per process.

    Must run before `drjit`, `mitsuba` or `sionna.rt` is imported. The user's
    `DRJIT_LIBLLVM_PATH` wins over the library that pip installed, which wins over
    the Python environment's, which wins over the system's.

    Returns: path of the loaded library, or `None` if there is none but a CUDA
        device can do the work.

    Raises: ImportError if there is neither LLVM nor a CUDA device, if the library
        that was found cannot be loaded, or if there is no home folder, without which
        Dr.Jit ends the process as soon as it is imported.
    """
    home = os.path.expanduser("~")
    if not os.path.isdir(home):
        raise ImportError(
            "Ray tracing needs a home folder, where Dr.Jit keeps its kernels. Set HOME "
            f"to a folder that exists. Received: HOME={home!r}."
        )
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
    patterns = [os.path.join(glob.escape(p), "lib", _FILES) for p in prefixes]
    if found := _newest(_installed_files()):
        return found
    for pattern in (*patterns, *_SYSTEM):
        if found := _newest(glob.glob(pattern)):
            return found
    return ctypes.util.find_library("LLVM")


def _installed_files() -> list[str]:
    """Return the libraries of the wheel, wherever pip has put them.

    With `--user`, or in an environment that sees the system's packages, that is not
    below `sys.prefix`.
    """
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(file.locate()) for file in files if file.match(_FILES)]


def _newest(paths: Iterable[str]) -> str | None:
    """Return the existing file of the highest version, links resolved, or `None`.

    Args:
        paths: alike but for the version numbers in them.
    """
    existing = [path for path in paths if os.path.isfile(path)]
    if not existing:
        return None
    newest = max(existing, key=lambda path: [int(n) for n in re.findall(r"\d+", path)])
    return os.path.realpath(newest)
