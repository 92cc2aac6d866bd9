"""Likelihood of positions given ranges that are exact or too long."""

import math
from typing import Any, NamedTuple

from keras import ops

_OUTLIER_DENSITY = 1e-8  # of ranges that are too short [1 / m]
_LARGEST_LOG_ODDS = 4.0
_LEAST_INFORMATION = 1e-4  # [1 / m^2]
_NOT_HEARD = -1e9  # level of TRPs that are not heard [dB]


class RangeStatistics(NamedTuple):
    """How ranges err, each a scalar but the last.

    Attributes:
        ue_height: [m].
        los_scale: scale of the error with line of sight [m].
        mean_excess: mean excess without line of sight [m].
        level_reference: typical level with line of sight [dB].
        log_odds: [3]. Log-odds of line of sight, a quadratic in the level less the
            reference: constant, per dB, per dB squared.
    """

    ue_height: Any
    los_scale: Any
    mean_excess: Any
    level_reference: Any
    log_odds: Any


class RangeEvidence:
    """What the ranges of a batch say about horizontal points.

    Every method takes points [batch, num_points, 2] [m].

    Args:
        statistics: of the ranges.
        ranges: [batch, num_trps] [m].
        level: [batch, num_trps] [dB]. Of the first path, free-space loss undone.
        trps: [batch, num_trps, 3] [m].
        mask: [batch, num_trps], bool. Which TRPs are heard.
    """

    def __init__(
        self,
        statistics: RangeStatistics,
        ranges: Any,
        level: Any,
        trps: Any,
        mask: Any,
    ) -> None:
        self.ranges, self.trps = ranges, trps
        self.heard = ops.cast(mask, ranges.dtype)
        self.level = ops.where(mask, level, _NOT_HEARD)
        self._height_difference = statistics.ue_height - trps[..., 2]
        self.squared_radius = ops.relu(
            ops.square(ranges) - ops.square(self._height_difference)
        )
        self._scale = statistics.los_scale
        self._mean_excess = statistics.mean_excess
        x = level - statistics.level_reference
        odds = statistics.log_odds[0] + statistics.log_odds[1] * x
        odds = odds + statistics.log_odds[2] * ops.square(x)
        odds = ops.clip(odds, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)
        self._log_los = ops.log_sigmoid(odds)
        self._log_nlos = ops.log_sigmoid(-odds)

    def log_likelihood(self, points: Any) -> Any:
        """Return the log-likelihood of points, [batch, num_points]."""
        residual, _ = self._residual(points)
        los, nlos = self._log_densities(residual)
        return ops.sum(ops.logaddexp(los, nlos) * self.heard[:, None], axis=-1)

    def newton_step(self, points: Any) -> Any:
        """Return a robustly weighted Gauss-Newton step, [batch, num_points, 2]."""
        residual, direction = self._residual(points)
        weight = self._weight(residual)
        a, b, c, determinant = _information(weight, direction)
        gradient = ops.sum((weight * residual)[..., None] * direction, axis=2)
        x, y = gradient[..., 0], gradient[..., 1]
        step = ops.stack([c * x - b * y, a * y - b * x], axis=-1)
        return step / determinant[..., None]

    def log_area(self, points: Any) -> Any:
        """Return the log of the area [m^2] under the peak at points."""
        residual, direction = self._residual(points)
        *_, determinant = _information(self._weight(residual), direction)
        return math.log(2 * math.pi) - 0.5 * ops.log(determinant)

    def _residual(self, points: Any) -> tuple[Any, Any]:
        """Return range minus distance [batch, points, trps] and the directions."""
        offset = points[:, :, None] - self.trps[:, None, :, :2]
        squared = ops.sum(ops.square(offset), axis=-1)
        squared = squared + ops.square(self._height_difference)[:, None]
        distance = ops.sqrt(squared + 1e-6)
        return self.ranges[:, None] - distance, offset / distance[..., None]

    def _log_densities(self, residual: Any) -> tuple[Any, Any]:
        """Return log density times prior with and without line of sight."""
        t = ops.square(residual / self._scale) / 2
        los = -1.5 * ops.log1p(t) - ops.log(self._scale) - math.log(2 * math.sqrt(2))
        excess = ops.relu(residual) / self._mean_excess
        late = ops.where(residual > 0, ops.exp(-excess) / self._mean_excess, 0.0)
        nlos = ops.log(late + _OUTLIER_DENSITY)
        return self._log_los[:, None] + los, self._log_nlos[:, None] + nlos

    def _weight(self, residual: Any) -> Any:
        """Return how much each TRP pulls [1 / m^2], [batch, points, trps]."""
        los, nlos = self._log_densities(residual)
        share = ops.sigmoid(los - nlos) * self.heard[:, None]
        return share * 3.0 / (2.0 * ops.square(self._scale) + ops.square(residual))


def _information(weight: Any, direction: Any) -> tuple[Any, Any, Any, Any]:
    """Return the entries xx, xy, yy and the determinant of the information matrix."""
    x, y = direction[..., 0], direction[..., 1]
    # The region bounds what is not measured.
    a = ops.sum(weight * x * x, axis=-1) + _LEAST_INFORMATION
    b = ops.sum(weight * x * y, axis=-1)
    c = ops.sum(weight * y * y, axis=-1) + _LEAST_INFORMATION
    # With TRPs on one line rounding could make it negative.
    determinant = ops.maximum(a * c - ops.square(b), 1e-6 * ops.square(a + c))
    return a, b, c, determinant
