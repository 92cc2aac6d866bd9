"""The ends of paths: where a scene's radio devices and their antennas are."""

from collections.abc import Collection
from dataclasses import dataclass

import drjit as dr
import mitsuba as mi
import numpy as np
from sionna.rt import AntennaArray
from sionna.rt.radio_devices.radio_device import RadioDevice
from sionna.rt.utils import rotation_matrix

from sionna_loc.channels.device_arrays import (
    divide,
    to_points,
    to_rows,
    to_vectors,
)


@dataclass(frozen=True)
class RadioEnds:
    """Sources or targets of paths: devices, or all their antenna elements.

    Args:
        position: [num_ends], in m.
        orientation: [num_ends]. Three angles in rad.
        element_position: [num_devices * num_elements], in m, relative to the
            device; `None` if each element is an end of its own.
        velocity: [num_devices], in m/s.
    """

    position: mi.Point3f
    orientation: mi.Point3f
    element_position: mi.Point3f | None
    velocity: mi.Vector3f

    @classmethod
    def at(cls, positions: np.ndarray) -> "RadioEnds":
        """Return ends at rest at [num_ends, 3] positions, with upright antennas."""
        zeros = np.zeros_like(positions)
        return cls(to_points(positions), to_points(zeros), None, to_vectors(zeros))

    @property
    def host_position(self) -> np.ndarray:
        """Positions [num_ends, 3], float32, in m, without gradients."""
        return to_rows(*dr.detach(self.position)).astype(np.float32)


def read_devices(
    devices: Collection[RadioDevice],
    array: AntennaArray,
    wavelength: mi.Float,
    synthetic_array: bool,
) -> RadioEnds:
    """Return the ends of paths at `devices`, as `Scene.sources` does.

    Sionna bakes each device's position into a kernel, which is compiled anew
    whenever a device moves; here positions are read as arrays.
    """
    position = to_points(_rows([device.position for device in devices]))
    orientation = to_points(_rows([device.orientation for device in devices]))
    velocity = to_vectors(_rows([device.velocity for device in devices]))
    index = dr.arange(mi.UInt, len(devices) * array.array_size)
    device, element = divide(index, array.array_size)
    elements = array.positions(wavelength)
    dr.eval(elements)
    turned = dr.gather(mi.Point3f, orientation, device)
    offset = rotation_matrix(turned) @ dr.gather(mi.Point3f, elements, element)
    offset = mi.Point3f(offset)
    if synthetic_array:
        return RadioEnds(position, orientation, offset, velocity)
    position = mi.Point3f(dr.gather(mi.Point3f, position, device) + offset)
    dr.eval(position, turned)
    return RadioEnds(position, turned, None, velocity)


def _rows(vectors) -> np.ndarray:
    """Return the values of Dr.Jit vectors of width 1 as [num_vectors, 3]."""
    return np.array([[part[0] for part in vector] for vector in vectors], np.float32)
