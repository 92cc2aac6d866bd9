"""Cells of a map, divided where the UE may be."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check_bool, check_positive, check_positive_int
from sionna_loc.layers.angle_spectrum import (
    array_of,
    num_terms,
    share_along,
    split_spectrum,
)
from sionna_loc.layers.back_projection import BackProjection, ways
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.map_grid import child_offsets

_SUM_SCALE = 0.125
_WEIGHT_MIDDLE, _WEIGHT_SPAN = 1.2, 6.5
"""Logarithm of a range's weight [1/m^2]: deviations from 2 cm to 14 m."""
_FIRST_WEIGHT = -3.5  # so that untrained weights are of 3 m
_FARTHEST = 1.5  # of a component from its cell's centre, in sides of the cell
_LARGEST_CORRELATION = 0.99
_FARTHEST_IMAGE = 2e4  # [m] from the TRP; farther away is none, see `WallImages`


def refiner_stack(
    divisions: Sequence[int],
    links: Sequence[tuple[int | None, ...]],
    spacing: float,
    num_values: int = 0,
    num_images: int = 0,
    **options: Any,
) -> list["CellRefiner"]:
    """Return built layers that divide cells, and their parts, again and again.

    Args:
        divisions: ints > 0. Parts along each side, one entry for each layer.
        links: shapes of evidence, TRP positions and mask.
        spacing: float > 0 [m]. Side of the cells that the first one divides.
        num_values: int >= 0. Of the agreement of a part; 0 without.
        num_images: int >= 0. Of each TRP, that give ranges in the last division, whose
            parts are smallest; 0 without.
        options: further arguments of `CellRefiner`, of all layers.
    """
    stack = []
    cells = (None, None, 2), (None, None, options["channels"])
    agreement = (None, None, num_values) if num_values else None
    images = (None, None, num_images, 3) if num_images else None
    for index, parts in enumerate(divisions):
        refiner = CellRefiner(spacing, parts, **options)
        is_last = index == len(divisions) - 1
        refiner.build(*links, *cells, None, agreement, images if is_last else None)
        stack.append(refiner)
        spacing /= parts
    return stack


