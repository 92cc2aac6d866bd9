"""Paris, Scenario 1 of the VIn-Loc paper: TRPs on the roofs along one avenue.

The paper (Sec. 4, Table 3, Fig. 4) gives: Sionna, a block of 280 m x 280 m in Paris,
40 GHz, 100 MHz, 256 taps, one antenna at each end, a time base common to all TRPs,
TRPs "on buildings that line the main street", the UE "at street level". What it
leaves open is assumed here, with the reason:

* **Block.** Sionna's scene `etoile`; the 280 m x 280 m from (-10, -230) to (270, 50),
  in whose middle the avenue des Champs-Élysées runs from corner to corner: the only
  main street of the scene with buildings along most of both sides.
* **Street.** 71 m wide, from house front to house front, as measured in the scene
  (the real avenue is 70 m wide). UEs are anywhere on it, at 1.5 m, the usual height
  of a hand-held device (TR 38.901, Table 7.2-1); not under the few canopies.
* **Roofs.** The first 25 m behind the fronts: front building and wing of a Paris plot;
  whatever stands behind does not line the avenue. Only what is at least 8 m high
  counts, which leaves out canopies and sheds of 4 to 5 m. The depth decides how hard
  the scenario is: with 15, 25 and 45 m a UE has three or more of its 12 TRPs in line
  of sight in 90, 68 and 39 % of the samples.
* **Height of the TRPs.** 2 m above the roof, a short mast: enough to clear the roof's
  edge when near it, not when far behind it, so many links lack line of sight.
* **Propagation.** Line of sight and up to 3 specular reflections. Each reflection
  costs several dB, and diffuse scattering is far weaker at the delays of interest.
* **Paths.** A heard link has 4.5 paths on average, 25 at most; the 8 strongest are
  kept. They are all there are on 93 % of the links, hold 99.9 % of a link's power on
  average, and 98 % or more on 99 of 100 links.
* **Filter and taps.** Ideal low-pass of 100 MHz, sampled at 200 MHz: 256 taps reach
  1.28 us or 384 m, more than the direct way across the block (see `signals`). Later
  paths, 13 % of them with 0.4 % of the power, are left out: a TRP of which nothing
  arrives within the taps is not heard.
* **Sites.** 64 sites are drawn per drop, 12 of them per sample: 5 samples of a UE
  use about as many links as were traced for it.
* **At least 3 TRPs heard**, the fewest that fix a horizontal position.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sionna_loc.places.sionna_scene import Surface
from sionna_loc.scenarios.base import DropSizes
from sionna_loc.scenarios.paris import (
    CELL_SIDE,
    GROUND_TOLERANCE,
    TRP_ABOVE_ROOF,
    UE_HEIGHT,
    ParisScenario,
)

SIZES = DropSizes(
    num_sites=64, num_ues=256, subsets_per_ue=5, drops_per_block=8, num_frozen_ues=16
)
SMALL_SIZES = DropSizes(
    num_sites=16, num_ues=16, subsets_per_ue=4, drops_per_block=2, num_frozen_ues=8
)

_AXIS_POINT = np.array([6.3, -26.9])
_AXIS = np.array([250.0, -120.0]) / np.hypot(250.0, 120.0)
_HALF_WIDTH = 35.5
_ROOF_DEPTH = 25.0
_MIN_ROOF_HEIGHT = 8.0


class ParisScenario1(ParisScenario):
    """See the module.

    Args:
        small: few sites and UEs, for smoke runs and tests; still ray traced.
        max_depth, solver, ue_antennas, synchronised: see `ParisScenario`.
    """

    name = "paris_scn1"
    num_trps = 12

    def __init__(
        self,
        *,
        small: bool = False,
        max_depth: int = 3,
        solver: str = "multi_user",
        ue_antennas: Sequence[int] = (1, 1),
        synchronised: bool = True,
    ) -> None:
        sizes = SMALL_SIZES if small else SIZES
        super().__init__(sizes, max_depth, solver, ue_antennas, synchronised)
        self.street = Surface(self.place, is_street, self.region, CELL_SIDE)
        self.roofs = Surface(self.place, is_roof, self.region, CELL_SIDE)

    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""
        return {
            **super().config(),
            "axis": [_AXIS_POINT.tolist(), _AXIS.tolist()],
            "half_width": _HALF_WIDTH,
            "roof_depth": _ROOF_DEPTH,
            "min_roof_height": _MIN_ROOF_HEIGHT,
        }

    def place_devices(
        self, trp_uniform: np.ndarray, ue_uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn uniform random numbers into TRPs on roofs and UEs on the street."""
        trp_position = self.roofs.draw(trp_uniform)
        trp_position[:, 2] += TRP_ABOVE_ROOF
        ue_position = self.street.draw(ue_uniform)
        ue_position[:, 2] += UE_HEIGHT
        return trp_position, ue_position


def distance_from_axis(points: np.ndarray) -> np.ndarray:
    """Distance of points [num_points, 2] from the avenue's centre line [m]."""
    offset = points - _AXIS_POINT
    return np.abs(offset[:, 1] * _AXIS[0] - offset[:, 0] * _AXIS[1])


def is_street(points: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Say which points of the scene's top, [num_points, 2], are on the avenue."""
    on_ground = np.abs(heights) < GROUND_TOLERANCE
    return on_ground & (distance_from_axis(points) < _HALF_WIDTH)


def is_roof(points: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Say which points of the scene's top are roofs of the front buildings."""
    distance = distance_from_axis(points)
    in_front = (distance >= _HALF_WIDTH) & (distance < _HALF_WIDTH + _ROOF_DEPTH)
    return in_front & (heights > _MIN_ROOF_HEIGHT)
