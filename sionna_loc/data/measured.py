"""Users' own measurements: files of CIRs in, files of positions out.

`docs/data_format.md` describes the two forms of file, NPZ and HDF5, with an example.
Every mistake in a file is one `UserError` that names file and field.
"""

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from sionna_loc.checks import UserError, check, check_positive_int, check_writable
from sionna_loc.data.measured_form import Expected, check_fields

NPZ_SUFFIXES = (".npz",)
HDF5_SUFFIXES = (".h5", ".hdf5")
_REQUIRED = ("cir", "trp_position", "sampling_rate")
_OPTIONAL = ("trp_mask", "num_trps")
_READ_ERRORS = (
    *(OSError, EOFError, KeyError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


def read_samples(
    path: str | os.PathLike,
    num_ant: int,
    num_taps: int,
    sampling_rate: float,
    batch_size: int = 256,
) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Read measured samples as inputs of a localizer.

    The form of the file is checked at once, values batch by batch. TRPs that are
    masked, and those whose CIR is zero throughout, are left out as unheard.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file, see `docs/data_format.md`.
        num_ant: int > 0. Antennas that the model was built for.
        num_taps: int > 0. Taps that the model was built for.
        sampling_rate: float > 0 [Hz]. Of the model's taps.
        batch_size: int > 0. Samples held as model inputs at a time.

    Returns: iterator of dicts with `cir` ragged
        [batch, (num_trps), num_ant, num_taps, 2], float32, and `trp_position` ragged
        [batch, (num_trps), 3], float32 [m], in the order of the file.

    Raises: UserError if the file cannot be read, lacks a field, or a field has
        another shape, type, number of antennas or taps or sampling rate than
        expected, or is not finite; or if a sample hears no TRP; or if there are no
        samples.
    """
    check_positive_int("batch_size", batch_size)
    expected = Expected(num_ant, num_taps, sampling_rate)
    with _open_fields(path) as fields:
        check_fields(path, fields, expected)
    return _iterate(path, batch_size)


def check_output_path(path: str | os.PathLike) -> None:
    """Raise `UserError` unless `write_positions` can write there, in a known form."""
    _check_suffix(path)
    parent = Path(path).absolute().parent
    check(parent.is_dir(), "The folder of the output must exist.", folder=str(parent))
    check(not Path(path).is_dir(), "The output must not be a folder.", path=str(path))
    check_writable("The output", parent)


def write_positions(
    path: str | os.PathLike, position: Any, covariance: Any = None
) -> None:
    """Write estimated positions, in one piece or not at all.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file; replaced if it exists.
        position: [num_samples, 3], float [m]. Stored as field `position`, float32.
        covariance: [num_samples, 3, 3], float [m^2], or None. Stored likewise.
    """
    check_output_path(path)
    position = np.asarray(position, dtype=np.float32)
    check(
        position.ndim == 2 and position.shape[1] == 3,
        "`position` must have the shape [num_samples, 3].",
        shape=position.shape,
    )
    fields = {"position": (position, "m")}
    if covariance is not None:
        covariance = np.asarray(covariance, dtype=np.float32)
        check(
            covariance.shape == (len(position), 3, 3),
            f"`covariance` must have the shape [{len(position)}, 3, 3].",
            shape=covariance.shape,
        )
        fields["covariance"] = (covariance, "m^2")
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.absolute().parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            if target.suffix.lower() in NPZ_SUFFIXES:
                np.savez(file, **{name: values for name, (values, _) in fields.items()})
            else:
                with h5py.File(file, "w") as hdf5:
                    for name, (values, unit) in fields.items():
                        hdf5[name] = values
                        hdf5[name].attrs["unit"] = unit
        # mkstemp's file is the owner's alone; give it the rights of any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def _open_fields(path: str | os.PathLike) -> Iterator[Mapping[str, Any]]:
    """Give the file's fields as sliceable arrays while the file is open."""
    _check_suffix(path)
    check(Path(path).is_file(), "The input file must exist.", path=str(path))
    with contextlib.ExitStack() as stack:
        try:
            if Path(path).suffix.lower() in NPZ_SUFFIXES:
                archive = stack.enter_context(np.load(path, allow_pickle=False))
            else:
                archive = stack.enter_context(h5py.File(path, "r"))
            names = [name for name in _REQUIRED + _OPTIONAL if name in archive]
            fields = {name: archive[name] for name in names}
            found = sorted(archive.keys())
        except _READ_ERRORS as error:
            raise _unreadable(path, error) from error
        missing = sorted(set(_REQUIRED) - set(fields))
        check(
            not missing,
            f"{path}: the fields {', '.join(_REQUIRED)} are required.",
            missing=missing,
            found=found,
        )
        yield fields


def _check_suffix(path: str | os.PathLike) -> None:
    """Raise `UserError` unless the file name ends in a known form."""
    known = NPZ_SUFFIXES + HDF5_SUFFIXES
    check(
        Path(path).suffix.lower() in known,
        f"The file name must end in {', '.join(known)}.",
        path=str(path),
    )


def _unreadable(path: str | os.PathLike, error: Exception) -> UserError:
    """Return the one-line error of a file that is broken or of another kind."""
    reason = " ".join(str(error).split())
    return UserError(
        f"{path}: the file cannot be read; it may be truncated or of another kind. "
        f"Received: {type(error).__name__}: {reason}"
    )


def _iterate(
    path: str | os.PathLike, batch_size: int
) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Yield the batches of a file whose fields have been checked."""
    with _open_fields(path) as fields:
        flat = "num_trps" in fields
        shape = fields["cir"].shape
        if flat:
            lengths = np.asarray(fields["num_trps"][:], dtype=np.int64)
        else:
            lengths = np.full(shape[0], shape[1], dtype=np.int64)
        ends = np.cumsum(lengths)
        for start in range(0, len(lengths), batch_size):
            stop = min(start + batch_size, len(lengths))
            rows = slice(start, stop)
            if flat:
                rows = slice(ends[start] - lengths[start], ends[stop - 1])
            block = _read_block(path, fields, rows, 1 if flat else 2)
            yield _make_inputs(path, block, lengths[start:stop], start)


class _Block(NamedTuple):
    """The TRPs of some samples: [num_tokens, ...] each."""

    cir: np.ndarray
    trp_position: np.ndarray
    trp_mask: np.ndarray


def _read_block(
    path: str | os.PathLike, fields: Mapping[str, Any], rows: slice, num_lead: int
) -> _Block:
    """Read rows of all fields, the leading axes merged to one."""
    try:
        cir = np.asarray(fields["cir"][rows])
        position = np.asarray(fields["trp_position"][rows], dtype=np.float32)
        mask = np.ones(cir.shape[:num_lead], dtype=bool)
        if "trp_mask" in fields:
            mask = np.asarray(fields["trp_mask"][rows])
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    cir = cir.reshape(-1, *cir.shape[num_lead:])
    return _Block(cir, position.reshape(-1, 3), mask.ravel())


def _make_inputs(
    path: str | os.PathLike, block: _Block, lengths: np.ndarray, first: int
) -> dict[str, tf.RaggedTensor]:
    """Check the values of a block and return it as model inputs."""
    sample = np.repeat(np.arange(len(lengths)), lengths)
    for name in ("cir", "trp_position"):
        values = getattr(block, name)
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        bad = np.flatnonzero(block.trp_mask & ~finite)
        if bad.size:
            where = int(sample[bad[0]])
            trp = int(bad[0] - lengths[:where].sum())
            message = f"{path}: `{name}` must be finite wherever it is not masked."
            check(False, message, sample=first + where, trp=trp)
    heard = block.trp_mask & (block.cir != 0).any(axis=(1, 2))
    num_heard = np.bincount(sample[heard], minlength=len(lengths))
    deaf = np.flatnonzero(num_heard == 0)
    if deaf.size:
        message = (
            f"{path}: every sample must hear at least one TRP; a TRP is unheard if it "
            "is masked in `trp_mask` or its `cir` is zero throughout."
        )
        check(False, message, sample=first + int(deaf[0]), num_heard=0)
    cir = block.cir[heard].astype(np.complex64)
    parts = np.stack([cir.real, cir.imag], axis=-1)
    rows = tf.constant(num_heard, tf.int64)
    return {
        "cir": tf.RaggedTensor.from_row_lengths(parts, rows),
        "trp_position": tf.RaggedTensor.from_row_lengths(
            block.trp_position[heard], rows
        ),
    }
