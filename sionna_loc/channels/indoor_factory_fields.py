"""Whatever is random in an indoor factory, as functions of place and seed."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sionna_loc.channels.indoor_factory_clusters import NUM_CLUSTERS, NUM_RAYS
from sionna_loc.channels.indoor_factory_links import LargeScaleModel
from sionna_loc.channels.indoor_factory_tables import Clutter, read_table
from sionna_loc.channels.random_fields import (
    SHAPES,
    RandomField,
    SumOfSinusoids,
    WhiteNoise,
)
from sionna_loc.checks import (
    check_bool,
    check_known,
    check_positive,
    check_positive_int,
)
from sionna_loc.position_noise import position_keys, uniforms

ANGLES = ("aoa", "aod", "zoa", "zod")
"""Order of the angles among fields and signs."""

_NAMES = (
    "large_scale",
    "excess_delay",
    "line_of_sight",
    "clusters",
    "phases",
    "angles",
)


@dataclass(frozen=True)
class SpatialConsistency:
    """How what is random changes from place to place.

    Args:
        shape: one of `random_fields.SHAPES`, or `"none"`: independent everywhere.
        large_scale: float > 0 [m]. Correlation distance of large-scale parameters.
        clusters: float > 0 [m]. That of what is random about clusters and rays.
        excess_delay: float > 0 [m] or None. That of the absolute time of arrival,
            by default as Table 7.6.9-1 says for the sub-scenario.
        line_of_sight: float > 0 [m] or None. That of the line of sight, by default
            half the size of the clutter.
        phases: bool. False makes initial phases independent everywhere.
        num_sinusoids: int > 0. See `random_fields.SumOfSinusoids`.

    References: TR 38.901, Table 7.6.3.1-2.
    """

    shape: str = "exponential"
    large_scale: float = 10.0
    clusters: float = 10.0
    excess_delay: float | None = None
    line_of_sight: float | None = None
    phases: bool = True
    num_sinusoids: int = 512

    def __post_init__(self) -> None:
        """Check the values."""
        check_known("autocorrelation", self.shape, (*SHAPES, "none"))
        check_bool("phases", self.phases)
        check_positive_int("num_sinusoids", self.num_sinusoids)
        for name in ("large_scale", "clusters", "excess_delay", "line_of_sight"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def field(self, num_fields: int, distance: float, key: int) -> RandomField:
        """Return `num_fields` fields per site with the correlation `distance` [m]."""
        if self.shape == "none":
            return WhiteNoise(num_fields, key)
        return SumOfSinusoids(
            num_fields,
            distance,
            key,
            shape=self.shape,
            num_sinusoids=self.num_sinusoids,
        )


class FactoryFields:
    """All random fields of one factory, and what belongs to a site alone.

    Args:
        consistency: how fields change from place to place.
        sub_scenario: one of `indoor_factory_tables.SUB_SCENARIOS`.
        clutter: what stands in the hall.
        seed: int >= 0. Which factory.
    """

    def __init__(
        self,
        consistency: SpatialConsistency,
        sub_scenario: str,
        clutter: Clutter,
        seed: int,
    ) -> None:
        state = np.random.SeedSequence(seed).generate_state(len(_NAMES) + 2, np.uint64)
        *keys, self._sign_key, self._clock_key = (int(key) for key in state)
        table = read_table("nlos")[f"corrDistToA_{sub_scenario}"]
        distance = {
            "large_scale": consistency.large_scale,
            "excess_delay": consistency.excess_delay or table,
            "line_of_sight": consistency.line_of_sight or clutter.size / 2,
        }
        count = {
            "large_scale": LargeScaleModel.num_normals,
            "clusters": 2 * NUM_CLUSTERS,
            "phases": NUM_CLUSTERS * NUM_RAYS,
            "angles": len(ANGLES) * NUM_CLUSTERS,
        }
        self._fields: dict[str, RandomField] = {
            name: consistency.field(
                count.get(name, 1), distance.get(name, consistency.clusters), key
            )
            for name, key in zip(_NAMES, keys, strict=True)
        }
        if not consistency.phases:
            phases = self._fields["phases"]
            self._fields["phases"] = WhiteNoise(phases.num_fields, phases.key)

    def sites(self, trp_position: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the state of sites at [num_trps, 3] float32 [m].

        Returns: for each field what `values` needs; besides `signs`, 1 or -1,
            [num_trps, 4, num_clusters], and `clock`, [num_trps], between 0 and 1.
        """
        state = {
            name: field.sites(trp_position) for name, field in self._fields.items()
        }
        uniform = uniforms(
            position_keys(trp_position, self._sign_key), len(ANGLES) * NUM_CLUSTERS
        )
        shape = [-1, len(ANGLES), NUM_CLUSTERS]
        state["signs"] = tf.reshape(tf.sign(uniform - 0.5), shape)
        state["clock"] = self.clock(trp_position)
        return state

    def values(
        self, sites: dict[str, tf.Tensor], ue_position: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return the standard normal values of all fields.

        Args:
            sites: what `sites` returned.
            ue_position: [num_ues, 3], float32 [m].

        Returns: name -> [num_ues, num_trps, number of fields], float32.
        """
        return {
            name: field.values(sites[name], ue_position)
            for name, field in self._fields.items()
        }

    def clock(self, position: tf.Tensor) -> tf.Tensor:
        """Return a number between 0 and 1 for the clock at each position [..., 3]."""
        return uniforms(position_keys(position, self._clock_key), 1)[..., 0]
