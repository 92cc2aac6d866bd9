"""The Madrid grid of METIS, built from numbers as a scene of Sionna RT.

One cell of a grid that repeats: fifteen blocks of 28 to 52.5 m between streets, and a
park. x points east, y north, the origin is the south-western corner.

The 18 base stations (gNBs) of the HypLoc paper are known from its Fig. 3 only, without
coordinates. Those here are ours: 5 m high as in the paper, in the corridors of the
streets and close to a wall, spread over the map like the figure's.

References: METIS D6.1, "Simulation Guidelines", Madrid grid; Klus et al., "Deep
Hypernetwork-based Robust Localization in Millimeter-Wave Networks", Sec. IV-A, Fig. 3.
"""

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from sionna_loc.places.sionna_scene import SionnaScene

# (west, south, east, north edge, height) [m]; heights are 8 to 15 storeys of 3.5 m.
BUILDINGS = np.array(
    [
        (9, 423, 129, 543, 52.5),
        (9, 285, 129, 405, 49),
        (9, 147, 129, 267, 42),
        (9, 9, 129, 129, 45.5),
        (147, 423, 267, 543, 31.5),
        (147, 147, 267, 267, 52.5),
        (147, 9, 267, 129, 28),
        (297, 423, 327, 543, 31.5),
        (297, 285, 327, 405, 45.5),
        (297, 147, 327, 267, 38.5),
        (297, 9, 327, 129, 42),
        (348, 423, 378, 543, 45.5),
        (348, 285, 378, 405, 49),
        (348, 147, 378, 267, 38.5),
        (348, 9, 378, 129, 42),
    ],
    np.float32,
)
PARK = (147.0, 285.0, 267.0, 405.0)
"""West, south, east and north edge of the park [m]."""
SIZE = (387.0, 552.0)
"""Extent of the cell along x and y [m]."""
GROUND_MARGIN = 60.0
"""How far the ground goes on around the cell [m]."""

GNB_HEIGHT = 5.0
_GNB_PLAN = (
    *((132, 70), (144, 207), (132, 345), (144, 483), (292, 60), (272, 140)),
    *((292, 207), (272, 280), (292, 345), (272, 415), (292, 490), (330, 100)),
    *((345, 240), (330, 380), (345, 510), (60, 144), (70, 270), (210, 420)),
)
GNB_POSITION = np.array([(*plan, GNB_HEIGHT) for plan in _GNB_PLAN], np.float32)
"""Positions of the base stations, [18, 3] [m]."""

# ITU-R P.2040 defines its ground materials up to 10 GHz only, concrete to 100 GHz.
_MATERIAL = {"type": "concrete", "thickness": "0.3"}

# A box without a floor: corners 0 to 3 around the ground, counter-clockwise from above,
# 4 to 7 above them; triangles with their normals outside.
_BOX_TRIANGLES = (
    *((0, 1, 5), (0, 5, 4), (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6)),
    *((3, 0, 4), (3, 4, 7), (4, 5, 6), (4, 6, 7)),
)
_GROUND_TRIANGLES = ((0, 1, 2), (0, 2, 3))


class MadridGrid(SionnaScene):
    """The Madrid grid as a place; see the module.

    Args:
        carrier_frequency: float > 0 [Hz]. Sets the materials' properties.
    """

    def __init__(self, carrier_frequency: float) -> None:
        super().__init__("madrid_grid", carrier_frequency)

    def config(self) -> dict[str, Any]:
        """Return everything that changes the scene, as JSON can hold it."""
        return {
            "buildings": BUILDINGS.tolist(),
            "ground_margin": GROUND_MARGIN,
            "material": _MATERIAL,
        }

    def _load(self) -> Any:
        """Write the scene's files, let Sionna RT read them, and remove them."""
        import sionna.rt as rt

        with tempfile.TemporaryDirectory() as folder:
            return rt.load_scene(str(write_scene(Path(folder))), merge_shapes=False)


def write_scene(folder: Path) -> Path:
    """Write the meshes, as PLY, and the scene file that names them; return the latter.

    Args:
        folder: an existing one.
    """
    scene = ElementTree.Element("scene", version="2.1.0")
    for name in ("wall", "street"):
        material = ElementTree.SubElement(
            scene, "bsdf", type="itu-radio-material", id=f"mat-{name}"
        )
        kinds = {"type": "string", "thickness": "float"}
        for key, value in _MATERIAL.items():
            ElementTree.SubElement(material, kinds[key], name=key, value=value)
    for index, building in enumerate(BUILDINGS):
        write_ply(folder / f"building{index:02}.ply", *box_mesh(building))
        _add_shape(scene, f"building{index:02}", "mat-wall")
    write_ply(folder / "ground.ply", *ground_mesh())
    _add_shape(scene, "ground", "mat-street")
    path = folder / "madrid_grid.xml"
    ElementTree.ElementTree(scene).write(path)
    return path


def box_mesh(building: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a building's corners [8, 3] [m] and triangles [10, 3].

    Args:
        building: [5], a row of `BUILDINGS`.
    """
    west, south, east, north, height = building
    plan = [(west, south), (east, south), (east, north), (west, north)]
    corners = [(x, y, z) for z in (0.0, height) for x, y in plan]
    return np.array(corners, np.float32), np.array(_BOX_TRIANGLES, np.int32)


def ground_mesh() -> tuple[np.ndarray, np.ndarray]:
    """Return the ground's corners [4, 3] [m] and triangles [2, 3]."""
    low, (east, north) = -GROUND_MARGIN, np.add(SIZE, GROUND_MARGIN)
    corners = [(low, low, 0), (east, low, 0), (east, north, 0), (low, north, 0)]
    return np.array(corners, np.float32), np.array(_GROUND_TRIANGLES, np.int32)


def write_ply(path: Path, corners: np.ndarray, triangles: np.ndarray) -> None:
    """Write a mesh as binary PLY.

    Args:
        path: of the file.
        corners: [num_corners, 3], float32 [m].
        triangles: [num_triangles, 3], int32. Indices of corners.
    """
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(corners)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(triangles), [("count", "u1"), ("corner", "<i4", 3)])
    faces["count"], faces["corner"] = 3, triangles
    body = corners.astype("<f4").tobytes() + faces.tobytes()
    path.write_bytes(header.encode() + body)


def in_building(points: np.ndarray) -> np.ndarray:
    """Say which points [..., 2 or 3] [m], seen from above, are in or on a building."""
    plan = np.asarray(points)[..., None, :2]
    low, high = BUILDINGS[:, :2], BUILDINGS[:, 2:4]
    return ((plan >= low) & (plan <= high)).all(axis=-1).any(axis=-1)


def _add_shape(scene: ElementTree.Element, name: str, material: str) -> None:
    """Add a mesh, `<name>.ply`, to the scene file."""
    shape = ElementTree.SubElement(scene, "shape", type="ply", id=f"mesh-{name}")
    ElementTree.SubElement(shape, "string", name="filename", value=f"{name}.ply")
    ElementTree.SubElement(shape, "boolean", name="face_normals", value="true")
    ElementTree.SubElement(shape, "ref", name="bsdf", id=material)
