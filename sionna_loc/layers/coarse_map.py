"""A coarse map of where the UE may be, from what all TRPs say about each cell."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check_bool, check_not_negative_int
from sionna_loc.layers.angle_spectrum import (
    array_of,
    num_terms,
    share_along,
    split_spectrum,
)
from sionna_loc.layers.back_projection import BackProjection, ways
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.grid_encoder import GridEncoder
from sionna_loc.layers.map_grid import MapGrid

_SUM_SCALE = 0.125  # of sums over some ten TRPs


@keras.saving.register_keras_serializable(package="sionna_loc")
class CoarseMap(keras.layers.Layer):
    """Evidence of all links -> features of the cells of a coarse grid.

    For each cell and TRP the evidence at the delay of their distance; sum and maximum
    over the TRPs; convolutions over the grid. Neither the order of the TRPs nor their
    number matters.

    With `use_map` it also learns the place: features of each cell, which enter the
    convolutions, and a matrix of each cell that meets an embedding of each TRP's
    position and is added to the evidence before a ReLU. So a link may mean one thing
    in a cell that should see that TRP, and another in one behind a corner.

    With the `array` of a UE, what is received around the delay from where the cell
    would see the TRP is added to the evidence as well. `agreement`, how well each cell
    agrees with all paths, is further features of the cells. A `condition`, what is
    known of the TRPs as a set, scales and shifts all that enters the convolutions.

    The largest array is the evidence that is read, 4 * num_trps * num_cells *
    evidence_channels bytes a sample: 3.2 MB for 64 TRPs, 28 x 28 cells and 16 channels,
    whatever the cells' size; with an array of 2 x 4 and its 21 terms 4.2 MB besides.

    Args:
        num_rows, num_columns, spacing, middle: of the `MapGrid`.
        height: float [m]. At which the UE is thought to be.
        taps_per_metre: float > 0. Judged taps in a metre of way.
        units, num_blocks, channels: of the `GridEncoder`.
        use_map: bool. Whether it learns the place.
        map_units: int >= 0. Learned features of each cell.
        view_rank: int >= 0. Numbers in the embedding of a TRP's position; 0 for no
            matrices, so that cells do not tell TRPs apart by where they are.
        array: arguments of `antennas.PlanarArray`, of the UE, or None. With it, the
            last channels of the evidence are an `AngleSpectrum`.

    Call arguments:
        evidence: [batch, num_trps, num_taps, evidence_channels], float.
        trp_position: [batch, num_trps, 3], float [m].
        trp_mask: [batch, num_trps], bool. TRPs that are heard.
        condition: [batch, condition_units], float, or None, as when it was built.
        agreement: [batch, num_rows * num_columns, num_values], float, or None,
            likewise. Of each cell, see `CellAgreement`.

    Returns: [batch, num_rows * num_columns, channels], float, row by row.
    Raises: UserError (a ValueError) if an argument cannot be.
    References: Perez et al., "FiLM: Visual Reasoning with a General Conditioning
        Layer" (the condition).
    """

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        spacing: float,
        middle: tuple[float, float],
        height: float,
        taps_per_metre: float,
        units: int,
        num_blocks: int,
        channels: int,
        use_map: bool = True,
        map_units: int = 8,
        view_rank: int = 8,
        array: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_bool("use_map", use_map)
        check_not_negative_int("map_units", map_units)
        check_not_negative_int("view_rank", view_rank)
        self.num_rows = num_rows
        self.num_columns = num_columns
        self.spacing = spacing
        self.middle = tuple(middle)
        self.height = height
        self.taps_per_metre = taps_per_metre
        self.units = units
        self.num_blocks = num_blocks
        self.channels = channels
        self.use_map = use_map
        self.map_units = map_units
        self.view_rank = view_rank
        self.array = array
        self._array = array_of(array)
        self.grid = MapGrid(num_rows, num_columns, spacing, self.middle)
        self._project = BackProjection(taps_per_metre, interpolate=False)
        self._encoder = GridEncoder(units, num_blocks, channels)
        # Convolutions are faster as they are; what reads and adds is not.
        self._pool = compiled(self._pool_dense)

    def build(
        self,
        evidence_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...] | None = None,
        trp_mask_shape: tuple[int | None, ...] | None = None,
        condition_shape: tuple[int | None, ...] | None = None,
        agreement_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the weights."""
        channels = evidence_shape[-1]
        if self._array is not None:
            channels -= num_terms(self._array)
            self._angle = layers.Dense(channels, use_bias=False)
            self._angle.build((None, None, None, 2))
        pooled = 2 * channels
        self._features, self._view = None, None
        if self.use_map and self.map_units:
            self._features = self.add_weight(
                shape=(self.grid.num_cells, self.map_units),
                initializer=keras.initializers.RandomNormal(stddev=0.05),
                name="map_features",
            )
            pooled += self.map_units
        if self.use_map and self.view_rank:
            self._view = self.add_weight(
                shape=(self.view_rank, self.grid.num_cells * channels),
                initializer="zeros",
                name="map_view",
            )
            self._trp_in = layers.Dense(4 * self.view_rank, activation="relu")
            self._trp_in.build((None, None, 3))
            self._trp_out = layers.Dense(self.view_rank)
            self._trp_out.build((None, None, 4 * self.view_rank))
        pooled += 0 if agreement_shape is None else agreement_shape[-1]
        if condition_shape is not None:
            self._film = layers.Dense(2 * pooled, kernel_initializer="zeros")
            self._film.build(condition_shape)
        self._cell_in = layers.Dense(self.units // 2, activation="relu")
        self._cell_in.build((None, None, pooled))
        self._cell_out = layers.Dense(self.channels)
        self._cell_out.build((None, None, self.units // 2))
        self._encoder.build((None, self.num_rows, self.num_columns, pooled))
        self.built = True

    def call(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        condition: keras.KerasTensor | None = None,
        agreement: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        """Pool and encode."""
        pooled = self._pool(evidence, trp_position, trp_mask)
        if self._features is not None:
            shape = (ops.shape(evidence)[0], self.grid.num_cells, self.map_units)
            features = ops.broadcast_to(self._features, shape)
            pooled = ops.concatenate([pooled, features], axis=-1)
        if agreement is not None:
            pooled = ops.concatenate([pooled, agreement], axis=-1)
        if condition is not None:
            scale, shift = ops.split(self._film(condition)[:, None], 2, axis=-1)
            pooled = pooled * (1 + scale) + shift
        shape = (-1, self.num_rows, self.num_columns, pooled.shape[-1])
        around = self._encoder(ops.reshape(pooled, shape))
        around = ops.reshape(around, (-1, self.grid.num_cells, self.channels))
        return around + self._cell_out(self._cell_in(pooled))

    def compute_output_shape(
        self, evidence_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, num_rows * num_columns, channels]."""
        return (evidence_shape[0], self.grid.num_cells, self.channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_rows num_columns spacing middle height taps_per_metre units "
            "num_blocks channels use_map map_units view_rank array"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _pool_dense(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Return sum and maximum of what TRPs say, [batch, num_cells, 2 * channels]."""
        # Else compiled training steps would go back to the TRPs, too, for nothing.
        trp_position = ops.stop_gradient(trp_position)
        batch, num_trps = ops.shape(evidence)[:2]
        centers = ops.convert_to_tensor(self.grid.centers())
        height = ops.full((self.grid.num_cells, 1), self.height, dtype=centers.dtype)
        points = ops.concatenate([centers, height], axis=-1)
        way = ways(trp_position, points[None])
        # Zero where no TRP is: after the ReLU zeros change neither sum nor maximum.
        mask = ops.cast(trp_mask, evidence.dtype)[..., None]
        evidence, spectrum = split_spectrum(evidence * mask[..., None], self._array)
        seen = self._project(evidence, way[0])
        if spectrum is not None:
            share = share_along(spectrum, self._array, self._project, way)
            seen = seen + self._angle(share)
        if self._view is not None:
            view = ops.matmul(self._embed(trp_position) * mask, self._view)
            shape = (batch, num_trps, self.grid.num_cells, seen.shape[-1])
            seen = seen + ops.reshape(view, shape)
        seen = ops.relu(seen)
        pooled = [_SUM_SCALE * ops.sum(seen, axis=1), ops.max(seen, axis=1)]
        return ops.concatenate(pooled, axis=-1)

    def _embed(self, trp_position: keras.KerasTensor) -> keras.KerasTensor:
        """Return what the cells know a TRP by, [batch, num_trps, rank]."""
        extent = 0.5 * self.spacing * max(self.num_rows, self.num_columns)
        middle = ops.convert_to_tensor([*self.middle, self.height])
        scaled = (trp_position - ops.cast(middle, trp_position.dtype)) / extent
        return self._trp_out(self._trp_in(scaled))
