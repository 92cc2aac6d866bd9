"""From which directions the power around each tap arrives."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import check, check_list, check_positive_int

_FLOOR = 1e-6  # of a link's strongest tap; weaker ones have no direction
_TINY = 1e-30  # of the power of a link that is silent
_SHARPNESS = 0.01  # what is missing to a share that counts as nothing missing


@keras.saving.register_keras_serializable(package="sionna_loc")
class AngleSpectrum(keras.layers.Layer):
    """CIRs of an array -> the spectrum of arrival directions around each tap.

    A beam that is turned to a direction receives a share of the power that all
    antennas receive in a window of taps: all of it of a single path from there, and of
    powers from anywhere one part in `num_ant`. As a function of the phases between
    neighbours along rows and columns, the share is a trigonometric polynomial, its
    degrees one below the numbers of rows and columns. So the beams of a somewhat finer
    DFT hold it whole, and `share_from` reads it at any direction, without the loss that
    lies between the beams of `AngleDelay`.

    The shares of taps are averaged with their powers over the window, and may be
    interpolated between taps: there are no phases that would cancel.

    Args:
        num_rows, num_columns: ints > 0. Of the array.
        windows: ints > 0, odd [taps]. A spectrum for each.
        stride: int > 0. Taps from one spectrum to the next, the first tap's first.

    Call arguments:
        cir: [num_links, num_rows * num_columns, num_taps, 2], float. Real and
            imaginary part, linear.

    Returns: for each window [num_links, ceil(num_taps / stride), num_terms], float;
        `num_terms` is (2 num_rows - 1) (2 num_columns - 1).
    Raises: UserError (a ValueError) if a size is not positive, or a window even.
    References: Krim and Viberg, "Two Decades of Array Signal Processing Research",
        "Conventional beamformer" (the spectrum).
    """

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        windows: Sequence[int],
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_rows", num_rows)
        check_positive_int("num_columns", num_columns)
        check_list("windows", windows)
        for window in windows:
            check_positive_int("windows", window)
            check(window % 2 == 1, "`windows` must be odd.", windows=windows)
        check_positive_int("stride", stride)
        self.num_rows = num_rows
        self.num_columns = num_columns
        self.windows = tuple(windows)
        self.stride = stride
        self._beams, self._terms = _transforms(num_rows, num_columns)
        self.built = True

    def call(self, cir: keras.KerasTensor) -> tuple[keras.KerasTensor, ...]:
        """Transform."""
        num_ant, num_taps = cir.shape[1:3]
        check(
            num_ant == self.num_rows * self.num_columns,
            f"The array has {self.num_rows} x {self.num_columns} antennas.",
            cir_shape=tuple(cir.shape),
        )
        by_tap = ops.reshape(
            ops.transpose(cir, (0, 2, 1, 3)), (-1, num_taps, 2 * num_ant)
        )
        real, imag = ops.split(ops.matmul(by_tap, self._beams), 2, axis=-1)
        terms = ops.matmul(ops.square(real) + ops.square(imag), self._terms)
        power = terms[..., :1]  # the mean over all directions
        floor = _FLOOR * ops.max(power, axis=1, keepdims=True) + _TINY
        spectra = []
        for window in self.windows:
            half = window // 2
            padded = ops.pad(terms, [[0, 0], [half, half], [0, 0]])
            mean = ops.average_pool(
                padded, window, self.stride, data_format="channels_last"
            )
            spectra.append(mean / (num_ant * (mean[..., :1] + floor)))
        return tuple(spectra)

    def compute_output_shape(
        self, cir_shape: tuple[int | None, ...]
    ) -> tuple[tuple[int | None, ...], ...]:
        """Return [num_links, ceil(num_taps / stride), num_terms] for each window."""
        num_rows = -(-cir_shape[2] // self.stride)
        return ((cir_shape[0], num_rows, len(self._terms)),) * len(self.windows)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("num_rows", "num_columns", "windows", "stride")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def num_terms(array: PlanarArray) -> int:
    """Return how many numbers a spectrum of an array has."""
    return (2 * array.num_rows - 1) * (2 * array.num_columns - 1)


def share_from(
    spectrum: keras.KerasTensor,
    array: PlanarArray,
    east: keras.KerasTensor,
    north: keras.KerasTensor,
) -> keras.KerasTensor:
    """Return the share of the power that arrives from directions.

    Args:
        spectrum: [..., num_terms], float. Rows of `AngleSpectrum`, or what lies
            between them; 0 where there is no power.
        array: what heard it.
        east: [...], float. Direction cosine, from the UE to where a path comes from.
        north: [...], float. Likewise.

    Returns: [..., 2], float. The share, in [0, 1]; and the same on a logarithmic scale
        that tells directions near the maximum apart, 0 for 0 and 1 for 1.
    """
    turn = 2 * math.pi * array.spacing
    by_row = _harmonics(turn * east, array.num_rows)
    by_column = _harmonics(turn * north, array.num_columns)
    share = 0.0
    for i, row in enumerate(by_row):
        first = i * len(by_column)
        inner = sum(x * spectrum[..., first + j] for j, x in enumerate(by_column))
        share = share + row * inner
    share = ops.clip(share, 0.0, 1.0)
    missing = (1 - share + _SHARPNESS) / (1 + _SHARPNESS)
    scale = math.log((1 + _SHARPNESS) / _SHARPNESS)
    return ops.stack([share, -ops.log(missing) / scale], axis=-1)


def split_spectrum(
    evidence: keras.KerasTensor, array: PlanarArray | None
) -> tuple[keras.KerasTensor, keras.KerasTensor | None]:
    """Split off the spectrum that evidence ends with.

    Args:
        evidence: [..., channels + num_terms], float.
        array: what heard the spectrum; None if there is none.

    Returns: [..., channels], and [..., num_terms] or None.
    """
    if array is None:
        return evidence, None
    first = evidence.shape[-1] - num_terms(array)
    return evidence[..., :first], evidence[..., first:]


def share_along(
    spectrum: keras.KerasTensor,
    array: PlanarArray,
    project: Callable[..., Any],
    way: Sequence[keras.KerasTensor],
) -> keras.KerasTensor:
    """Return the share of the power at delays of ways that arrives along them.

    Nothing is trained through it, and without gradients it takes a third of the time.

    Args:
        spectrum: [batch, num_trps, num_taps, num_terms], float. Of `AngleSpectrum`.
        array: what heard it.
        project: a `BackProjection`, reads the spectrum at delays.
        way: as `back_projection.ways` returns it: a path from the TRP arrives from the
            other side.

    Returns: [batch, num_trps, num_points, 2], float. See `share_from`.
    """
    distance, east, north = way[:3]
    share = share_from(project(spectrum, distance), array, -east, -north)
    return ops.stop_gradient(share)


def array_of(array: Mapping[str, float] | None) -> PlanarArray | None:
    """Return the array that a layer's configuration holds."""
    return None if array is None else PlanarArray(**array)


