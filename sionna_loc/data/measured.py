"""Users' own measurements: files of CIRs or of link measurements.

`docs/data_format.md` describes the fields, with examples. Every mistake in a file is
one `UserError` that names file and field. The form is checked when a file is opened,
values when they are read.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.antennas import direction_vectors
from sionna_loc.checks import check, check_positive_int
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.array_files import open_fields, reading, take_rows
from sionna_loc.data.measured_form import (
    CIRS,
    FIELDS,
    LINKS,
    check_form,
    check_near,
    read_form,
)
from sionna_loc.data.measured_rows import places
from sionna_loc.features.cir_form import CirForm
from sionna_loc.features.link_form import LinkForm

_VALUES = {CIRS: ("cir",), LINKS: ("tof", "range", "power", "aoa")}
_WORDS = {CIRS: "CIRs (`cir`)", LINKS: "link measurements (`tof` or `range`)"}


class MeasuredFile:
    """The samples of a file, read when they are asked for.

    Args:
        path: `.npz`, `.h5` or `.hdf5` file, see `docs/data_format.md`. HDF5 stays on
            disk and open; an NPZ archive is loaded as a whole.

    Attributes:
        form: `measured_form.Form`.
        lengths: [num_samples], int. TRPs of each sample, heard or not.
        ue_position: [num_samples, 3], float32 [m], or None.
        split: [num_samples], int, or None. Numbers of `sample.SPLITS`.
        group: [num_samples], int, or None. Samples that belong together.

    Raises: UserError if the file cannot be read, lacks a field, or one has another
        shape or type than expected, or if there are no samples.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        self._fields = open_fields(path, FIELDS, self._stack)
        with reading(path):
            self.form = read_form(path, self._fields)
            size = self.form.num_samples
            if self.form.is_flat:
                self.lengths = np.asarray(self._fields["num_trps"][:], dtype=np.int64)
            else:
                num_trps = self._fields["trp_position"].shape[1]
                self.lengths = np.full(size, num_trps, dtype=np.int64)
            self.ue_position = self._whole("ue_position", np.float32)
            self.split = self._whole("split", np.int64)
            self.group = self._whole("group", np.int64)
        self._ends = np.cumsum(self.lengths)

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return self.form.num_samples

    @property
    def track_starts(self) -> np.ndarray:
        """Of each sample the number of the first one of its track, [num_samples].

        A track are samples of one group that follow each other; without groups all
        samples are one track.
        """
        starts = np.arange(self.num_samples)
        group = 0 * starts if self.group is None else self.group
        is_first = np.append(True, np.diff(group) != 0)
        return np.maximum.accumulate(np.where(is_first, starts, 0))

    def check_kind(self, kind: str) -> None:
        """Raise `UserError` unless the file serves models that take `kind`."""
        held = ", ".join(_WORDS[held] for held in self.form.kinds)
        check(
            kind in self.form.kinds,
            f"{self.path}: the model takes {_WORDS[kind]}, the file holds {held}.",
            model_takes=kind,
        )

    def read(
        self, samples: np.ndarray, kind: str
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read samples as inputs of a model.

        Args:
            samples: [n], int. Their numbers, in any order.
            kind: `measured_form.CIRS` or `LINKS`.

        Returns: the TRPs of all samples one after another, and how many each has, [n].
            With CIRs those that are heard: `cir` [num_tokens, num_ant, num_taps, 2]
            and `trp_position` [num_tokens, 3] [m], float32. With links all that exist:
            `link` [num_tokens, 5], power [dBm], ToF [s], and unit vector from the TRP
            to where the signal comes from, 0 for what the file does not give;
            `trp_heard` [num_tokens], bool; and `trp_position`.
        Raises: UserError if a value is not finite, or a sample hears no TRP.
        """
        lengths = self.lengths[samples]
        owner, within = places(lengths)
        values = self._tokens(samples, owner, within, kind)
        position = values.pop("trp_position")
        mask = values.pop("trp_mask")
        named = {**values, "trp_position": position}
        for name, array in named.items():
            finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            bad = np.flatnonzero(mask & ~finite)
            message = f"{self.path}: `{name}` must be finite wherever it is not masked."
            if bad.size:
                token = bad[0]
                sample = int(samples[owner[token]])
                check(False, message, sample=sample, trp=int(within[token]))
        if kind == CIRS:
            heard = mask & (values["cir"] != 0).any(axis=(1, 2))
            kept = heard
        else:
            heard = mask
            kept = mask | np.isfinite(position).all(axis=1)
        self._check_heard(samples, np.bincount(owner[heard], minlength=len(samples)))
        tokens = {"trp_position": position[kept]}
        check_near(self.path, "trp_position", tokens["trp_position"])
        if kind == CIRS:
            cir = values["cir"][kept].astype(np.complex64)
            tokens["cir"] = np.stack([cir.real, cir.imag], axis=-1)
        else:
            tokens["link"] = _links(values, heard)[kept]
            tokens["trp_heard"] = heard[kept]
        return tokens, np.bincount(owner[kept], minlength=len(samples))

    def _whole(self, name: str, dtype: Any) -> np.ndarray | None:
        """Return all of a field that belongs to samples, if there is one."""
        if name not in self._fields:
            return None
        return np.asarray(self._fields[name][:], dtype=dtype)

    def _tokens(
        self, samples: np.ndarray, owner: np.ndarray, within: np.ndarray, kind: str
    ) -> dict[str, np.ndarray]:
        """Return the rows of the fields that `kind` needs, [num_tokens, ...]."""
        wanted = (*_VALUES[kind], "trp_position", "trp_mask")
        if self.form.is_flat:
            starts = (self._ends - self.lengths)[samples]
            rows = starts[owner] + within
        found = {}
        with reading(self.path):
            for name in wanted:
                if name not in self._fields:
                    continue
                if self.form.is_flat:
                    found[name] = take_rows(self._fields[name], rows)
                else:
                    block = take_rows(self._fields[name], samples)
                    found[name] = block.reshape(-1, *block.shape[2:])
        found["trp_position"] = found["trp_position"].astype(np.float32)
        found.setdefault("trp_mask", np.ones(len(owner), dtype=bool))
        return found

    def _check_heard(self, samples: np.ndarray, num_heard: np.ndarray) -> None:
        """Raise `UserError` if a sample hears no TRP."""
        deaf = np.flatnonzero(num_heard == 0)
        check(
            not deaf.size,
            f"{self.path}: every sample must hear at least one TRP; a TRP is unheard "
            "if it is masked in `trp_mask` or its `cir` is zero throughout.",
            sample=int(samples[deaf[0]]) if deaf.size else None,
            num_heard=0,
        )


def read_samples(
    path: str | os.PathLike,
    kind: str = CIRS,
    form: CirForm | LinkForm | None = None,
    batch_size: int = 256,
    window: int = 1,
) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Read measured samples, or windows of their tracks, as inputs of a localizer.

    Args:
        path: see `MeasuredFile`.
        kind: what the model takes, see `Localizer.features`.
        form: what the model was trained on; not checked if None.
        batch_size: int > 0. Samples held as model inputs at a time.
        window: int > 0. Most samples of a window, which ends with each sample, see
            `data.tracks`.

    Returns: iterator of dicts, see `to_inputs`, in the order of the file; with windows
        their entries are [n, (window), (num_trps), ...].
    Raises: UserError, at once, as `MeasuredFile`, and if the file does not fit the
        model; while iterating, if a value is not finite or a sample hears no TRP.
    """
    check_positive_int("batch_size", batch_size)
    check_positive_int("window", window)
    file = MeasuredFile(path)
    file.check_kind(kind)
    if form is not None:
        check_form(str(path), file.form.forms[kind], form)
    return _iterate(file, kind, batch_size, window)


def _iterate(
    file: MeasuredFile, kind: str, batch_size: int, window: int
) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Yield the batches of a file."""
    starts = file.track_starts
    for start in range(0, file.num_samples, batch_size):
        stop = min(start + batch_size, file.num_samples)
        if window == 1:
            yield to_inputs(*file.read(np.arange(start, stop), kind))
            continue
        ends = np.arange(start, stop)
        begins = np.maximum(starts[ends], ends - window + 1)
        first = int(begins.min())
        inputs = to_inputs(*file.read(np.arange(first, stop), kind))
        index = tf.ragged.range(begins - first, ends - first + 1)  # [n, (window)]
        yield {name: tf.gather(values, index) for name, values in inputs.items()}


def to_inputs(tokens: dict[str, Any], lengths: Any) -> dict[str, tf.RaggedTensor]:
    """Return what `MeasuredFile.read` gives as ragged tensors, [n, (num_trps), ...]."""
    rows = tf.convert_to_tensor(lengths, tf.int64)
    return {
        name: tf.RaggedTensor.from_row_lengths(values, rows, validate=False)
        for name, values in tokens.items()
    }


def _links(values: dict[str, np.ndarray], heard: np.ndarray) -> np.ndarray:
    """Return power, ToF and direction of each link, 0 if not heard or not given."""
    link = np.zeros((len(heard), 5), np.float64)
    if "power" in values:
        link[:, 0] = values["power"]
    if "tof" in values:
        link[:, 1] = values["tof"]
    else:
        link[:, 1] = values["range"] / SPEED_OF_LIGHT
    if "aoa" in values:
        link[:, 2:] = direction_vectors(values["aoa"])
    return np.where(heard[:, None], link, 0.0).astype(np.float32)
