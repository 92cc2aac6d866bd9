"""Blocks of a city, and in each of them a street with the roofs along it."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from sionna_loc.places.city import City

BLOCK_SIDE = 280
"""Side of a block [m], a whole number of cells."""
MIN_ROOF_SHARE = 0.1
"""Of each quarter of a block: leaves out parks and the edge of the city."""
MIN_STREET_AREA = 1500
"""Of the ground on which UEs are [m^2]."""
MIN_ROOF_AREA = 100
"""Of the roofs on which TRPs are [m^2]."""
MAX_GROUND_OFFSET = 3.0
"""Of the ground of UEs from that of the point of view [m]."""
ROOF_DEPTHS = (2.0, 25.0)
"""How far from the street TRPs are at most: least and greatest value [m]."""
MIN_CLEARANCE = 3.0
"""Of the point of view from what is no street [m]."""
MAX_VIEW_OFFSET = 70
"""Of the point of view from the middle of the block, along each axis [m]."""
RAY_SPACING = 0.5
"""Of rays from the point of view, where they leave the block [cells]."""
RAY_STEP = 0.5
"""From one point of a ray to the next one [cells]."""
_MAX_TRIES = 200


@dataclass(frozen=True)
class Street:
    """Where UEs and TRPs of one drop may stand; heights are drawn later.

    Args:
        origin: [3], float [m]. Middle of the block, at the ground of the point of
            view: zero of the drop's coordinates.
        ue_cells: [num_cells, 2], float32 [m]. Centres of cells of 1 m, in coordinates
            of the city.
        trp_cells: [num_cells, 2], float32 [m]. Likewise.
        roof_depth: float [m]. How far from the street the TRPs are at most.
    """

    origin: np.ndarray
    ue_cells: np.ndarray
    trp_cells: np.ndarray
    roof_depth: float


class CityBlocks:
    """The blocks of a city: squares of `BLOCK_SIDE` along the axes, on whole metres.

    Args:
        city: where.
        held_out: what for -> (west, south) [m], ints: corners of the blocks held out.
    """

    def __init__(
        self, city: City, held_out: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        self._city = city
        self._held_out = dict(held_out or {})

    def config(self) -> dict[str, Any]:
        """Return everything that changes the streets, as JSON can hold it."""
        return {
            **self._city.config(),
            "held_out": {name: list(at) for name, at in self._held_out.items()},
            "block_side": BLOCK_SIDE,
            "min_roof_share": MIN_ROOF_SHARE,
            "min_street_area": MIN_STREET_AREA,
            "min_roof_area": MIN_ROOF_AREA,
            "max_ground_offset": MAX_GROUND_OFFSET,
            "roof_depths": list(ROOF_DEPTHS),
            "min_clearance": MIN_CLEARANCE,
            "max_view_offset": MAX_VIEW_OFFSET,
            "ray_spacing": RAY_SPACING,
            "ray_step": RAY_STEP,
            "max_tries": _MAX_TRIES,
        }

    @functools.cached_property
    def corners(self) -> np.ndarray:
        """South-western corners of all blocks but those that overlap one held out.

        Returns: [num_blocks, 2], int32 [m].
        """
        roof, half = self._city.plan.roof, BLOCK_SIDE // 2
        sums = np.zeros(np.add(roof.shape, 1), np.int32)
        sums[1:, 1:] = roof.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
        quarters = (
            sums[half:, half:]
            - sums[half:, :-half]
            - sums[:-half, half:]
            + sums[:-half, :-half]
        )  # [rows - half + 1, columns - half + 1], by south-western corner
        least = functools.reduce(
            np.minimum,
            (
                quarters[:-half, :-half],
                quarters[half:, :-half],
                quarters[:-half, half:],
                quarters[half:, half:],
            ),
        )
        rows = np.argwhere(least >= MIN_ROOF_SHARE * half**2)[:, ::-1]
        corners = (rows + self._city.plan.corner).astype(np.int32)
        for held_out in self._held_out.values():
            away = np.abs(corners - np.asarray(held_out))
            corners = corners[(away >= BLOCK_SIDE).any(axis=1)]
        return corners

    def draw(
        self, generator: np.random.Generator, held_out: str | None = None
    ) -> Street:
        """Draw a block and a street in it.

        Args:
            generator: what is drawn from.
            held_out: what the block that it is to be is held out for; any block that
                overlaps none of these if None.

        Raises: RuntimeError if there is no block with enough street and roofs.
        """
        for corner in self._drawn_corners(generator, held_out):
            if (street := self._street(generator, corner)) is not None:
                return street
        raise RuntimeError(
            f"No block of {self._city.name!r} was found with enough street and roofs."
        )

    def _drawn_corners(
        self, generator: np.random.Generator, held_out: str | None
    ) -> Iterator[Any]:
        """Give random corners [2] of blocks, or that of a block held out."""
        for _ in range(_MAX_TRIES):
            if held_out is not None:
                yield np.asarray(self._held_out[held_out])
            else:
                yield self.corners[generator.integers(len(self.corners))]

    def _street(
        self, generator: np.random.Generator, corner: np.ndarray
    ) -> Street | None:
        """Draw a street of a block: what is seen from a point; None if it is poor."""
        plan = self._city.plan
        column, row = (corner - plan.corner).tolist()
        block = np.s_[row : row + BLOCK_SIDE, column : column + BLOCK_SIDE]
        margin = BLOCK_SIDE // 2 - MAX_VIEW_OFFSET
        inner = plan.clearance[block][margin:-margin, margin:-margin]
        points = np.argwhere(inner >= MIN_CLEARANCE)
        if not len(points):
            return None
        view = points[generator.integers(len(points))] + margin
        depth = _log_uniform(generator, *ROOF_DEPTHS)
        ground = plan.ground[block]
        height = ground[tuple(view)]
        ues = seen_from(plan.street[block], *view.tolist())
        ues &= np.abs(ground - height) <= MAX_GROUND_OFFSET
        trps = plan.roof[block] & (ndimage.distance_transform_edt(~ues) <= depth)
        if ues.sum() < MIN_STREET_AREA or trps.sum() < MIN_ROOF_AREA:
            return None
        centres = plan.centres[block]
        return Street(
            origin=np.array([*(corner + BLOCK_SIDE / 2), height], np.float64),
            ue_cells=centres[ues],
            trp_cells=centres[trps],
            roof_depth=depth,
        )


def seen_from(is_free: np.ndarray, row: int, column: int) -> np.ndarray:
    """Say which cells are seen from one of them, past those that are not free.

    Rays go out from the middle of the cell in all directions and end at the first cell
    that is not free, between two such cells that touch at a corner, or at the edge.
    They miss no cell: one of them passes its middle by a quarter of a cell or less, and
    is at least 0.9 cells long in it, more than a step. Nor do they miss a wall: a step
    leads to a cell beside the last one or, past a corner, to one across from it.

    Args:
        is_free: [rows, columns], bool.
        row: int. Of the cell, which must be free.
        column: int. Likewise.

    Returns: [rows, columns], bool.
    """
    here = np.array([row, column])
    reach = np.hypot(*np.maximum(here, np.subtract(is_free.shape, 1) - here))
    num_rays = int(np.ceil(2 * np.pi * reach / RAY_SPACING))
    angle = np.linspace(0, 2 * np.pi, num_rays, endpoint=False)
    way = RAY_STEP * np.stack([np.sin(angle), np.cos(angle)])  # [2, num_rays]
    walled = np.pad(is_free, 1)  # A ray that left the grid does not come back.
    seen = np.zeros_like(walled)
    seen[row + 1, column + 1] = True
    rows, columns = np.broadcast_to(here[:, None] + 1, way.shape)
    for step in range(1, int(np.ceil(reach / RAY_STEP)) + 2):
        to_rows, to_columns = np.rint(here[:, None] + 1 + step * way).astype(np.intp)
        goes_on = walled[to_rows, to_columns]
        goes_on &= walled[to_rows, columns] | walled[rows, to_columns]
        way, rows, columns = way[:, goes_on], to_rows[goes_on], to_columns[goes_on]
        seen[rows, columns] = True
    return seen[1:-1, 1:-1]


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of two others."""
    return float(low * (high / low) ** generator.random())
