"""Antenna arrays of a UE."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sionna_loc.checks import check, check_positive, check_positive_int


def direction_vectors(angles: np.ndarray) -> np.ndarray:
    """Return unit vectors (east, north, up).

    Args:
        angles: [..., 2]. (Zenith, azimuth) [rad].

    Returns: [..., 3].
    """
    zenith, azimuth = angles[..., 0], angles[..., 1]
    across = np.sin(zenith)
    vectors = [across * np.cos(azimuth), across * np.sin(azimuth), np.cos(zenith)]
    return np.stack(vectors, axis=-1)


def checked_shape(array_shape: Sequence[int] | None, num_ant: int) -> tuple[int, int]:
    """Return the rows and columns of an array, one row if they are not given.

    Args:
        array_shape: (rows, columns), ints > 0, or None.
        num_ant: int > 0. Antennas of the array.

    Raises: UserError (a ValueError) if the array has another number of antennas.
    """
    shape = tuple(array_shape or (1, num_ant))
    check(
        len(shape) == 2 and shape[0] * shape[1] == num_ant,
        f"`array_shape` must be rows x columns of the {num_ant} antennas.",
        array_shape=shape,
    )
    return shape


@dataclass(frozen=True)
class PlanarArray:
    """Horizontal uniform planar array: rows along x (east), columns along y (north).

    A TRP is above the UE, so that the two direction cosines that a horizontal array
    measures give zenith and azimuth of a path without ambiguity; an upright panel
    cannot tell its front from its back.

    Args:
        num_rows: int > 0. Antennas along x.
        num_columns: int > 0. Antennas along y.
        spacing: float > 0. Distance of neighbours [wavelengths].

    Raises: UserError (a ValueError) if a number is not positive.
    """

    num_rows: int = 1
    num_columns: int = 1
    spacing: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_positive_int("num_rows", self.num_rows)
        check_positive_int("num_columns", self.num_columns)
        check_positive("spacing", self.spacing)

    @property
    def num_ant(self) -> int:
        """Number of antennas; antenna `row * num_columns + column` comes at that place.

        The order of a 2-D transform over rows and columns.
        """
        return self.num_rows * self.num_columns

    @property
    def element_position(self) -> np.ndarray:
        """Places relative to the array's centre, [num_ant, 3] [wavelengths]."""
        row, column = np.divmod(np.arange(self.num_ant), self.num_columns)
        places = [
            (row - (self.num_rows - 1) / 2) * self.spacing,
            (column - (self.num_columns - 1) / 2) * self.spacing,
            np.zeros(self.num_ant),
        ]
        return np.stack(places, axis=-1).astype(np.float32)

    @property
    def beam_cosines(self) -> np.ndarray:
        """Direction cosines (east, north) of the beams of a 2-D DFT, [num_ant, 2].

        Beam `row * num_columns + column`, from the most negative cosine on. Beams with
        cosines whose squares sum to more than 1 look into no direction of space.
        """
        row, column = np.divmod(np.arange(self.num_ant), self.num_columns)
        cosines = [
            (index - size // 2) / (size * self.spacing)
            for index, size in ((row, self.num_rows), (column, self.num_columns))
        ]
        return np.stack(cosines, axis=-1)

    @property
    def beam_directions(self) -> np.ndarray:
        """(Zenith, azimuth) of the beams [degrees], [num_ant, 2]; NaN for none."""
        east, north = self.beam_cosines.T
        sine = np.hypot(east, north)
        zenith = np.degrees(np.arcsin(np.where(sine <= 1, sine, np.nan)))
        azimuth = np.degrees(np.arctan2(north, east))
        return np.stack([zenith, np.where(sine <= 1, azimuth, np.nan)], axis=-1)

    def to_dict(self) -> dict[str, float]:
        """Return the arguments, JSON-able."""
        return {
            "num_rows": self.num_rows,
            "num_columns": self.num_columns,
            "spacing": self.spacing,
        }
