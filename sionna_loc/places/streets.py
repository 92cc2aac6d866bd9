"""Streets, and how vehicles move on them: their speeds between crossings.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in
Millimeter-Wave Networks", Sec. IV-A (speeds and accelerations).
"""

import math
from dataclasses import dataclass

import numpy as np

from sionna_loc.checks import check_positive

KMH = 1 / 3.6
"""[m/s]"""


@dataclass(frozen=True)
class Street:
    """A straight street from edge to edge of the map.

    Args:
        is_vertical: whether it runs along y.
        axis: x, or y, of its middle [m].
        speed_limit: float > 0 [m/s].
        num_lanes: int > 0. In each direction.
    """

    is_vertical: bool
    axis: float
    speed_limit: float
    num_lanes: int = 1

    @property
    def along(self) -> complex:
        """Unit vector of the direction in which the street runs."""
        return 1j if self.is_vertical else 1


@dataclass(frozen=True)
class Driving:
    """How vehicles move.

    Args:
        acceleration: float > 0 [m/s^2]. After a crossing.
        braking: float > 0 [m/s^2]. Before a crossing.
        crossing_speed: float > 0 [m/s]. On crossings and when turning around.
        lane_width: float > 0 [m].
        turn_radius: float > 0 [m]. Of the quarter circles.
    """

    acceleration: float = 2.0
    braking: float = 3.0
    crossing_speed: float = 20 * KMH
    lane_width: float = 3.0
    turn_radius: float = 8.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in vars(self).items():
            check_positive(name, value)

    def phases(self, length: float, limit: float) -> np.ndarray:
        """Return how a line between two crossings is driven.

        The vehicle accelerates as far as the limit, or the brakes, allow.

        Returns: [3, 3]: of accelerating, driving evenly and braking the duration [s],
            the speed at the beginning [m/s] and the acceleration [m/s^2].
        """
        slow, up, down = self.crossing_speed, self.acceleration, self.braking
        reachable = math.sqrt(slow**2 + 2 * length * up * down / (up + down))
        peak = max(slow, min(limit, reachable))
        speeding = (peak**2 - slow**2) / (2 * up) + (peak**2 - slow**2) / (2 * down)
        even = max(0.0, length - speeding) / peak
        return np.array(
            [
                ((peak - slow) / up, slow, up),
                (even, peak, 0.0),
                ((peak - slow) / down, peak, -down),
            ]
        )
