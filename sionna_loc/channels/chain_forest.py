"""Chains of several sources together: their images, and the beams they can reach."""

from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np

from sionna_loc.channels.chain_tree import TRANSMISSION, ChainTree
from sionna_loc.channels.device_arrays import to_device, to_points
from sionna_loc.channels.scene_facets import SceneFacets


@dataclass(frozen=True)
class Forest:
    """All chains of several sources, [num_nodes] each, by rising depth.

    The first nodes are the sources themselves, in order: chains of no interaction.

    Args:
        num_sources: Number of sources.
        source: Index of the source (on the host).
        depth: Number of interactions (on the host).
        image: [num_nodes, 3], float64, images of the sources in m (on the host).
        parent: The node before the last interaction; a source is its own.
        facet: The mirror of the last interaction, 0 if that is none.
        mirrors: Whether the last interaction is a reflection.
        passes: Whether it is a transmission; `None` if there is none at all.
        position: The images, on the device, in m.
        beam: Normals of half-spaces through the image that hold all points the
            chain can reach: `normal . (x - image) >= 0`.
        front: Normal of the last mirror, pointing where the chain leaves it.
        front_offset: Points in front have `front . x > front_offset` [m].
    """

    num_sources: int
    source: np.ndarray
    depth: np.ndarray
    image: np.ndarray
    parent: mi.UInt
    facet: mi.UInt
    mirrors: mi.Bool
    passes: mi.Bool | None
    position: mi.Point3f
    beam: tuple[mi.Vector3f, ...]
    front: mi.Vector3f
    front_offset: mi.Float

    @property
    def num_nodes(self) -> int:
        """Number of chains, sources included."""
        return len(self.source)

    @property
    def max_depth(self) -> int:
        """Depth of the deepest chain."""
        return int(self.depth[-1])


def plant_forest(
    trees: list[ChainTree], positions: np.ndarray, facets: SceneFacets
) -> Forest:
    """Join the trees of several sources and compute images and beams.

    Args:
        trees: The sources' trees.
        positions: [num_sources, 3], float32. The sources, in m.
        facets: Facets that the trees refer to.
    """
    source = np.arange(len(positions))
    image = np.asarray(positions, np.float64)
    # The last mirror of each chain, and the one before it: they bound the beam.
    mirror = before = np.full(len(positions), -1)
    facet = passes = np.zeros(len(positions), np.int64)
    rows = [(source, passes, image, source, facet, passes, passes, mirror, before)]
    start = 0
    for depth, (parent, facet) in enumerate(_join(trees), start=1):
        passes = facet == TRANSMISSION
        facet = np.where(passes, 0, facet).astype(np.int64)
        before = np.where(passes, before[parent], mirror[parent])
        mirror = np.where(passes, mirror[parent], facet)
        normal = facets.normal[facet]
        image, source = image[parent], source[parent]
        gap = np.einsum("ij,ij->i", image, normal) - facets.offset[facet]
        image = image - 2 * np.where(passes, 0, gap)[:, None] * normal
        depths, parent = np.full(len(facet), depth), parent + start
        start += len(rows[-1][0])
        row = source, depths, image, parent, facet, ~passes, passes, mirror, before
        rows.append(row)
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return _to_forest(facets, len(positions), *columns)


def _to_forest(
    facets,
    num_sources,
    source,
    depth,
    image,
    parent,
    facet,
    mirrors,
    passes,
    mirror,
    before,
) -> Forest:
    """Move chains to the device and compute their beams."""
    position = to_points(image)
    beam, front, front_offset = _beam(facets, mirror, before, position)
    return Forest(
        num_sources=num_sources,
        source=source,
        depth=depth,
        image=image,
        parent=to_device(parent, mi.UInt),
        facet=to_device(facet, mi.UInt),
        mirrors=to_device(mirrors, mi.Bool),
        passes=to_device(passes, mi.Bool) if passes.any() else None,
        position=position,
        beam=beam,
        front=front,
        front_offset=front_offset,
    )


def _join(trees: list[ChainTree]):
    """Yield (parent, facet) of the nodes of all trees, depth by depth."""
    offsets = np.arange(len(trees))
    for depth in range(max((len(tree.facet) for tree in trees), default=0)):
        empty = np.empty(0, np.uint32)
        facets = [(*tree.facet[depth : depth + 1], empty)[0] for tree in trees]
        parents = [(*tree.parent[depth : depth + 1], empty)[0] for tree in trees]
        parent = np.concatenate(
            [
                one + np.int64(offset)
                for one, offset in zip(parents, offsets, strict=True)
            ]
        )
        if len(parent) == 0:
            return
        yield parent, np.concatenate(facets)
        counts = np.array([len(one) for one in facets])
        offsets = np.cumsum(counts) - counts


def _beam(facets, mirror, before, image):
    """Return what bounds the points in reach: sides, front normal and offset."""
    # Absent mirrors (-1) bound nothing: all their normals are 0.
    exists = to_device(mirror >= 0, mi.Bool)
    mirror_index = to_device(np.maximum(mirror, 0), mi.UInt)
    normal = dr.gather(mi.Vector3f, facets.plane[0], mirror_index)
    offset = dr.gather(mi.Float, facets.plane[1], mirror_index)
    beam = _sides(*_rectangle(facets, mirror_index), image, exists)
    if (before >= 0).any():
        # Seen from the image, the mirror before stands behind this one, mirrored.
        other = to_device(np.maximum(before, 0), mi.UInt)
        center, half_u, half_v = _rectangle(facets, other)
        center = center - 2 * (dr.dot(normal, center) - offset) * normal
        half_u = half_u - 2 * dr.dot(normal, half_u) * normal
        half_v = half_v - 2 * dr.dot(normal, half_v) * normal
        other_exists = to_device(before >= 0, mi.Bool)
        beam += _sides(center, half_u, half_v, image, other_exists)
    side = -dr.sign(dr.dot(normal, image) - offset)
    front = dr.select(exists, normal * side, mi.Vector3f(0))
    front_offset = dr.select(exists, offset * side, mi.Float(-1))
    dr.eval(beam, front, front_offset)
    return tuple(beam), mi.Vector3f(front), front_offset


def _rectangle(facets: SceneFacets, facet: mi.UInt):
    """Return centre and half-sides of the rectangles of `facet`."""
    return (
        dr.gather(mi.Point3f, facets.center, facet),
        dr.gather(mi.Vector3f, facets.half_u, facet),
        dr.gather(mi.Vector3f, facets.half_v, facet),
    )


def _sides(center, half_u, half_v, apex, exists) -> list[mi.Vector3f]:
    """Return the inward normals of the pyramid from `apex` through a rectangle."""
    to_center = mi.Vector3f(center - apex)
    volume = dr.dot(dr.cross(half_u, half_v), to_center)
    sides = (
        dr.cross(to_center + half_u, half_v),
        -dr.cross(to_center - half_u, half_v),
        -dr.cross(to_center + half_v, half_u),
        dr.cross(to_center - half_v, half_u),
    )
    sign = dr.select(exists, dr.sign(volume), 0)
    return [mi.Vector3f(side * sign) for side in sides]
