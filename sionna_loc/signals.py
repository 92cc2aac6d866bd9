"""From propagation paths to what a receiver measures."""

import math

import keras
from keras import ops


def band_limited_taps(
    path_gain: keras.KerasTensor,
    path_delay: keras.KerasTensor,
    *,
    num_taps: int,
    sampling_rate: float,
    bandwidth: float,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    r"""Synthesise the taps of band-limited channel impulse responses.

    The receiver sees each path through an ideal low-pass filter of width `bandwidth`
    and samples at `sampling_rate` from the common time zero on, so that tap `k` is
    `sum_p g_p sinc(B (k / f_s - tau_p))`. Paths whose gain is 0 add nothing.

    Args:
        path_gain: [..., num_paths], complex64. Amplitude gain, carrier phase included.
        path_delay: [..., num_paths], float32 [s]. Absolute time of flight.
        num_taps: int > 0. Number of taps, from `t = 0` on.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz]. Two-sided bandwidth of the complex baseband signal.

    Returns: real and imaginary part, each [..., num_taps], float32.

    References: Tse and Viswanath, "Fundamentals of Wireless Communication",
        Sec. 2.2.3, eq. (2.35); Balaji et al., "VIn-Loc", eq. (2).
    """
    taps = ops.arange(num_taps, dtype="float32")
    offset = taps - ops.expand_dims(path_delay * sampling_rate, -1)
    pulse = _sinc(offset * (bandwidth / sampling_rate))  # [..., num_paths, num_taps]
    # One product for both parts: [..., 2, num_paths] x [..., num_paths, num_taps].
    gain = ops.stack([ops.real(path_gain), ops.imag(path_gain)], axis=-2)
    response = ops.matmul(gain, pulse)  # [..., 2, num_taps]
    return response[..., 0, :], response[..., 1, :]


def _sinc(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return `sin(pi x) / (pi x)`, and 1 at `x = 0`."""
    angle = math.pi * x
    near_zero = ops.abs(angle) < 1e-6
    angle = ops.where(near_zero, ops.ones_like(angle), angle)
    return ops.where(near_zero, ops.ones_like(angle), ops.sin(angle) / angle)
