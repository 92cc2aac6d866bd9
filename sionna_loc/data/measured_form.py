"""The form that a file of measurements must have: fields, shapes, types, rate.

Values are `data.measured`'s business.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from sionna_loc.checks import check


class Expected(NamedTuple):
    """What the model was built for."""

    num_ant: int
    num_taps: int
    sampling_rate: float


def check_fields(
    path: str | os.PathLike, fields: Mapping[str, Any], expected: Expected
) -> None:
    """Raise `UserError` unless shapes, types and rate are as expected."""
    flat = "num_trps" in fields
    lead = "num_tokens" if flat else "num_samples, num_trps"
    size = 1 if flat else 2
    cir = fields["cir"]
    _check_array(path, fields, "cir", "c", f"[{lead}, num_ant, num_taps]", size + 2)
    _check_array(path, fields, "trp_position", "fiu", f"[{lead}, 3]", size + 1)
    if "trp_mask" in fields:
        _check_array(path, fields, "trp_mask", "b", f"[{lead}]", size)
    for name in ("trp_position", "trp_mask"):
        if name in fields:
            check(
                fields[name].shape[:size] == cir.shape[:size],
                f"{path}: `{name}` and `cir` must agree on [{lead}].",
                **{name: fields[name].shape, "cir": cir.shape},
            )
    check(
        fields["trp_position"].shape[-1] == 3,
        f"{path}: `trp_position` must have the shape [{lead}, 3].",
        shape=fields["trp_position"].shape,
    )
    check(
        cir.shape[size:] == (expected.num_ant, expected.num_taps),
        f"{path}: `cir` must have the model's {expected.num_ant} antenna(s) x "
        f"{expected.num_taps} taps.",
        shape=cir.shape,
    )
    if flat:
        _check_num_trps(path, fields)
    num_samples = len(fields["num_trps"] if flat else cir)
    check(num_samples > 0, f"{path}: the file holds no sample.", num_samples=0)
    _check_sampling_rate(path, fields, expected.sampling_rate)


def _check_array(
    path: str | os.PathLike,
    fields: Mapping[str, Any],
    name: str,
    kinds: str,
    shape: str,
    ndim: int,
) -> None:
    """Raise `UserError` unless a field is an array of the kind and rank."""
    words = {"c": "complex", "fiu": "real", "b": "bool", "iu": "whole numbers"}
    value = fields[name]
    check(
        isinstance(value, np.ndarray | h5py.Dataset)
        and value.dtype.kind in kinds
        and len(value.shape or ()) == ndim,
        f"{path}: `{name}` must be {words[kinds]} {shape}.",
        shape=getattr(value, "shape", None),
        dtype=str(getattr(value, "dtype", type(value).__name__)),
    )


def _check_num_trps(path: str | os.PathLike, fields: Mapping[str, Any]) -> None:
    """Raise `UserError` unless the row lengths of the flat form fit `cir`."""
    _check_array(path, fields, "num_trps", "iu", "[num_samples]", 1)
    lengths = np.asarray(fields["num_trps"][:])
    check(
        bool(np.all(lengths >= 1)),
        f"{path}: every sample must have at least one TRP in `num_trps`.",
        sample=int(np.argmin(lengths)) if lengths.size else None,
        num_trps=int(lengths.min(initial=1)),
    )
    check(
        int(lengths.sum()) == len(fields["cir"]),
        f"{path}: `num_trps` must add up to the rows of `cir`.",
        sum_of_num_trps=int(lengths.sum()),
        rows_of_cir=len(fields["cir"]),
    )


def _check_sampling_rate(
    path: str | os.PathLike, fields: Mapping[str, Any], expected: float
) -> None:
    """Raise `UserError` unless `sampling_rate` is a number, the model's."""
    _check_array(path, fields, "sampling_rate", "fiu", "scalar [Hz]", 0)
    value = float(fields["sampling_rate"][()])
    check(
        bool(np.isclose(value, expected, rtol=1e-6, atol=0.0)),
        f"{path}: `sampling_rate` must be the model's, {expected:g} Hz.",
        sampling_rate=value,
    )
