"""A scene's triangles grouped into planes and facets, as tables on the device.

Two triangles that mirror a source into the same image are one mirror. A *facet*
is such a mirror: coplanar triangles whose bounding rectangles, in the plane, touch
or overlap. Facets of one plane have disjoint rectangles, so that a point of the
plane belongs to one facet at most and no specular path is counted twice.
"""

import hashlib
from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sionna_loc.channels.device_arrays import to_device, to_points, to_vectors

PLANE_TOLERANCE = 5e-4
"""Largest distance [m] of a triangle's vertices from the plane it is put into."""

ANGLE_TOLERANCE = 2e-5
"""Largest angle [rad] between normals of one plane, beside the rounding of a
triangle's own normal (float32 vertices: larger for small triangles far out)."""

RECTANGLE_MARGIN = 1e-3
"""Margin [m] by which bounding rectangles grow on every side."""


@dataclass(frozen=True)
class SceneFacets:
    """Planes and bounding rectangles of a scene's facets, [num_facets] each.

    The fields in NumPy are float64 for exact images; those of Dr.Jit live on the
    device of the Mitsuba variant.

    Args:
        normal: [num_facets, 3], float64. Unit normals of the planes.
        offset: [num_facets], float64. Planes are `normal . x = offset` [m].
        plane: Normals and offsets on the device.
        center: Centres of the rectangles [m].
        half_u, half_v: Vectors from the centre to the middle of two sides [m].
        triangle_facet: [num_triangles]. Facet of each triangle.
        first_triangle: [largest shape id + 1]. Where a shape's triangles start.
    """

    normal: np.ndarray
    offset: np.ndarray
    plane: tuple[mi.Vector3f, mi.Float]
    center: mi.Point3f
    half_u: mi.Vector3f
    half_v: mi.Vector3f
    triangle_facet: mi.UInt
    first_triangle: mi.UInt

    @classmethod
    def none(cls) -> "SceneFacets":
        """Return one facet without extent, for a scene in which nothing reflects."""
        zero = np.zeros((1, 3))
        return cls(
            normal=zero,
            offset=zero[:, 0],
            plane=(to_vectors(zero), to_device(zero[:, 0])),
            center=to_points(zero),
            half_u=to_vectors(zero),
            half_v=to_vectors(zero),
            triangle_facet=to_device(zero[:, 0], mi.UInt),
            first_triangle=to_device(zero[:, 0], mi.UInt),
        )

    @property
    def num_facets(self) -> int:
        """Number of facets."""
        return len(self.offset)

    def facet_of(self, found: mi.PreliminaryIntersection3f, hit: mi.Bool) -> mi.UInt:
        """Return the facets that rays have hit."""
        shape = dr.reinterpret_array(mi.UInt, found.shape)
        first = dr.gather(mi.UInt, self.first_triangle, shape, hit)
        return dr.gather(mi.UInt, self.triangle_facet, first + found.prim_index, hit)


def fingerprint(mi_scene: mi.Scene) -> bytes:
    """Return a digest of all meshes: it changes when geometry or ids change."""
    digest = hashlib.blake2b(digest_size=16)
    for shape, shape_id in zip(mi_scene.shapes(), shape_ids(mi_scene), strict=True):
        digest.update(np.uint32(shape_id).tobytes())
        digest.update(np.ascontiguousarray(shape.vertex_positions_buffer()))
        digest.update(np.ascontiguousarray(shape.faces_buffer()))
    return digest.digest()


def build_scene_facets(mi_scene: mi.Scene) -> SceneFacets:
    """Group the triangles of `mi_scene` (one triangle or more) into facets."""
    triangles, first_triangle = _triangles(mi_scene)
    plane_of, normal, offset = _cluster_planes(triangles)
    axis_u, axis_v = _plane_axes(normal)
    low, high = _rectangles(triangles, axis_u[plane_of], axis_v[plane_of])
    facet_of, low, high = _merge_rectangles(triangles, plane_of, low, high)
    plane_of_facet = np.empty(len(low), np.int64)
    plane_of_facet[facet_of] = plane_of
    normal, offset = normal[plane_of_facet], offset[plane_of_facet]
    axis_u, axis_v = axis_u[plane_of_facet], axis_v[plane_of_facet]
    middle, half = (low + high) / 2, (high - low) / 2 + RECTANGLE_MARGIN
    center = normal * offset[:, None]
    center = center + axis_u * middle[:, :1] + axis_v * middle[:, 1:]
    return SceneFacets(
        normal=normal,
        offset=offset,
        plane=(to_vectors(normal), to_device(offset)),
        center=to_points(center),
        half_u=to_vectors(axis_u * half[:, :1]),
        half_v=to_vectors(axis_v * half[:, 1:]),
        triangle_facet=to_device(facet_of, mi.UInt),
        first_triangle=to_device(first_triangle, mi.UInt),
    )


def shape_ids(mi_scene: mi.Scene) -> list[int]:
    """Return the registry ids that ray hits report for the shapes."""
    pointers = mi_scene.shapes_dr()
    return dr.reinterpret_array(mi.UInt, pointers).numpy().tolist()


