"""Which chain reaches which target: culling by beams, then exact ray tests."""

from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt.constants import MIN_SEGMENT_LENGTH
from sionna.rt.utils import spawn_ray_to

from sionna_loc.channels.chain_forest import Forest
from sionna_loc.channels.chain_tree import leave_plane
from sionna_loc.channels.device_arrays import (
    divide,
    to_rows,
)
from sionna_loc.channels.scene_facets import SceneFacets
from sionna_loc.channels.target_blocks import BLOCK_SIZE, TargetBlocks


@dataclass(frozen=True)
class Chains:
    """Paths, [num_paths] each, on the host.

    Entries beyond a path's depth are 0, of `shape` and `primitive` 2**32 - 1.

    Args:
        source, target: int32. Indices of both ends.
        depth: int64. Number of interactions.
        length: float64. Path length in m.
        vertices: [num_paths, max_depth, 3], float32. From source to target, in m.
        passes: [num_paths, max_depth], bool. Vertices where the path passes a wall;
            it is reflected at the others.
        shape, primitive: [num_paths, max_depth], uint32. What is hit at vertices.
    """

    source: np.ndarray
    target: np.ndarray
    depth: np.ndarray
    length: np.ndarray
    vertices: np.ndarray
    passes: np.ndarray
    shape: np.ndarray
    primitive: np.ndarray