def _harmonics(phase: Any, size: int) -> list[Any]:
    """Return 1, cos(p), sin(p), cos(2 p), ... up to `size` - 1 times the phase."""
    if size == 1:
        return [1.0]
    cosine, sine = ops.cos(phase), ops.sin(phase)
    found, c, s = [1.0], cosine, sine
    for _ in range(size - 1):
        found += [c, s]
        c, s = c * cosine - s * sine, s * cosine + c * sine
    return found


def _transforms(num_rows: int, num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices from antennas to beams, and from their powers to terms.

    Returns: [2 * num_ant, 2 * num_beams], real and imaginary parts of antennas by
        turns, of beams one after the other; and [num_beams, num_terms].
    """
    beams, terms = [], []
    for size in (num_rows, num_columns):
        count = 2 * size - 1
        phase = 2 * np.pi * np.arange(count) / count
        beams.append(np.exp(-1j * np.outer(phase, np.arange(size))))
        sampled = [np.ones(count)]
        for k in range(1, size):
            sampled += [np.cos(k * phase), np.sin(k * phase)]
        terms.append(np.linalg.inv(np.stack(sampled, axis=-1)))
    to_beams = np.kron(*beams).T  # [num_ant, num_beams]
    rows = np.stack(
        [
            np.concatenate([to_beams.real, to_beams.imag], axis=-1),
            np.concatenate([-to_beams.imag, to_beams.real], axis=-1),
        ],
        axis=1,
    )  # [num_ant, 2, 2 * num_beams]
    rows = rows.reshape(2 * num_rows * num_columns, -1)
    return rows.astype("float32"), np.kron(*terms).T.astype("float32")
