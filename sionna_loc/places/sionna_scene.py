"""A Sionna RT scene as a place: heights seen from above, points on its surfaces."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sionna_loc.checks import check_known, check_positive
from sionna_loc.device import current_device
from sionna_loc.places.tracer_thread import TRACER_THREAD

_ABOVE = 10.0
"""Downward rays start this far above the highest point of the scene [m]."""


@dataclass(frozen=True)
class TopView:
    """A scene seen from above, for plots.

    Args:
        height: [rows, columns], float32 [m]. Height of the highest surface, row 0 in
            the south; NaN where there is nothing.
        extent: (west, east, south, north) edge [m], as `imshow` takes it together
            with `origin="lower"`.
    """

    height: np.ndarray
    extent: tuple[float, float, float, float]


class SionnaScene:
    """A scene of Sionna RT with single vertically polarised isotropic antennas.

    The scene object itself lives on the tracer thread: only functions that run there
    may use `scene`.

    Args:
        name: name of a scene that comes with Sionna RT, e.g. `"etoile"`.
        carrier_frequency: float > 0 [Hz]. Sets the materials' properties.
    """

    def __init__(self, name: str, carrier_frequency: float) -> None:
        check_positive("carrier_frequency", carrier_frequency)
        self.name = name
        self.carrier_frequency = carrier_frequency
        current_device()  # Before TensorFlow runs anything and fixes its devices.
        TRACER_THREAD.start()

    @functools.cached_property
    def scene(self) -> Any:
        """The `sionna.rt.Scene`; only for functions on the tracer thread."""
        import sionna.rt as rt

        scene = self._load()
        scene.frequency = self.carrier_frequency
        single = {"num_rows": 1, "num_cols": 1, "pattern": "iso", "polarization": "V"}
        scene.tx_array = rt.PlanarArray(**single)
        scene.rx_array = rt.PlanarArray(**single)
        return scene

    def _load(self) -> Any:
        """Return Sionna RT's scene of that name; on the tracer thread."""
        import sionna.rt as rt

        known = [name for name in dir(rt.scene) if not name.startswith("_")]
        check_known("Sionna scene", self.name, known)
        return rt.load_scene(getattr(rt.scene, self.name))

    @functools.cached_property
    def bounds(self) -> np.ndarray:
        """Lower and upper corner of everything in the scene, [2, 3] [m]."""
        return TRACER_THREAD.call(self._trace_bounds)

    def heights(self, points: np.ndarray) -> np.ndarray:
        """Cast a ray straight down at each point.

        Args:
            points: [num_points, 2], float [m].

        Returns: [num_points], float32 [m]. Height of the highest surface; NaN where
            there is none.
        """
        return TRACER_THREAD.call(self._trace_heights, np.asarray(points, np.float32))

    @functools.lru_cache(maxsize=4)  # noqa: B019 (scenes live as long as the process)
    def top_view(self, resolution: float = 1.0) -> TopView:
        """Return the heights of the whole scene on a grid of `resolution` metres."""
        check_positive("resolution", resolution)
        (west, south), (east, north) = self.bounds[:, :2].tolist()
        centres = grid_centres((west, south), (east, north), resolution)
        height = self.heights(centres.reshape(-1, 2)).reshape(centres.shape[:2])
        rows, columns = height.shape
        extent = (west, west + columns * resolution, south, south + rows * resolution)
        return TopView(height, extent)

    def _trace_bounds(self) -> np.ndarray:
        """See `bounds`; on the tracer thread."""
        box = self.scene.mi_scene.bbox()
        return np.array([box.min, box.max], np.float32).reshape(2, 3)

    def _trace_heights(self, points: np.ndarray) -> np.ndarray:
        """See `heights`; on the tracer thread."""
        return self._cast_down(self.scene.mi_scene, points)

    def _cast_down(self, mi_scene: Any, points: np.ndarray) -> np.ndarray:
        """Return where rays straight down meet a Mitsuba scene, as of `heights`."""
        import mitsuba as mi

        top = float(self._trace_bounds()[1, 2]) + _ABOVE
        start = mi.Point3f(
            mi.Float(np.ascontiguousarray(points[:, 0])),
            mi.Float(np.ascontiguousarray(points[:, 1])),
            mi.Float(np.full(len(points), top, np.float32)),
        )
        ray = mi.Ray3f(start, mi.Vector3f(0.0, 0.0, -1.0))
        hit = mi_scene.ray_intersect_preliminary(ray, coherent=False)
        depth = np.array(hit.t, np.float32)
        return np.where(np.isfinite(depth), top - depth, np.nan).astype(np.float32)