def find_chains(
    mi_scene: mi.Scene,
    facets: SceneFacets,
    forest: Forest,
    targets: np.ndarray,
    blocks: TargetBlocks,
    los: bool,
    max_pairs: int,
) -> list[Chains]:
    """Return the paths from sources to targets, in parts.

    Args:
        mi_scene: Scene with the obstacles.
        facets: Its facets.
        forest: Chains of all sources.
        targets: [num_targets, 3], float32, in m.
        blocks: The same targets, sorted.
        los: Whether to look for chains without interaction, too.
        max_pairs: Pairs of a chain and a block or target in flight at a time.
    """
    first = 0 if los else forest.num_sources
    step = max(1, max_pairs // blocks.num_blocks)
    lanes = max(1, max_pairs // BLOCK_SIZE)
    parts = []
    for start in range(first, forest.num_nodes, step):
        count = min(step, forest.num_nodes - start)
        pairs = _cull_blocks(forest, start, count, blocks)
        for low in range(0, dr.width(pairs), lanes):
            pick = dr.arange(mi.UInt, min(lanes, dr.width(pairs) - low))
            pick += dr.opaque(mi.UInt, low)
            candidates = _cull_targets(facets, forest, *_pick(pick, pairs), blocks)
            paths = _trace(mi_scene, facets, forest, *candidates, blocks)
            if paths:
                parts.append(_to_host(forest, targets, blocks, *paths))
    return parts


def _cull_blocks(forest: Forest, start: int, count: int, blocks: TargetBlocks):
    """Return the (node, block) pairs whose box the node's beam can touch."""
    index = dr.arange(mi.UInt, count * blocks.num_blocks)
    node, block = divide(index, blocks.num_blocks, start)
    center = dr.gather(mi.Point3f, blocks.center, block)
    half = dr.gather(mi.Vector3f, blocks.half, block)
    to_center = center - dr.gather(mi.Point3f, forest.position, node)
    front = dr.gather(mi.Vector3f, forest.front, node)
    reach = dr.dot(front, center) + dr.dot(dr.abs(front), half)
    touches = reach > dr.gather(mi.Float, forest.front_offset, node)
    for side in forest.beam:
        normal = dr.gather(mi.Vector3f, side, node)
        touches &= dr.dot(normal, to_center) + dr.dot(dr.abs(normal), half) >= 0
    dr.eval(touches)
    node, block = divide(dr.compress(touches), blocks.num_blocks, start)
    dr.eval(node, block)
    return node, block


def _cull_targets(facets, forest, node, block, blocks):
    """Return the (node, target) pairs whose path meets all rectangles in turn."""
    lane, place = divide(dr.arange(mi.UInt, dr.width(node) * BLOCK_SIZE), BLOCK_SIZE)
    node = dr.gather(mi.UInt, node, lane)
    place += dr.gather(mi.UInt, block, lane) * BLOCK_SIZE
    meets = place < dr.opaque(mi.UInt, len(blocks.order))
    point = dr.gather(mi.Point3f, blocks.position, place, meets)
    current = node
    for _ in range(forest.max_depth):
        point, inside = _mirror_point(facets, forest, current, point, meets)
        meets &= inside
        current = dr.gather(mi.UInt, forest.parent, current, meets)
    dr.eval(meets, node, place)
    return _pick(dr.compress(meets), (node, place))


def _mirror_point(facets, forest, node, point, active=True):
    """Return where the line from `point` to the node's image meets its mirror.

    Returns: the meeting point, and whether it lies in the mirror's rectangle with
        `point` in front. Without a mirror: `point` itself, and True.
    """
    mirrors = dr.gather(mi.Bool, forest.mirrors, node, active)
    active = active & mirrors
    image = dr.gather(mi.Point3f, forest.position, node, active)
    facet = dr.gather(mi.UInt, forest.facet, node, active)
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet, active)
    offset = dr.gather(mi.Float, facets.plane[1], facet, active)
    near = dr.dot(normal, point) - offset
    far = dr.dot(normal, image) - offset
    # Opposite signs: the mirror lies between the point and the image.
    inside = near * far < 0
    meeting = point + (image - point) * (near / (near - far))
    gap = meeting - dr.gather(mi.Point3f, facets.center, facet, active)
    for half_side in (facets.half_u, facets.half_v):
        half = dr.gather(mi.Vector3f, half_side, facet, active)
        inside &= dr.abs(dr.dot(gap, half)) <= dr.squared_norm(half)
    return mi.Point3f(dr.select(mirrors, meeting, point)), inside | ~mirrors


def _trace(mi_scene, facets, forest, node, place, blocks):
    """Trace candidates from target to source, dropping those that are blocked.

    Returns: node and place of the paths, then (point, shape, primitive, whether it
        passes) of each step from target to source; `None` if no path is left.
    """
    point = dr.gather(mi.Point3f, blocks.position, place)
    normal, current, steps = dr.zeros(mi.Vector3f, dr.width(node)), node, []
    for _ in range(forest.max_depth):
        if dr.width(node) == 0:
            return None
        clear, current, point, normal, hit = _trace_segment(
            mi_scene, facets, forest, current, point, normal
        )
        steps.append((point, *hit))
        dr.eval(clear, current, normal, node, place, steps)
        node, place, current, point, normal, steps = _pick(
            dr.compress(clear), (node, place, current, point, normal, steps)
        )
    if dr.width(node) == 0:
        return None
    source = dr.gather(mi.Point3f, forest.position, current)
    clear = dr.norm(source - point) > MIN_SEGMENT_LENGTH
    ray = spawn_ray_to(point, source, normal)
    clear &= ~mi_scene.ray_test(ray, coherent=False, active=clear)
    dr.eval(clear, node, place, steps)
    found = _pick(dr.compress(clear), (node, place, steps))
    dr.eval(found)
    return found


def _pick(index: mi.UInt, values):
    """Gather from all arrays of a nested tuple or list."""
    if isinstance(values, tuple | list):
        return type(values)(_pick(index, value) for value in values)
    return dr.gather(type(values), values, index)


def _trace_segment(mi_scene, facets, forest, node, point, normal):
    """Trace from `point` towards the node's image, up to its interaction.

    Returns: whether the first thing hit is the node's mirror (for a transmission:
        anything), the parent node, the point hit, the normal there, and (shape,
        primitive, whether the path passes through). A source stays where it is.
    """
    meeting, clear = _mirror_point(facets, forest, node, point)
    interacts = dr.gather(mi.Bool, forest.mirrors, node)
    # A little longer than needed, so that rounding does not stop a ray before.
    slack, passes = mi.Float(1e-3), dr.zeros(mi.Bool, dr.width(node))
    if forest.passes is not None:
        passes = dr.gather(mi.Bool, forest.passes, node)
        image = dr.gather(mi.Point3f, forest.position, node)
        meeting = dr.select(passes, image, meeting)
        slack = dr.select(passes, -slack, slack)
        interacts |= passes
    origin = mi.Point3f(leave_plane(point, normal, meeting - point))
    gap = mi.Vector3f(meeting - origin)
    distance = dr.norm(gap)
    clear &= interacts & (distance > MIN_SEGMENT_LENGTH)
    longest = distance * (1 + slack / 10) + slack
    ray = mi.Ray3f(origin, gap / distance, longest, 0.0, [])
    found = mi_scene.ray_intersect_preliminary(ray, coherent=False, active=clear)
    clear &= found.is_valid()
    facet = facets.facet_of(found, clear)
    clear &= passes | (facet == dr.gather(mi.UInt, forest.facet, node))
    hit_normal = dr.gather(mi.Vector3f, facets.plane[0], facet, clear)
    if forest.passes is not None:
        clear &= found.t > MIN_SEGMENT_LENGTH
        wall = mi.Point3f(origin + found.t * ray.d)
        offset = dr.gather(mi.Float, facets.plane[1], facet, clear)
        wall -= (dr.dot(hit_normal, wall) - offset) * hit_normal
        meeting = dr.select(passes, wall, meeting)
    parent = dr.gather(mi.UInt, forest.parent, node)
    normal = mi.Vector3f(dr.select(interacts, hit_normal, normal))
    point = mi.Point3f(dr.select(interacts, meeting, point))
    shape = dr.reinterpret_array(mi.UInt, found.shape)
    return clear | ~interacts, parent, point, normal, (shape, found.prim_index, passes)


def _to_host(forest, targets, blocks, node, place, steps) -> Chains:
    """Bring paths to the host, vertices in order from source to target."""
    node, target = node.numpy(), blocks.order[place.numpy()].astype(np.int32)
    # The straight line to the image is as long as the path: exact in float64.
    gap = targets[target].astype(np.float64) - forest.image[node]
    depth = forest.depth[node]
    extent = len(node), len(steps)
    vertices = np.zeros((*extent, 3), np.float32)
    passes = np.zeros(extent, bool)
    shape, primitive = np.full((2, *extent), 0xFFFFFFFF, np.uint32)
    for number, (point, *hit) in enumerate(steps):
        # The first step meets the last vertex.
        row = np.flatnonzero(depth > number)
        at = row, depth[row] - 1 - number
        vertices[at] = to_rows(*point)[row]
        shape[at], primitive[at], passes[at] = (one.numpy()[row] for one in hit)
    return Chains(
        source=forest.source[node].astype(np.int32),
        target=target,
        depth=depth,
        length=np.linalg.norm(gap, axis=1),
        vertices=vertices,
        passes=passes,
        shape=shape,
        primitive=primitive,
    )
