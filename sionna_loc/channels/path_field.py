"""Paths in Sionna's buffer, and their gains by its field calculator."""

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt import Scene
from sionna.rt.constants import InteractionType
from sionna.rt.path_solvers.field_calculator import FieldCalculator
from sionna.rt.path_solvers.image_method import ImageMethod
from sionna.rt.path_solvers.paths_buffer import PathsBuffer

from sionna_loc.channels.chains import Chains
from sionna_loc.channels.device_arrays import to_device
from sionna_loc.channels.radio_ends import RadioEnds


def fill_buffer(
    paths: Chains, sources: np.ndarray, targets: np.ndarray, max_depth: int
) -> PathsBuffer:
    """Write paths into a buffer of Sionna's, the field not yet computed.

    Args:
        paths: Paths with room for `max_depth` interactions, but one at least.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
        max_depth: Interactions a path has at most.
    """
    size, depth = paths.shape.shape
    buffer = PathsBuffer(size, max_depth, diffraction=False)
    if size == 0:
        return buffer
    kind = np.where(paths.passes, InteractionType.REFRACTION, InteractionType.SPECULAR)
    kind[np.arange(depth) >= paths.depth[:, None]] = InteractionType.NONE
    departure, arrival = end_angles(paths, sources, targets)
    # The buffer's fields have no setters: Sionna fills them by scattering.
    buffer._valid = to_device(np.ones(size), mi.Bool)
    buffer._src_indices = to_device(paths.source, mi.UInt)
    buffer._tgt_indices = to_device(paths.target, mi.UInt)
    buffer._theta_t, buffer._phi_t = (to_device(one) for one in departure.T)
    buffer._theta_r, buffer._phi_r = (to_device(one) for one in arrival.T)
    x, y, z = (to_device(paths.vertices[..., axis]) for axis in range(3))
    buffer._vertices_x = mi.TensorXf(x, (size, depth))
    buffer._vertices_y = mi.TensorXf(y, (size, depth))
    buffer._vertices_z = mi.TensorXf(z, (size, depth))
    shape, primitive = (
        to_device(paths.shape, mi.UInt),
        to_device(paths.primitive, mi.UInt),
    )
    buffer._shapes = mi.TensorXu(shape, (size, depth))
    buffer._primitives = mi.TensorXu(primitive, (size, depth))
    buffer._interaction_types = mi.TensorXu(to_device(kind, mi.UInt), (size, depth))
    buffer._probs = mi.TensorXf(to_device(np.ones((size, depth))), (size, depth))
    buffer._paths_counter = size
    return buffer


def end_angles(
    paths: Chains, sources: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return angles of departure and of arrival, [num_paths, 2] each, in rad.

    Args:
        paths: Paths with room for one interaction at least.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
    """
    source, target = sources[paths.source], targets[paths.target]
    direct = (paths.depth == 0)[:, None]
    rows = np.arange(len(direct))
    last = paths.vertices[rows, np.maximum(paths.depth, 1) - 1]
    departure = np.where(direct, target, paths.vertices[:, 0]) - source
    arrival = np.where(direct, source, last) - target
    return angles(departure), angles(arrival)


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


def calculate_gains(
    scene: Scene,
    paths: Chains,
    sources: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    """Return the gains [num_paths], complex, without the phase of the distance.

    Antennas are the first elements of the scene's arrays, unrotated.

    Args:
        scene: Scene with radio materials, antenna arrays and frequency.
        paths: One path or more.
        sources: [num_sources, 3], float32, in m.
        targets: [num_targets, 3], float32, in m.
    """
    buffer = fill_buffer(paths, sources, targets, paths.shape.shape[1])
    ends = RadioEnds.at(sources), RadioEnds.at(targets)
    compute_field(scene, buffer, *ends, "symbolic", num_patterns=1)
    (gain,) = buffer.a[0]
    return gain.real.numpy() + 1j * gain.imag.numpy()
