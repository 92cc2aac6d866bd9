"""Specular chains seen from sources: shooting, trees, images and beams.

A node of a tree is one mirror more than its parent: the pair (parent, facet). The
root is the source. A node's image is the source mirrored along the chain; whatever
leaves the chain's last mirror seems to come from there.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt.constants import EPSILON_FLOAT
from sionna.rt.utils import fibonacci_lattice

from sionna_loc.channels.device_arrays import divide, to_device, to_points
from sionna_loc.channels.scene_facets import SceneFacets

_HASH_MULTIPLIER = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class ChainTree:
    """The distinct chains of one source.

    Args:
        parent: One [num_nodes] uint32 array for each depth, from depth 1 on: the
            node's parent in the array of the depth above (0 at depth 1).
        facet: One [num_nodes] uint32 array for each depth: the node's mirror.
    """

    parent: tuple[np.ndarray, ...]
    facet: tuple[np.ndarray, ...]

    @property
    def num_nodes(self) -> int:
        """Number of chains of all depths."""
        return sum(len(facet) for facet in self.facet)


@dataclass(frozen=True)
class ForestLevel:
    """All chains of one depth of several sources, [num_nodes] each.

    Args:
        source: Index of the source (on the host).
        image: [num_nodes, 3], float64, images of the sources in m (on the host).
        parent: Index into the level above, or of the source at depth 1.
        facet: The chain's last mirror.
        position: The images, on the device, in m.
        beam: Normals of half-spaces through the image that hold all points the
            chain can reach: `normal . (x - image) >= 0`.
        front: Normal of the last mirror, pointing where the chain leaves it.
        front_offset: Points in front have `front . x > front_offset` [m].
    """

    source: np.ndarray
    image: np.ndarray
    parent: mi.UInt
    facet: mi.UInt
    position: mi.Point3f
    beam: tuple[mi.Vector3f, ...]
    front: mi.Vector3f
    front_offset: mi.Float

    @property
    def num_nodes(self) -> int:
        """Number of chains of this depth."""
        return len(self.source)


def shoot_trees(
    mi_scene: mi.Scene,
    facets: SceneFacets,
    positions: np.ndarray,
    samples_per_src: int,
    max_depth: int,
    max_rays: int,
) -> Iterator[ChainTree]:
    """Find the chains of each source by shooting and bouncing rays.

    Directions are those of Sionna's path solver: a Fibonacci lattice.

    Args:
        mi_scene: Scene to shoot in.
        facets: Its facets.
        positions: [num_sources, 3], float32, in m.
        samples_per_src: Rays for each source.
        max_depth: Mirrors in a chain, at most. 1 or more.
        max_rays: Rays in flight at a time, but those of one source at least.

    Yields: the tree of each source in turn.
    """
    lattice = mi.warp.square_to_uniform_sphere(fibonacci_lattice(samples_per_src))
    lattice = mi.Vector3f(lattice)
    dr.eval(lattice)
    step = max(1, max_rays // samples_per_src)
    for start in range(0, len(positions), step):
        chunk = positions[start : start + step]
        levels = _shoot(mi_scene, facets, chunk, lattice, max_depth)
        yield from _split(levels, len(chunk))


def _shoot(mi_scene, facets, positions, lattice, max_depth):
    """Return (parent, facet) of the nodes of each depth, sorted by both."""
    num_rays = len(positions) * dr.width(lattice)
    source, sample = divide(dr.arange(mi.UInt, num_rays), dr.width(lattice))
    origin = dr.gather(mi.Point3f, to_points(positions), source)
    direction = dr.gather(mi.Vector3f, lattice, sample)
    node, levels = source, []
    for depth in range(1, max_depth + 1):
        key, hit, origin, direction = _bounce(mi_scene, facets, origin, direction, node)
        last = depth == max_depth
        dr.eval(key, hit, *([] if last else [origin, direction]))
        rays = dr.compress(hit)
        if dr.width(rays) == 0:
            break
        nodes, node = _unique(dr.gather(mi.UInt64, key, rays))
        levels.append(((nodes >> 32).astype(np.uint32), nodes.astype(np.uint32)))
        if not last:
            origin = dr.gather(mi.Point3f, origin, rays)
            direction = dr.gather(mi.Vector3f, direction, rays)
    return levels


def _bounce(mi_scene, facets, origin, direction, node):
    """Reflect rays once.

    Returns: 64-bit key of (node, facet hit), whether the ray hit anything, and the
        origin and direction of the reflected ray.
    """
    ray = mi.Ray3f(origin, direction)
    found = mi_scene.ray_intersect_preliminary(ray, coherent=False)
    hit = found.is_valid()
    shape_id = dr.reinterpret_array(mi.UInt, found.shape)
    facet = facets.facet_of(shape_id, found.prim_index, hit)
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet, hit)
    offset = dr.gather(mi.Float, facets.plane[1], facet, hit)
    point = ray(dr.select(hit, found.t, 0))
    point -= (dr.dot(normal, point) - offset) * normal
    direction = direction - 2 * dr.dot(direction, normal) * normal
    key = (mi.UInt64(node) << 32) | mi.UInt64(facet)
    origin = leave_plane(point, normal, direction)
    return key, hit, mi.Point3f(origin), mi.Vector3f(direction)


def leave_plane(point: mi.Point3f, normal: mi.Vector3f, towards: mi.Vector3f):
    """Return `point`, lifted a little off its plane to the side of `towards`."""
    lift = (1 + dr.max(dr.abs(point), axis=0)) * EPSILON_FLOAT
    return point + dr.mulsign(lift, dr.dot(normal, towards)) * normal


def _unique(key: mi.UInt64) -> tuple[np.ndarray, mi.UInt]:
    """Number the distinct keys in rising order.

    Elements scatter their own index into a hash table and read back who won their
    slot. Equal keys share a slot, so they all meet the same winner; those that meet
    another key go to the next round, with another hash.

    Returns: the sorted distinct keys, and the rank of each element's key.
    """
    size = dr.width(key)
    winner = dr.zeros(mi.UInt, size)
    pending = dr.arange(mi.UInt, size)
    turn = 0
    dr.eval(winner, pending)
    while dr.width(pending) > 0:
        table_size = 1 << (2 * dr.width(pending) - 1).bit_length()
        mine = dr.gather(mi.UInt64, key, pending)
        slot = _hash(mine, turn) & dr.opaque(mi.UInt, table_size - 1)
        table = dr.zeros(mi.UInt, table_size)
        dr.scatter(table, pending, slot)
        dr.eval(table)
        first = dr.gather(mi.UInt, table, slot)
        same = dr.gather(mi.UInt64, key, first) == mine
        dr.scatter(winner, first, pending, same)
        left = ~same
        dr.eval(winner, left)
        pending = dr.gather(mi.UInt, pending, dr.compress(left))
        turn += 1
    members = dr.compress(winner == dr.arange(mi.UInt, size))
    keys = dr.gather(mi.UInt64, key, members).numpy()
    order = np.argsort(keys)
    rank = dr.zeros(mi.UInt, size)
    ordered = dr.gather(mi.UInt, members, to_device(order, mi.UInt))
    dr.scatter(rank, dr.arange(mi.UInt, len(order)), ordered)
    dr.eval(rank)
    return keys[order], dr.gather(mi.UInt, rank, winner)


def _hash(key: mi.UInt64, turn: int) -> mi.UInt:
    """Return 32 well-mixed bits of `key`, different in each turn."""
    mixed = (key + dr.opaque(mi.UInt64, turn)) * _HASH_MULTIPLIER
    mixed = (mixed ^ (mixed >> 29)) * _HASH_MULTIPLIER
    return mi.UInt(mixed >> 32)


def _split(levels, num_sources: int) -> list[ChainTree]:
    """Cut levels that hold several sources into one tree for each source."""
    bounds = np.arange(num_sources + 1)
    offset, trees = bounds, [([], []) for _ in range(num_sources)]
    for parent, facet in levels:
        # Nodes are sorted by parent, so each source owns one stretch.
        bounds = np.searchsorted(parent, offset)
        for tree, (low, high), first in zip(
            trees, itertools.pairwise(bounds), offset[:-1], strict=True
        ):
            tree[0].append((parent[low:high] - np.uint32(first)).astype(np.uint32))
            tree[1].append(facet[low:high].copy())
        offset = bounds
    return [ChainTree(tuple(parent), tuple(facet)) for parent, facet in trees]


def plant_forest(
    trees: list[ChainTree], positions: np.ndarray, facets: SceneFacets
) -> list[ForestLevel]:
    """Join the trees of several sources and compute images and beams.

    Args:
        trees: The sources' trees.
        positions: [num_sources, 3], float32. The sources, in m.
        facets: Facets that the trees refer to.

    Returns: one level for each depth that has a chain.
    """
    images = np.asarray(positions, np.float64)
    sources = np.arange(len(positions))
    offsets = np.arange(len(trees))
    levels: list[ForestLevel] = []
    for depth in range(max((len(tree.facet) for tree in trees), default=0)):
        grown = [tree.facet[depth : depth + 1] for tree in trees]
        counts = np.array([len(one[0]) if one else 0 for one in grown])
        parents = [
            tree.parent[depth] + np.uint32(offset)
            for tree, offset, one in zip(trees, offsets, grown, strict=True)
            if one
        ]
        parent = np.concatenate(parents)
        facet = np.concatenate([one[0] for one in grown if one])
        if len(facet) == 0:
            break
        offsets = np.cumsum(counts) - counts
        images, sources = images[parent], sources[parent]
        normal = facets.normal[facet]
        gap = np.einsum("ij,ij->i", images, normal) - facets.offset[facet]
        images = images - 2 * gap[:, None] * normal
        levels.append(_level(sources, images, parent, facet, facets, levels[-1:]))
    return levels


def _level(sources, images, parent, facet, facets, above) -> ForestLevel:
    """Move one level to the device and compute its beams."""
    position, facet_index = to_points(images), to_device(facet, mi.UInt)
    parent_index = to_device(parent, mi.UInt)
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet_index)
    offset = dr.gather(mi.Float, facets.plane[1], facet_index)
    beam = _sides(_rectangle(facets, facet_index), position)
    if above:
        # Seen from the image, the mirror before stands behind this one, mirrored.
        before = dr.gather(mi.UInt, above[0].facet, parent_index)
        center, half_u, half_v = _rectangle(facets, before)
        center = center - 2 * (dr.dot(normal, center) - offset) * normal
        half_u = half_u - 2 * dr.dot(normal, half_u) * normal
        half_v = half_v - 2 * dr.dot(normal, half_v) * normal
        beam += _sides((center, half_u, half_v), position)
    side = -dr.sign(dr.dot(normal, position) - offset)
    front, front_offset = normal * side, offset * side
    dr.eval(position, facet_index, parent_index, beam, front, front_offset)
    return ForestLevel(
        source=sources,
        image=images,
        parent=parent_index,
        facet=facet_index,
        position=position,
        beam=tuple(beam),
        front=front,
        front_offset=front_offset,
    )


def _rectangle(facets: SceneFacets, facet: mi.UInt):
    """Return centre and half-sides of the rectangles of `facet`."""
    return (
        dr.gather(mi.Point3f, facets.center, facet),
        dr.gather(mi.Vector3f, facets.half_u, facet),
        dr.gather(mi.Vector3f, facets.half_v, facet),
    )


def _sides(rectangle, apex: mi.Point3f) -> list[mi.Vector3f]:
    """Return the inward normals of the pyramid from `apex` through a rectangle."""
    center, half_u, half_v = rectangle
    to_center = mi.Vector3f(center - apex)
    volume = dr.dot(dr.cross(half_u, half_v), to_center)
    sides = (
        dr.cross(to_center + half_u, half_v),
        -dr.cross(to_center - half_u, half_v),
        -dr.cross(to_center + half_v, half_u),
        dr.cross(to_center - half_v, half_u),
    )
    return [dr.mulsign(mi.Vector3f(side), volume) for side in sides]
