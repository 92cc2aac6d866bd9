"""Gains of paths whose walls are slabs: what they are made of is read from a table.

Sionna's field calculator traces its code once for each material and mesh of a scene,
whether few paths or many: more work than all rays of a small drop. Its standard
materials differ by numbers only, so that here one piece of code serves all of them.
The coefficients and antenna patterns are Sionna's.
"""

from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from scipy.constants import epsilon_0
from sionna.rt import ITURadioMaterial, RadioMaterial, Scene
from sionna.rt.antenna_pattern import antenna_pattern_to_world_implicit
from sionna.rt.utils import implicit_basis_vector, itu_coefficients_single_layer_slab

from sionna_loc.channels.chains import Chains
from sionna_loc.channels.device_arrays import to_device, to_points, to_vectors
from sionna_loc.channels.scene_facets import shape_ids


@dataclass(frozen=True)
class SlabTable:
    """What the shapes of a scene are made of, [largest shape id + 1] each.

    Args:
        permittivity: Complex relative permittivity, of negative imaginary part
            -conductivity / (2 pi frequency vacuum permittivity).
        thickness: Thickness of the slab in m.
        reflected: Part of the amplitude that scattering leaves to a reflection.
    """

    permittivity: mi.Complex2f
    thickness: mi.Float
    reflected: mi.Float

    @classmethod
    def read(cls, scene: Scene) -> "SlabTable | None":
        """Return the table of a scene; `None` if a material is no plain slab."""
        shapes, ids = scene.mi_scene.shapes(), shape_ids(scene.mi_scene)
        rows = np.ones((max(ids, default=0) + 1, 4))
        slabs: dict[str, list[float]] = {}
        for shape, shape_id in zip(shapes, ids, strict=True):
            material = shape.bsdf()
            if type(material) not in (RadioMaterial, ITURadioMaterial):
                return None
            if material.name not in slabs:
                slabs[material.name] = _slab(material, scene)
            rows[shape_id] = slabs[material.name]
        real, imaginary, thickness, reflected = (to_device(one) for one in rows.T)
        return cls(mi.Complex2f(real, imaginary), thickness, reflected)


