"""Random numbers that belong to a place: stateless functions of position and key.

A key is 64 bits, mixed from a seed and from coordinates rounded to a millimetre.
Whoever asks for the numbers of a place, in whatever batch or order, gets the same.
"""

import numpy as np
import tensorflow as tf

_RESOLUTION = 1e-3
_GOLDEN = 0x9E3779B97F4A7C15
_MANTISSA_BITS = 23


def position_keys(position: tf.Tensor, key: int | tf.Tensor) -> tf.Tensor:
    """Mix positions into a key.

    Args:
        position: [..., 3], float32 [m]. Equal to a millimetre means equal.
        key: int in [0, 2**64), or [...] uint64. Broadcast against `position`.

    Returns: [...], uint64.
    """
    grid = tf.cast(tf.round(position / _RESOLUTION), tf.int64)
    keys = _as_keys(key)
    for axis in range(3):
        keys = _mix(keys + tf.bitcast(grid[..., axis], tf.uint64) + _as_keys(_GOLDEN))
    return keys


def uniforms(keys: tf.Tensor, count: int) -> tf.Tensor:
    """Draw `count` numbers for each key, strictly between 0 and 1.

    Args:
        keys: [...], uint64.
        count: int > 0.

    Returns: [..., count], float32.
    References: Steele et al., "Fast splittable pseudorandom number generators",
        OOPSLA 2014 (SplitMix64).
    """
    # The generator's states, one step apart; NumPy's product wraps around.
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits = _mix(keys[..., None] + tf.constant(steps))
    high = tf.bitwise.right_shift(bits, _as_keys(64 - _MANTISSA_BITS))
    # Half a step off the grid: exact in float32, and neither 0 nor 1.
    high = tf.cast(tf.cast(high, tf.int32), tf.float32)
    return (high + 0.5) * 2.0**-_MANTISSA_BITS


def normals(keys: tf.Tensor, count: int) -> tf.Tensor:
    """Draw `count` standard normal numbers for each key.

    Args:
        keys: [...], uint64.
        count: int > 0.

    Returns: [..., count], float32.
    """
    return tf.math.ndtri(uniforms(keys, count))


def _mix(keys: tf.Tensor) -> tf.Tensor:
    """Spread every bit of the keys over all 64 (the finaliser of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = tf.bitwise.bitwise_xor(keys, _shifted(keys, shift)) * _as_keys(factor)
    return tf.bitwise.bitwise_xor(keys, _shifted(keys, 31))


def _shifted(keys: tf.Tensor, shift: int) -> tf.Tensor:
    """Shift keys to the right by `shift` bits."""
    return tf.bitwise.right_shift(keys, _as_keys(shift))


def _as_keys(value: int | tf.Tensor) -> tf.Tensor:
    """Return a uint64 tensor."""
    return (
        tf.cast(value, tf.uint64)
        if tf.is_tensor(value)
        else tf.constant(np.uint64(value))
    )
