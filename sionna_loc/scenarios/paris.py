"""What the two ray-traced scenarios of the VIn-Loc paper in Paris have in common."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
from sionna_loc.channels.raytraced import RayTracer
from sionna_loc.checks import check, check_bool
from sionna_loc.places.sionna_scene import SionnaScene
from sionna_loc.scenarios.base import DropSizes, Scenario

UE_HEIGHT = 1.5
TRP_ABOVE_ROOF = 2.0
CELL_SIDE = 0.5
GROUND_TOLERANCE = 0.1
_NUM_PATHS = 8
_NUM_TRIES = 8
"""Spare draws per point; a cell's place misses its surface in under 2 % of draws."""


class ParisScenario(Scenario):
    """A block of 280 m x 280 m of Sionna's scene `etoile`, ray traced.

    A subclass owes `place_devices`, besides the attributes of `Scenario` that are not
    set here. The assumptions stand in the modules of the subclasses.

    Args:
        sizes: sizes of a drop.
        max_depth: int > 0. Most reflections of a path.
        solver: `"multi_user"`, or `"stock"` for Sionna RT's own path solver.
        ue_antennas: (rows, columns) of the UE's array, ints > 0.
        synchronised: bool. Without a common time base each CIR begins with its first
            path.

    Raises: UserError (a ValueError) if an argument cannot be.
    """

    carrier_frequency = 40e9
    bandwidth = 100e6
    sampling_rate = 200e6
    num_taps = 256
    min_trps = 3
    region = np.array([[-10.0, -230.0, 0.0], [270.0, 50.0, 3.0]])

    def __init__(
        self,
        sizes: DropSizes,
        max_depth: int,
        solver: str,
        ue_antennas: Sequence[int],
        synchronised: bool,
    ) -> None:
        check(
            isinstance(ue_antennas, Sequence) and len(ue_antennas) == 2,
            "`ue_antennas` must be the rows and columns of the array.",
            ue_antennas=ue_antennas,
        )
        check_bool("synchronised", synchronised)
        self.ue_array = PlanarArray(*ue_antennas)
        self.synchronised = synchronised
        self.place = SionnaScene("etoile", self.carrier_frequency)
        channel = RayTracer(
            self.place,
            num_paths=_NUM_PATHS,
            max_depth=max_depth,
            max_delay=self.num_taps / self.sampling_rate,
            solver=solver,
        )
        super().__init__(sizes, channel)

    @abc.abstractmethod
    def place_devices(
        self, trp_uniform: np.ndarray, ue_uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn uniform random numbers into positions.

        Args:
            trp_uniform: [num_trps, num_tries, 3], float in [0, 1), as `Surface.draw`
                takes them.
            ue_uniform: [num_ues, num_tries, 3], likewise.

        Returns: positions of TRPs [num_trps, 3] and UEs [num_ues, 3], float32 [m].
        """

    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the places of TRPs and UEs; see `Scenario`."""
        counts = self.num_sites, num_ues
        uniform = tf.random.stateless_uniform([sum(counts), _NUM_TRIES, 3], seed)
        trp_position, ue_position = tf.numpy_function(
            self.place_devices, tf.split(uniform, counts), [tf.float32, tf.float32]
        )
        return (
            tf.ensure_shape(trp_position, [counts[0], 3]),
            tf.ensure_shape(ue_position, [counts[1], 3]),
        )

    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""
        return {
            **super().config(),
            "cell_side": CELL_SIDE,
            "ground_tolerance": GROUND_TOLERANCE,
            "trp_above_roof": TRP_ABOVE_ROOF,
            "ue_height": UE_HEIGHT,
            "num_tries": _NUM_TRIES,
        }
