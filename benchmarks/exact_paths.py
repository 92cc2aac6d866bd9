"""Which specular paths exist: image method and shadows in double precision.

Ray tracers work in float32, where a path that grazes an edge within a millimetre may be
found or not. This judge intersects straight lines with all triangles instead.
"""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import numpy as np
import sionna.rt as rt

COPLANAR = 1e-3
"""Triangles whose corners are this close [m] to a plane belong to its wall."""

ROUNDING = 1e-6
"""What float64 and the float32 of the scene's own vertices leave open [m]."""


class ExactScene:
    """The triangles of a scene, in double precision.

    Args:
        scene: Scene with the walls.
    """

    def __init__(self, scene: rt.Scene) -> None:
        triangles, self._first, count = [], {}, 0
        for shape in scene.objects.values():
            faces = np.array(shape.mi_mesh.faces_buffer()).reshape(-1, 3)
            vertices = np.array(shape.mi_mesh.vertex_positions_buffer())
            triangles.append(vertices.reshape(-1, 3).astype(float)[faces])
            self._first[shape.object_id] = count
            count += len(faces)
        self._corners = np.concatenate(triangles)
        first, second, third = self._corners.swapaxes(0, 1)
        self._edges = second - first, third - first
        normal = np.cross(*self._edges)
        double_area = np.linalg.norm(normal, axis=1)
        self._normal = normal / np.maximum(double_area, 1e-30)[:, None]
        sides = np.stack([third - second, third - first, second - first])
        lengths = np.maximum(np.linalg.norm(sides, axis=2), 1e-30)
        self._heights = double_area / lengths

    def solve(
        self, paths: rt.Paths, sources: np.ndarray, targets: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute some paths anew, by the triangles that they meet.

        Args:
            paths: Lines of sight and reflections, as Sionna returns them.
            sources: [num_sources, 3], in m.
            targets: [num_targets, 3], in m.
            at: [num, 3]. Indices (target, source, place) of the paths.

        Returns: whether they exist [num], their lengths [num] in m, and the unit
            vectors [num, 2, 3] of departure and towards where they arrive from.
        """
        kinds, objects, primitives = (
            array.numpy()
            for array in (paths.interactions, paths.objects, paths.primitives)
        )
        exists, lengths, directions = [], [], []
        for target, source, place in at:
            steps = slice(None), target, source, place
            reflects = kinds[steps] != rt.constants.InteractionType.NONE
            walls = zip(
                objects[steps][reflects], primitives[steps][reflects], strict=True
            )
            walls = [self._first[shape] + primitive for shape, primitive in walls]
            points = self._points(sources[source], targets[target], walls)
            exists.append(self._is_path(points, walls))
            legs = np.diff(points, axis=0)
            leg_lengths = np.linalg.norm(legs, axis=1)
            lengths.append(leg_lengths.sum())
            legs /= leg_lengths[:, None]
            directions.append([legs[0], -legs[-1]])
        return (
            np.array(exists, bool),
            np.array(lengths),
            np.reshape(directions, (len(at), 2, 3)),
        )

    def _points(self, source, target, walls: list[int]) -> np.ndarray:
        """Return the points [num_walls + 2, 3] of the path over planes, from source."""
        images = [source.astype(float)]
        for wall in walls:
            height = self._height(wall, images[-1])
            images.append(images[-1] - 2 * height * self._normal[wall])
        points = [target.astype(float)]
        for wall, image in zip(walls[::-1], images[:0:-1], strict=True):
            near, far = self._height(wall, points[-1]), self._height(wall, image)
            points.append(points[-1] + (image - points[-1]) * near / (near - far))
        return np.stack([images[0], *points[::-1]])

    def _is_path(self, points: np.ndarray, walls: list[int]) -> bool:
        """Return whether points lie on their walls, before them, and see each other."""
        surfaces = [None, *map(self._surface, walls), None]
        for number, wall in enumerate(walls, start=1):
            before = self._height(wall, points[number - 1])
            after = self._height(wall, points[number + 1])
            if before * after <= 0:
                return False
            if not self._contains(surfaces[number], points[number]):
                return False
        return not any(
            self._blocked(points[leg], points[leg + 1], surfaces[leg : leg + 2])
            for leg in range(len(points) - 1)
        )

    def _height(self, wall: int, point: np.ndarray) -> float:
        """Return the signed distance [m] of a point from a triangle's plane."""
        return self._normal[wall] @ (point - self._corners[wall, 0])

    def _surface(self, wall: int) -> np.ndarray:
        """Return which triangles lie in the plane of a triangle, [num_triangles]."""
        gap = (self._corners - self._corners[wall, 0]) @ self._normal[wall]
        return (np.abs(gap) < COPLANAR).all(1)

    def _contains(self, surface: np.ndarray, point: np.ndarray) -> bool:
        """Return whether a point of a surface lies in one of its triangles."""
        normal = self._normal[surface]
        corners = self._corners[surface]
        sides = np.roll(corners, -1, axis=1) - corners
        inwards = np.cross(normal[:, None], sides)
        inwards /= np.maximum(np.linalg.norm(inwards, axis=2), 1e-30)[..., None]
        depth = np.einsum("nij,nij->ni", inwards, point - corners).min(1)
        return bool((depth > -ROUNDING).any())

    def _blocked(self, start, end, surfaces) -> bool:
        """Return whether a triangle, but those of the walls at the ends, is between."""
        first_edge, second_edge = self._edges
        along = end - start
        across = np.cross(along, second_edge)
        determinant = np.einsum("ij,ij->i", first_edge, across)
        gap = start - self._corners[:, 0]
        turned = np.cross(gap, first_edge)
        with np.errstate(divide="ignore", invalid="ignore"):
            second = np.einsum("ij,ij->i", gap, across) / determinant
            third = turned @ along / determinant
            place = np.einsum("ij,ij->i", second_edge, turned) / determinant
        depth = np.stack([1 - second - third, second, third]) * self._heights
        tiny = ROUNDING / np.linalg.norm(along)
        between = (place > tiny) & (place < 1 - tiny) & (depth.min(0) > ROUNDING)
        for surface in surfaces:
            if surface is not None:
                between &= ~surface
        return bool(between.any())
