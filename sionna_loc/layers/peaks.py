"""The strongest peaks of channel impulse responses."""

import keras
from keras import ops

_RANGE = 0.3  # of 60 dB: peaks 18 dB below the strongest of a link count nothing
_LEAST = 0.05  # that a peak counts, so that a link with one peak is not divided by 0


def strongest_peaks(
    magnitude: keras.KerasTensor, num_peaks: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return where the strongest peaks are, and what they count.

    Args:
        magnitude: [..., num_taps], float. In dB, 1 being 60 dB, see `CirScaling`.
        num_peaks: int > 0. At most `num_taps` - 2 there can be.

    Returns: taps and weights, both [..., num_peaks] or less, float. Taps of the
        vertices of parabolas in dB; weights from 1 for the strongest peak of a link
        down to 0.05 for one that is 18 dB weaker, and 0 where there is no peak.
    """
    before, here, after = magnitude[..., :-2], magnitude[..., 1:-1], magnitude[..., 2:]
    level = ops.max(magnitude, axis=-1, keepdims=True)
    strength = 1 - (level - here) / _RANGE
    is_peak = ops.logical_and(here >= before, here > after)
    is_peak = ops.logical_and(is_peak, strength > 0)
    strength = ops.where(is_peak, ops.maximum(strength, _LEAST), 0.0)
    weight, index = ops.top_k(strength, min(num_peaks, here.shape[-1]))
    curvature = ops.maximum(2 * here - before - after, 1e-6)
    # Where there is a peak, the vertex is within half a tap.
    vertex = ops.clip((after - before) / (2 * curvature), -0.5, 0.5)
    tap = ops.cast(index + 1, magnitude.dtype)
    return tap + ops.take_along_axis(vertex, index, axis=-1), weight
