"""The indoor factory of 3GPP TR 38.901, consistent in space and absolute in time.

    channel = IndoorFactory(FactoryHall(), seed=7)
    paths = channel(channel.hall.trp_position, ue_position, seed=(0, 0))

One seed is one factory: what is random about a link is a function of that seed, of
where its TRP stands and of where its UE is, and of nothing else. The same position
gives the same channel in any batch, in any order, eagerly and in a graph; two seeds
are two factories. The seed of a call changes nothing.

Clause 7.5 with these parts of clause 7.6: spatial consistency (7.6.3.1) of large-scale
parameters, cluster delays, cluster shadowing, angles, initial phases and line of sight
(7.6.3.3), and the absolute time of arrival (7.6.9) on top of the time of flight.
Assumed where the report leaves a choice:

* Clusters are not sorted by delay, so that their identity does not jump.
* The signs in the angles belong to the site and stay over the whole factory.
* Links with and without line of sight have independent large-scale parameters, but
  share the fields of their clusters.
* Pruning, 25 dB below the strongest cluster, leaves the specular path out of account.
* A path's angles are those of its cluster: rays add up before arrays see them.

For single antennas with vertical polarisation this is exact; arrays with angles and
polarisation of every ray are the business of `indoor_factory_system_level`.
"""

from collections import OrderedDict
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.base import LINK_FIELDS, Channel
from sionna_loc.channels.indoor_factory_fields import FactoryFields, SpatialConsistency
from sionna_loc.channels.indoor_factory_links import (
    LargeScale,
    LargeScaleModel,
    LinkGeometry,
    excess_delay,
    truncated_normal,
)
from sionna_loc.channels.indoor_factory_paths import (
    MAX_PATHS,
    cluster_angles,
    make_clusters,
    make_paths,
    strongest_paths,
)
from sionna_loc.channels.indoor_factory_tables import (
    CALIBRATION_CLUTTER,
    DENSE,
    SUB_SCENARIOS,
    Clutter,
    los_probability,
    path_loss,
)
from sionna_loc.channels.random_fields import normal_cdf
from sionna_loc.checks import (
    check,
    check_known,
    check_not_negative,
    check_not_negative_int,
    check_positive,
    check_positive_int,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.factory_hall import FactoryHall
from sionna_loc.sample import FIELDS

CHANNEL_VERSION = 1
"""Raised whenever the same positions give other paths; part of the fingerprint."""

LINE_OF_SIGHT = ("never", "always", "drawn")

_UES_AT_ONCE = 256
_CACHED_CONSTELLATIONS = 2
"""The weights of 18 TRPs are 48 MB."""


class IndoorFactory(Channel):
    """See the module.

    Args:
        hall: the hall, by default that of the InF-DH calibration.
        sub_scenario: `"sl"`, `"dl"`, `"sh"`, `"dh"` or `"hh"`.
        seed: int >= 0. Which factory.
        carrier_frequency: float > 0 [Hz].
        line_of_sight: `"never"`, `"always"` or `"drawn"`, by clause 7.4.2; `"hh"`
            always has it.
        clutter: what stands in the hall, by default that of the calibration.
        consistency: how what is random changes from place to place.
        trp_sync_error: float >= 0 [s]. Standard deviation of the clocks of the TRPs,
            a normal distribution cut at twice of it. Added to all delays of a TRP.
        ue_clock_offset: float >= 0 [s]. The same for UEs: independent from UE to UE,
            common to all TRPs. Delays may become negative.
        num_paths: int > 0. Paths kept per link, the strongest ones; all by default,
            which is 29 and one with line of sight.

    Raises: UserError for a value out of its range or of unknown name.
    References: TR 38.901, clauses 7.4 to 7.6.
    """

    def __init__(
        self,
        hall: FactoryHall | None = None,
        *,
        sub_scenario: str = "dh",
        seed: int = 0,
        carrier_frequency: float = 3.5e9,
        line_of_sight: str = "never",
        clutter: Clutter | None = None,
        consistency: SpatialConsistency | None = None,
        trp_sync_error: float = 0.0,
        ue_clock_offset: float = 0.0,
        num_paths: int = MAX_PATHS,
    ) -> None:
        check_known("InF sub-scenario", sub_scenario, SUB_SCENARIOS)
        check_known("line of sight", line_of_sight, LINE_OF_SIGHT)
        check_positive("carrier_frequency", carrier_frequency)
        check_positive_int("num_paths", num_paths)
        check_not_negative("trp_sync_error", trp_sync_error)
        check_not_negative("ue_clock_offset", ue_clock_offset)
        check_not_negative_int("seed", seed)
        check(
            sub_scenario != "hh" or line_of_sight != "never",
            "InF-HH always has line of sight.",
            line_of_sight=line_of_sight,
        )
        most = MAX_PATHS - (line_of_sight == "never")
        super().__init__(min(num_paths, most))
        self.hall = hall or FactoryHall()
        self.sub_scenario = sub_scenario
        self.seed = seed
        self.carrier_frequency = carrier_frequency
        self.line_of_sight = line_of_sight
        self.clutter = clutter or CALIBRATION_CLUTTER.get(sub_scenario, DENSE)
        self.consistency = consistency or SpatialConsistency()
        self.trp_sync_error = trp_sync_error
        self.ue_clock_offset = ue_clock_offset
        self._large_scale = LargeScaleModel(sub_scenario, self.hall, carrier_frequency)
        self._fields = FactoryFields(self.consistency, sub_scenario, self.clutter, seed)
        self._cache: OrderedDict[bytes, dict[str, tf.Tensor]] = OrderedDict()
        self._compiled = tf.function(self._in_chunks, autograph=False)

    def __call__(
        self, trp_position: tf.Tensor, ue_position: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """See `Channel`; the factory's own seed counts, that of the call does not."""
        del seed
        trp_position = tf.convert_to_tensor(trp_position, tf.float32)
        ue_position = tf.convert_to_tensor(ue_position, tf.float32)
        paths = self._compiled(self._sites(trp_position), trp_position, ue_position)
        links = [ue_position.shape[0], trp_position.shape[0]]
        for name in LINK_FIELDS:
            shape = FIELDS[name].element_shape(self.num_paths)
            paths[name] = tf.ensure_shape(paths[name], [*links, *shape[1:]])
        return paths

    def config(self) -> dict[str, Any]:
        """Return everything that changes the paths, as JSON can hold it."""
        return {
            "channel": "IndoorFactory",
            "version": CHANNEL_VERSION,
            "hall": asdict(self.hall),
            "sub_scenario": self.sub_scenario,
            "seed": self.seed,
            "carrier_frequency": self.carrier_frequency,
            "line_of_sight": self.line_of_sight,
            "clutter": asdict(self.clutter),
            "consistency": asdict(self.consistency),
            "trp_sync_error": self.trp_sync_error,
            "ue_clock_offset": self.ue_clock_offset,
            "num_paths": self.num_paths,
        }

    def _sites(self, trp_position: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the state of the sites, kept where the positions are known."""
        value = tf.get_static_value(trp_position)
        if value is None:
            return self._fields.sites(trp_position)
        name = np.ascontiguousarray(value).tobytes()
        if name not in self._cache:
            with tf.init_scope():  # Outside of the graph, once.
                self._cache[name] = self._fields.sites(tf.constant(value))
            if len(self._cache) > _CACHED_CONSTELLATIONS:
                self._cache.popitem(last=False)
        return self._cache[name]

    def _in_chunks(
        self,
        sites: dict[str, tf.Tensor],
        trp_position: tf.Tensor,
        ue_position: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Return the paths of few UEs at a time, so that memory is bounded."""
        size = _UES_AT_ONCE
        if (ue_position.shape[0] or size + 1) <= size:
            return self._links(sites, trp_position, ue_position)
        num_ues = tf.shape(ue_position)[0]
        padded = tf.pad(ue_position, [[0, -num_ues % size], [0, 0]])
        paths = tf.map_fn(
            lambda chunk: self._links(sites, trp_position, chunk),
            tf.reshape(padded, [-1, size, 3]),
            parallel_iterations=1,
            fn_output_signature={name: FIELDS[name].dtype for name in LINK_FIELDS},
        )

        def joined(value: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[-1], tf.shape(value)[2:]], axis=0)
            return tf.reshape(value, shape)[:num_ues]

        return tf.nest.map_structure(joined, paths)

    def _links(
        self,
        sites: dict[str, tf.Tensor],
        trp_position: tf.Tensor,
        ue_position: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Return the `LINK_FIELDS` of all links."""
        normals = self._fields.values(sites, ue_position)
        geometry = LinkGeometry.between(trp_position, ue_position)
        los = self._has_sight(normals["line_of_sight"], geometry, trp_position)
        large = self._large_scale(normals["large_scale"], los)
        clusters = make_clusters(normals["clusters"], large, los)
        gain, delay, index = make_paths(
            normals["phases"], clusters, geometry, self.carrier_frequency
        )
        gain *= self._link_amplitude(geometry, large, los)[..., None]
        late = excess_delay(normals["excess_delay"][..., 0], los, self.hall)
        start = geometry.distance / SPEED_OF_LIGHT + late
        start += self._clock_errors(sites["clock"], ue_position)
        angles = cluster_angles(
            normals["angles"], sites["signs"], clusters, large, geometry, los
        )
        delay += start[..., None]
        paths = strongest_paths(gain, delay, angles, index, self.num_paths)
        return {**paths, "los": los}

    def _has_sight(
        self, normals: tf.Tensor, geometry: LinkGeometry, trp_position: tf.Tensor
    ) -> tf.Tensor:
        """Return which links have line of sight, [num_ues, num_trps] bool."""
        if self.line_of_sight != "drawn":
            return tf.fill(tf.shape(geometry.distance), self.line_of_sight == "always")
        trp_height = trp_position[:, 2]
        probability = los_probability(
            geometry.horizontal,
            trp_height,
            trp_height + geometry.distance * tf.cos(geometry.zenith),
            self.sub_scenario,
            self.clutter,
        )
        return normal_cdf(normals[..., 0]) < probability

    def _link_amplitude(
        self, geometry: LinkGeometry, large: LargeScale, los: tf.Tensor
    ) -> tf.Tensor:
        """Return path loss and shadowing, [num_ues, num_trps], complex64 amplitude."""
        loss = path_loss(
            geometry.distance, self.carrier_frequency, self.sub_scenario, los
        )
        return tf.cast(tf.pow(10.0, (large.shadowing - loss) / 20), tf.complex64)

    def _clock_errors(
        self, trp_uniform: tf.Tensor, ue_position: tf.Tensor
    ) -> tf.Tensor:
        """Return what the clocks add to the delays, [num_ues, num_trps] [s]."""
        trp_error = self.trp_sync_error * truncated_normal(trp_uniform)
        ue_uniform = self._fields.clock(ue_position)
        ue_error = self.ue_clock_offset * truncated_normal(ue_uniform)
        return trp_error + ue_error[:, None]
