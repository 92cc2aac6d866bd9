"""A second look at estimates, from another place."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from sionna_loc.layers.delay_agreement import DelayAgreement
from sionna_loc.layers.map_grid import MapGrid, child_offsets

_NUM_PLACES, _PARTS = 8, 7  # looked at more closely, and parts along each side
_MARGIN = 0.3
"""By which delays must agree better with another place. Chosen on 1,000 validation
samples of `paris_scn1`, with a coarser search: 0.2 changed nine estimates, three of
them for the worse."""


class SecondLook:
    """Finds where the delays of all links agree best, and compares estimates there.

    `best_place` goes over a grid of the region, then over the parts of its best cells.
    What begins there takes the place of an estimate where `is_better` says so. See
    `DelayAgreement`; nothing is trained.

    Args:
        box: [2, 3], float, scaled. Lower and upper corner of the region.
        num_cells: int > 0. Cells along the region's longer side.
        taps_per_unit: float > 0. Taps in a unit of scaled positions.

    `links` are the last arguments of `DelayAgreement`: magnitude, TRP and image
    positions, scaled, and mask.
    """

    def __init__(
        self,
        box: Sequence[Sequence[float]],
        num_cells: int,
        taps_per_unit: float,
    ) -> None:
        self.grid = MapGrid.over(box, num_cells)
        self.height = (box[0][2] + box[1][2]) / 2
        self.agreement = DelayAgreement(taps_per_unit)

    def best_place(self, links: tuple[Any, ...]) -> keras.KerasTensor:
        """Return where delays agree best, [batch, 3], at the region's middle height."""
        centers = self._at_height(self.grid.centers(), self.height)
        batch = ops.shape(links[0])[0]
        cells = ops.broadcast_to(centers, (batch, *centers.shape))
        tolerance = self.grid.spacing * self.agreement.taps_per_unit / math.sqrt(2)
        agreement = self.agreement(cells, *links, tolerance=tolerance)
        _, best = ops.top_k(agreement, min(_NUM_PLACES, self.grid.num_cells))
        parts = self._at_height(self.grid.spacing * child_offsets(_PARTS), 0.0)
        places = ops.take(centers, best, axis=0)[:, :, None] + parts
        places = ops.reshape(places, (batch, best.shape[1] * _PARTS**2, 3))
        best = ops.argmax(self.agreement(places, *links), axis=1)
        return ops.take_along_axis(places, best[:, None, None], axis=1)[:, 0]

    def is_better(
        self,
        other: keras.KerasTensor,
        estimate: keras.KerasTensor,
        links: tuple[Any, ...],
    ) -> keras.KerasTensor:
        """Return whether delays agree much better with another estimate, [batch, 1].

        Args:
            other: [batch, 3], float, scaled.
            estimate: [batch, 3], float, scaled.
            links: see the class.
        """
        both = ops.stack([estimate, other], axis=1)
        agreement = self.agreement(both, *links)
        return agreement[:, 1:] > agreement[:, :1] + _MARGIN

    @staticmethod
    def _at_height(ground: Any, height: float) -> keras.KerasTensor:
        """Return points [num_points, 3] over points [num_points, 2] of the ground."""
        ground = ops.convert_to_tensor(ground)
        heights = ops.full((ground.shape[0], 1), height, dtype=ground.dtype)
        return ops.concatenate([ground, heights], axis=1)
