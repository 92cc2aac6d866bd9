"""Targets in spatial blocks, so that a beam is tested against many at once."""

from dataclasses import dataclass

import mitsuba as mi
import numpy as np

from sionna_loc.channels.device_arrays import to_points, to_vectors, z_curve_order

BLOCK_SIZE = 16
"""Targets tested together against a beam."""


@dataclass(frozen=True)
class TargetBlocks:
    """Targets in spatial order, in blocks of `BLOCK_SIZE`.

    Args:
        order: [num_targets], int64. Target at each place of the order.
        position: [num_targets]. Positions in that order, on the device, in m.
        center, half: [num_blocks]. Bounding boxes: middle and half sizes in m.
    """

    order: np.ndarray
    position: mi.Point3f
    center: mi.Point3f
    half: mi.Vector3f

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-len(self.order) // BLOCK_SIZE)


def sort_targets(positions: np.ndarray) -> TargetBlocks:
    """Sort targets [num_targets, 3] along a Z curve and box them in blocks."""
    order = z_curve_order(positions)
    starts = np.arange(0, len(order), BLOCK_SIZE)
    low = np.minimum.reduceat(positions[order], starts)
    high = np.maximum.reduceat(positions[order], starts)
    return TargetBlocks(
        order=order,
        position=to_points(positions[order]),
        center=to_points((low + high) / 2),
        half=to_vectors((high - low) / 2 * (1 + 1e-5) + 1e-4),
    )
