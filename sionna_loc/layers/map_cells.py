"""The cells of a map: what each says of the UE, and which are worth a closer look."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from sionna_loc.layers.map_grid import MapGrid
from sionna_loc.layers.mixture import PositionMixture

NUM_VALUES = 4
"""What a cell of a grid has before its features: logit, x, y and deviation."""
_LOGIT_OF_NONE = -1e9  # of a cell whose parts speak for it
_SMALLEST_HEIGHT = 0.1  # half the height of a flat region, for the scale of z [m]


class MapCells(NamedTuple):
    """Cells of one size.

    Attributes:
        belief: mixture of one Gaussian a cell, whose weights need not sum to 1.
        center: [batch, num_cells, 2], float [m].
        features: [batch, num_cells, channels], float. What is handed down to parts.
    """

    belief: PositionMixture
    center: Any
    features: Any

    @classmethod
    def of_grid(
        cls, grid: MapGrid, values: keras.KerasTensor, height: tuple[Any, Any]
    ) -> "MapCells":
        """Return the cells of a grid, with round Gaussians around them.

        Args:
            grid: where the cells are.
            values: [batch, num_cells, NUM_VALUES + channels], float. A network's.
            height: mean and deviation of z [m], each [batch, 1], float.
        """
        center = ops.convert_to_tensor(grid.centers())[None]
        center = ops.broadcast_to(center, (ops.shape(values)[0], *center.shape[1:]))
        side = grid.spacing
        x, y = (center[..., k] + side * ops.tanh(values[..., 1 + k]) for k in range(2))
        # From an eighth of a side to eight sides, half a side without training.
        deviation = side * ops.exp(2.1 * ops.tanh(values[..., 3] - 0.35))
        z, deviation_z = (ops.broadcast_to(part, ops.shape(x)) for part in height)
        deviations = deviation, deviation, deviation_z
        belief = PositionMixture(
            values[..., 0], (x, y, z), deviations, ops.zeros_like(deviation)
        )
        return cls(belief, center, values[..., NUM_VALUES:])

    def choose(self, count: int) -> tuple[Any, Any, Any, PositionMixture]:
        """Choose the cells of the highest weights.

        Returns: their logarithms of weights [batch, count], centres
            [batch, count, 2] and features [batch, count, channels]; and what all cells
            say without them.
        """
        logit = self.belief.log_weight
        best, index = ops.top_k(logit, count)
        taken = ops.sum(ops.one_hot(index, logit.shape[1], dtype=logit.dtype), 1)
        rest = self.belief._replace(log_weight=logit + _LOGIT_OF_NONE * taken)
        center, features = (_rows(x, index) for x in (self.center, self.features))
        return best, center, features, rest


def divided(
    cells: MapCells,
    refiners: Sequence[Callable[..., tuple[Any, ...]]],
    num_candidates: Sequence[int],
    links: tuple[Any, Any, Any],
    height: tuple[Any, Any],
    agree: Callable[[Any, float], Any] | None = None,
    images: Any = None,
) -> tuple[keras.KerasTensor, ...]:
    """Divide the best cells, and the best of their parts again, and so on.

    Args:
        cells: to begin with.
        refiners: one `CellRefiner` for each division.
        num_candidates: ints > 0. Cells that are divided, each time.
        links: the first arguments of a `CellRefiner`, evidence to mask.
        height: as `MapCells.of_grid` takes it.
        agree: from the centres of parts [batch, num_parts, 2] and their side [m]
            to their agreement, see `CellRefiner`; None for none.
        images: of the TRPs, that give ranges in the last division, see `CellRefiner`;
            None for none.

    Returns: the map [batch, num_components, 8] before and after each division; of the
        cells that are divided, their parts have the weight.
    """
    settled = None
    maps = [cells.belief.normalised().to_map()]
    for refiner, count in zip(refiners, num_candidates, strict=True):
        best, center, features, others = cells.choose(count)
        settled = others if settled is None else settled.joined(others)
        agreement = None
        if agree is not None:
            side = refiner.spacing / refiner.num_divisions
            agreement = agree(refiner.parts(center), side)
        ranged = images if refiner is refiners[-1] else None
        known = center, features, height, agreement, ranged
        logit, center, features, gaussian = refiner(*links, *known)
        parts = refiner.num_divisions**2
        logit = logit + ops.repeat(best - math.log(parts), parts, axis=1)
        cells = MapCells(PositionMixture(logit, *gaussian), center, features)
        maps.append(settled.joined(cells.belief).normalised().to_map())
    return tuple(maps)


def height_of(
    values: keras.KerasTensor, region: Sequence[Sequence[float]]
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return mean and deviation of the UE's height [m], [batch, 1] each.

    Args:
        values: [batch, 2], float. A network's.
        region: [2, 3], float [m]. Box of the UEs.
    """
    lower, upper = (corner[2] for corner in region)
    half = max((upper - lower) / 2, _SMALLEST_HEIGHT)
    mean, deviation = ops.split(values, 2, axis=-1)
    deviation = 0.1 + ops.softplus(deviation - 1)
    return (lower + upper) / 2 + half * mean, half * deviation


def _rows(values: keras.KerasTensor, index: keras.KerasTensor) -> keras.KerasTensor:
    """Return rows `index` [batch, k] of values [batch, n, m], [batch, k, m]."""
    batch, count = ops.shape(values)[0], values.shape[1]
    first = ops.arange(batch, dtype="int32")[:, None] * count
    flat = ops.reshape(values, (-1, values.shape[-1]))
    return ops.take(flat, first + ops.cast(index, "int32"), axis=0)
