"""Search for the walls of a place in what UEs at known positions hear.

A wall reflects like a mirror: what arrives over it comes from the image of the TRP
behind it. So a wall shows in the CIRs of many links at once, each of which has a peak
at the distance from its UE to its TRP's image, wherever TRP and UE stand. All places of
a vertical wall are tried, as in a Hough transform, and that which explains most peaks
is taken; then what it explains is left out, and the next one sought. Two walls that
face each other reflect to and fro: their images' images are tried along with further
walls.

UEs that hear few TRPs need reflections most, and have the fewest links to show walls
with: those of a side street vanish among those of the avenue. So a link counts the less
the more links its UE has.

Of NumPy, before training, once. See `layers.wall_images` for what a model makes of it.

References: Allen and Berkley, "Image method for efficiently simulating small-room
acoustics"; Hough, "Method and means for recognizing complex patterns", US 3069654.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_FINENESS = 3  # cells of the tables of peaks in a tap
_NUM_COARSE_LINKS = 1000  # drawn, that all places of a wall are tried on
_COARSE_SEED = 0  # of the choice of those links
_NUM_ANGLES = 180
_MOST_OFFSETS = 400
_PEAK_DB = 12.0  # below the strongest; sidelobes of a band-limited pulse are weaker
_DIRECT_TAPS = 2.0  # around the direct path, whose peaks no wall explains
_EXPLAINED_TAPS = 1.5
_LEAST_SHARE = 0.01  # of the links, as they count, that an image must explain
_LEAST_LINKS = 20  # to explain; fewer have some wall in common by chance
_LEAST_GAIN = 2.0  # times what a wall at any other place explains by chance


class Links(NamedTuple):
    """Links of UEs at known positions.

    Attributes:
        trp_position: [num_links, 3], float [m].
        ue_position: [num_links, 3], float [m].
    """

    trp_position: np.ndarray
    ue_position: np.ndarray

    def chosen(self, chosen: np.ndarray) -> "Links":
        """Return some of the links: those at indices, or where a mask is true."""
        return Links(*(points[chosen] for points in self))

    def image_distance(self, image: np.ndarray) -> np.ndarray:
        """Return the distances from UEs to images of their TRPs, [num_links] [m]."""
        apart = self.trp_position - self.ue_position
        apart[:, :2] = self.trp_position[:, :2] @ image[:, :2].T + image[:, 2]
        apart[:, :2] -= self.ue_position[:, :2]
        return np.linalg.norm(apart, axis=1)


class _Peaks(NamedTuple):
    """Peaks of the CIRs: the links they belong to, and path lengths [m]."""

    link: np.ndarray
    length: np.ndarray

    def without(self, distance: np.ndarray, width: float) -> "_Peaks":
        """Return the peaks that are not within `width` of `distance` [num_links]."""
        kept = np.abs(self.length - distance[self.link]) > width
        return _Peaks(self.link[kept], self.length[kept])


def find_images(
    level_db: np.ndarray, links: Links, metres_per_tap: float, num_images: int
) -> np.ndarray:
    """Find where images of TRPs lie, of walls that reflect to many UEs.

    A wall is sought as far from the middle of the UEs as the farthest TRP or UE is.

    Args:
        level_db: [num_links, num_taps], float [dB]. Powers of the CIRs, tap 0 at the
            time of sending.
        links: whose CIRs they are.
        metres_per_tap: float > 0 [m]. The speed of light divided by the sampling rate.
        num_images: int >= 0. How many images to look for.

    Returns: [num_found, 2, 3], float, `num_found` from 0 to `num_images`, those that
        explain most first: the linear part [2, 2] of the isometry of the ground plan
        that takes TRPs to their images, and its translation [m].
    """
    if not len(level_db):
        return np.zeros((0, 2, 3))
    middle = links.ue_position.mean(axis=0) * [1, 1, 0]
    links = Links(*(points - middle for points in links))
    weight = _weights(links.ue_position)
    peaks = _reflected_peaks(level_db, links, metres_per_tap)
    longest = level_db.shape[1] * metres_per_tap
    least = max(_LEAST_SHARE, _LEAST_LINKS / len(level_db))
    found: list[np.ndarray] = []
    for _ in range(num_images):
        table = _PeakTable(peaks, len(level_db), longest, metres_per_tap)
        image, share, by_chance = _best_wall(table, links, weight)
        for repeated in _repeated(found):
            explained = weight @ table.explained(links.image_distance(repeated))
            if explained > share:
                image, share = repeated, explained
        if share < max(least, _LEAST_GAIN * by_chance):
            break
        found.append(image)
        width = _EXPLAINED_TAPS * metres_per_tap
        peaks = peaks.without(links.image_distance(image), width)
    images = np.reshape(found, (-1, 2, 3))
    images[:, :, 2] += middle[:2] - images[:, :, :2] @ middle[:2]
    return images


def explained_shares(
    level_db: np.ndarray, links: Links, metres_per_tap: float, images: np.ndarray
) -> np.ndarray:
    """Return what images explain of the strong peaks that are not the direct path's.

    Args:
        level_db: [num_links, num_taps], float [dB]. See `find_images`.
        links: whose CIRs they are.
        metres_per_tap: float > 0 [m].
        images: [num_images, 2, 3], float. Of `find_images`.

    Returns: [num_images], float, from 0 to 1: the share of the peaks of all links that
        the first image explains, that the first two explain, and so on; NaN if there
        are no such peaks.
    """
    peaks = _reflected_peaks(level_db, links, metres_per_tap)
    total, shares = len(peaks.link), []
    for image in images:
        width = _EXPLAINED_TAPS * metres_per_tap
        peaks = peaks.without(links.image_distance(image), width)
        shares.append(1 - len(peaks.link) / total if total else np.nan)
    return np.array(shares)


def _reflected_peaks(
    level_db: np.ndarray, links: Links, metres_per_tap: float
) -> _Peaks:
    """Return the strong peaks of the CIRs that are not the direct path's."""
    direct = np.linalg.norm(links.trp_position - links.ue_position, axis=1)
    peaks = _peaks_of(level_db, metres_per_tap)
    return peaks.without(direct, _DIRECT_TAPS * metres_per_tap)


