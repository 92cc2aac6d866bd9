"""A grid of square cells over the ground plan of a region."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sionna_loc.checks import check, check_positive_int


class MapGrid(NamedTuple):
    """Square cells around the middle of a region, row 0 in the south.

    Attributes:
        num_rows: int > 0. Cells from south to north.
        num_columns: int > 0. Cells from west to east.
        spacing: float > 0. Side of a cell [m].
        middle: (x, y) of the grid's middle [m].
    """

    num_rows: int
    num_columns: int
    spacing: float
    middle: tuple[float, float]

    @classmethod
    def over(
        cls, region: Sequence[Sequence[float]], num_cells: int, multiple: int = 1
    ) -> "MapGrid":
        """Return the grid with `num_cells` cells along the longer side of a region.

        The number of cells, and with it what they cost, does not depend on how large
        the region is: the cells grow with it.

        Args:
            region: [2, 3], float [m]. Lower and upper corner.
            num_cells: int > 0.
            multiple: int > 0. Rows and columns are rounded up to multiples of it.

        Raises: UserError if the region has no extent, or a number is not positive.
        """
        check_positive_int("num_cells", num_cells)
        check_positive_int("multiple", multiple)
        lower, upper = np.asarray(region, dtype=float)[:, :2]
        spacing = float(max(upper - lower)) / num_cells
        check(spacing > 0, "`region` must have a horizontal extent.", region=region)
        # Rounded first: 28.000000000000004 cells are 28.
        counts = [math.ceil(round(side / spacing, 6)) for side in upper - lower]
        columns, rows = (multiple * max(1, -(-n // multiple)) for n in counts)
        middle = (lower + upper) / 2
        return cls(rows, columns, spacing, (float(middle[0]), float(middle[1])))

    @property
    def num_cells(self) -> int:
        """Number of cells."""
        return self.num_rows * self.num_columns

    def centers(self) -> np.ndarray:
        """Return the cells' centres [num_cells, 2] [m], row by row."""
        x, y = (
            middle + self.spacing * (np.arange(count) - (count - 1) / 2)
            for middle, count in zip(
                self.middle, (self.num_columns, self.num_rows), strict=True
            )
        )
        columns, rows = np.meshgrid(x, y)
        return np.stack([columns.ravel(), rows.ravel()], axis=-1).astype("float32")


def child_offsets(num_divisions: int) -> np.ndarray:
    """Return where the parts of a cell lie, [num_divisions ** 2, 2].

    Args:
        num_divisions: int > 0. Parts along each side of the cell.

    Returns: from the cell's centre, in sides of the cell, row by row.
    """
    middle = (num_divisions - 1) / 2
    steps = (np.arange(num_divisions) - middle) / num_divisions
    columns, rows = np.meshgrid(steps, steps)
    return np.stack([columns.ravel(), rows.ravel()], axis=-1).astype("float32")
