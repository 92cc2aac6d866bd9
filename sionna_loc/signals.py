"""From propagation paths to what a receiver measures."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

_NOISE_MARGIN = 16  # samples of noise before the first and after the last tap


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
        path_delay: [..., num_paths], float32 [s]. Absolute time of flight. Where all
            antennas share it, [..., 1, num_paths] beside a gain
            [..., num_ant, num_paths] is synthesised several times faster.
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
    real, imag = ops.real(path_gain), ops.imag(path_gain)
    # One product for both parts, and for all antennas whose pulses are the same.
    if len(offset.shape) > 2 and offset.shape[-3] == 1:
        gain = ops.concatenate([real, imag], axis=-2)  # [..., 2 * num_ant, num_paths]
        response = ops.matmul(gain, pulse[..., 0, :, :])
        real, imag = ops.split(response, 2, axis=-2)
        return real, imag
    response = ops.matmul(ops.stack([real, imag], axis=-2), pulse)  # [..., 2, num_taps]
    return response[..., 0, :], response[..., 1, :]


def _sinc(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return `sin(pi x) / (pi x)`, and 1 at `x = 0`."""
    angle = math.pi * x
    near_zero = ops.abs(angle) < 1e-6
    angle = ops.where(near_zero, ops.ones_like(angle), angle)
    return ops.where(near_zero, ops.ones_like(angle), ops.sin(angle) / angle)


def band_limited_noise(
    samples: keras.KerasTensor, *, num_taps: int, sampling_rate: float, bandwidth: float
) -> keras.KerasTensor:
    """Return what a receiver's filter leaves of white noise, at the taps.

    The filter of `band_limited_taps`: noise of width `bandwidth` is fixed by its
    samples at that rate, and taps that are closer to each other are correlated.

    Args:
        samples: [..., num_noise_samples(...)], float. Independent, of mean 0 and
            variance 1.
        num_taps: int > 0.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz], at most the sampling rate.

    Returns: [..., num_taps], float, of mean 0 and variance 1.
    References: Tse and Viswanath, "Fundamentals of Wireless Communication",
        Sec. 2.2.4.
    """
    ratio = bandwidth / sampling_rate
    count = num_noise_samples(num_taps, sampling_rate, bandwidth)
    before = (count - math.ceil(num_taps * ratio)) // 2
    pulses = np.sinc(np.arange(num_taps) * ratio + before - np.arange(count)[:, None])
    pulses /= np.linalg.norm(pulses, axis=0)  # what was cut off, 1 % of the power
    return ops.matmul(samples, pulses.astype("float32"))


def num_noise_samples(num_taps: int, sampling_rate: float, bandwidth: float) -> int:
    """Return how many independent samples make the noise of `num_taps` taps."""
    ratio = bandwidth / sampling_rate
    return math.ceil(num_taps * ratio) + (0 if ratio == 1 else 2 * _NOISE_MARGIN)


def array_phase(path_aoa: keras.KerasTensor, element_position: Any) -> Any:
    """Return the phase of each path at each antenna of a receiving array.

    Plane waves: an antenna that lies towards the direction of arrival hears a path
    earlier, its phase is ahead by `2 pi` times the way in wavelengths.

    Args:
        path_aoa: [..., num_paths, 2], float [rad]. Zenith and azimuth.
        element_position: [num_ant, 3], float [wavelengths]. Relative to where the
            paths were computed.

    Returns: [..., num_ant, num_paths], float [rad].
    References: 3GPP TR 38.901, eq. (7.5-22) and (7.5-23), the term of the receiving
        antenna's location.
    """
    zenith, azimuth = path_aoa[..., 0], path_aoa[..., 1]
    sine = ops.sin(zenith)
    direction = ops.stack(
        [sine * ops.cos(azimuth), sine * ops.sin(azimuth), ops.cos(zenith)], axis=-2
    )  # [..., 3, num_paths]
    return 2 * math.pi * ops.matmul(element_position, direction)
