"""Mixtures of Gaussians over positions: what a localizer believes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

MAP_COLUMNS = (
    *("log_weight", "x", "y", "z"),
    *("deviation_x", "deviation_y", "deviation_z", "correlation_xy"),
)
"""What the last axis of a map holds: [1, m, m, m, m, m, m, 1]."""
ESTIMATES = ("mean", "median", "mode")
"""Points that can stand for a density."""
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
        return cls._of_columns([values[..., k] for k in range(len(MAP_COLUMNS))])

    @classmethod
    def _of_columns(cls, columns: Sequence[Any]) -> "PositionMixture":
        """Return the mixture of what `MAP_COLUMNS` names, each as in a mixture."""
        return cls(columns[0], tuple(columns[1:4]), tuple(columns[4:7]), columns[7])

    @property
    def _columns(self) -> tuple[Any, ...]:
        """What `MAP_COLUMNS` names, [batch, num_components] each."""
        return self.log_weight, *self.mean, *self.deviation, self.correlation

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
        return ops.stack(self._columns, axis=-1)

    def joined(self, other: "PositionMixture") -> "PositionMixture":
        """Return the mixture of both sets of components, the weights as they are."""
        pairs = zip(self._columns, other._columns, strict=True)
        return self._of_columns([ops.concatenate(pair, axis=1) for pair in pairs])

    def times(self, other: "PositionMixture") -> "PositionMixture":
        """Return the product of both densities, normalised.

        Args:
            other: mixture of as many samples.

        Returns: mixture of a component for each pair of components, those of `self`
            in the outer order.
        References: Petersen and Pedersen, "The Matrix Cookbook", Sec. 8.1.8 (products
            of Gaussians).
        """

        def paired(a: Any, b: Any) -> tuple[Any, Any]:
            return a[:, :, None], b[:, None, :]

        mean = tuple(map(paired, self.mean, other.mean))
        deviation = tuple(map(paired, self.deviation, other.deviation))
        correlation = paired(self.correlation, other.correlation)
        (dx, dy, dz) = ([ops.square(d) for d in pair] for pair in deviation)
        shared = [
            c * x * y
            for c, x, y in zip(correlation, deviation[0], deviation[1], strict=True)
        ]
        # Of the difference of both, whose density at 0 is the weight of a pair.
        xx, yy, zz, xy = sum(dx), sum(dy), sum(dz), sum(shared)
        x, y, z = (b - a for a, b in mean)
        determinant = xx * yy - xy * xy
        toward_x = (yy * x - xy * y) / determinant
        toward_y = (xx * y - xy * x) / determinant
        squared = x * toward_x + y * toward_y + z * z / zz
        weight = sum(paired(self.log_weight, other.log_weight))
        weight = weight - 0.5 * (squared + ops.log(determinant) + ops.log(zz))
        product_mean = (
            mean[0][0] + dx[0] * toward_x + shared[0] * toward_y,
            mean[1][0] + dy[0] * toward_y + shared[0] * toward_x,
            mean[2][0] + dz[0] * z / zz,
        )
        # Precisions add up.
        free = [1 - ops.square(c) for c in correlation]
        a = sum(1 / (f * v) for f, v in zip(free, dx, strict=True))
        c = sum(1 / (f * v) for f, v in zip(free, dy, strict=True))
        b = sum(
            -s / (f * v * w) for s, f, v, w in zip(shared, free, dx, dy, strict=True)
        )
        determinant = a * c - b * b
        product_deviation = (
            ops.sqrt(c / determinant),
            ops.sqrt(a / determinant),
            ops.sqrt(dz[0] * dz[1] / zz),
        )
        columns = weight, *product_mean, *product_deviation, -b * ops.rsqrt(a * c)
        size = weight.shape[1] * weight.shape[2]
        columns = [ops.reshape(column, (-1, size)) for column in columns]
        return self._of_columns(columns).normalised()

    def scaled(self, in_plane: Any, in_height: Any) -> "PositionMixture":
        """Return the mixture of components so many times as wide, and as high."""
        dx, dy, dz = self.deviation
        return self._replace(deviation=(in_plane * dx, in_plane * dy, in_height * dz))

    def tempered(self, temperature: Any) -> "PositionMixture":
        """Return the mixture with logarithms of weights divided by a number.

        References: Guo et al., "On Calibration of Modern Neural Networks", Sec. 4.2.
        """
        return self._replace(log_weight=self.log_weight / temperature).normalised()

    def heaviest(self, num_components: int) -> "PositionMixture":
        """Return the mixture of the components of most weight, so many at most."""
        if self.log_weight.shape[1] <= num_components:
            return self
        _, index = ops.top_k(self.log_weight, num_components)
        chosen = [ops.take_along_axis(x, index, axis=1) for x in self._columns]
        return self._of_columns(chosen).normalised()

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

    def estimate(self, way: str) -> keras.KerasTensor:
        """Return one of `ESTIMATES`, [batch, 3] [m].

        Args:
            way: its name: the mean makes the mean squared error small, the geometric
                median the mean error.
        """
        ways = {"mean": self.center, "median": self.median, "mode": self.mode}
        return ways[way]()

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
