"""The form that a file of measurements must have: fields, shapes, types.

Values per TRP are `data.measured`'s business.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import check
from sionna_loc.features.cir_form import CirForm
from sionna_loc.features.link_form import LinkForm
from sionna_loc.sample import SPLITS

CIRS, LINKS = "cir_tokens", "link_measurements"
"""What a file may hold, named as `Localizer.features`."""
MAX_COORDINATE = 1e5
"""Of positions [m]; farther from the origin single precision is off by centimetres."""
FIELDS = (
    *("cir", "sampling_rate", "bandwidth", "synchronised", "array_shape"),
    *("tof", "range", "power", "aoa"),
    *("trp_position", "trp_mask", "num_trps", "ue_position", "split", "group"),
)
_REAL, _WHOLE = "fiu", "iu"
_KINDS = {"cfiu": "numbers", _REAL: "real", "b": "bool", _WHOLE: "whole numbers"}


@dataclass(frozen=True)
class Form:
    """What a file holds.

    Args:
        forms: what models take, of `Localizer.features`, -> what the file has of it.
        is_flat: bool. Whether the TRPs of all samples come one after another.
        num_samples: int > 0.
    """

    forms: dict[str, CirForm | LinkForm]
    is_flat: bool
    num_samples: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """What models the file serves: values of `Localizer.features`."""
        return tuple(self.forms)


def read_form(path: str | os.PathLike, fields: Mapping[str, Any]) -> Form:
    """Return what a file holds.

    Args:
        path: for messages.
        fields: name -> array, of `array_files.open_fields`.

    Raises: UserError if fields are missing, or have another shape or type.
    """
    has_links = "tof" in fields or "range" in fields
    check(
        "trp_position" in fields and ("cir" in fields or has_links),
        f"{path}: the fields `trp_position`, and `cir` with `sampling_rate`, or `tof` "
        "or `range` are required.",
        found=sorted(fields),
    )
    is_flat = "num_trps" in fields
    lead = "[num_tokens" if is_flat else "[num_samples, num_trps"
    size = 1 if is_flat else 2
    shapes = {
        "cir": ("cfiu", ", num_ant, num_taps", 2),
        "tof": (_REAL, "", 0),
        "range": (_REAL, "", 0),
        "power": (_REAL, "", 0),
        "aoa": (_REAL, ", 2", 1),
        "trp_position": (_REAL, ", 3", 1),
        "trp_mask": ("b", "", 0),
    }
    leading = None
    for name, (kinds, inner, ndim) in shapes.items():
        if name not in fields:
            continue
        _check_array(path, fields, name, kinds, f"{lead}{inner}]", size + ndim)
        shape = fields[name].shape
        leading = leading or (name, shape[:size])
        check(
            shape[:size] == leading[1],
            f"{path}: `{name}` and `{leading[0]}` must agree on {lead}].",
            **{name: shape, leading[0]: fields[leading[0]].shape},
        )
        if inner in (", 2", ", 3"):
            expected = int(inner[-1])
            check(
                shape[-1] == expected,
                f"{path}: `{name}` must have the shape {lead}{inner}].",
                shape=shape,
            )
    if is_flat:
        _check_num_trps(path, fields, leading[1][0])
    num_samples = len(fields["num_trps"]) if is_flat else leading[1][0]
    check(num_samples > 0, f"{path}: the file holds no sample.", num_samples=0)
    _check_per_sample(path, fields, num_samples)
    forms: dict[str, CirForm | LinkForm] = {}
    if "cir" in fields:
        forms[CIRS] = _cir_form(path, fields, size)
    if has_links:
        forms[LINKS] = LinkForm("power" in fields, "aoa" in fields)
    return Form(forms, is_flat, num_samples)


def check_form(
    path: str,
    found: CirForm | LinkForm,
    wanted: CirForm | LinkForm,
    whose: str = "the model's",
) -> None:
    """Raise `UserError` unless samples are as a model, or a set, wants them.

    Bandwidth and spacing of the antennas are compared where both are known.

    Args:
        path: of the samples, for messages.
        found: what they are.
        wanted: what they must be, of the same kind.
        whose: what `wanted` is, for messages.
    """
    if isinstance(wanted, LinkForm):
        for name, value in wanted.get_config().items():
            check(
                getattr(found, name) or not value,
                f"{path}: `{name}` must be there, as among {whose} links.",
                **{name: None},
            )
    else:
        _check_cir_form(path, found, wanted, whose)


def _check_cir_form(path: str, found: CirForm, wanted: CirForm, whose: str) -> None:
    """See `check_form`."""
    check(
        (found.num_ant, found.num_taps) == (wanted.num_ant, wanted.num_taps),
        f"{path}: `cir` must have {whose} {wanted.num_ant} antenna(s) x "
        f"{wanted.num_taps} taps.",
        num_ant=found.num_ant,
        num_taps=found.num_taps,
    )
    assumed = {*found.assumed, *wanted.assumed}
    for name in ("sampling_rate", "bandwidth"):
        value, expected = getattr(found, name), getattr(wanted, name)
        check(
            name in assumed or bool(np.isclose(value, expected, rtol=1e-6)),
            f"{path}: `{name}` must be {whose}, {expected:g} Hz.",
            **{name: value},
        )
    check(
        found.array_shape == wanted.array_shape,
        f"{path}: `array_shape` must be {whose}, {wanted.array_shape}.",
        array_shape=found.array_shape,
    )
    spacing, expected = found.array.spacing, wanted.array.spacing
    check(
        "spacing" in assumed
        or found.num_ant == 1
        or bool(np.isclose(spacing, expected, rtol=1e-6)),
        f"{path}: antennas must be as far apart as {whose}, {expected:g} wavelengths.",
        spacing=spacing,
    )
    check(
        found.synchronised == wanted.synchronised,
        f"{path}: `synchronised` must be {whose}, {wanted.synchronised}.",
        synchronised=found.synchronised,
    )


def _check_array(
    path: str | os.PathLike,
    fields: Mapping[str, Any],
    name: str,
    kinds: str,
    shape: str,
    ndim: int,
) -> None:
    """Raise `UserError` unless a field is an array of the kind and rank."""
    value = fields[name]
    check(
        isinstance(value, np.ndarray | h5py.Dataset)
        and value.dtype.kind in kinds
        and len(value.shape or ()) == ndim,
        f"{path}: `{name}` must be {_KINDS[kinds]} {shape}.",
        shape=getattr(value, "shape", None),
        dtype=str(getattr(value, "dtype", type(value).__name__)),
    )


def _check_num_trps(
    path: str | os.PathLike, fields: Mapping[str, Any], num_tokens: int
) -> None:
    """Raise `UserError` unless the row lengths of the flat form fit the rows."""
    _check_array(path, fields, "num_trps", _WHOLE, "[num_samples]", 1)
    lengths = np.asarray(fields["num_trps"][:])
    check(
        bool(np.all(lengths >= 1)),
        f"{path}: every sample must have at least one TRP in `num_trps`.",
        sample=int(np.argmin(lengths)) if lengths.size else None,
        num_trps=int(lengths.min(initial=1)),
    )
    check(
        int(lengths.sum()) == num_tokens,
        f"{path}: `num_trps` must add up to the rows of `trp_position`.",
        sum_of_num_trps=int(lengths.sum()),
        rows_of_trp_position=num_tokens,
    )


def check_near(path: str | os.PathLike, name: str, position: np.ndarray) -> None:
    """Raise `UserError` if a position, [n, 3], is far from the origin.

    There single precision, which models work in, is too coarse for centimetres.
    """
    far = np.asarray(position)[(np.abs(position) > MAX_COORDINATE).any(axis=1)]
    check(
        not len(far),
        f"{path}: `{name}` must be within {MAX_COORDINATE / 1e3:g} km of the origin: "
        "farther away single precision is coarse; subtract a point near the site.",
        position=far[:1].tolist(),
    )


def _check_per_sample(
    path: str | os.PathLike, fields: Mapping[str, Any], num_samples: int
) -> None:
    """Raise `UserError` unless what belongs to samples is there for each."""
    for name, kinds, shape in (
        ("ue_position", _REAL, (num_samples, 3)),
        ("split", _WHOLE, (num_samples,)),
        ("group", _WHOLE, (num_samples,)),
    ):
        if name not in fields:
            continue
        text = "[num_samples, 3]" if len(shape) > 1 else "[num_samples]"
        _check_array(path, fields, name, kinds, text, len(shape))
        check(
            fields[name].shape == shape,
            f"{path}: `{name}` must have the shape {text}.",
            shape=fields[name].shape,
            num_samples=num_samples,
        )
    if "ue_position" in fields:
        position = fields["ue_position"][:]
        finite = np.isfinite(position).all(axis=1)
        check(
            bool(finite.all()),
            f"{path}: `ue_position` must be finite.",
            sample=int(np.argmin(finite)),
        )
        check_near(path, "ue_position", position)
    if "split" in fields:
        split = np.asarray(fields["split"][:])
        known = (split >= 0) & (split < len(SPLITS))
        check(
            bool(known.all()),
            f"{path}: `split` must be 0, 1 or 2, for {', '.join(SPLITS)}.",
            sample=int(np.argmin(known)),
            split=int(split[np.argmin(known)]),
        )


def _cir_form(path: str | os.PathLike, fields: Mapping[str, Any], size: int) -> CirForm:
    """Return what the CIRs are."""
    check(
        "sampling_rate" in fields,
        f"{path}: `cir` needs the field `sampling_rate`.",
        found=sorted(fields),
    )
    numbers = {}
    for name in ("sampling_rate", "bandwidth"):
        if name in fields:
            _check_array(path, fields, name, _REAL, "scalar [Hz]", 0)
            numbers[name] = float(fields[name][()])
            check(
                numbers[name] > 0,
                f"{path}: `{name}` must be above 0.",
                **{name: numbers[name]},
            )
    synchronised = True
    if "synchronised" in fields:
        _check_array(path, fields, "synchronised", "b", "scalar", 0)
        synchronised = bool(fields["synchronised"][()])
    num_ant, num_taps = map(int, fields["cir"].shape[size:])
    shape = (1, num_ant)
    if "array_shape" in fields:
        _check_array(path, fields, "array_shape", _WHOLE, "[2]", 1)
        shape = tuple(int(number) for number in fields["array_shape"][:])
        check(
            len(shape) == 2 and min(shape) > 0 and shape[0] * shape[1] == num_ant,
            f"{path}: `array_shape` must be the rows and columns of the {num_ant} "
            "antenna(s) of `cir`.",
            array_shape=shape,
        )
    return CirForm(
        num_taps=num_taps,
        sampling_rate=numbers["sampling_rate"],
        bandwidth=numbers.get("bandwidth", numbers["sampling_rate"]),
        array=PlanarArray(*shape),
        synchronised=synchronised,
        assumed=("spacing",) if "bandwidth" in numbers else ("bandwidth", "spacing"),
    )
