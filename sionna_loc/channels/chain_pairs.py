"""Which chain reaches which target: culling by beams, then exact ray tests."""

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt.constants import MIN_SEGMENT_LENGTH
from sionna.rt.utils import spawn_ray_to

from sionna_loc.channels.chain_forest import Forest
from sionna_loc.channels.chain_tree import leave_plane
from sionna_loc.channels.chains import Chains
from sionna_loc.channels.device_arrays import divide, to_rows
from sionna_loc.channels.scene_facets import SceneFacets
from sionna_loc.channels.target_blocks import BLOCK_SIZE, TargetBlocks

TARGET_MARGIN = 0.01
"""Distance [m] to a beam up to which a target is still tested by rectangles, more
than float32 loses in a city; only speed depends on it."""


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
                parts.append(_to_host(facets, forest, targets, blocks, *paths))
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
    node, place = _within_beams(forest, node, block, blocks)
    dr.eval(node, place)
    if dr.width(node) == 0:
        return node, place
    meets = dr.full(mi.Bool, True, dr.width(node))
    point = dr.gather(mi.Point3f, blocks.position, place)
    current = node
    for _ in range(forest.max_depth):
        point, inside = _mirror_point(facets, forest, current, point, meets)
        meets &= inside
        current = dr.gather(mi.UInt, forest.parent, current, meets)
    dr.eval(meets)
    return _pick(dr.compress(meets), (node, place))


def _within_beams(forest, node, block, blocks):
    """Return the (node, target) pairs of (node, block) pairs that beams let through.

    Each thread keeps its beam and goes through the targets of its block: that is much
    less to read than a thread for each pair.
    """
    beam = [dr.gather(mi.Vector3f, side, node) for side in forest.beam]
    beam.append(dr.gather(mi.Vector3f, forest.front, node))
    apex = dr.gather(mi.Point3f, forest.position, node)
    slack = [-TARGET_MARGIN * dr.sum(dr.abs(side)) for side in beam]
    slack[-1] += dr.gather(mi.Float, forest.front_offset, node)
    slack[-1] -= dr.dot(beam[-1], apex)
    end = dr.opaque(mi.UInt, len(blocks.order))

    def test(number, bits):
        place = block * BLOCK_SIZE + number
        inside = place < end
        gap = dr.gather(mi.Point3f, blocks.position, place, inside) - apex
        for side, least in zip(beam, slack, strict=True):
            inside &= dr.dot(side, gap) >= least
        bits |= dr.select(inside, mi.UInt(1) << number, 0)
        return number + 1, bits

    _, bits = dr.while_loop(
        (dr.zeros(mi.UInt, dr.width(node)), dr.zeros(mi.UInt, dr.width(node))),
        lambda number, bits: number < BLOCK_SIZE,
        test,
        mode="symbolic",
    )
    dr.eval(bits)
    node, block, bits = _pick(dr.compress(bits != 0), (node, block, bits))
    dr.eval(node, block, bits)
    if dr.width(node) == 0:
        return node, block
    index = dr.arange(mi.UInt, dr.width(node) * BLOCK_SIZE)
    pair, number = divide(index, BLOCK_SIZE)
    inside = (dr.gather(mi.UInt, bits, pair) >> number) & 1 != 0
    pair, number = divide(dr.compress(inside), BLOCK_SIZE)
    node, block = _pick(pair, (node, block))
    return node, block * BLOCK_SIZE + number


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

    Returns: node and place of the paths, then (point, shape, primitive, facet, whether
        it passes) of each step from target to source; `None` if no path is left.
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
        primitive, facet, whether the path passes). A source stays where it is.
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
    hit = shape, found.prim_index, facet, passes
    return clear | ~interacts, parent, point, normal, hit


def _to_host(facets, forest, targets, blocks, node, place, steps) -> Chains:
    """Bring paths to the host, vertices in order from source to target."""
    node, target = node.numpy(), blocks.order[place.numpy()]
    # The straight line to the image is as long as the path: exact in float64.
    gap = targets[target].astype(np.float64) - forest.image[node]
    paths = Chains.none(len(node), len(steps))
    paths.source[:], paths.target[:] = forest.source[node], target
    paths.depth[:], paths.length[:] = forest.depth[node], np.linalg.norm(gap, axis=1)
    for number, (point, *hit) in enumerate(steps):
        # The first step meets the last vertex.
        row = np.flatnonzero(paths.depth > number)
        at = row, paths.depth[row] - 1 - number
        shape, primitive, facet, passes = (one.numpy()[row] for one in hit)
        paths.vertices[at] = to_rows(*point)[row]
        paths.normal[at] = facets.normal[facet]
        paths.shape[at], paths.primitive[at], paths.passes[at] = (
            shape,
            primitive,
            passes,
        )
    return paths
