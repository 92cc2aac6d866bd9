"""Delay of the first path of band-limited channel impulse responses."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive, check_positive_int

_COARSE, _FINE = 2, 8  # delays tried per tap before the refinement
_RIDGE = 1e-6  # of the normal equations; amplitudes are scaled to 1
_LARGEST_STEP = 0.25  # of one refinement [taps]
_MARGIN_DB = 20.0  # how far below the weakest path of interest the fit goes


@keras.saving.register_keras_serializable(package="sionna_loc")
class FirstPath(keras.layers.Layer):
    """Estimates when, and how strongly, the first path of each link arrives.

    A band-limited path is a sinc pulse whose sidelobes precede the arrival, so the
    first tap above a threshold is no estimate. Here up to `num_paths` pulses are
    fitted, one after another: orthogonal matching pursuit over a grid of delays, at
    first a coarse one and then a fine one around the best, and after each new pulse
    joint least squares of all gains and delays (each pulse linearised in its delay).
    The first path is the earliest fitted one that is not weaker than the strongest by
    more than `dynamic_range_db`: a direct path is rarely weaker, while pulses that
    mend two unresolved paths are.

    Args:
        num_taps: int > 0.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz], at most the sampling rate. Of the pulse
            `sinc(bandwidth * t)`.
        num_paths: int > 0. Pulses fitted to each link.
        num_refinements: int >= 0. Rounds of joint least squares after each pulse.
        dynamic_range_db: float > 0 [dB].

    Call arguments:
        cir: [num_links, num_ant, num_taps, 2], float. Real and imaginary part.

    Returns: delay [num_links] [s] and amplitude [num_links] of the first path. The
        amplitude is the root of the mean power over the antennas.
    Raises: UserError (a ValueError) if an argument is out of range.
    References: Tropp and Gilbert, "Signal Recovery From Random Measurements Via
        Orthogonal Matching Pursuit"; Ekanadham et al., "Recovery of Sparse
        Translation-Invariant Signals With Continuous Basis Pursuit" (the linearised
        pulse).
    """

    def __init__(
        self,
        num_taps: int,
        sampling_rate: float,
        bandwidth: float,
        num_paths: int = 5,
        num_refinements: int = 3,
        dynamic_range_db: float = 12.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_taps", num_taps)
        check_positive_int("num_paths", num_paths)
        for name, value in (
            ("sampling_rate", sampling_rate),
            ("bandwidth", bandwidth),
            ("dynamic_range_db", dynamic_range_db),
        ):
            check_positive(name, value)
        check(
            bandwidth <= sampling_rate,
            "`bandwidth` must not exceed `sampling_rate`.",
            bandwidth=bandwidth,
            sampling_rate=sampling_rate,
        )
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        self.num_paths = num_paths
        self.num_refinements = num_refinements
        self.dynamic_range_db = dynamic_range_db
        self._ratio = bandwidth / sampling_rate
        grid = np.arange(num_taps * _COARSE) / _COARSE
        atoms = np.sinc((np.arange(num_taps)[:, None] - grid) * self._ratio)
        self._atoms = atoms.T.astype("float32")  # [num_delays, num_taps]
        self._atom_energy = np.square(np.linalg.norm(atoms, axis=0).astype("float32"))
        reach = 1 / _COARSE - 1 / _FINE
        around = np.arange(-reach, reach + 1e-6, 1 / _FINE)
        self._around = around.astype("float32")  # [num_fine]
        self.built = True

    def call(self, cir: keras.KerasTensor) -> tuple[Any, Any]:
        """Estimate, see the class."""
        response = ops.transpose(cir, (0, 2, 1, 3))
        response = ops.reshape(response, (-1, self.num_taps, 2 * cir.shape[1]))
        scale = ops.max(ops.abs(response), axis=(1, 2), keepdims=True) + 1e-30
        response = response / scale  # [num_links, num_taps, 2 * num_ant]
        delay, gain = self._fit(response)
        power = ops.sum(ops.square(gain), axis=-1) / cir.shape[1]  # [links, paths]
        floor = ops.max(power, axis=1, keepdims=True)
        floor = floor * 10 ** (-self.dynamic_range_db / 10)
        arrival = ops.where(power >= floor, delay, ops.full_like(delay, 1e9))
        first = ops.expand_dims(ops.argmin(arrival, axis=1), 1)
        delay = ops.take_along_axis(delay, first, axis=1)[:, 0]
        power = ops.take_along_axis(power, first, axis=1)[:, 0]
        return delay / self.sampling_rate, ops.sqrt(power) * scale[:, 0, 0]

    def _fit(self, response: Any) -> tuple[Any, Any]:
        """Return delays [links, paths] [taps] and gains [links, paths, 2 * num_ant]."""
        floor = 10 ** (-(self.dynamic_range_db + _MARGIN_DB) / 10) * _energy(response)
        residual = response
        delay = exists = ops.zeros_like(response[:, :0, 0])  # [num_links, 0]
        for _ in range(self.num_paths):
            new = self._strongest(residual)
            delay = ops.concatenate([delay, new], axis=1)
            # Once a link is explained, a further pulse would only split another.
            left = ops.cast(_energy(residual) > floor, response.dtype)
            exists = ops.concatenate([exists, ops.expand_dims(left, 1)], axis=1)
            # Refined at once, so that the next pulse does not mend this one's delay.
            for _ in range(self.num_refinements):
                delay = self._refine(response, delay, exists)
            pulse, _ = self._pulses(delay)
            pulse = pulse * ops.expand_dims(exists, 1)
            gain = _least_squares(pulse, response)
            residual = response - ops.matmul(pulse, gain)
        return delay, gain

    def _strongest(self, response: Any) -> Any:
        """Return the delays [num_links, 1] [taps] of pulses that match best."""
        # Arrays of NumPy's would not mix with tensors on every back end and device.
        atoms, energy, around = map(
            ops.convert_to_tensor, (self._atoms, self._atom_energy, self._around)
        )
        match = ops.matmul(atoms, response)  # [num_links, num_delays, channels]
        match = ops.sum(ops.square(match), axis=-1) / energy
        best = ops.cast(ops.argmax(match, axis=1), response.dtype) / _COARSE
        delay = ops.clip(ops.expand_dims(best, 1) + around, 0.0, self.num_taps - 1.0)
        pulse, _ = self._pulses(delay)
        match = ops.matmul(ops.transpose(pulse, (0, 2, 1)), response)
        match = ops.sum(ops.square(match), axis=-1)
        match = match / ops.sum(ops.square(pulse), axis=1)
        best = ops.expand_dims(ops.argmax(match, axis=1), 1)
        return ops.take_along_axis(delay, best, axis=1)

    def _refine(self, response: Any, delay: Any, exists: Any) -> Any:
        """Move all delays by one step of joint least squares."""
        both = ops.concatenate(self._pulses(delay), axis=-1)
        both = both * ops.expand_dims(ops.concatenate([exists, exists], axis=1), 1)
        gain, shifted = ops.split(_least_squares(both, response), 2, axis=1)
        power = ops.sum(ops.square(gain), axis=-1) + 1e-9
        step = ops.sum(gain * shifted, axis=-1) / power
        delay = delay + ops.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        return ops.clip(delay, 0.0, self.num_taps - 1.0)

    def _pulses(self, delay: Any) -> tuple[Any, Any]:
        """Return pulses at delays [taps] and their slopes, [links, taps, paths]."""
        taps = ops.reshape(ops.arange(self.num_taps, dtype=delay.dtype), (1, -1, 1))
        angle = (taps - ops.expand_dims(delay, 1)) * (math.pi * self._ratio)
        near = ops.abs(angle) < 1e-2
        safe = ops.where(near, ops.ones_like(angle), angle)
        sine, cosine = ops.sin(safe), ops.cos(safe)
        pulse = ops.where(near, 1 - ops.square(angle) / 6, sine / safe)
        slope = ops.where(near, -angle / 3, (cosine - sine / safe) / safe)
        return pulse, slope * (-math.pi * self._ratio)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_taps sampling_rate bandwidth num_paths num_refinements "
            "dynamic_range_db"
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names.split()},
        }


def _energy(response: Any) -> Any:
    """Return the energy [n] of responses [n, t, c]."""
    return ops.sum(ops.square(response), axis=(1, 2))


def _least_squares(matrix: Any, values: Any) -> Any:
    """Return the ridge solution x of matrix [n, t, k] x = values [n, t, c]."""
    transposed = ops.transpose(matrix, (0, 2, 1))
    ridge = _RIDGE * ops.eye(matrix.shape[-1], dtype=matrix.dtype)
    normal = ops.matmul(transposed, matrix) + ridge
    return ops.solve(normal, ops.matmul(transposed, values))