@keras.saving.register_keras_serializable(package="sionna_loc")
class CellRefiner(keras.layers.Layer):
    """Divides candidate cells and finds in each part a Gaussian and its weight.

    For each part of a cell and each TRP, the evidence at the delay of their distance
    says how much longer the direct way is than to the part's centre, and how far to
    trust that. As in a Gauss-Newton step, the ranges of all TRPs and a prior as wide as
    the part give the most likely place and its covariance: the inverse of the Fisher
    information of ranges with these deviations. Sum and maximum over the TRPs, and
    what the coarser map knows, give the logarithm of the part's weight.

    With `finds_height`, ranges tell the UE's height, too, as far as it was not known
    before: places and deviations are those of the three coordinates together. The
    correlations of height with x and y are left out.

    With the `array` of a UE, the network of each part and TRP sees besides what is
    received around the delay from where the part would see the TRP.

    `images` of the TRPs in walls, too, are heard at the delay of their distance, where
    the wall is in sight. Each gives a range and evidence as a TRP does; what the
    coarser map knows of the cell says how far to trust each wall there.

    But for a learned value of each part of a cell, all of it turns with the
    coordinates, and the array with them, and none of it knows where on the map it is,
    but for what the coarser map hands down.

    Args:
        spacing: float > 0 [m]. Side of the cells that are divided.
        num_divisions: int > 0. Parts along each side.
        height: float [m]. At which the UE is thought to be: that of the parts' centres.
        taps_per_metre: float > 0. Sampling rate divided by the speed of light.
        stride: int > 0. Taps from one row of the evidence to the next.
        units: int > 0. Width of the network of each part and TRP, and of each part.
        channels: int > 0. Features that are handed down.
        array: arguments of `antennas.PlanarArray`, of the UE, or None. With it, the
            last channels of the evidence are an `AngleSpectrum`.
        finds_height: bool. See above; else all parts have the height as it was known.

    Call arguments:
        evidence: [batch, num_trps, num_taps, evidence_channels], float; at least 2
            channels, the first one of `TapEvidence`.
        trp_position: [batch, num_trps, 3], float [m].
        trp_mask: [batch, num_trps], bool. TRPs that are heard.
        centers: [batch, num_cells, 2], float [m]. Of the cells to divide.
        features: [batch, num_cells, cell_channels], float. Known of these cells.
        height_prior: mean and deviation of the UE's height [m], each [batch, 1], float.
        agreement: [batch, num_parts, num_values], float, or None, as when it was
            built. Of each part, see `CellAgreement` and `parts`.
        images: [batch, num_trps, num_images, 3], float [m], or None, likewise. See
            `WallImages`.

    Returns: tuple of
        logit: [batch, num_parts], float. Relative to the cell's, num_parts being
            num_cells * num_divisions ** 2, cell by cell.
        center: [batch, num_parts, 2], float [m].
        features: [batch, num_parts, channels], float.
        gaussian: means of x, y and z [m], their deviations [m], and the correlation of
            x and y, each [batch, num_parts], float.
    Raises: UserError (a ValueError) if a size is not positive.
    References: Kay, "Fundamentals of Statistical Signal Processing: Estimation
        Theory", Ch. 3 and 12 (Fisher information, linear Bayesian estimation).
    """

    def __init__(
        self,
        spacing: float,
        num_divisions: int,
        height: float,
        taps_per_metre: float,
        stride: int,
        units: int,
        channels: int,
        array: Mapping[str, float] | None = None,
        finds_height: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_bool("finds_height", finds_height)
        check_positive("spacing", spacing)
        check_positive("taps_per_metre", taps_per_metre)
        for name, value in (
            ("num_divisions", num_divisions),
            ("stride", stride),
            ("units", units),
            ("channels", channels),
        ):
            check_positive_int(name, value)
        self.spacing = spacing
        self.num_divisions = num_divisions
        self.height = height
        self.taps_per_metre = taps_per_metre
        self.stride = stride
        self.units = units
        self.channels = channels
        self.array = array
        self.finds_height = finds_height
        self._array = array_of(array)
        self._project = BackProjection(taps_per_metre / stride)
        self._divide = compiled(self._divide_dense)

    def build(
        self,
        evidence_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...],
        trp_mask_shape: tuple[int | None, ...],
        centers_shape: tuple[int | None, ...],
        features_shape: tuple[int | None, ...],
        height_prior_shape: Any = None,
        agreement_shape: tuple[int | None, ...] | None = None,
        images_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the weights."""
        units = self.units
        self._link = layers.Dense(units)
        known = evidence_shape[-1] - 1
        if self._array is not None:
            known += 2 - num_terms(self._array)
        self._sight = None
        if images_shape is not None:
            num_sources = 1 + images_shape[2]  # a TRP and its images
            self._sight = layers.Dense(num_sources, kernel_initializer="zeros")
            self._sight.build((None, None, features_shape[-1]))
            self._source = self.add_weight(
                shape=(num_sources, 1, units), initializer="zeros", name="source"
            )
            known += 1
        self._link.build((None, None, None, known))
        self._range = layers.Dense(2, kernel_initializer="zeros")
        self._range.build((None, None, None, units))
        self._range.bias.assign([0.0, _FIRST_WEIGHT])
        self._known = layers.Dense(units)
        self._known.build((None, None, features_shape[-1]))
        self._place = self.add_weight(
            shape=(self.num_divisions**2, units), initializer="zeros", name="place"
        )
        self._part_in = layers.Dense(units, use_bias=False)
        num_values = 0 if agreement_shape is None else agreement_shape[-1]
        self._part_in.build((None, None, None, 2 * units + num_values))
        self._part_hidden = layers.Dense(units, activation="relu")
        self._part_hidden.build((None, None, units))
        self._part_out = layers.Dense(1 + self.channels)
        self._part_out.build((None, None, units))
        self.built = True

    def call(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        centers: keras.KerasTensor,
        features: keras.KerasTensor,
        height_prior: tuple[keras.KerasTensor, keras.KerasTensor],
        agreement: keras.KerasTensor | None = None,
        images: keras.KerasTensor | None = None,
    ) -> tuple[Any, ...]:
        """Divide, see the class."""
        links = evidence, trp_position, trp_mask
        known = centers, features, height_prior, agreement, images
        return self._divide(*links, *known)

    def parts(self, centers: keras.KerasTensor) -> keras.KerasTensor:
        """Return the centres of all parts of cells.

        Args:
            centers: [batch, num_cells, 2], float [m]. Of the cells.

        Returns: [batch, num_parts, 2], float [m], cell by cell.
        """
        offsets = self.spacing * child_offsets(self.num_divisions)
        parts = centers[:, :, None] + ops.convert_to_tensor(offsets)
        count = centers.shape[1] * self.num_divisions**2
        return ops.reshape(parts, (-1, count, 2))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "spacing num_divisions height taps_per_metre stride units channels array "
            "finds_height"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _divide_dense(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        centers: keras.KerasTensor,
        features: keras.KerasTensor,
        height_prior: tuple[keras.KerasTensor, keras.KerasTensor],
        agreement: keras.KerasTensor | None,
        images: keras.KerasTensor | None,
    ) -> tuple[Any, ...]:
        """Divide, see the class."""
        # Else compiled training steps would go back to these, too, for nothing.
        trp_position, centers = map(ops.stop_gradient, (trp_position, centers))
        agreement = None if agreement is None else ops.stop_gradient(agreement)
        center = self.parts(centers)
        level = ops.full_like(center[..., :1], self.height)
        points = ops.concatenate([center, level], axis=-1)
        sources, there = _sources(trp_position, trp_mask, images)
        way = ways(sources, points)  # each [batch, num_trps * num_sources, num_parts]
        until, link = self._link_each(evidence, way, features)
        longer, weight = self._ranges(until, link, there)
        gaussian = self._locate(center, longer, weight, way[1:], height_prior)
        link = link * there[..., None]
        pooled = [_SUM_SCALE * ops.sum(link, axis=1), ops.max(link, axis=1)]
        if agreement is not None:
            pooled.append(agreement)
        part = self._judge(ops.concatenate(pooled, axis=-1), features)
        return part[..., 0], center, part[..., 1:], gaussian

    def _link_each(
        self,
        evidence: keras.KerasTensor,
        way: tuple[keras.KerasTensor, ...],
        features: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return what the evidence says of each part and source.

        Args:
            evidence: [batch, num_trps, num_taps, evidence_channels], float.
            way: from sources to parts, see `ways`.
            features: of the cells.

        Returns: how many taps until the range of `TapEvidence` [batch, num_trps *
            num_sources, num_parts], and [batch, num_trps * num_sources, num_parts,
            units].
        """
        evidence, spectrum = split_spectrum(evidence, self._array)
        batch, num_trps = ops.shape(evidence)[:2]
        num_parts = way[0].shape[-1]
        # What is heard of a TRP's images is in its own CIR.
        way = tuple(ops.reshape(x, (batch, num_trps, -1)) for x in way)
        seen = self._project(evidence, way[0])
        known = seen[..., 1:]
        if spectrum is not None:
            share = share_along(spectrum, self._array, self._project, way)
            known = ops.concatenate([known, share], axis=-1)
        if self._sight is not None:
            sight = ops.repeat(self._sight(features), self.num_divisions**2, axis=1)
            sight = ops.reshape(ops.swapaxes(sight, 1, 2), (batch, 1, -1, 1))
            sight = ops.broadcast_to(sight, (*ops.shape(known)[:3], 1))
            known = ops.concatenate([known, sight], axis=-1)
        link = self._link(known)
        if self._sight is not None:
            num_sources = self._source.shape[0]
            shape = batch, num_trps, num_sources, num_parts, self.units
            link = ops.reshape(link, shape) + self._source
        link = ops.relu(ops.reshape(link, (batch, -1, num_parts, self.units)))
        return ops.reshape(seen[..., 0], (batch, -1, num_parts)), link

    def _ranges(
        self, until: keras.KerasTensor, link: keras.KerasTensor, there: Any
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return how much longer each range is [m], and its weight [1/m^2]."""
        correction = self._range(link)
        longer = (until + correction[..., 0]) / self.taps_per_metre
        # What is far outside of the part says nothing about where in it.
        reach = 2 * _FARTHEST * self.spacing
        longer = reach * ops.tanh(longer / reach)
        log_weight = _WEIGHT_SPAN * ops.tanh(correction[..., 1] / _WEIGHT_SPAN)
        return longer, ops.exp(log_weight + _WEIGHT_MIDDLE) * there

    def _locate(
        self,
        center: keras.KerasTensor,
        longer: keras.KerasTensor,
        weight: keras.KerasTensor,
        way: tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor],
        height_prior: tuple[keras.KerasTensor, keras.KerasTensor],
    ) -> tuple[Any, ...]:
        """Return the most likely place and how sure it is, see `gaussian`."""

        def over_trps(*factors: Any) -> Any:
            return ops.sum(functools.reduce(ops.multiply, (weight, *factors)), axis=1)

        east, north, up = way
        side = self.spacing / self.num_divisions
        prior = 4 / side**2  # half a side is the deviation without any range
        a, c = prior + over_trps(east, east), prior + over_trps(north, north)
        b = over_trps(east, north)
        x, y = over_trps(longer, east), over_trps(longer, north)
        mean, deviation = height_prior
        if self.finds_height:
            # Height is eliminated first: a Schur complement.
            known = 1 / ops.square(deviation)
            f, g = over_trps(east, up), over_trps(north, up)
            h = known + over_trps(up, up)
            z = known * (mean - self.height) + over_trps(longer, up)
            a, b, c = a - f * f / h, b - f * g / h, c - g * g / h
            x, y = x - f * z / h, y - g * z / h
        determinant = a * c - b * b
        x, y = (c * x - b * y) / determinant, (a * y - b * x) / determinant
        if self.finds_height:
            mean = self.height + (z - f * x - g * y) / h
            spread = (c * f * f - 2 * b * f * g + a * g * g) / determinant
            deviation = ops.sqrt(1 / h + spread / ops.square(h))
        # A cell speaks for its surroundings, not for places where others are.
        limit = 1 + (ops.square(x) + ops.square(y)) / (_FARTHEST * side) ** 2
        x, y = x * ops.rsqrt(limit), y * ops.rsqrt(limit)
        mean, deviation = (ops.broadcast_to(v, ops.shape(x)) for v in (mean, deviation))
        correlation = -b * ops.rsqrt(a * c)
        bound = _LARGEST_CORRELATION
        return (
            (center[..., 0] + x, center[..., 1] + y, mean),
            (ops.sqrt(c / determinant), ops.sqrt(a / determinant), deviation),
            ops.clip(correlation, -bound, bound),
        )

    def _judge(
        self, pooled: keras.KerasTensor, features: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the logit and the features of each part, [batch, num_parts, ...]."""
        num_cells, parts = features.shape[1], self.num_divisions**2
        part = ops.reshape(self._part_in(pooled), (-1, num_cells, parts, self.units))
        part = part + self._known(features)[:, :, None] + self._place
        part = ops.reshape(ops.relu(part), (-1, num_cells * parts, self.units))
        return self._part_out(self._part_hidden(part))


def _sources(
    trp_position: keras.KerasTensor,
    trp_mask: keras.KerasTensor,
    images: keras.KerasTensor | None,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return each TRP and, after it, its images, and which of them there are.

    Returns: [batch, num_trps * num_sources, 3], float [m], and [batch, num_trps *
        num_sources, 1], float, 1 or 0.
    """
    there = ops.cast(trp_mask, trp_position.dtype)
    if images is None:
        return trp_position, there[..., None]
    images, trp_position = ops.stop_gradient(images), trp_position[:, :, None]
    sources = ops.concatenate([trp_position, images], axis=2)
    away = ops.abs(sources[..., 0] - trp_position[..., 0])
    near = ops.cast(away < _FARTHEST_IMAGE, there.dtype)
    batch = ops.shape(sources)[0]
    there = ops.reshape(there[..., None] * near, (batch, -1, 1))
    return ops.reshape(sources, (batch, -1, 3)), there
