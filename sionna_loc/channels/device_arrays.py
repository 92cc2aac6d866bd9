"""Values between NumPy and Dr.Jit in ways that never compile a kernel twice.

Dr.Jit compiles one kernel for each Python number baked into it and, on the CPU,
for each alignment of the NumPy arrays it reads in place.
"""

import drjit as dr
import mitsuba as mi
import numpy as np
import sionna.rt  # noqa: F401 (chooses Mitsuba's variant)

_ALIGNMENT = 64


def to_device(values: np.ndarray, dtype: type = mi.Float):
    """Move [n] values to the device as `dtype`: `mi.Float`, `mi.UInt` or `mi.Bool`."""
    kind = {mi.Float: np.float32, mi.UInt: np.uint32, mi.Bool: np.bool_}[dtype]
    size = values.size * np.dtype(kind).itemsize
    memory = np.zeros(size + 2 * _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    aligned = memory[start : start + size].view(kind)
    aligned[:] = values.reshape(-1)
    return dtype(aligned)


def to_points(positions: np.ndarray) -> mi.Point3f:
    """Move [n, 3] positions to the device."""
    return mi.Point3f(*(to_device(column) for column in positions.T))


def to_vectors(values: np.ndarray) -> mi.Vector3f:
    """Move [n, 3] vectors to the device."""
    return mi.Vector3f(*(to_device(column) for column in values.T))


def to_rows(*columns) -> np.ndarray:
    """Bring device arrays [n] to the host as [n, num_columns]."""
    return np.stack([column.numpy() for column in columns], axis=1)


def divide(index: mi.UInt, divisor: int, first: int = 0) -> tuple[mi.UInt, mi.UInt]:
    """Return `first` + quotient, and remainder, of whole numbers."""
    if dr.width(index) == 0:
        return index, index
    divisor = dr.opaque(mi.UInt, divisor)
    quotient = index // divisor
    return dr.opaque(mi.UInt, first) + quotient, index - quotient * divisor


def z_curve_order(points: np.ndarray) -> np.ndarray:
    """Return the order of points [n, 3] along a Z curve: neighbours stay close.

    Rays in such an order are coherent: Embree casts them several times faster.
    """
    low, high = points.min(0), points.max(0)
    cell = max(float((high - low).max()), 1e-6) / 1023
    grid = ((points - low) / cell).astype(np.uint64)
    code = np.zeros(len(points), np.uint64)
    for bit in range(10):
        for axis in range(3):
            part = (grid[:, axis] >> np.uint64(bit)) & np.uint64(1)
            code |= part << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")
