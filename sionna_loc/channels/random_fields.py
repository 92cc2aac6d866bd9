"""Gaussian random fields over the horizontal plane, one set of fields per site.

The spatial consistency of TR 38.901, clause 7.6.3: what is random about a link is a
stationary Gaussian process of the UE's place, independent from site to site. A field
here is a sum of sinusoids whose weights are drawn from the seed and from the place of
the site, so that it is known everywhere at once: the value at a position depends on
nothing but that position, the site and the seed.

How the wave numbers are chosen decides how many are needed. Their directions follow
the golden ratio, and their lengths are the quantiles of the spectrum of the wanted
autocorrelation, so that none is wasted on repeating another: with 512 sinusoids the
autocorrelation is within 0.04 of `exp(-r / D)` up to two correlation distances in any
direction, and within 0.002 on average over directions; 1024 drawn at random are within
0.054 and 0.021. `tests/channels/test_random_fields.py` holds it.
"""

import functools
from typing import Protocol

import numpy as np
import tensorflow as tf
from scipy import special

from sionna_loc.checks import check_known, check_positive, check_positive_int
from sionna_loc.position_noise import normals, position_keys

SHAPES = ("exponential", "gaussian", "quadriga")
"""Autocorrelations that fields have; `WhiteNoise` has none."""

_GOLDEN_ANGLE = np.pi * (np.sqrt(5.0) - 1.0)


class RandomField(Protocol):
    """What fields have in common: a state per site, then values at positions."""

    def sites(self, site_position: tf.Tensor) -> tf.Tensor:
        """Return the state of the fields of sites at [num_sites, 3] float32 [m]."""

    def values(self, sites: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Return standard normal values, [num_positions, num_sites, num_fields].

        Args:
            sites: what `sites` returned.
            position: [num_positions, 3], float32 [m].
        """


class SumOfSinusoids:
    r"""Fields with a chosen autocorrelation in the horizontal plane.

    .. math:: z(x) = \frac{1}{\sqrt{N}} \sum_{i=1}^N a_i \cos(k_i x) + b_i \sin(k_i x)

    with independent standard normal weights :math:`a_i`, :math:`b_i`.

    Args:
        num_fields: int > 0. Fields per site.
        distance: float > 0 [m]. Correlation distance D.
        key: int in [0, 2**64). Decides the weights and turns the wave numbers.
        shape: `"exponential"`, `exp(-r / D)`; `"gaussian"`, `exp(-(r / D)^2)`; or
            `"quadriga"`, Gaussian up to D and exponential beyond: as near to it, within
            0.09, as a process can be.
        num_sinusoids: int > 0. N.

    References: TR 38.901, clause 7.6.3.1; Jaeckel et al., "QuaDRiGa documentation",
        for the third shape.
    """

    def __init__(
        self,
        num_fields: int,
        distance: float,
        key: int,
        *,
        shape: str = "exponential",
        num_sinusoids: int = 512,
    ) -> None:
        check_positive("distance", distance)
        check_positive_int("num_sinusoids", num_sinusoids)
        check_known("autocorrelation", shape, SHAPES)
        self.num_fields = num_fields
        self.key = key
        turn = 2 * np.pi * (key / 2**64)
        self.wave_numbers = wave_numbers(shape, num_sinusoids, turn) / distance

    def sites(self, site_position: tf.Tensor) -> tf.Tensor:
        """Return the weights, [2 num_sinusoids, num_sites, num_fields]."""
        rows = self.wave_numbers.size
        weights = tf.map_fn(
            lambda key: normals(key, rows * self.num_fields),
            position_keys(site_position, self.key),
            fn_output_signature=tf.float32,
        )
        weights = tf.reshape(weights, [-1, rows, self.num_fields])
        return tf.transpose(weights, [1, 0, 2]) / np.sqrt(rows / 2).astype(np.float32)

    def values(self, sites: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """See `RandomField`."""
        # Turns of up to thousands, of which only the fraction counts: in float64.
        turns = tf.cast(position[:, :2], tf.float64) @ (self.wave_numbers / (2 * np.pi))
        angle = 2 * np.pi * tf.cast(turns - tf.round(turns), tf.float32)
        basis = tf.concat([tf.cos(angle), tf.sin(angle)], axis=-1)
        return tf.tensordot(basis, sites, axes=1)


class WhiteNoise:
    """Fields without any consistency: independent a millimetre further on.

    Args:
        num_fields: int > 0. Fields per site.
        key: int in [0, 2**64).
    """

    def __init__(self, num_fields: int, key: int) -> None:
        self.num_fields = num_fields
        self.key = key

    def sites(self, site_position: tf.Tensor) -> tf.Tensor:
        """Return the key of each site, [num_sites] uint64."""
        return position_keys(site_position, self.key)

    def values(self, sites: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """See `RandomField`."""
        keys = position_keys(position[:, None], sites)  # [num_positions, num_sites]
        return normals(keys, self.num_fields)


def normal_cdf(values: tf.Tensor) -> tf.Tensor:
    """Return Phi(z): uniform between 0 and 1 where z is standard normal."""
    return 0.5 * tf.math.erfc(values * -(0.5**0.5))


def wave_numbers(shape: str, count: int, turn: float = 0.0) -> np.ndarray:
    """Spread wave numbers over the spectrum of an autocorrelation with D = 1 m.

    Args:
        shape: one of `SHAPES`.
        count: int > 0.
        turn: float [rad]. Turns all of them.

    Returns: [2, count], float64 [rad/m].
    """
    index = np.arange(count)
    length = _QUANTILES[shape]((index + 0.5) / count)
    angle = turn + _GOLDEN_ANGLE * index
    return np.stack([length * np.cos(angle), length * np.sin(angle)])


def _exponential_quantile(share: np.ndarray) -> np.ndarray:
    """Invert `1 - (1 + k^2)^(-1/2)`, the spectrum of `exp(-r)` within a radius k."""
    return np.sqrt((1 - share) ** -2 - 1)


def _gaussian_quantile(share: np.ndarray) -> np.ndarray:
    """Invert `1 - exp(-k^2 / 4)`, the spectrum of `exp(-r^2)` within a radius k."""
    return 2 * np.sqrt(-np.log1p(-share))


def _quadriga_quantile(share: np.ndarray) -> np.ndarray:
    """Invert the spectrum of the shape that is part Gaussian, part exponential."""
    return np.interp(share, *_quadriga_spectrum())


@functools.cache
def _quadriga_spectrum() -> tuple[np.ndarray, np.ndarray]:
    """Return (share of the power within a radius, that radius [rad/m]) for D = 1 m.

    The Hankel transform of the autocorrelation is that of `exp(-r)`, which is known,
    plus that of the difference, which ends at r = 1. Where it falls below 0, as no
    process has exactly this autocorrelation, it is cut.
    """
    radius = np.geomspace(1e-3, 1e3, 4000)
    nodes, weights = np.polynomial.legendre.leggauss(1000)
    lag, weights = (nodes + 1) / 2, weights / 2
    excess = weights * lag * (np.exp(-(lag**2)) - np.exp(-lag))
    density = (1 + radius**2) ** -1.5 + special.j0(np.outer(radius, lag)) @ excess
    power = np.maximum(density, 0.0) * radius
    steps = (power[1:] + power[:-1]) / 2 * np.diff(radius)
    share = np.concatenate([[0.0], np.cumsum(steps)])
    return share / share[-1], radius


_QUANTILES = {
    "exponential": _exponential_quantile,
    "gaussian": _gaussian_quantile,
    "quadriga": _quadriga_quantile,
}
