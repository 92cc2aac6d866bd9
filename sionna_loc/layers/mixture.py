"""Mixtures of Gaussians over positions: what a localizer believes."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

MAP_COLUMNS = (
    *("log_weight", "x", "y", "z"),
    *("deviation_x", "deviation_y", "deviation_z", "correlation_xy"),
)
"""What the last axis of a map holds: [1, m, m, m, m, m, m, 1]."""
_MODE_STARTS, _MODE_STEPS = 16, 12
_MEDIAN_STEPS = 25


class PositionMixture(NamedTuple):
    """A probability density over positions, for each sample of a batch.

    A component is a Gaussian whose x and y may be correlated; its height is
    independent of them.

    Attributes:
        log_weight: [batch, num_components], float. Logarithms of weights that sum
            to 1 over the components.
        mean: x, y and z, each [batch, num_components], float [m].
        deviation: of x, y and z, each [batch, num_components], float > 0 [m].
        correlation: [batch, num_components], float in (-1, 1). Of x and y.

    References: Bishop, "Mixture Density Networks".
    """

    log_weight: Any
    mean: tuple[Any, Any, Any]
    deviation: tuple[Any, Any, Any]
    correlation: Any

    @classmethod
    def from_map(cls, values: Any) -> "PositionMixture":
        """Return the mixture that a map [batch, num_components, 8] holds."""
        columns = [values[..., k] for k in range(len(MAP_COLUMNS))]
        return cls(columns[0], tuple(columns[1:4]), tuple(columns[4:7]), columns[7])

    @classmethod
    def gaussian(cls, mean: Any, covariance: Any) -> "PositionMixture":
        """Return the mixture of one component.

        Args:
            mean: [batch, 3], float [m].
            covariance: [batch, 3, 3], float [m^2]; z is taken as independent.
        """
        x, y, z = (mean[:, k : k + 1] for k in range(3))
        dx, dy, dz = (ops.sqrt(covariance[:, k : k + 1, k]) for k in range(3))
        correlation = covariance[:, 0, 1:2] / (dx * dy)
        return cls(ops.zeros_like(x), (x, y, z), (dx, dy, dz), correlation)

    def to_map(self) -> keras.KerasTensor:
        """Return [batch, num_components, 8], the columns as in `MAP_COLUMNS`."""
        columns = [self.log_weight, *self.mean, *self.deviation, self.correlation]
        return ops.stack(columns, axis=-1)

    def joined(self, other: "PositionMixture") -> "PositionMixture":
        """Return the mixture of both sets of components, the weights as they are."""

        def both(a: Any, b: Any) -> Any:
            return ops.concatenate([a, b], axis=1)

        return PositionMixture(
            both(self.log_weight, other.log_weight),
            tuple(map(both, self.mean, other.mean)),
            tuple(map(both, self.deviation, other.deviation)),
            both(self.correlation, other.correlation),
        )

    def normalised(self) -> "PositionMixture":
        """Return the mixture with weights that sum to 1."""
        total = ops.logsumexp(self.log_weight, axis=1, keepdims=True)
        return self._replace(log_weight=self.log_weight - total)

    def log_density(self, position: keras.KerasTensor) -> keras.KerasTensor:
        """Return the logarithm of the density at positions.

        Args:
            position: [batch, 3], float [m].

        Returns: [batch], of a density in 1/m^3.
        """
        x, y, z = (
            (position[:, axis, None] - self.mean[axis]) / self.deviation[axis]
            for axis in range(3)
        )
        free = 1 - ops.square(self.correlation)
        distance = (x * x - 2 * self.correlation * x * y + y * y) / free + z * z
        volume = sum(ops.log(deviation) for deviation in self.deviation)
        volume = volume + 0.5 * ops.log(free) + 1.5 * math.log(2 * math.pi)
        return ops.logsumexp(self.log_weight - volume - 0.5 * distance, axis=1)

    def center(self) -> keras.KerasTensor:
        """Return the mean of the density, [batch, 3] [m]."""
        weight = ops.exp(self.log_weight)
        return ops.stack([ops.sum(weight * m, axis=1) for m in self.mean], axis=-1)

    def covariance(self) -> keras.KerasTensor:
        """Return the covariance of the density, [batch, 3, 3] [m^2]."""
        weight = ops.exp(self.log_weight)
        center = ops.transpose(self.center())[..., None]  # [3, batch, 1]
        away = [mean - center[axis] for axis, mean in enumerate(self.mean)]
        within = [ops.square(deviation) for deviation in self.deviation]
        shared = self.correlation * self.deviation[0] * self.deviation[1]

        def moment(i: int, j: int) -> Any:
            value = away[i] * away[j]
            if i == j:
                value = value + within[i]
            elif {i, j} == {0, 1}:
                value = value + shared
            return ops.sum(weight * value, axis=1)

        rows = [ops.stack([moment(i, j) for j in range(3)], -1) for i in range(3)]
        return ops.stack(rows, axis=1)

    def median(self) -> keras.KerasTensor:
        """Return the geometric median of the density in the plane, [batch, 3] [m].

        It makes the expected distance small, and lies at the greater of two modes where
        the mean lies between them. That to a Gaussian is taken for the root of what its
        square is expected to be. The height is the components' mean, weighted as they
        count there.

        References: Weiszfeld, "Sur le point pour lequel la somme des distances de n
            points donnes est minimum" (the iteration).
        """
        weight, (mx, my, mz) = ops.exp(self.log_weight), self.mean
        spread = ops.square(self.deviation[0]) + ops.square(self.deviation[1])
        x, y, _ = ops.split(self.center(), 3, axis=-1)
        share = weight
        for _ in range(_MEDIAN_STEPS):
            squared = ops.square(mx - x) + ops.square(my - y) + spread
            share = weight * ops.rsqrt(squared)
            share = share / ops.sum(share, axis=1, keepdims=True)
            x = ops.sum(share * mx, axis=1, keepdims=True)
            y = ops.sum(share * my, axis=1, keepdims=True)
        z = ops.sum(share * mz, axis=1, keepdims=True)
        return ops.concatenate([x, y, z], axis=1)

    def mode(self) -> keras.KerasTensor:
        """Return where the density is highest, [batch, 3] [m].

        Begins at the best of the means of those components that have the highest peaks
        of their own, and climbs by the fixed-point iteration for Gaussian mixtures. The
        height is the components' mean, weighted as they are there.

        References: Carreira-Perpinan, "Mode-finding for mixtures of Gaussian
            distributions", Sec. 3.
        """
        free = 1 - ops.square(self.correlation)
        (dx, dy, _), (mx, my, mz) = self.deviation, self.mean
        peak = self.log_weight - ops.log(dx) - ops.log(dy) - 0.5 * ops.log(free)
        a, c = 1 / (free * ops.square(dx)), 1 / (free * ops.square(dy))
        b = -self.correlation / (free * dx * dy)

        def logs(x: Any, y: Any) -> Any:
            """Logarithms of the components' densities at x and y [batch, n, 1]."""
            px, py = x - mx[:, None], y - my[:, None]
            squared = a[:, None] * px * px + c[:, None] * py * py
            return peak[:, None] - 0.5 * squared - b[:, None] * px * py

        _, starts = ops.top_k(peak, min(_MODE_STARTS, peak.shape[1]))
        x, y = (ops.take_along_axis(m, starts, axis=1)[..., None] for m in (mx, my))
        best = ops.argmax(ops.logsumexp(logs(x, y), axis=2), axis=1)[:, None, None]
        x, y = (ops.take_along_axis(part, best, axis=1)[:, 0] for part in (x, y))
        share = None
        for _ in range(_MODE_STEPS):
            share = ops.softmax(logs(x[..., None], y[..., None])[:, 0], axis=1)
            ta, tb, tc = (
                ops.sum(share * part, axis=1, keepdims=True) for part in (a, b, c)
            )
            tx = ops.sum(share * (a * mx + b * my), axis=1, keepdims=True)
            ty = ops.sum(share * (b * mx + c * my), axis=1, keepdims=True)
            determinant = ta * tc - tb * tb
            x = (tc * tx - tb * ty) / determinant
            y = (ta * ty - tb * tx) / determinant
        z = ops.sum(share * mz, axis=1, keepdims=True)
        return ops.concatenate([x, y, z], axis=1)
