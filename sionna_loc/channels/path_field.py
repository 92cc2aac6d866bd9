"""Paths in Sionna's buffer, and their gains by its field calculator."""

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt import Scene
from sionna.rt.constants import INVALID_PRIMITIVE, INVALID_SHAPE, InteractionType
from sionna.rt.path_solvers.field_calculator import FieldCalculator
from sionna.rt.path_solvers.image_method import ImageMethod
from sionna.rt.path_solvers.paths_buffer import PathsBuffer

from sionna_loc.channels.chain_pairs import Chains
from sionna_loc.channels.device_arrays import to_device
from sionna_loc.channels.radio_ends import RadioEnds


def fill_buffer(
    parts: list[Chains],
    sources: np.ndarray,
    targets: np.ndarray,
    max_depth: int,
) -> PathsBuffer:
    """Write paths into a buffer of Sionna's, the field not yet computed.

    Args:
        parts: Paths, of several depths.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
        max_depth: Interactions a path has at most.
    """
    parts = [part for part in parts if len(part.source)]
    size, depth = sum(len(part.source) for part in parts), max(1, max_depth)
    buffer = PathsBuffer(size, max_depth, diffraction=False)
    if size == 0:
        return buffer
    source = np.concatenate([part.source for part in parts])
    target = np.concatenate([part.target for part in parts])
    count = np.concatenate([part.depth for part in parts])
    vertices = np.zeros((size, depth, 3), np.float32)
    shape = np.full((size, depth), INVALID_SHAPE, np.uint32)
    primitive = np.full((size, depth), INVALID_PRIMITIVE, np.uint32)
    passes = np.zeros((size, depth), bool)
    start = 0
    for part in parts:
        stop, filled = start + len(part.source), part.shape.shape[1]
        vertices[start:stop, :filled] = part.vertices
        shape[start:stop, :filled] = part.shape
        primitive[start:stop, :filled] = part.primitive
        passes[start:stop, :filled] = part.passes
        start = stop
    kind = np.where(passes, InteractionType.REFRACTION, InteractionType.SPECULAR)
    kind[np.arange(depth) >= count[:, None]] = InteractionType.NONE
    last = vertices[np.arange(size), np.maximum(count, 1) - 1]
    first, direct = vertices[:, 0], (count == 0)[:, None]
    departure = np.where(direct, targets[target], first) - sources[source]
    arrival = np.where(direct, sources[source], last) - targets[target]
    # The buffer's fields have no setters: Sionna fills them by scattering.
    buffer._valid = to_device(np.ones(size), mi.Bool)
    buffer._src_indices = to_device(source, mi.UInt)
    buffer._tgt_indices = to_device(target, mi.UInt)
    buffer._theta_t, buffer._phi_t = (to_device(one) for one in angles(departure).T)
    buffer._theta_r, buffer._phi_r = (to_device(one) for one in angles(arrival).T)
    buffer._vertices_x = mi.TensorXf(to_device(vertices[..., 0]), (size, depth))
    buffer._vertices_y = mi.TensorXf(to_device(vertices[..., 1]), (size, depth))
    buffer._vertices_z = mi.TensorXf(to_device(vertices[..., 2]), (size, depth))
    buffer._shapes = mi.TensorXu(to_device(shape, mi.UInt), (size, depth))
    buffer._primitives = mi.TensorXu(to_device(primitive, mi.UInt), (size, depth))
    buffer._interaction_types = mi.TensorXu(to_device(kind, mi.UInt), (size, depth))
    buffer._probs = mi.TensorXf(to_device(np.ones((size, depth))), (size, depth))
    buffer._paths_counter = size
    return buffer


def angles(direction: np.ndarray) -> np.ndarray:
    """Return (zenith, azimuth) in rad, [num_paths, 2], of [num_paths, 3] vectors."""
    x, y, z = direction.T
    return np.stack([np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)], axis=1)


def attach_vertices(
    scene: Scene, buffer: PathsBuffer, sources: RadioEnds, targets: RadioEnds
) -> None:
    """Compute the vertices anew so that they carry gradients of the positions."""
    if buffer.buffer_size == 0:
        return
    image_method = ImageMethod()
    image_method.loop_mode = "evaluated"
    # Only what is not yet valid is a candidate; lines of sight have no vertices.
    kind = buffer.get_interaction_type(mi.UInt(1), True)
    buffer.valid = kind == InteractionType.NONE
    image_method(
        scene=scene.mi_scene,
        paths=buffer,
        diffraction=False,
        diffraction_lit_region=False,
        src_positions=sources.position,
        tgt_positions=targets.position,
    )


def compute_field(
    scene: Scene,
    buffer: PathsBuffer,
    sources: RadioEnds,
    targets: RadioEnds,
    loop_mode: str,
    num_patterns: int | None = None,
) -> None:
    """Compute gains, delays and Doppler shifts of the paths in `buffer`.

    Args:
        scene: Scene with radio materials, antenna arrays and frequency.
        buffer: Paths; changed in place.
        sources: Where the paths start.
        targets: Where they end.
        loop_mode: `"symbolic"`, or `"evaluated"` for gradients.
        num_patterns: Antenna patterns at each end, all by default.
    """
    if buffer.buffer_size == 0:
        return
    calculator = FieldCalculator()
    calculator.loop_mode = loop_mode
    calculator(
        wavelength=scene.wavelength,
        paths=buffer,
        samples_per_src=1,
        diffraction=False,
        src_positions=sources.position,
        tgt_positions=targets.position,
        src_orientations=sources.orientation,
        tgt_orientations=targets.orientation,
        src_antenna_patterns=scene.tx_array.antenna_pattern.patterns[:num_patterns],
        tgt_antenna_patterns=scene.rx_array.antenna_pattern.patterns[:num_patterns],
    )
    dr.eval(buffer.a)