def _weights(ue_position: np.ndarray) -> np.ndarray:
    """Return how much each link counts, [num_links], 1 in all.

    That is in inverse proportion to the square of the number of links of its UE.
    """
    place = np.round(ue_position, 3)  # one and the same may differ in its last digits
    _, ue, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    weight = 1 / np.square(count[ue.ravel()], dtype=float)
    return weight / weight.sum()


def _peaks_of(level_db: np.ndarray, metres_per_tap: float) -> _Peaks:
    """Return the strong peaks of the CIRs, between taps where a parabola peaks."""
    before, here, after = level_db[:, :-2], level_db[:, 1:-1], level_db[:, 2:]
    strong = here >= level_db.max(axis=1, keepdims=True) - _PEAK_DB
    link, tap = np.nonzero((here >= before) & (here > after) & strong)
    a, b, c = (level[link, tap] for level in (before, here, after))
    between = np.clip(0.5 * (a - c) / (a - 2 * b + c), -0.5, 0.5)
    return _Peaks(link, (tap + 1 + between) * metres_per_tap)


class _PeakTable:
    """Answers fast whether links have a peak at given path lengths.

    Args:
        peaks: of the links.
        num_links: int > 0.
        longest: float > 0 [m]. Path length that no peak is beyond.
        metres_per_tap: float > 0 [m].
        num_taps: float > 0. How far from a peak a length may be.
    """

    def __init__(
        self,
        peaks: _Peaks,
        num_links: int,
        longest: float,
        metres_per_tap: float,
        num_taps: float = 1.0,
    ) -> None:
        self.metres_per_tap = metres_per_tap
        self._peaks = peaks
        self._longest = longest
        self._cell = metres_per_tap / _FINENESS
        self._num_cells = int(longest / self._cell) + 4 * _FINENESS
        self._table = self._filled(num_links, num_taps)

    def explained(self, length: np.ndarray) -> np.ndarray:
        """Return from 0 to 1 how close peaks are to lengths [num_links, ...] [m]."""
        cell = np.minimum(length / self._cell + 0.5, self._num_cells - 1)
        row = np.arange(len(length)).reshape((-1,) + (1,) * (length.ndim - 1))
        # Out of one long list: faster than by rows and columns.
        return self._table.ravel().take(row * self._num_cells + cell.astype("int32"))

    def coarse(self, num_taps: float, chosen: np.ndarray) -> "_PeakTable":
        """Return a table of the links `chosen`, with peaks so many taps wide."""
        row = np.full(len(self._table), -1)
        row[chosen] = np.arange(len(chosen))
        kept = row[self._peaks.link] >= 0
        peaks = _Peaks(row[self._peaks.link[kept]], self._peaks.length[kept])
        return _PeakTable(
            peaks, len(chosen), self._longest, self.metres_per_tap, num_taps
        )

    def _filled(self, num_links: int, num_taps: float) -> np.ndarray:
        """Return the table: triangles around the peaks, `num_taps` to each side."""
        table = np.zeros((num_links, self._num_cells), "float32")
        width = int(np.ceil(num_taps * _FINENESS))
        middle = np.round(self._peaks.length / self._cell).astype("int32")
        for shift in range(-width, width + 1):
            cell = np.clip(middle + shift, 0, self._num_cells - 2)
            height = np.float32(1 - abs(shift) / (width + 1))
            np.maximum.at(table, (self._peaks.link, cell), height)
        table[:, -1] = 0  # what lengths beyond the table read
        return table


