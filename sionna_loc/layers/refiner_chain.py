"""Several steps of refinement, one after the other."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from sionna_loc.layers.feasible import nearest_feasible
from sionna_loc.layers.place_map import PlaceMap
from sionna_loc.layers.refinement import PositionRefiner


class HeardTrps(NamedTuple):
    """All TRPs of each sample.

    Attributes:
        embedding: [batch, num_trps, units], float. Of the CIRs.
        position: [batch, num_trps, 3], float, scaled.
        longest: [batch, num_trps], float, scaled. See `feasible.longest_range`.
        mask: [batch, num_trps], bool. TRPs that exist.
    """

    embedding: Any
    position: Any
    longest: Any
    mask: Any


class NearTrps(NamedTuple):
    """The TRPs of each sample that estimates are refined with.

    Attributes:
        embedding: [batch, num_trps, units], float. What is known of each link.
        position: [batch, num_trps, 3], float, scaled.
        response: [batch, num_trps, num_taps, channels], float. Scaled CIR.
        mask: [batch, num_trps], bool. TRPs that exist.
        image: [batch, num_trps, num_images, 3], float, scaled. Images of the TRPs in
            walls, `None` without.
        spectrum: [batch, num_trps, num_taps, num_terms], float. Directions of arrival,
            see `AngleSpectrum`, `None` without.
    """

    embedding: Any
    position: Any
    response: Any
    mask: Any
    image: Any = None
    spectrum: Any = None


def refiner_chain(
    spacings: Sequence[float],
    response_shape: tuple[int | None, ...],
    width: int,
    num_peaks: int = 0,
    place_units: int = 0,
    **options: Any,
) -> list[PositionRefiner]:
    """Return built steps of refinement, which return their state.

    Only the last step sees peaks: next to delays that are far off there is always
    some peak, which keeps an estimate where it is.

    Args:
        spacings: floats > 0 [taps]. One step for each.
        response_shape: of the responses, [batch, num_trps, num_taps, channels].
        width: int > 0. Size of the embeddings and of the state of the set.
        num_peaks: int >= 0. Of the last step, see `PositionRefiner`.
        place_units: int >= 0. Features of a `PlaceMap`; 0 without.
        **options: of every `PositionRefiner`.
    """
    refiners = []
    for index, spacing in enumerate(spacings):
        is_last = index == len(spacings) - 1
        refiner = PositionRefiner(
            spacing=spacing,
            num_peaks=num_peaks if is_last else 0,
            return_state=True,
            **options,
        )
        links = (None, None, 3), response_shape, (None, None, width)
        place = (None, place_units) if place_units else None
        refiner.build((None, 3), *links, (None, width), place_shape=place)
        refiners.append(refiner)
    return refiners


def refined(
    estimate: keras.KerasTensor,
    refiners: Sequence[PositionRefiner],
    heard: HeardTrps,
    near: NearTrps | None,
    loc: keras.KerasTensor,
    box: tuple[Any, Any],
    place_map: PlaceMap | None = None,
) -> tuple[keras.KerasTensor, keras.KerasTensor | None]:
    """Refine estimates, each time from where the measured delays allow.

    Args:
        estimate: [batch, 3], float, scaled.
        refiners: of `refiner_chain`; none leave the estimate as it is.
        heard: all TRPs, which bound where the UE can be.
        near: the TRPs to refine with; `None` without refiners.
        loc: [batch, width], float. What is known of the set.
        box: lower and upper corner of the region, [3] each, scaled.
        place_map: what the place is like at each estimate; `None` without.

    Returns: all estimates [batch, 1 + num_refiners, 3], scaled, and the state
        [batch, units] of the last step, `None` without.
    """
    estimates, state = [estimate], None
    for refiner in refiners:
        start = nearest_feasible(
            estimates[-1], heard.position, heard.longest, heard.mask, box
        )
        estimate, state = refiner(
            start,
            near.position,
            near.response,
            near.embedding,
            loc,
            near.mask,
            near.image,
            near.spectrum,
            None if place_map is None else place_map(start),
        )
        estimates.append(estimate)
    return ops.stack(estimates, axis=1), state


def refined_each(
    starts: keras.KerasTensor,
    refiners: Sequence[PositionRefiner],
    heard: HeardTrps,
    near: NearTrps,
    loc: keras.KerasTensor,
    box: tuple[Any, Any],
    place_map: PlaceMap | None = None,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Refine from several places of each sample.

    Args:
        starts: [batch, num_starts, 3], float, scaled.
        refiners: see `refined`; at least one.
        heard: see `refined`.
        near: see `refined`.
        loc: see `refined`.
        box: see `refined`.
        place_map: see `refined`.

    Returns: all estimates [batch, num_starts, 1 + num_refiners, 3], scaled, and the
        states [batch, num_starts, units].
    """
    count = starts.shape[1]
    heard, near, loc = keras.tree.map_structure(
        lambda x: None if x is None else ops.repeat(x, count, axis=0),
        (heard, near, loc),
    )
    flat = ops.reshape(starts, (-1, 3))
    estimates, state = refined(flat, refiners, heard, near, loc, box, place_map)
    return (
        ops.reshape(estimates, (-1, count, *estimates.shape[1:])),
        ops.reshape(state, (-1, count, state.shape[1])),
    )
