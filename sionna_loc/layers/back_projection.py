"""Back-projection: what each CIR holds at the delay that a place would have."""

from typing import Any

import keras
from keras import ops

from sionna_loc.checks import check_bool, check_positive


@keras.saving.register_keras_serializable(package="sionna_loc")
class BackProjection(keras.layers.Layer):
    """Reads the evidence of each link at the delays at which points would hear it.

    A UE at a point hears a TRP over the direct path after their distance divided by
    the speed of light. The evidence at that tap is what the link says about the point.

    A window of taps around the delay, and a shared network that reads it, need not be
    gathered for each pair of point and TRP: every function of a window is a function
    of its tap, computed once for each tap (`TapEvidence`), and reading it is one row
    of `channels` numbers. A linear function of the window commutes with the linear
    interpolation, so nothing is lost there either.

    Args:
        taps_per_metre: float > 0. Taps of the evidence in a metre of way: the sampling
            rate divided by the speed of light, if it has all taps.
        interpolate: bool. Whether evidence between two taps is interpolated linearly,
            else it is the nearest tap's: enough where the points lie farther apart
            than a tap is long.

    Call arguments:
        evidence: [batch, num_trps, num_taps, channels], float.
        distance: [batch, num_trps, num_points], float [m].

    Returns: [batch, num_trps, num_points, channels]; 0 for delays after the last tap.
    Raises: UserError (a ValueError) if `taps_per_metre` is not positive.
    References: McCorkle and Rofheart, "An order N^2 log(N) backprojector algorithm
        for focusing wide-angle wide-bandwidth arbitrary-motion synthetic aperture
        radar" (the same summation over delays in radar).
    """

    def __init__(
        self, taps_per_metre: float, interpolate: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive("taps_per_metre", taps_per_metre)
        check_bool("interpolate", interpolate)
        self.taps_per_metre = taps_per_metre
        self.interpolate = interpolate
        self.built = True

    def call(
        self, evidence: keras.KerasTensor, distance: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Read."""
        batch, num_trps = ops.shape(evidence)[:2]
        num_taps, channels = evidence.shape[2:]
        # Two rows of zeros after the last tap take all delays beyond it.
        padded = ops.pad(evidence, [[0, 0], [0, 0], [0, 2], [0, 0]])
        tap = ops.minimum(distance * self.taps_per_metre, float(num_taps))
        whole = ops.floor(tap if self.interpolate else tap + 0.5)
        if self.interpolate:
            # Value and slope side by side: one read instead of two.
            slope = padded[:, :, 1:] - padded[:, :, :-1]
            padded = ops.concatenate([padded[:, :, :-1], slope], axis=-1)
        rows = padded.shape[2]
        first = ops.arange(batch * num_trps, dtype="int32") * rows
        index = ops.reshape(first, (batch, num_trps, 1)) + ops.cast(whole, "int32")
        flat = ops.reshape(padded, (-1, padded.shape[-1]))
        values = ops.take(flat, index, axis=0)  # [batch, num_trps, num_points, ...]
        if not self.interpolate:
            return values
        share = ops.expand_dims(tap - whole, -1)
        return values[..., :channels] + share * values[..., channels:]

    def compute_output_shape(
        self,
        evidence_shape: tuple[int | None, ...],
        distance_shape: tuple[int | None, ...],
    ) -> tuple[int | None, ...]:
        """Return [batch, num_trps, num_points, channels]."""
        return (*distance_shape, evidence_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "taps_per_metre": self.taps_per_metre,
            "interpolate": self.interpolate,
        }


def ways(
    trp_position: keras.KerasTensor, points: keras.KerasTensor
) -> tuple[keras.KerasTensor, ...]:
    """Return how far points are from TRPs, and in which direction.

    Args:
        trp_position: [batch, num_trps, 3], float [m].
        points: [batch or 1, num_points, 3], float [m].

    Returns: distance in space [m], and x, y and z of the unit vector from the TRP to
        the point, each [batch, num_trps, num_points].
    """
    # One axis at a time: arrays that end in 3 numbers are slow to go through.
    x, y, z = (
        points[:, None, :, axis] - trp_position[:, :, None, axis] for axis in range(3)
    )
    distance = ops.sqrt(ops.square(x) + ops.square(y) + ops.square(z) + 1e-6)
    return distance, x / distance, y / distance, z / distance
