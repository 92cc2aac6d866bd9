"""Files of named arrays, NPZ and HDF5: opening them, and writing positions."""

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sionna_loc.checks import UserError, check, check_writable

NPZ_SUFFIXES = (".npz",)
HDF5_SUFFIXES = (".h5", ".hdf5")
_BESIDE = {
    "covariance": ((3, 3), "m^2"),
    "expected_error": ((), "m"),
    "credible_radius": ((3,), "m"),
    "map": (("num_components", 8), ""),  # a unit for each column
}
"""What is stored beside positions: shape of each, and unit."""
_READ_ERRORS = (
    *(OSError, EOFError, KeyError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


def open_fields(
    path: str | os.PathLike, names: tuple[str, ...], stack: contextlib.ExitStack
) -> dict[str, Any]:
    """Open a file for as long as `stack` is.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file.
        names: fields to open, if the file has them.
        stack: closes the file.

    Returns: name -> sliceable array: of an NPZ archive in memory, of an HDF5 file on
        disk.
    Raises: UserError if the file is missing, of another kind, or damaged.
    """
    _check_suffix(path)
    check(Path(path).is_file(), "The input file must exist.", path=str(path))
    try:
        if Path(path).suffix.lower() in NPZ_SUFFIXES:
            archive = stack.enter_context(np.load(path, allow_pickle=False))
        else:
            archive = stack.enter_context(h5py.File(path, "r"))
        archive.keys()  # an array saved alone has none
        return {name: archive[name] for name in names if name in archive}
    except (*_READ_ERRORS, AttributeError) as error:
        raise unreadable(path, error) from error


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Any:
    """Make what goes wrong with a damaged file a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except _READ_ERRORS as error:
        raise unreadable(path, error) from error


def take_rows(values: Any, rows: np.ndarray) -> np.ndarray:
    """Return rows of an array in memory or on disk.

    Args:
        values: [num_rows, ...], of `open_fields`.
        rows: [n], int, in any order.
    """
    if isinstance(values, np.ndarray):
        return values[rows]
    if not len(rows):
        return values[:0]
    unique, place = np.unique(rows, return_inverse=True)  # as HDF5 wants them
    first, last = int(unique[0]), int(unique[-1])
    if last - first + 1 == len(unique):
        return values[first : last + 1][place]
    return values[unique][place]


def unreadable(path: str | os.PathLike, error: Exception) -> UserError:
    """Return the one-line error of a file that is broken or of another kind."""
    reason = " ".join(str(error).split())
    return UserError(
        f"{path}: the file cannot be read; it may be truncated or of another kind. "
        f"Received: {type(error).__name__}: {reason}"
    )


def check_output_path(path: str | os.PathLike) -> None:
    """Raise `UserError` unless `write_fields` can write there, in a known form."""
    _check_suffix(path)
    parent = Path(path).absolute().parent
    check(parent.is_dir(), "The folder of the output must exist.", folder=str(parent))
    check(not Path(path).is_dir(), "The output must not be a folder.", path=str(path))
    check_writable("The output", parent)


def write_positions(path: str | os.PathLike, position: Any, **beside: Any) -> None:
    """Write estimated positions, in one piece or not at all.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file; replaced if it exists.
        position: [num_samples, 3], float [m]. Stored as field `position`, float32.
        beside: what a model says besides, stored likewise: `covariance`
            [num_samples, 3, 3] [m^2]; `expected_error` [num_samples] and
            `credible_radius` [num_samples, 3] [m], see `calibration.Promise`; `map`
            [num_samples, num_components, 8], see `layers.mixture.MAP_COLUMNS`.

    Raises: UserError if the file cannot be, or a shape is another.
    """
    check_output_path(path)
    position = np.asarray(position, dtype=np.float32)
    check(
        position.ndim == 2 and position.shape[1] == 3,
        "`position` must have the shape [num_samples, 3].",
        shape=position.shape,
    )
    fields = {"position": position}
    for name, values in beside.items():
        values = fields[name] = np.asarray(values, dtype=np.float32)
        shape = (len(position), *_BESIDE[name][0])
        fits = len(values.shape) == len(shape) and all(
            wanted in (size, "num_components")
            for size, wanted in zip(values.shape, shape, strict=True)
        )
        words = ", ".join(map(str, shape))
        check(fits, f"`{name}` must have the shape [{words}].", shape=values.shape)
    units = {"position": "m", **{name: unit for name, (_, unit) in _BESIDE.items()}}
    write_fields(path, fields, {name: unit for name, unit in units.items() if unit})


def write_fields(
    path: str | os.PathLike,
    fields: Mapping[str, np.ndarray],
    units: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays, in one piece or not at all.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file; replaced if it exists.
        fields: name -> array.
        units: name -> unit, an attribute of the field in HDF5.
    """
    check_output_path(path)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.absolute().parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            if target.suffix.lower() in NPZ_SUFFIXES:
                np.savez(file, **fields)
            else:
                with h5py.File(file, "w") as hdf5:
                    for name, values in fields.items():
                        hdf5[name] = values
                        if name in (units or {}):
                            hdf5[name].attrs["unit"] = units[name]
        # mkstemp's file is the owner's alone; give it the rights of any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _check_suffix(path: str | os.PathLike) -> None:
    """Raise `UserError` unless the file name ends in a known form."""
    known = NPZ_SUFFIXES + HDF5_SUFFIXES
    check(
        Path(path).suffix.lower() in known,
        f"The file name must end in {', '.join(known)}.",
        path=str(path),
    )