def _triangles(mi_scene: mi.Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return all triangles [num_triangles, 3, 3] and each shape id's first one."""
    ids = shape_ids(mi_scene)
    first_triangle = np.zeros(max(ids) + 1, np.uint32)
    triangles, count = [], 0
    for shape, shape_id in zip(mi_scene.shapes(), ids, strict=True):
        vertices = shape.vertex_positions_buffer().numpy().reshape(-1, 3)
        faces = shape.faces_buffer().numpy().reshape(-1, 3)
        first_triangle[shape_id] = count
        triangles.append(vertices.astype(np.float64)[faces])
        count += len(faces)
    return np.concatenate(triangles), first_triangle


def _cluster_planes(triangles: np.ndarray):
    """Put each triangle into a plane, largest triangles first.

    A plane is that of its largest triangle. Members are compared with it and not
    with each other, so that a finely meshed sphere does not melt into one plane.

    Returns: plane of each triangle [num_triangles], normals [num_planes, 3],
        offsets [num_planes] in m.
    """
    edges = triangles - np.roll(triangles, 1, axis=1)
    cross = np.cross(edges[:, 0], edges[:, 1])
    double_area = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(double_area, 1e-30)[:, None]
    normal[double_area < 1e-12] = (0.0, 0.0, 1.0)
    height = double_area / np.maximum(np.linalg.norm(edges, axis=2).max(1), 1e-12)
    rounding = np.finfo(np.float32).eps * np.abs(triangles).max(axis=(1, 2))
    angle = ANGLE_TOLERANCE + np.minimum(2 * rounding / np.maximum(height, 1e-9), 1e-2)
    offset = np.einsum("ij,ij->i", normal, triangles.mean(1))
    reach = np.maximum(np.abs(triangles).max(), 1.0)
    # Normals are unoriented: each plane stands in the tree with both signs.
    key = np.column_stack([normal * reach, offset])
    _, first, inverse = np.unique(
        np.round(key, 5), axis=0, return_index=True, return_inverse=True
    )
    inverse = inverse.reshape(-1)
    members = np.split(
        np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1]
    )
    tree = cKDTree(np.concatenate([key[first], -key[first]]))
    radius = 2 * reach * np.clip(angle, 1e-4, 1e-3)
    plane_of = np.full(len(triangles), -1)
    rows = []
    for index in np.argsort(-double_area, kind="stable"):
        if plane_of[index] >= 0:
            continue
        near = tree.query_ball_point(key[index], radius[index])
        near = np.concatenate([members[i % len(first)] for i in near] + [[index]])
        near = near[plane_of[near] < 0].astype(np.int64)
        distance = np.abs(triangles[near] @ normal[index] - offset[index]).max(1)
        sine = np.linalg.norm(np.cross(normal[near], normal[index]), axis=1)
        same = (distance < PLANE_TOLERANCE) & (sine < angle[near])
        plane_of[near[same]] = plane_of[index] = len(rows)
        rows.append(index)
    return plane_of, normal[rows], offset[rows]


def _plane_axes(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two unit axes in each plane, the first one horizontal."""
    up = np.where(np.abs(normal[:, 2:]) < 0.99, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    axis_u = np.cross(up, normal)
    axis_u /= np.linalg.norm(axis_u, axis=1, keepdims=True)
    return axis_u, np.cross(normal, axis_u)


def _rectangles(triangles, axis_u, axis_v) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high corners [num_triangles, 2] in plane coordinates."""
    u = np.einsum("nij,nj->ni", triangles, axis_u)
    v = np.einsum("nij,nj->ni", triangles, axis_v)
    low = np.stack([u.min(1), v.min(1)], axis=1)
    return low, np.stack([u.max(1), v.max(1)], axis=1)


def _merge_rectangles(triangles, plane_of, low, high):
    """Merge rectangles of one plane that touch, until all are disjoint.

    Returns: facet of each triangle, low and high corners of the facets.
    """
    # Triangles of one plane that share a corner touch: merge these at once.
    corners = np.round(triangles.reshape(-1, 3), 3)
    corners = np.column_stack([np.repeat(plane_of, 3), corners])
    _, corner = np.unique(corners, axis=0, return_inverse=True)
    group = _components(np.arange(len(corners)) // 3, corner.reshape(-1))
    group = group[: len(triangles)]
    group, low, high = _shrink(group, low, high)
    plane = np.empty(len(low), np.int64)
    plane[group] = plane_of
    while True:
        left, right = _touching(plane, low, high)
        if len(left) == 0:
            return group, low, high
        merged = _components_of_pairs(left, right, len(low))
        merged, low, high = _shrink(merged, low, high)
        old_plane, plane = plane, np.empty(len(low), np.int64)
        plane[merged] = old_plane
        group = merged[group]


def _components(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return component labels of a bipartite graph, left nodes first."""
    num_left = left.max() + 1
    return _components_of_pairs(left, right + num_left, num_left + right.max() + 1)


def _components_of_pairs(left, right, size: int) -> np.ndarray:
    """Return the component label of each of `size` nodes joined by pairs."""
    graph = coo_matrix((np.ones(len(left), bool), (left, right)), (size, size))
    return connected_components(graph, directed=False)[1]


def _shrink(group, low, high):
    """Renumber groups from 0 and return their common bounding rectangles."""
    _, group = np.unique(group, return_inverse=True)
    count = group.max() + 1
    new_low, new_high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(new_low, group, low)
    np.maximum.at(new_high, group, high)
    return group, new_low, new_high


def _touching(plane, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rectangles of one plane that touch or overlap."""
    order = np.argsort(plane, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(plane[order]) > 0])
    pairs = [np.empty((2, 0), np.int64)]
    for members in np.split(order, start[1:]):
        if len(members) == 1:
            continue
        near = low[members][:, None] < high[members][None] + RECTANGLE_MARGIN
        near = near.all(-1)
        left, right = np.nonzero(np.triu(near & near.T, 1))
        pairs.append(np.stack([members[left], members[right]]))
    left, right = np.concatenate(pairs, axis=1)
    return left, right
