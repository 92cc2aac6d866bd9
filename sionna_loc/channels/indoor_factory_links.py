"""What is one value per link of the indoor factory: geometry, state, large scale."""

import math
from dataclasses import dataclass

import tensorflow as tf

from sionna_loc.channels.indoor_factory_tables import (
    LARGE_SCALE,
    large_scale_correlation,
    large_scale_moments,
    read_table,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.factory_hall import FactoryHall


@dataclass(frozen=True)
class LinkGeometry:
    """Where both ends of the links see each other, [num_ues, num_trps], float32.

    Args:
        distance: in three dimensions [m].
        horizontal: in the horizontal plane [m].
        azimuth: of the UE as the TRP sees it [rad].
        zenith: of the UE as the TRP sees it [rad].
    """

    distance: tf.Tensor
    horizontal: tf.Tensor
    azimuth: tf.Tensor
    zenith: tf.Tensor

    @classmethod
    def between(cls, trp_position: tf.Tensor, ue_position: tf.Tensor) -> "LinkGeometry":
        """Measure the links between [num_trps, 3] and [num_ues, 3] [m]."""
        x, y, z = tf.unstack(ue_position[:, None] - trp_position, axis=-1)
        horizontal = tf.sqrt(x**2 + y**2)
        return cls(
            distance=tf.sqrt(x**2 + y**2 + z**2),
            horizontal=horizontal,
            azimuth=tf.atan2(y, x),
            zenith=tf.atan2(horizontal, z),
        )


@dataclass(frozen=True)
class LargeScale:
    """Large-scale parameters of the links, [num_ues, num_trps], float32.

    Args:
        delay_spread: [s].
        aod_spread, aoa_spread, zod_spread, zoa_spread: [rad].
        shadowing: [dB]. Positive means more power received (clause 7.5, step 4).
        k_factor: [dB]; -inf where there is no line of sight.
    """

    delay_spread: tf.Tensor
    aod_spread: tf.Tensor
    aoa_spread: tf.Tensor
    zod_spread: tf.Tensor
    zoa_spread: tf.Tensor
    shadowing: tf.Tensor
    k_factor: tf.Tensor


class LargeScaleModel:
    """Turns standard normal values into large-scale parameters.

    Args:
        sub_scenario: one of `indoor_factory_tables.SUB_SCENARIOS`.
        hall: the delay spread grows with it.
        carrier_frequency: float > 0 [Hz].

    Call arguments:
        normals: [num_ues, num_trps, num_normals], float32. Those of links with line
            of sight first, as the two states are independent of each other.
        los: [num_ues, num_trps], bool.

    References: TR 38.901, clause 7.5, step 4, and Table 7.5-6 part 3.
    """

    num_normals = 2 * len(LARGE_SCALE)

    def __init__(
        self, sub_scenario: str, hall: FactoryHall, carrier_frequency: float
    ) -> None:
        self._states = [
            (
                *large_scale_moments(state, sub_scenario, hall, carrier_frequency),
                large_scale_correlation(state),
            )
            for state in ("los", "nlos")
        ]

    def __call__(self, normals: tf.Tensor, los: tf.Tensor) -> LargeScale:
        """See the class."""
        both = []
        for part, (mean, spread, root) in zip(
            tf.split(normals, 2, axis=-1), self._states, strict=True
        ):
            mixing = tf.constant((root * spread[:, None]).T, tf.float32)
            both.append(tf.tensordot(part, mixing, axes=1) + mean.astype("float32"))
        value = dict(
            zip(
                LARGE_SCALE,
                tf.unstack(tf.where(los[..., None], *both), axis=-1),
                strict=True,
            )
        )
        return LargeScale(
            delay_spread=_power_of_ten(value["DS"]),
            aod_spread=_power_of_ten(value["ASD"]) * (math.pi / 180),
            aoa_spread=_power_of_ten(value["ASA"]) * (math.pi / 180),
            zod_spread=_power_of_ten(value["ZSD"]) * (math.pi / 180),
            zoa_spread=_power_of_ten(value["ZSA"]) * (math.pi / 180),
            shadowing=value["SF"],
            k_factor=tf.where(los, value["K"], -math.inf),
        )


def excess_delay(normals: tf.Tensor, los: tf.Tensor, hall: FactoryHall) -> tf.Tensor:
    """Return by how much the first path is later than the direct way.

    Args:
        normals: [num_ues, num_trps], float32. Standard normal.
        los: [num_ues, num_trps], bool. No excess with line of sight.
        hall: the excess is at most twice the way along its longest side.

    Returns: [num_ues, num_trps], float32 [s].
    References: TR 38.901, clause 7.6.9 and Table 7.6.9-1.
    """
    table = read_table("nlos")
    delay = _power_of_ten(table["muToA"] + table["sigmaToA"] * normals)
    longest = 2 * hall.longest_side / SPEED_OF_LIGHT
    return tf.where(los, 0.0, tf.minimum(delay, longest))


def truncated_normal(uniform: tf.Tensor) -> tf.Tensor:
    """Turn numbers between 0 and 1 into standard normal ones cut at -2 and 2.

    References: TR 38.857, Table 6.1-1: network synchronisation error.
    """
    lowest = 0.5 * math.erfc(math.sqrt(2.0))
    return tf.math.ndtri(lowest + uniform * (1 - 2 * lowest))


def _power_of_ten(exponent: tf.Tensor) -> tf.Tensor:
    """Return 10 to the power of `exponent`."""
    return tf.exp(exponent * math.log(10))
