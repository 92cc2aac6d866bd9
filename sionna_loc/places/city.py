"""A city of Sionna RT: its ground, its streets and its roofs, on a grid of 1 m."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from sionna_loc.checks import check_known
from sionna_loc.places.sionna_scene import SionnaScene, grid_centres
from sionna_loc.places.tracer_thread import TRACER_THREAD

GROUND_MESHES = {
    "etoile": "Plane",
    "florence": "ground",
    "munich": "ground",
    "san_francisco": "Terrain",
}
"""Cities that come with Sionna RT, and the mesh of each that is its ground."""
GROUND_TOLERANCE = 0.1
"""What is less than this above the ground is the ground [m]."""
MIN_ROOF_HEIGHT = 8.0
"""Lower roofs are canopies, sheds and stalls: no place for a TRP [m]."""


@dataclass(frozen=True)
class CityPlan:
    """A city on a grid of square cells of 1 m, row 0 in the south.

    Args:
        corner: [2], int [m]. South-western corner of the grid.
        centres: [rows, columns, 2], float32 [m]. Centres of the cells.
        ground: [rows, columns], float32 [m]. Height of the ground; NaN where none is.
        street: [rows, columns], bool. Open ground from which one can walk away:
            courtyards that are closed on all sides are none.
        roof: [rows, columns], bool. Roofs at least `MIN_ROOF_HEIGHT` above the ground.
        clearance: [rows, columns], float32 [m]. From a cell of a street to the nearest
            cell that is none; 0 where there is no street.
    """

    corner: np.ndarray
    centres: np.ndarray
    ground: np.ndarray
    street: np.ndarray
    roof: np.ndarray
    clearance: np.ndarray


class City(SionnaScene):
    """A city that comes with Sionna RT, on flat ground or on hills.

    Args:
        name: key of `GROUND_MESHES`.
        carrier_frequency: float > 0 [Hz]. Sets the materials' properties.

    Raises: UserError if there is no such city.
    """

    def __init__(self, name: str, carrier_frequency: float) -> None:
        check_known("city", name, GROUND_MESHES)
        super().__init__(name, carrier_frequency)

    def ground_heights(self, points: np.ndarray) -> np.ndarray:
        """Return the height of the ground, whatever stands on it.

        Args:
            points: [num_points, 2], float [m].

        Returns: [num_points], float32 [m]; NaN where there is none.
        """
        return TRACER_THREAD.call(self._trace_ground, np.asarray(points, np.float32))

    def is_street(self, points: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Say which points of the city's top are ground, [num_points], bool.

        Args:
            points: [num_points, 2], float [m].
            heights: [num_points], float [m]. Of the top, see `heights`.
        """
        return np.abs(heights - self.ground_heights(points)) < GROUND_TOLERANCE

    def is_roof(self, points: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Say which points of the city's top are roofs; see `is_street`."""
        return heights - self.ground_heights(points) >= MIN_ROOF_HEIGHT

    def config(self) -> dict[str, Any]:
        """Return what ground, streets and roofs are, as JSON can hold it."""
        return {
            "ground_mesh": GROUND_MESHES[self.name],
            "ground_tolerance": GROUND_TOLERANCE,
            "min_roof_height": MIN_ROOF_HEIGHT,
        }

    @functools.cached_property
    def plan(self) -> CityPlan:
        """The city on a grid."""
        corner = np.ceil(self.bounds[0, :2]).astype(int)
        centres = grid_centres(corner, np.floor(self.bounds[1, :2]), 1.0)
        points = centres.reshape(-1, 2)
        heights, ground = self.heights(points), self.ground_heights(points)
        shape = centres.shape[:2]
        is_open = np.abs(heights - ground) < GROUND_TOLERANCE
        parts, _ = ndimage.label(is_open.reshape(shape))
        sizes = np.bincount(parts.ravel())
        street = parts == 1 + sizes[1:].argmax()
        clearance = ndimage.distance_transform_edt(street)
        return CityPlan(
            corner=corner,
            centres=centres,
            ground=ground.reshape(shape),
            street=street,
            roof=(heights - ground >= MIN_ROOF_HEIGHT).reshape(shape),
            clearance=clearance.astype(np.float32),
        )

    def _trace_ground(self, points: np.ndarray) -> np.ndarray:
        """See `ground_heights`; on the tracer thread."""
        return self._cast_down(self._ground_scene, points)

    @functools.cached_property
    def _ground_scene(self) -> Any:
        """The ground alone, as a scene of Mitsuba; on the tracer thread.

        Sionna RT merges meshes of one material when it loads a scene, so that the
        ground's is read from its file.
        """
        import mitsuba as mi
        import sionna.rt as rt

        folder = Path(getattr(rt.scene, self.name)).parent / "meshes"
        mesh = folder / f"{GROUND_MESHES[self.name]}.ply"
        return mi.load_dict(
            {"type": "scene", "ground": {"type": "ply", "filename": str(mesh)}}
        )
