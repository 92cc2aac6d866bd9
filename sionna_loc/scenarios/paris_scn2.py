"""Paris, Scenario 2 of the VIn-Loc paper: TRPs all over the block, an array at the UE.

The paper (Sec. 4, Tables 3 and 4, Fig. 5) gives: the block of Scenario 1, 64 TRPs
"distributed uniformly above the city block", so many that a UE has paths to three of
them at least; the UE "on the street" with a uniform planar array of 8 antennas at half
a wavelength; 40 GHz, 100 MHz, 256 taps, a common time base. What it leaves open is
assumed here, with the reason; all else is as in `paris_scn1`.

* **TRPs.** Uniform over the block's area, whatever is below: on a building, 2 m above
  its roof; elsewhere, and over canopies and sheds, on a mast of 10 m, the height of
  base stations in street canyons (TR 38.901, Table 7.2-1, UMi).
* **Streets.** The open ground that can be walked to from the avenue: courtyards,
  closed on all sides, are left out. It is found on a grid of 1 m, as the part of the
  ground that hangs together with the avenue.
* **Array.** 2 x 4 antennas that lie flat, as in a phone on a palm (`PlanarArray` says
  why), all UEs with the same orientation, as by a compass.
* **UEs that hear fewer than 3 TRPs** are drawn anew. With 64 TRPs that is one in forty
  (`benchmarks/heard_trps.py --scenario paris_scn2 --drops 40`: 2.5 % of 2,560 UEs).
* **Sites.** 96 sites are drawn per drop, 64 of them per sample.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

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
    num_sites=96, num_ues=128, subsets_per_ue=2, drops_per_block=8, num_frozen_ues=16
)
SMALL_SIZES = DropSizes(
    num_sites=64, num_ues=16, subsets_per_ue=1, drops_per_block=2, num_frozen_ues=8
)

_ON_AVENUE = np.array([130.0, -86.0])
_GRID = 1.0
_MAST = 10.0
_MIN_ROOF_HEIGHT = 8.0


class ParisScenario2(ParisScenario):
    """See the module.

    Args:
        small: few sites and UEs, for smoke runs and tests; still ray traced.
        max_depth, solver, ue_antennas, synchronised: see `ParisScenario`.
    """

    name = "paris_scn2"
    num_trps = 64

    def __init__(
        self,
        *,
        small: bool = False,
        max_depth: int = 3,
        solver: str = "multi_user",
        ue_antennas: Sequence[int] = (2, 4),
        synchronised: bool = True,
    ) -> None:
        sizes = SMALL_SIZES if small else SIZES
        super().__init__(sizes, max_depth, solver, ue_antennas, synchronised)
        self.streets = Surface(self.place, self.is_street, self.region, CELL_SIDE)
        self.tops = Surface(self.place, _is_anything, self.region, CELL_SIDE)

    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""
        return {
            **super().config(),
            "on_avenue": _ON_AVENUE.tolist(),
            "grid": _GRID,
            "mast": _MAST,
            "min_roof_height": _MIN_ROOF_HEIGHT,
        }

    def is_street(self, points: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Say which points of the scene's top, [num_points, 2], are on a street."""
        return (np.abs(heights) < GROUND_TOLERANCE) & self._open_ground(points)

    def _open_ground(self, points: np.ndarray) -> np.ndarray:
        """Say which points lie in a cell that can be walked to from the avenue."""
        open_cells, (west, south) = self._open_cells
        column = np.floor((points[:, 0] - west) / _GRID).astype(int)
        row = np.floor((points[:, 1] - south) / _GRID).astype(int)
        return open_cells[row, column]

    @functools.cached_property
    def _open_cells(self) -> tuple[np.ndarray, tuple[float, float]]:
        """Cells of open ground of the whole scene, row 0 in the south; its corner."""
        view = self.place.top_view(_GRID)
        west, _, south, _ = view.extent
        label, _ = ndimage.label(np.abs(view.height) < GROUND_TOLERANCE)
        column, row = ((_ON_AVENUE - (west, south)) // _GRID).astype(int)
        return label == label[row, column], (west, south)

    def place_devices(
        self, trp_uniform: np.ndarray, ue_uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn uniform random numbers into TRPs anywhere and UEs on streets."""
        trp_position = self.tops.draw(trp_uniform)
        height = trp_position[:, 2]
        on_roof = height > _MIN_ROOF_HEIGHT
        trp_position[:, 2] = np.where(on_roof, height + TRP_ABOVE_ROOF, _MAST)
        ue_position = self.streets.draw(ue_uniform)
        ue_position[:, 2] += UE_HEIGHT
        return trp_position, ue_position


def _is_anything(points: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Say where the scene has a top at all."""
    return np.isfinite(heights) & np.isfinite(points).all(axis=-1)