def slab_gains(
    scene: Scene,
    slabs: SlabTable,
    paths: Chains,
    sources: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    """Return the gains [num_paths], complex64, without the phase of the distance.

    Antennas are the first elements of the scene's arrays, unrotated.

    Args:
        scene: Scene with antenna arrays and frequency.
        slabs: Its materials.
        paths: One path or more.
        sources: [num_sources, 3], float32. Where paths start, in m.
        targets: [num_targets, 3], float32. Where they end, in m.
    """
    source = to_points(sources[paths.source])
    target = to_points(targets[paths.target])
    transmits = scene.tx_array.antenna_pattern.patterns[0]
    receives = scene.rx_array.antenna_pattern.patterns[0]
    field, arrival = _transport(
        slabs, scene.wavelength, paths, source, target, transmits
    )
    pattern = antenna_pattern_to_world_implicit(
        receives, _no_rotation(), -arrival, direction="in"
    )
    real, imaginary = _to_vectors(pattern, arrival)
    # The pattern is conjugated, as in a product of Jones vectors.
    gain = (
        dr.dot(real, field[0]) + dr.dot(imaginary, field[1]),
        dr.dot(real, field[1]) - dr.dot(imaginary, field[0]),
    )
    dr.eval(gain)
    gain = gain[0].numpy() + 1j * gain[1].numpy()
    spread = float(scene.wavelength[0]) / (4 * np.pi * paths.length)
    return (gain * spread).astype(np.complex64)


def _slab(material: RadioMaterial, scene: Scene) -> list[float]:
    """Return a row of the table."""
    angular_frequency = 2 * np.pi * float(scene.frequency[0])
    loss = float(material.conductivity[0]) / (angular_frequency * epsilon_0)
    scattered = float(material.scattering_coefficient[0])
    permittivity = float(material.relative_permittivity[0])
    reflected = np.sqrt(1 - scattered**2)
    return [permittivity, -loss, float(material.thickness[0]), reflected]


def _transport(slabs, wavelength, paths, source, target, pattern):
    """Carry the electric field along the paths.

    Returns: the field's real and imaginary part at the target, as vectors in the
        world's frame, and the unit vectors of arrival.
    """
    size = len(paths.source)
    # Interaction by interaction, so that neighbours in memory are neighbouring paths.
    points = to_points(paths.vertices.swapaxes(0, 1).reshape(-1, 3))
    normals = to_vectors(paths.normal.swapaxes(0, 1).reshape(-1, 3))
    shapes = to_device(paths.shape.T, mi.UInt)
    passes = to_device(paths.passes.T, mi.Bool) if paths.passes.any() else None
    depth, lane = to_device(paths.depth, mi.UInt), dr.arange(mi.UInt, size)
    stride = dr.opaque(mi.UInt, size)

    def end_of(step, index):
        """Return the point where the segment after `step` interactions ends."""
        more = step < depth
        return dr.select(more, dr.gather(mi.Point3f, points, index, more), target)

    def interact(step, index, start, towards, real, imaginary):
        """Go through one interaction, and along the segment after it."""
        active = step < depth
        following = end_of(step + 1, index + stride)
        onwards = dr.normalize(mi.Vector3f(following - start))
        normal = dr.gather(mi.Vector3f, normals, index, active)
        shape = dr.gather(mi.UInt, shapes, index, active)
        through = (
            dr.gather(mi.Bool, passes, index, active) if passes is not None else None
        )
        te, tm = _coefficients(slabs, wavelength, shape, through, towards, normal)
        basis = _bases(towards, onwards, normal)
        real, imaginary = _apply(te, tm, *basis, real, imaginary)
        return step + 1, index + stride, following, onwards, real, imaginary

    start = end_of(mi.UInt(0), lane)
    towards = dr.normalize(mi.Vector3f(start - source))
    jones = antenna_pattern_to_world_implicit(
        pattern, _no_rotation(), towards, direction="out"
    )
    state = dr.zeros(mi.UInt, size), lane, start, towards, *_to_vectors(jones, towards)
    if paths.depth.any():
        state = dr.while_loop(
            state, lambda step, *rest: step < depth, interact, mode="symbolic"
        )
    return state[4:], state[3]


def _coefficients(slabs, wavelength, shape, through, towards, normal):
    """Return the slabs' coefficients of TE and TM waves, ITU-R P.2040-3 eq. (43)."""
    permittivity = dr.gather(mi.Complex2f, slabs.permittivity, shape)
    thickness = dr.gather(mi.Float, slabs.thickness, shape)
    reflected = dr.gather(mi.Float, slabs.reflected, shape)
    cosine = dr.minimum(dr.abs(dr.dot(towards, normal)), 1)
    *both, te_passed, tm_passed = itu_coefficients_single_layer_slab(
        cosine, permittivity, thickness, wavelength
    )
    te, tm = (one * reflected for one in both)
    if through is None:
        return te, tm
    return dr.select(through, te_passed, te), dr.select(through, tm_passed, tm)


def _bases(towards, onwards, normal):
    """Return the unit vectors of TE, of incident TM, and of outgoing TM waves."""
    te = dr.cross(towards, normal)
    sine = dr.norm(te)
    # Straight on, any direction in the wall is as good.
    te = dr.select(sine > 1e-6, te / sine, mi.coordinate_system(normal)[0])
    te = mi.Vector3f(te)
    return te, dr.cross(towards, te), dr.cross(onwards, te)


def _apply(te_gain, tm_gain, te, tm_in, tm_out, real, imaginary):
    """Multiply the TE and TM parts of a field by their complex coefficients."""
    te_part = te_gain * mi.Complex2f(dr.dot(te, real), dr.dot(te, imaginary))
    tm_part = tm_gain * mi.Complex2f(dr.dot(tm_in, real), dr.dot(tm_in, imaginary))
    return (
        mi.Vector3f(te_part.real * te + tm_part.real * tm_out),
        mi.Vector3f(te_part.imag * te + tm_part.imag * tm_out),
    )


def _no_rotation() -> mi.Matrix3f:
    """Return the frame of an upright antenna."""
    return mi.Matrix3f(1, 0, 0, 0, 1, 0, 0, 0, 1)


def _to_vectors(jones: mi.Vector4f, direction: mi.Vector3f):
    """Return the real and imaginary part of a wave along `direction` as vectors."""
    zenith = implicit_basis_vector(direction)
    azimuth = dr.cross(direction, zenith)
    return (
        mi.Vector3f(jones.x * zenith + jones.y * azimuth),
        mi.Vector3f(jones.z * zenith + jones.w * azimuth),
    )
