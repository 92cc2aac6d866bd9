"""Measured WiFi ranges and powers in three rooms, as files of measurements.

The data are "WiFi RSS & RTT dataset with different LOS conditions for indoor
positioning" (doi 10.5281/zenodo.11558792, MIT licence): scans of five access points at
342 reference points, 60 at each, in a lecture theatre, an office and a corridor; points
for training and testing are disjoint. A folder holds `<room>_train.csv`,
`<room>_test.csv` and `ap_position.txt`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sionna_loc.checks import check
from sionna_loc.data.array_files import write_fields

GRID = 0.6
"""Unit of the coordinates in the data [m]."""
_NOT_HEARD = 100_000.0  # [mm], which stands for no answer
_MILLIMETRE = 1e-3


@dataclass(frozen=True)
class Room:
    """A room of the data.

    Args:
        name: of the files, and as people read it.
        access_points: numbers, from 1 on, of those whose places are known.
        places: (x, y) of each [grid units], as `ap_position.txt` has them.
    """

    name: str
    access_points: tuple[int, ...]
    places: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ")


ROOMS = (
    Room(
        "lecture_theatre",
        (1, 2, 3, 4, 5),
        ((3, 9), (10, 9), (18.8, 9), (3, 21), (19, 21)),
    ),
    Room("office", (1, 2, 3, 4, 5), ((1, 5), (11, -1), (15, 6), (20, -1), (25, 5))),
    Room("corridor", (2, 3, 4, 5), ((2, 7.5), (17, 6.8), (38, 9), (48, 5))),
)


def convert(data: Path, output: Path) -> dict[tuple[str, str], Path]:
    """Write all rooms as files of measurements, `docs/data_format.md`.

    Coordinates count from the mean of a room's access points, so that rooms can stand
    for one another. Heights are not known, and 0.

    Args:
        data: folder of the data.
        output: folder, made if need be.

    Returns: (room, `"train"` or `"test"`) -> file.
    Raises: UserError if a file is missing or not as it should be.
    """
    output.mkdir(parents=True, exist_ok=True)
    paths = {}
    for room in ROOMS:
        for split in ("train", "test"):
            path = output / f"{room.name}_{split}.npz"
            write_fields(path, read_room(data, room, split))
            paths[room.name, split] = path
    return paths


def read_room(data: Path, room: Room, split: str) -> dict[str, np.ndarray]:
    """Return the fields of a file of measurements, see `convert`."""
    table = _read_table(data / f"{room.name}_{split}.csv", room)
    places = np.array(room.places)
    centre = places.mean(axis=0)
    measured = table[:, 2:]
    ranges, powers = (
        measured[:, [offset + number - 1 for number in room.access_points]]
        for offset in (0, measured.shape[1] // 2)
    )
    return {
        "range": ranges * _MILLIMETRE,
        "power": powers,
        "trp_mask": ranges < _NOT_HEARD,
        "trp_position": np.tile(_in_space(places - centre), (len(table), 1, 1)),
        "ue_position": _in_space(table[:, :2] - centre),
    }


def _read_table(path: Path, room: Room) -> np.ndarray:
    """Return x, y, ranges [mm] and powers [dBm] of each scan, [num_scans, columns]."""
    check(
        path.is_file(),
        "The data of the WiFi rooms are not there (doi 10.5281/zenodo.11558792).",
        file=str(path),
    )
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    most = max(room.access_points)
    try:
        # The last column is text: which access points are in line of sight.
        table = np.array([row[:-1] for row in rows], dtype=np.float64)
        ok = table.ndim == 2 and table.shape[1] >= 2 + 2 * most
        ok = ok and len(header) == table.shape[1] + 1
    except ValueError:
        ok = False
    check(
        ok,
        "A file of the WiFi rooms must have X, Y, ranges, powers and the access points "
        "in line of sight.",
        file=str(path),
        columns=len(header),
    )
    return table


def _in_space(places: np.ndarray) -> np.ndarray:
    """Return (x, y) [grid units] as (x, y, 0) [m]."""
    height = np.zeros((len(places), 1))
    return np.concatenate([GRID * places, height], axis=1).astype(np.float32)


def nearest_neighbours(
    train: dict[str, np.ndarray], test: dict[str, np.ndarray], num_neighbours: int = 15
) -> np.ndarray:
    """Locate by the scans of the training set with the most similar ranges.

    What is not heard has the greatest range that anything has. Neighbours count by the
    inverse of their distance in the space of ranges.

    Args:
        train: of `read_room`; where the answers come from.
        test: of `read_room`; what is asked for.
        num_neighbours: int > 0.

    Returns: [num_test, 2] [m].
    """
    far = train["range"][train["trp_mask"]].max()
    known, asked = (
        np.where(fields["trp_mask"], fields["range"], far) for fields in (train, test)
    )
    places = train["ue_position"][:, :2]
    estimates = []
    for scan in asked:
        distance = np.linalg.norm(known - scan, axis=1)
        near = np.argpartition(distance, num_neighbours)[:num_neighbours]
        weight = 1 / np.maximum(distance[near], 1e-6)
        estimates.append(weight @ places[near] / weight.sum())
    return np.array(estimates)


def least_squares(test: dict[str, np.ndarray], num_steps: int = 50) -> np.ndarray:
    """Locate by the ranges alone: the point whose distances fit them best.

    Levenberg and Marquardt's method from the mean of the access points that are heard,
    with a damping that never gives out; all scans at once.

    Args:
        test: of `read_room`.
        num_steps: int > 0.

    Returns: [num_test, 2] [m].
    """
    mask = test["trp_mask"].astype(float)
    aps = test["trp_position"][..., :2].astype(float)
    point = (mask[..., None] * aps).sum(1) / mask.sum(1)[:, None]
    for _ in range(num_steps):
        way = point[:, None] - aps
        distance = np.maximum(np.linalg.norm(way, axis=-1), 1e-3)
        slope = mask[..., None] * way / distance[..., None]
        residual = mask * (distance - test["range"])
        normal = np.einsum("nki,nkj->nij", slope, slope) + 0.1 * np.eye(2)
        gradient = np.einsum("nki,nk->ni", slope, residual)
        point = point - np.linalg.solve(normal, gradient[..., None])[..., 0]
    return point
