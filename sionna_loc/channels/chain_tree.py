"""Specular chains seen from sources: shooting, trees, images and beams.

A node of a tree is one interaction more than its parent: a mirror, named by its
facet, or a transmission. The root is the source. A node's image is the source
mirrored along the chain; what leaves the chain's last mirror seems to come from
there. A transmission leaves the image as it is, so that it need not be named by the
wall it passes: the exact test finds that wall.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt.constants import EPSILON_FLOAT
from sionna.rt.utils import fibonacci_lattice

from sionna_loc.channels.device_arrays import (
    divide,
    to_device,
    to_points,
    to_rows,
    to_vectors,
    z_curve_order,
)
from sionna_loc.channels.scene_facets import SceneFacets

TRANSMISSION = 0xFFFFFFFF
"""What stands for a facet where a chain passes through a wall."""

_HASH_MULTIPLIER = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class ChainTree:
    """The distinct chains of one source.

    Args:
        parent: One [num_nodes] uint32 array for each depth, from depth 1 on: the
            node's parent in the array of the depth above (0 at depth 1).
        facet: One [num_nodes] uint32 array for each depth: the node's mirror, or
            `TRANSMISSION`.
    """

    parent: tuple[np.ndarray, ...]
    facet: tuple[np.ndarray, ...]

    @property
    def num_nodes(self) -> int:
        """Number of chains of all depths."""
        return sum(len(facet) for facet in self.facet)


@dataclass(frozen=True)
class Search:
    """How far chains are looked for.

    Args:
        samples_per_src: Rays shot from each source.
        max_depth: Interactions in a chain, at most.
        specular_reflection: Whether rays are reflected.
        refraction: Whether rays pass through walls. If both, a ray does both.
    """

    samples_per_src: int
    max_depth: int
    specular_reflection: bool = True
    refraction: bool = False

    @property
    def num_branches(self) -> int:
        """Number of rays that go on from each hit."""
        return self.specular_reflection + self.refraction


def shoot_trees(
    mi_scene: mi.Scene,
    facets: SceneFacets,
    positions: np.ndarray,
    search: Search,
    max_rays: int,
) -> Iterator[ChainTree]:
    """Find the chains of each source by shooting and bouncing rays.

    Directions are those of Sionna's path solver: a Fibonacci lattice.

    Args:
        mi_scene: Scene to shoot in.
        facets: Its facets.
        positions: [num_sources, 3], float32, in m.
        search: How far to look. Depth and number of branches are 1 or more.
        max_rays: Rays in flight at a time, but those of one source at least.

    Yields: the tree of each source in turn.
    """
    lattice = to_vectors(_directions(search.samples_per_src))
    growth = search.num_branches ** (search.max_depth - 1)
    step = max(1, max_rays // (search.samples_per_src * growth))
    for start in range(0, len(positions), step):
        chunk = positions[start : start + step]
        levels = _shoot(mi_scene, facets, chunk, lattice, search)
        yield from _split(levels, len(chunk))


@functools.lru_cache(maxsize=4)
def _directions(num_samples: int) -> np.ndarray:
    """Return Sionna's lattice of directions in an order that is fast to cast.

    On the host, since Dr.Jit's arrays must not be shared between threads.
    """
    lattice = mi.warp.square_to_uniform_sphere(fibonacci_lattice(num_samples))
    rows = to_rows(*lattice)
    return rows[z_curve_order(rows)]


def _shoot(mi_scene, facets, positions, lattice, search):
    """Return (parent, facet) of the nodes of each depth, sorted by both."""
    num_rays = len(positions) * dr.width(lattice)
    node, sample = divide(dr.arange(mi.UInt, num_rays), dr.width(lattice))
    origin = dr.gather(mi.Point3f, to_points(positions), node)
    direction = dr.gather(mi.Vector3f, lattice, sample)
    levels = []
    for depth in range(1, search.max_depth + 1):
        ray = mi.Ray3f(origin, direction)
        # After a reflection, packets of neighbours cost more than they save.
        found = mi_scene.ray_intersect_preliminary(ray, coherent=depth == 1)
        hit = found.is_valid()
        facet = facets.facet_of(found, hit)
        distance = dr.select(hit, found.t, 0)
        dr.eval(hit, facet, distance, node, origin, direction)
        rays = dr.compress(hit)
        if dr.width(rays) == 0:
            break
        branches = dr.arange(mi.UInt, dr.width(rays) * search.num_branches)
        branch, ray_index = divide(branches, dr.width(rays))
        passes = branch == dr.opaque(mi.UInt, int(search.specular_reflection))
        rays = dr.gather(mi.UInt, rays, ray_index)
        facet = dr.gather(mi.UInt, facet, rays)
        mark = mi.UInt64(dr.select(passes, mi.UInt(TRANSMISSION), facet))
        key = (mi.UInt64(dr.gather(mi.UInt, node, rays)) << 32) | mark
        dr.eval(key, rays, facet, passes)
        nodes, node = _unique(key)
        levels.append(((nodes >> 32).astype(np.uint32), nodes.astype(np.uint32)))
        if depth < search.max_depth:
            origin, direction = _go_on(
                facets, facet, passes, *_pick(rays, origin, direction, distance)
            )
    return levels


def _pick(index, origin, direction, distance):
    """Gather rays and how far they got."""
    return (
        dr.gather(mi.Point3f, origin, index),
        dr.gather(mi.Vector3f, direction, index),
        dr.gather(mi.Float, distance, index),
    )


def _go_on(facets, facet, passes, origin, direction, distance):
    """Return the rays that go on from a hit: through the wall, or reflected."""
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet)
    offset = dr.gather(mi.Float, facets.plane[1], facet)
    point = origin + distance * direction
    point -= (dr.dot(normal, point) - offset) * normal
    turn = dr.select(passes, 0, 2 * dr.dot(direction, normal))
    direction = mi.Vector3f(direction - turn * normal)
    return mi.Point3f(leave_plane(point, normal, direction)), direction


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
        table_size = max(1 << 16, 1 << (2 * dr.width(pending) - 1).bit_length())
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
