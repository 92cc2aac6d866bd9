"""A second look at estimates, from another place."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.layers.map_grid import MapGrid, child_offsets
from sionna_loc.layers.path_agreement import PathAgreement

_NUM_PLACES, _PARTS = 8, 7  # looked at more closely, and parts along each side
_NUM_LIKELY = 64  # cells by their delays, of which directions are looked at
_TIMES, _MARGIN = 1.5, 0.1  # as well, and by so much more, must paths agree elsewhere
_SHIFTS = ((3.0, 0.0), (0.0, 3.0))  # [taps]
"""From where an estimate must be found again."""
_FOUND = 1.5  # taps from an estimate within which it is found again
_SURER = 1.0  # taps by which an estimate that is given up must be found farther off
"""These were chosen on 6,000 validation samples of `paris_scn1` and 1,000 of
`paris_scn2`, so that no estimate gave way to a worse one (docs/RESULTS.md)."""

Refine = Callable[[Any], tuple[Any, Any]]


class SecondLook:
    """Refines from two places, and from around what comes of it, and takes the surer.

    Besides the first estimate, refinement begins where the paths of all links agree
    best (`PathAgreement`): on a grid of the region, then on the parts of its best
    cells. Each of the two estimates is then refined again from some metres beside it.
    One that is right is found again; one that is wrong is often left for good, or is
    another one from each side. So what began elsewhere is taken if paths agree far
    better with it and it is found again more surely. The answer is, coordinate by
    coordinate, the median of the one that is taken and of what it was found as again,
    which is better than the estimate itself. Nothing is trained.

    Args:
        box: [2, 3], float, scaled. Lower and upper corner of the region.
        num_cells: int > 0. Cells along the region's longer side.
        taps_per_unit: float > 0. Taps in a unit of scaled positions.
        array: arguments of `antennas.PlanarArray`, of the UE, or None.

    `links` are the arguments of `PathAgreement` after the points: magnitude, TRP and
    image positions, scaled, mask, and spectrum, `None` without `array`.
    """

    def __init__(
        self,
        box: Sequence[Sequence[float]],
        num_cells: int,
        taps_per_unit: float,
        array: Mapping[str, float] | None = None,
    ) -> None:
        self.grid = MapGrid.over(box, num_cells)
        self.height = (box[0][2] + box[1][2]) / 2
        self.agreement = PathAgreement(taps_per_unit, array=array)

    def look(
        self,
        first: keras.KerasTensor,
        links: tuple[Any, ...],
        refine: Refine,
        num_stages: int,
        units: int,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Refine, see the class.

        Args:
            first: [batch, 3], float, scaled. First estimate.
            links: see the class.
            refine: from starts [batch, num_starts, 3] to all estimates
                [batch, num_starts, num_stages, 3] and states [batch, num_starts,
                units].
            num_stages: int > 0. Of `refine`.
            units: int > 0. Of `refine`.

        Returns: estimates [batch, num_stages, 3], the answer being the last, and state
            [batch, units].
        """
        begin = ops.stack([first, self.best_place(links)], axis=1)
        estimates, state, again = self._found(begin, refine, num_stages, units)
        is_better = self._is_better(estimates[:, :, -1], again, links)
        found = ops.concatenate([estimates[None, :, :, -1], again])
        settled = ops.median(found, axis=0)
        estimates = ops.concatenate([estimates[:, :, :-1], settled[:, :, None]], axis=2)
        return (
            ops.where(is_better[:, None, None], estimates[:, 1], estimates[:, 0]),
            ops.where(is_better[:, None], state[:, 1], state[:, 0]),
        )

    def best_place(self, links: tuple[Any, ...]) -> keras.KerasTensor:
        """Return where paths agree best, [batch, 3], at the region's middle height."""
        centers = self._at_height(self.grid.centers(), self.height)
        batch = ops.shape(links[0])[0]
        cells = ops.broadcast_to(centers, (batch, *centers.shape))
        tolerance = self.grid.spacing * self.agreement.taps_per_unit / math.sqrt(2)
        *delays, spectrum = links
        agreement = self.agreement(cells, *delays, tolerance=tolerance)
        if spectrum is None:
            _, best = ops.top_k(agreement, min(_NUM_PLACES, self.grid.num_cells))
        else:
            _, likely = ops.top_k(agreement, min(_NUM_LIKELY, self.grid.num_cells))
            cells = ops.take(centers, likely, axis=0)
            agreement = self.agreement(cells, *links, tolerance=tolerance)
            _, best = ops.top_k(agreement, min(_NUM_PLACES, likely.shape[1]))
            best = ops.take_along_axis(likely, best, axis=1)
        parts = self._at_height(self.grid.spacing * child_offsets(_PARTS), 0.0)
        places = ops.take(centers, best, axis=0)[:, :, None] + parts
        places = ops.reshape(places, (batch, best.shape[1] * _PARTS**2, 3))
        best = ops.argmax(self.agreement(places, *links), axis=1)
        return ops.take_along_axis(places, best[:, None, None], axis=1)[:, 0]

    def _found(
        self, begin: keras.KerasTensor, refine: Refine, num_stages: int, units: int
    ) -> tuple[Any, Any, Any]:
        """Refine, and again from beside each of the estimates.

        Args:
            begin: [batch, 2, 3], float, scaled.
            refine: see `look`.
            num_stages: see `look`.
            units: see `look`.

        Returns: estimates and states, as `refine` gives them for `begin`, and what the
            last estimates are found as again, [num_shifts, batch, 2, 3], scaled.
        """
        shifts = (
            np.asarray([(0, 0), *_SHIFTS], "float32") / self.agreement.taps_per_unit
        )
        shifts = self._at_height(shifts, 0.0)
        batch = ops.shape(begin)[0]
        estimates = ops.zeros((batch, 2, num_stages, 3), begin.dtype)
        state = ops.zeros((batch, 2, units), begin.dtype)
        ends = ops.zeros((len(_SHIFTS) + 1, batch, 2, 3), begin.dtype)

        def once(index: Any, known: tuple[Any, ...]) -> tuple[Any, ...]:
            origin, estimates, state, ends = known
            found, found_state = refine(origin + shifts[index])
            is_first = index == 0
            row = ops.reshape(ops.arange(len(_SHIFTS) + 1) == index, (-1, 1, 1, 1))
            return (
                ops.where(is_first, found[:, :, -1], origin),
                ops.where(is_first, found, estimates),
                ops.where(is_first, found_state, state),
                ops.where(row, found[:, :, -1], ends),
            )

        # A loop, so that refinement, which takes long to compile, is compiled once.
        known = begin, estimates, state, ends
        count = len(_SHIFTS) + 1
        _, estimates, state, ends = ops.fori_loop(0, count, once, known)
        return estimates, state, ends[1:]

    def _is_better(
        self,
        estimate: keras.KerasTensor,
        again: keras.KerasTensor,
        links: tuple[Any, ...],
    ) -> keras.KerasTensor:
        """Return whether the second of two estimates is to be taken, [batch].

        Args:
            estimate: [batch, 2, 3], float, scaled.
            again: [num_shifts, batch, 2, 3], float, scaled.
            links: see the class.
        """
        squared = ops.square(again - estimate)[..., :2]
        far = ops.sqrt(ops.max(ops.sum(squared, axis=-1), axis=0))  # [batch, 2]
        far = far * self.agreement.taps_per_unit
        agreement = self.agreement(estimate, *links)
        agrees = agreement[:, 1] > _TIMES * agreement[:, 0] + _MARGIN
        is_surer = ops.logical_and(far[:, 1] < _FOUND, far[:, 0] > far[:, 1] + _SURER)
        return ops.logical_and(agrees, is_surer)

    @staticmethod
    def _at_height(ground: Any, height: float) -> keras.KerasTensor:
        """Return points [num_points, 3] over points [num_points, 2] of the ground."""
        ground = ops.convert_to_tensor(ground)
        heights = ops.full((ground.shape[0], 1), height, dtype=ground.dtype)
        return ops.concatenate([ground, heights], axis=1)
