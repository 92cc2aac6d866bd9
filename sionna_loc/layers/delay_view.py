"""What CIRs hold around the delays that distances would have."""

from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.layers.angle_spectrum import share_from
from sionna_loc.layers.peaks import strongest_peaks

_NEAR = 2.0  # spacings of the window within which a peak counts as a range


class DelayView:
    """Looks at CIRs around the delays of distances: in windows, and at peaks.

    A third of a window's points lie before the predicted delay, two thirds after it,
    where reflections arrive.

    Args:
        size: int > 0. Points of a window.
        spacing: float > 0. Distance of these points [taps].
        taps_per_unit: float > 0. Taps in a unit of distances.

    Attributes:
        points: [size], float. Where a window's points lie, relative to the predicted
            delay [taps].
        before: float. Distance from the predicted delay to the window's begin, in
            units of distances.
    """

    def __init__(self, size: int, spacing: float, taps_per_unit: float) -> None:
        self.size = size
        self.spacing = spacing
        self.taps_per_unit = taps_per_unit
        indices = np.arange(size, dtype="float32") - size // 3
        self.points = indices * np.float32(spacing)
        self.before = float(-self.points[0]) / taps_per_unit

    def around(
        self, response: keras.KerasTensor, distance: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the responses around the delays of distances, one after the other.

        Args:
            response: [batch, num_trps, num_taps, channels].
            distance: [batch, num_trps, num_windows].

        Returns: [batch, num_trps, num_windows * size * channels].
        """
        window = delay_window(response, distance * self.taps_per_unit, self.points)
        size = distance.shape[2] * self.size * response.shape[-1]
        return ops.reshape(window, (-1, ops.shape(window)[1], size))

    def directed(
        self,
        level: keras.KerasTensor,
        spectrum: keras.KerasTensor,
        distance: keras.KerasTensor,
        direction: keras.KerasTensor,
        array: Any,
    ) -> keras.KerasTensor:
        """Return the magnitudes around delays of what arrives from directions.

        Args:
            level: [batch, num_trps, num_ways * size]. Magnitudes, see `around`.
            spectrum: [batch, num_trps, num_taps, num_terms]. Of `AngleSpectrum`.
            distance: [batch, num_trps, num_ways].
            direction: [batch, num_trps, num_ways, 3].
            array: `antennas.PlanarArray`, of the UE.

        Returns: [batch, num_trps, num_ways * size].
        """
        delay = distance * self.taps_per_unit
        # Directions change little from tap to tap: no need to interpolate.
        rows = delay_window(spectrum, delay, self.points, interpolate=False)
        shape = (-1, ops.shape(distance)[1], distance.shape[2], self.size)
        rows = ops.reshape(rows, (*shape, spectrum.shape[-1]))
        east, north = direction[..., :1], direction[..., 1:2]
        share = share_from(rows, array, east, north)[..., 0]
        return level * ops.reshape(share, ops.shape(level))

    def next_peaks(
        self,
        magnitude: keras.KerasTensor,
        distance: keras.KerasTensor,
        num_peaks: int,
    ) -> tuple[keras.KerasTensor, ...]:
        """Return the peaks next to the delays of distances.

        Args:
            magnitude: [batch, num_trps, num_taps].
            distance: [batch, num_trps, num_ways].
            num_peaks: int > 0. Peaks of each CIR, the strongest.

        Returns: by how many taps they come later; that as a share of the window,
            limited to it; how near they are, from 0 to 1; and their weights, each
            [batch, num_trps, num_ways]. Far away and of no weight without peaks.
        """
        tap, weight = strongest_peaks(magnitude, num_peaks)
        delay = distance * self.taps_per_unit
        apart = tap[:, :, None] - delay[..., None]  # [..., num_ways, num_peaks]
        apart = ops.where(weight[:, :, None] > 0, apart, float(magnitude.shape[-1]))
        nearest = ops.argmin(ops.abs(apart), axis=-1)
        apart = ops.take_along_axis(apart, nearest[..., None], axis=-1)[..., 0]
        weight = ops.take_along_axis(weight, nearest, axis=-1)
        share = ops.clip(apart / (self.spacing * self.size / 3), -1.0, 1.0)
        near = ops.exp(-ops.square(apart / (_NEAR * self.spacing)))
        return apart, share, near, weight


def delay_window(
    response: keras.KerasTensor,
    delay: keras.KerasTensor,
    offset: np.ndarray,
    interpolate: bool = True,
) -> keras.KerasTensor:
    """Read a window around a delay out of each response.

    Args:
        response: [batch, num_trps, num_taps, channels], float.
        delay: [batch, num_trps, num_windows], float [taps].
        offset: [size], float. Where to read, relative to the delay [taps].
        interpolate: bool. Whether what lies between two taps is interpolated
            linearly, else it is the nearest tap's.

    Returns: [batch, num_trps, num_windows * size, channels]; 0 outside of the response.
    """
    num_taps = response.shape[2]
    offset = ops.array(offset, "float32")
    tap = ops.expand_dims(delay, -1) + offset
    size = delay.shape[2] * offset.shape[0]
    tap = ops.reshape(tap, (-1, ops.shape(delay)[1], size))
    inside = ops.logical_and(tap >= 0, tap <= num_taps - 1)
    tap = ops.clip(tap, 0, num_taps - 1)
    if not interpolate:
        value = _gather(response, ops.cast(ops.floor(tap + 0.5), "int32"))
        return value * ops.cast(ops.expand_dims(inside, -1), value.dtype)
    lower = ops.floor(tap)
    fraction = ops.expand_dims(tap - lower, -1)
    lower = ops.cast(lower, "int32")
    upper = ops.minimum(lower + 1, num_taps - 1)
    value = (1 - fraction) * _gather(response, lower) + fraction * _gather(
        response, upper
    )
    return value * ops.cast(ops.expand_dims(inside, -1), value.dtype)


def _gather(response: keras.KerasTensor, tap: keras.KerasTensor) -> keras.KerasTensor:
    """Return `response` at whole taps `tap` [batch, num_trps, size]."""
    batch, num_trps, num_taps, channels = ops.shape(response)
    # Whole rows of channels from one long list: several times faster than elements.
    rows = ops.reshape(response, (-1, channels))
    link = ops.reshape(ops.arange(batch * num_trps), (batch, num_trps, 1))
    return ops.take(rows, ops.cast(link, tap.dtype) * num_taps + tap, axis=0)
