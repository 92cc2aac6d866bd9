"""What a place is like, learned: features between the cells of a map."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check_list, check_positive_int
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.map_grid import MapGrid


@keras.saving.register_keras_serializable(package="sionna_loc")
class PlaceMap(keras.layers.Layer):
    """Learned features of positions: bilinear between the cells of several maps.

    Coarse maps learn from few samples, fine ones what changes within metres; each
    position has the features of all of them, one after the other. Beyond the outermost
    centres of cells they are those of the nearest. Heights do not count.

    Args:
        region: [2, 3], float. Lower and upper corner, in the unit of positions, which
            need not be metres.
        num_cells: ints > 0. Cells along the region's longer side, one entry for each
            map.
        units: int > 0. Features of each cell.

    Call arguments:
        position: [batch, 3], float. No gradient flows back into it.

    Returns: [batch, len(num_cells) * units], float.
    Raises: UserError (a ValueError) if a number is not positive or the region has no
        horizontal extent.
    References: Mueller et al., "Instant Neural Graphics Primitives with a
        Multiresolution Hash Encoding", Sec. 3 (several grids; these are dense).
    """

    def __init__(
        self,
        region: Sequence[Sequence[float]],
        num_cells: Sequence[int],
        units: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_list("num_cells", num_cells)
        check_positive_int("units", units)
        self.region = [list(map(float, corner)) for corner in region]
        self.num_cells = tuple(num_cells)
        self.units = units
        self._grids = [MapGrid.over(self.region, count) for count in self.num_cells]

    def build(self, position_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        self._maps = [
            self.add_weight(
                shape=(grid.num_cells, self.units),
                initializer=keras.initializers.RandomNormal(stddev=0.05),
                name=f"map_{index}",
            )
            for index, grid in enumerate(self._grids)
        ]
        self.built = True

    def call(self, position: keras.KerasTensor) -> keras.KerasTensor:
        """Look up."""
        plan = ops.stop_gradient(position)[:, :2]
        pairs = zip(self._grids, self._maps, strict=True)
        return ops.concatenate([_between(plan, *pair) for pair in pairs], axis=-1)

    def compute_output_shape(
        self, position_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [batch, len(num_cells) * units]."""
        return (position_shape[0], len(self.num_cells) * self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = "region num_cells units".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="sionna_loc")
class PlaceView(keras.layers.Layer):
    """What a place is like and where TRPs stand -> what each link should be like there.

    Each unit is the product of a function of the place and one of where the TRP stands:
    links of different TRPs change from place to place differently. An untrained view
    says nothing.

    Args:
        units: int > 0.

    Call arguments:
        place: [batch, place_units], float. Of `PlaceMap`.
        trp_position: [batch, num_trps, 3], float, scaled.

    Returns: of each link [batch, num_trps, units], and of the place as such
        [batch, units].
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        self.units = units

    def build(
        self,
        place_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...],
    ) -> None:
        """Create the weights."""
        self._trp = dense_stack(trp_position_shape, [self.units, self.units])
        self._link, self._whole = (
            layers.Dense(self.units, use_bias=False, kernel_initializer="zeros")
            for _ in range(2)
        )
        self._link.build(place_shape)
        self._whole.build(place_shape)
        self.built = True

    def call(
        self, place: keras.KerasTensor, trp_position: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """View."""
        return (
            self._trp(trp_position) * self._link(place)[:, None],
            self._whole(place),
        )

    def compute_output_shape(
        self,
        place_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...],
    ) -> tuple[tuple[int | None, ...], ...]:
        """Return [batch, num_trps, units] and [batch, units]."""
        batch, num_trps, _ = trp_position_shape
        return (batch, num_trps, self.units), (batch, self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units}


def _between(
    plan: keras.KerasTensor, grid: MapGrid, features: keras.KerasTensor
) -> keras.KerasTensor:
    """Return the features [batch, units] at positions between the centres of cells.

    Args:
        plan: [batch, 2], float.
        grid: the cells.
        features: [num_cells, units], float.
    """
    last = ops.array([grid.num_columns - 1, grid.num_rows - 1], plan.dtype)
    cell = (plan - ops.array(grid.middle, plan.dtype)) / grid.spacing + last / 2
    cell = ops.clip(cell, 0.0, last)
    lower = ops.floor(ops.minimum(cell, ops.maximum(last - 1, 0.0)))
    share = cell - lower
    upper = ops.minimum(lower + 1, last)
    east, north = share[:, :1], share[:, 1:]

    def at(column: keras.KerasTensor, row: keras.KerasTensor) -> keras.KerasTensor:
        index = ops.cast(row * grid.num_columns + column, "int32")
        return ops.take(features, index, axis=0)

    south_side = (1 - east) * at(lower[:, 0], lower[:, 1])
    south_side += east * at(upper[:, 0], lower[:, 1])
    north_side = (1 - east) * at(lower[:, 0], upper[:, 1])
    north_side += east * at(upper[:, 0], upper[:, 1])
    return (1 - north) * south_side + north * north_side
