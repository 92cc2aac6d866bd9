"""Gains of specular paths, by Sionna's field calculator and radio materials."""

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt import Scene
from sionna.rt.constants import INVALID_PRIMITIVE, INVALID_SHAPE, InteractionType
from sionna.rt.path_solvers.field_calculator import FieldCalculator
from sionna.rt.path_solvers.paths_buffer import PathsBuffer

from sionna_loc.channels.chain_pairs import Chains
from sionna_loc.channels.device_arrays import to_device, to_points


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
    size, depth = sum(len(part.source) for part in parts), max(1, max_depth)
    buffer = PathsBuffer(size, max_depth, diffraction=False)
    source = np.concatenate([part.source for part in parts])
    target = np.concatenate([part.target for part in parts])
    vertices = np.zeros((size, depth, 3), np.float32)
    shape = np.full((size, depth), INVALID_SHAPE, np.uint32)
    primitive = np.full((size, depth), INVALID_PRIMITIVE, np.uint32)
    kind = np.full((size, depth), InteractionType.NONE, np.uint32)
    departure = targets[target] - sources[source]
    arrival = -departure
    start = 0
    for part in parts:
        stop, count = start + len(part.source), part.vertices.shape[1]
        vertices[start:stop, :count] = part.vertices
        shape[start:stop, :count] = part.shape
        primitive[start:stop, :count] = part.primitive
        kind[start:stop, :count] = np.where(
            part.passes, InteractionType.REFRACTION, InteractionType.SPECULAR
        )
        if count:
            departure[start:stop] = part.vertices[:, 0] - sources[part.source]
            arrival[start:stop] = part.vertices[:, -1] - targets[part.target]
        start = stop
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


def path_gains(
    scene: Scene,
    calculator: FieldCalculator,
    buffer: PathsBuffer,
    sources: mi.Point3f,
    targets: mi.Point3f,
) -> np.ndarray:
    """Return the gains [num_paths], complex64, without carrier phase.

    The antennas are the first elements of the scene's arrays, unrotated.
    """
    upright = [to_points(np.zeros((dr.width(ends), 3))) for ends in (sources, targets)]
    calculator(
        wavelength=scene.wavelength,
        paths=buffer,
        samples_per_src=1,
        diffraction=False,
        src_positions=sources,
        tgt_positions=targets,
        src_orientations=upright[0],
        tgt_orientations=upright[1],
        src_antenna_patterns=scene.tx_array.antenna_pattern.patterns[:1],
        tgt_antenna_patterns=scene.rx_array.antenna_pattern.patterns[:1],
    )
    gain = buffer.a[0][0]
    dr.eval(gain)
    return (gain.real.numpy() + 1j * gain.imag.numpy()).astype(np.complex64)
