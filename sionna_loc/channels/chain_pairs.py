"""Which chain reaches which target: culling by beams, then exact ray tests."""

from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt.constants import MIN_SEGMENT_LENGTH
from sionna.rt.utils import spawn_ray_to

from sionna_loc.channels.chain_forest import ForestLevel
from sionna_loc.channels.chain_tree import leave_plane
from sionna_loc.channels.device_arrays import (
    divide,
    to_points,
    to_rows,
)
from sionna_loc.channels.scene_facets import SceneFacets
from sionna_loc.channels.target_blocks import BLOCK_SIZE, TargetBlocks


@dataclass(frozen=True)
class Chains:
    """Specular paths of one depth, [num_paths] each, on the host.

    Args:
        source, target: int32. Indices of both ends.
        length: float64. Path length in m.
        vertices: [num_paths, depth, 3], float32. From source to target, in m.
        passes: [num_paths, depth], bool. Vertices where the path passes a wall; it
            is reflected at the others.
        shape, primitive: [num_paths, depth], uint32. What is hit at the vertices.
    """

    source: np.ndarray
    target: np.ndarray
    length: np.ndarray
    vertices: np.ndarray
    passes: np.ndarray
    shape: np.ndarray
    primitive: np.ndarray


def find_los(
    mi_scene: mi.Scene, sources: np.ndarray, targets: np.ndarray, max_rays: int
) -> Chains:
    """Return the unobstructed straight lines between sources and targets.

    Args:
        mi_scene: Scene with the obstacles.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
        max_rays: Rays in flight at a time, but those of one source at least.
    """
    all_sources, all_targets = to_points(sources), to_points(targets)
    step = max(1, max_rays // len(targets))
    pairs = []
    for start in range(0, len(sources), step):
        count = min(step, len(sources) - start)
        index = dr.arange(mi.UInt, count * len(targets))
        source, target = divide(index, len(targets), start)
        first = dr.gather(mi.Point3f, all_sources, source)
        last = dr.gather(mi.Point3f, all_targets, target)
        apart = dr.norm(last - first) > MIN_SEGMENT_LENGTH
        seen = apart & ~mi_scene.ray_test(
            spawn_ray_to(first, last), coherent=False, active=apart
        )
        dr.eval(seen, source, target)
        source, target = _pick(dr.compress(seen), (source, target))
        dr.eval(source, target)
        source, target = source.numpy(), target.numpy()
        pairs.append(np.stack([source, target]).astype(np.int32))
    source, target = np.concatenate(pairs, axis=1)
    gap = targets[target].astype(np.float64) - sources[source]
    none = np.empty((len(source), 0), np.uint32)
    return Chains(
        source=source,
        target=target,
        length=np.linalg.norm(gap, axis=1),
        vertices=np.empty((len(source), 0, 3), np.float32),
        passes=none.astype(bool),
        shape=none,
        primitive=none,
    )


def find_chains(
    mi_scene: mi.Scene,
    facets: SceneFacets,
    forest: list[ForestLevel],
    depth: int,
    sources: np.ndarray,
    targets: np.ndarray,
    blocks: TargetBlocks,
    max_pairs: int,
) -> list[Chains]:
    """Return the paths of `depth` mirrors from sources to targets, in parts.

    Args:
        mi_scene: Scene with the obstacles.
        facets: Its facets.
        forest: Chains of all sources.
        depth: Number of mirrors, 1 to `len(forest)`.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
        blocks: The same targets, sorted.
        max_pairs: Pairs of a chain and a block or target in flight at a time.
    """
    levels = forest[:depth]
    step = max(1, max_pairs // blocks.num_blocks)
    parts = []
    for start in range(0, levels[-1].num_nodes, step):
        count = min(step, levels[-1].num_nodes - start)
        node, block = _cull_blocks(levels[-1], start, count, blocks)
        lanes = max(1, max_pairs // BLOCK_SIZE)
        for low in range(0, dr.width(node), lanes):
            pick = dr.arange(mi.UInt, min(lanes, dr.width(node) - low))
            pick += dr.opaque(mi.UInt, low)
            pairs = _cull_targets(
                facets,
                levels,
                dr.gather(mi.UInt, node, pick),
                dr.gather(mi.UInt, block, pick),
                blocks,
            )
            parts.append(_trace(mi_scene, facets, levels, *pairs, blocks, sources))
    return [_to_host(levels[-1], targets, blocks, *part) for part in parts if part]


def _cull_blocks(level: ForestLevel, start: int, count: int, blocks: TargetBlocks):
    """Return the (node, block) pairs whose box the node's beam can touch."""
    index = dr.arange(mi.UInt, count * blocks.num_blocks)
    node, block = divide(index, blocks.num_blocks, start)
    center = dr.gather(mi.Point3f, blocks.center, block)
    half = dr.gather(mi.Vector3f, blocks.half, block)
    to_center = center - dr.gather(mi.Point3f, level.position, node)
    front = dr.gather(mi.Vector3f, level.front, node)
    reach = dr.dot(front, center) + dr.dot(dr.abs(front), half)
    touches = reach > dr.gather(mi.Float, level.front_offset, node)
    for side in level.beam:
        normal = dr.gather(mi.Vector3f, side, node)
        touches &= dr.dot(normal, to_center) + dr.dot(dr.abs(normal), half) >= 0
    dr.eval(touches)
    node, block = divide(dr.compress(touches), blocks.num_blocks, start)
    dr.eval(node, block)
    return node, block


def _cull_targets(facets, levels, node, block, blocks):
    """Return the (node, target) pairs whose path meets all rectangles in turn."""
    lane, place = divide(dr.arange(mi.UInt, dr.width(node) * BLOCK_SIZE), BLOCK_SIZE)
    node = dr.gather(mi.UInt, node, lane)
    place += dr.gather(mi.UInt, block, lane) * BLOCK_SIZE
    meets = place < dr.opaque(mi.UInt, len(blocks.order))
    point = dr.gather(mi.Point3f, blocks.position, place, meets)
    current = node
    for level in reversed(levels):
        point, inside = _mirror_point(facets, level, current, point, meets)
        meets &= inside
        current = dr.gather(mi.UInt, level.parent, current, meets)
    dr.eval(meets, node, place)
    return _pick(dr.compress(meets), (node, place))


def _mirror_point(facets, level, node, point, active=True):
    """Return where the line from `point` to the node's image meets its mirror.

    Returns: the meeting point, and whether it lies in the mirror's rectangle with
        `point` in front. A transmission has no mirror: `point` itself, and True.
    """
    image = dr.gather(mi.Point3f, level.position, node, active)
    facet = dr.gather(mi.UInt, level.facet, node, active)
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet, active)
    offset = dr.gather(mi.Float, facets.plane[1], facet, active)
    near = dr.dot(normal, point) - offset
    far = dr.dot(normal, image) - offset
    # Opposite signs: the mirror lies between the point and the image.
    inside = near * far < 0
    meeting = mi.Point3f(point + (image - point) * (near / (near - far)))
    gap = meeting - dr.gather(mi.Point3f, facets.center, facet, active)
    for half_side in (facets.half_u, facets.half_v):
        half = dr.gather(mi.Vector3f, half_side, facet, active)
        inside &= dr.abs(dr.dot(gap, half)) <= dr.squared_norm(half)
    if level.passes is not None:
        passes = dr.gather(mi.Bool, level.passes, node, active)
        meeting = dr.select(passes, point, meeting)
        inside |= passes
    return meeting, inside


def _trace(mi_scene, facets, levels, node, place, blocks, sources):
    """Trace candidates from target to source, dropping those that are blocked.

    Returns: node and place of the paths, then their vertices, shapes and
        primitives from target to source; `None` if no path is left.
    """
    point = dr.gather(mi.Point3f, blocks.position, place)
    normal, current, vertices = mi.Vector3f(0), node, []
    for level in reversed(levels):
        if dr.width(node) == 0:
            return None
        clear, current, point, normal, hit = _trace_segment(
            mi_scene, facets, level, current, point, normal
        )
        vertices.append((point, *hit))
        dr.eval(clear, current, normal, node, place, vertices)
        kept = dr.compress(clear)
        node, place, current, point, normal, vertices = _pick(
            kept, (node, place, current, point, normal, vertices)
        )
    if dr.width(node) == 0:
        return None
    source = dr.gather(mi.Point3f, to_points(sources), current)
    clear = dr.norm(source - point) > MIN_SEGMENT_LENGTH
    ray = spawn_ray_to(point, source, normal)
    clear &= ~mi_scene.ray_test(ray, coherent=False, active=clear)
    dr.eval(clear, node, place, vertices)
    found = _pick(dr.compress(clear), (node, place, vertices))
    dr.eval(found)
    return found


def _pick(index: mi.UInt, values):
    """Gather from all arrays of a nested tuple or list."""
    if isinstance(values, tuple | list):
        return type(values)(_pick(index, value) for value in values)
    return dr.gather(type(values), values, index)


def _trace_segment(mi_scene, facets, level, node, point, normal):
    """Trace from `point` towards the node's image, up to its interaction.

    Returns: whether the first thing hit is the node's mirror (for a transmission:
        anything), the parent node, the point hit, the normal there, and (shape,
        primitive, whether the path passes through).
    """
    meeting, clear = _mirror_point(facets, level, node, point)
    # A little longer than needed, so that rounding does not stop a ray before.
    slack, passes = mi.Float(1e-3), mi.Bool(False)
    if level.passes is not None:
        passes = dr.gather(mi.Bool, level.passes, node)
        image = dr.gather(mi.Point3f, level.position, node)
        meeting = dr.select(passes, image, meeting)
        slack = dr.select(passes, -slack, slack)
    origin = mi.Point3f(leave_plane(point, normal, meeting - point))
    gap = mi.Vector3f(meeting - origin)
    distance = dr.norm(gap)
    clear &= distance > MIN_SEGMENT_LENGTH
    longest = distance * (1 + slack / 10) + slack
    ray = mi.Ray3f(origin, gap / distance, longest, 0.0, [])
    found = mi_scene.ray_intersect_preliminary(ray, coherent=False, active=clear)
    clear &= found.is_valid()
    facet = facets.facet_of(found, clear)
    clear &= passes | (facet == dr.gather(mi.UInt, level.facet, node))
    normal = dr.gather(mi.Vector3f, facets.plane[0], facet)
    if level.passes is not None:
        clear &= found.t > MIN_SEGMENT_LENGTH
        point = mi.Point3f(origin + found.t * ray.d)
        offset = dr.gather(mi.Float, facets.plane[1], facet)
        point -= (dr.dot(normal, point) - offset) * normal
        meeting = mi.Point3f(dr.select(passes, point, meeting))
    parent = dr.gather(mi.UInt, level.parent, node)
    shape = dr.reinterpret_array(mi.UInt, found.shape)
    passes = passes & dr.full(mi.Bool, True, dr.width(node))
    return clear, parent, meeting, normal, (shape, found.prim_index, passes)


def _to_host(level, targets, blocks, node, place, vertices) -> Chains:
    """Bring paths to the host, vertices in order from source to target."""
    node, target = node.numpy(), blocks.order[place.numpy()].astype(np.int32)
    # The straight line to the image is as long as the path: exact in float64.
    gap = targets[target].astype(np.float64) - level.image[node]
    points, shapes, primitives, passes = zip(*reversed(vertices), strict=True)
    return Chains(
        source=level.source[node].astype(np.int32),
        target=target,
        length=np.linalg.norm(gap, axis=1),
        vertices=np.stack([to_rows(*point) for point in points], axis=1),
        passes=to_rows(*passes),
        shape=to_rows(*shapes),
        primitive=to_rows(*primitives),
    )