def _best_wall(
    table: _PeakTable, links: Links, weight: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Return the image in the wall that explains most, its share and that by chance."""
    points = np.concatenate(links)[:, :2]
    reach = float(np.linalg.norm(points, axis=1).max())
    step = max(table.metres_per_tap, 2 * reach / _MOST_OFFSETS)
    angles = np.arange(_NUM_ANGLES) * (np.pi / _NUM_ANGLES)
    offsets = np.arange(-reach, reach + step, step)
    drawn = np.random.default_rng(_COARSE_SEED).choice(
        len(weight), _NUM_COARSE_LINKS, p=weight
    )
    chosen, times = np.unique(drawn, return_counts=True)
    rough = table.coarse(2 * step / table.metres_per_tap, chosen)
    often = times / _NUM_COARSE_LINKS
    share = _wall_shares(rough, links.chosen(chosen), often, angles, offsets)
    row, column = np.unravel_index(share.argmax(), share.shape)
    by_chance = float(np.median(share))
    angles = angles[row] + np.linspace(-1, 1, 21) * (np.pi / _NUM_ANGLES)
    offsets = offsets[column] + np.linspace(-1, 1, 13) * step
    share = _wall_shares(table, links, weight, angles, offsets)
    row, column = np.unravel_index(share.argmax(), share.shape)
    image = _mirror(angles[row], offsets[column])
    return image, float(share[row, column]), by_chance


def _wall_shares(
    table: _PeakTable,
    links: Links,
    weight: np.ndarray,
    angles: np.ndarray,
    offsets: np.ndarray,
) -> np.ndarray:
    """Return how many links walls explain, [num_angles, num_offsets].

    Args:
        table: of the peaks.
        links: they are of.
        weight: [num_links]. How much each of them counts, 1 in all.
        angles: [num_angles] [rad]. Directions of the walls' normals.
        offsets: [num_offsets] [m]. Distances of the walls from the origin.
    """
    shares = np.empty((len(angles), len(offsets)))
    apart = links.trp_position - links.ue_position
    for row, angle in enumerate(angles):
        normal = np.array([np.cos(angle), np.sin(angle)])
        trp, ue = (points[:, :2] @ normal for points in links)
        along = apart[:, :2] @ np.array([-normal[1], normal[0]])
        from_trp, from_ue = trp[:, None] - offsets, ue[:, None] - offsets
        squared = np.square(from_trp + from_ue)
        squared += (along**2 + apart[:, 2] ** 2)[:, None]
        seen = table.explained(np.sqrt(squared, out=squared))
        shares[row] = weight @ (seen * (from_trp * from_ue > 0))
    return shares


def _mirror(angle: float, offset: float) -> np.ndarray:
    """Return the isometry [2, 3] of a wall, see `find_images`."""
    normal = np.array([[np.cos(angle)], [np.sin(angle)]])
    linear = np.eye(2) - 2 * normal @ normal.T
    return np.concatenate([linear, 2 * offset * normal], axis=1)


def _repeated(images: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the images of images: each pair one after the other."""
    for first in images:
        for second in images:
            if first is not second:
                linear = second[:, :2] @ first[:, :2]
                shift = second[:, :2] @ first[:, 2:] + second[:, 2:]
                yield np.concatenate([linear, shift], axis=1)