class Surface:
    """The part of a scene, seen from above, from which points are drawn uniformly.

    The region is cut into square cells once. A draw takes a cell and a place inside
    it; the height there is found by an exact ray cast, and a place that turns out
    not to belong to the surface is replaced by the next of the spare draws.

    Args:
        scene: the place.
        contains: `(points [n, 2], heights [n]) -> [n] bool`, says which points of
            the scene's top belong to the surface.
        region: [2, 2] or [2, 3] [m]. Lower and upper corner.
        resolution: float > 0 [m]. Side of a cell.
    """

    def __init__(
        self,
        scene: SionnaScene,
        contains: Callable[[np.ndarray, np.ndarray], np.ndarray],
        region: np.ndarray,
        resolution: float = 0.5,
    ) -> None:
        check_positive("resolution", resolution)
        self._scene = scene
        self._contains = contains
        self._region = np.asarray(region, np.float64)[:, :2]
        self._resolution = resolution

    @functools.cached_property
    def cells(self) -> np.ndarray:
        """Centres of the cells, [num_cells, 2], float32 [m]."""
        centres = grid_centres(*self._region, self._resolution).reshape(-1, 2)
        cells = centres[self._contains(centres, self._scene.heights(centres))]
        if not len(cells):
            raise RuntimeError(f"No cell of {self._scene.name!r} is on the surface.")
        return cells

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Turn uniform random numbers into points.

        Args:
            uniform: [num_points, num_tries, 3], float in [0, 1). Each try picks a
                cell and a place inside it; the first on the surface is taken.

        Returns: [num_points, 3], float32 [m]. Points on the surface.
        Raises: RuntimeError if all tries of a point miss the surface.
        """
        return draw_points(
            self._scene, self._contains, self.cells, self._resolution, uniform
        )


def draw_points(
    scene: SionnaScene,
    contains: Callable[[np.ndarray, np.ndarray], np.ndarray],
    cells: np.ndarray,
    resolution: float,
    uniform: np.ndarray,
) -> np.ndarray:
    """Turn uniform random numbers into points of a surface.

    Args:
        scene: the place.
        contains: see `Surface`.
        cells: [num_cells, 2], float [m]. Centres of the cells to choose from.
        resolution: float > 0 [m]. Side of a cell.
        uniform: see `Surface.draw`.

    Returns: [num_points, 3], float32 [m].
    Raises: RuntimeError if all tries of a point miss the surface.
    """
    index = (uniform[..., 0].astype(np.float64) * len(cells)).astype(int)
    jitter = (uniform[..., 1:] - 0.5) * resolution
    points = (cells[index] + jitter).astype(np.float32)
    heights = scene.heights(points.reshape(-1, 2))
    on_surface = contains(points.reshape(-1, 2), heights)
    on_surface = on_surface.reshape(points.shape[:2])
    if not on_surface.any(axis=1).all():
        raise RuntimeError("A point was not found within its spare draws.")
    rows = np.arange(len(points))
    taken = on_surface.argmax(axis=1)
    height = heights.reshape(points.shape[:2])[rows, taken]
    return np.concatenate([points[rows, taken], height[:, None]], axis=1)


def grid_centres(
    lower: np.ndarray | tuple, upper: np.ndarray | tuple, resolution: float
) -> np.ndarray:
    """Return the centres of square cells that cover a box, [rows, columns, 2]."""
    x = np.arange(lower[0], upper[0], resolution) + resolution / 2
    y = np.arange(lower[1], upper[1], resolution) + resolution / 2
    return np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)
