"""The indoor factory on Sionna's system-level classes: arrays, mobility, any topology.

    scenario = InFScenario(3.5e9, ut_array, bs_array, "uplink", sub_scenario="dh")
    channel = InF(scenario)
    channel.set_topology(ut_loc, bs_loc, ut_orientations, bs_orientations,
                         ut_velocities, in_state, los)
    a, tau = channel(num_time_samples, sampling_frequency)

Used as Sionna's own `UMi`, `UMa` and `RMa`, with panel arrays, polarisation and every
ray's angles. Large-scale parameters are correlated between the UTs of one topology;
clusters are drawn anew with each call. For channels that are a function of position,
see `indoor_factory`.

Sionna 1.2 has no indoor factory. Put right besides: `distance_3d` returns the distance
in the plane (Sionna issue 1100), one ray's offset lacks a digit (Table 7.5-3), weak
clusters stay (step 6), rays are coupled across sub-clusters (step 8), and delays begin
at 0 for every link, where here they are absolute (clause 7.6.9).
"""

from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy import config
from sionna.phy.channel.tr38901 import (
    LSPGenerator,
    PanelArray,
    RaysGenerator,
    SystemLevelChannel,
    SystemLevelScenario,
)

from sionna_loc.channels.indoor_factory_clusters import prune
from sionna_loc.channels.indoor_factory_links import excess_delay
from sionna_loc.channels.indoor_factory_tables import (
    CALIBRATION_CLUTTER,
    DENSE,
    LARGE_SCALE,
    SUB_SCENARIOS,
    Clutter,
    large_scale_moments,
    los_probability,
    path_loss,
    read_table,
    table_path,
)
from sionna_loc.checks import check_known, check_positive
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.factory_hall import FactoryHall

RAY_OFFSETS = np.repeat(
    [0.0447, 0.1413, 0.2492, 0.3715, 0.5129, 0.6797, 0.8844, 1.1481, 1.5195, 2.1551], 2
) * np.tile([1.0, -1.0], 10)
"""Angles of the rays of a cluster, in cluster spreads, TR 38.901, Table 7.5-3."""

SUB_CLUSTER_OF_RAY = np.repeat([0, 1, 2, 1, 0], [8, 4, 4, 2, 2])
"""Which of the three sub-clusters a ray belongs to, TR 38.901, Table 7.5-5."""

_IN_DB = np.isin(LARGE_SCALE, ("SF", "K"))


class InFScenario(SystemLevelScenario):
    """InF-SL, DL, SH, DH or HH as a scenario of Sionna's system-level channel.

    All UTs are "outdoor" for Sionna (`in_state` False): the tables are those of the
    hall itself, and nothing penetrates walls.

    Args:
        carrier_frequency: float > 0 [Hz].
        ut_array, bs_array: panel arrays of UTs and BSs.
        direction: `"uplink"` or `"downlink"`.
        sub_scenario: `"sl"`, `"dl"`, `"sh"`, `"dh"` or `"hh"`.
        hall: the delay spread and the largest excess delay depend on it.
        clutter: what stands in the hall, by default that of 3GPP's calibration.
        enable_pathloss, enable_shadow_fading: bool.
        precision: `"single"`, `"double"`, or None for Sionna's own.

    References: TR 38.901, clauses 7.4 and 7.5.
    """

    def __init__(
        self,
        carrier_frequency: float,
        ut_array: PanelArray,
        bs_array: PanelArray,
        direction: str,
        *,
        sub_scenario: str = "dh",
        hall: FactoryHall | None = None,
        clutter: Clutter | None = None,
        enable_pathloss: bool = True,
        enable_shadow_fading: bool = True,
        precision: str | None = None,
    ) -> None:
        check_positive("carrier_frequency", carrier_frequency)
        check_known("InF sub-scenario", sub_scenario, SUB_SCENARIOS)
        check_known("direction", direction, ("uplink", "downlink"))
        self.sub_scenario = sub_scenario
        self.hall = hall or FactoryHall()
        self.clutter = clutter or CALIBRATION_CLUTTER.get(sub_scenario, DENSE)
        self._frequency = float(carrier_frequency)
        super().__init__(
            carrier_frequency,
            "low",  # Of no effect: no UT is indoors in the sense of clause 7.4.3.
            ut_array,
            bs_array,
            direction,
            enable_pathloss,
            enable_shadow_fading,
            precision,
        )

    @property
    def distance_3d(self) -> tf.Tensor:
        """Distance between BSs and UTs, [batch, num_bs, num_ut] [m]."""
        return self._distance_3d

    @property
    def los_probability(self) -> tf.Tensor:
        """Probability of a line of sight, [batch, num_bs, num_ut]."""
        return los_probability(
            self.distance_2d,
            self.h_bs[:, :, None],
            self.h_ut[:, None, :],
            self.sub_scenario,
            self.clutter,
        )

    @property
    def min_2d_in(self) -> tf.Tensor:
        """Least distance behind an outer wall: there is none [m]."""
        return tf.constant(0.0, self.rdtype)

    @property
    def max_2d_in(self) -> tf.Tensor:
        """Largest distance behind an outer wall: there is none [m]."""
        return tf.constant(0.0, self.rdtype)

    @property
    def rays_per_cluster(self) -> tf.Tensor:
        """Number of rays of a cluster."""
        return tf.constant(read_table("nlos")["raysPerCluster"], tf.int32)

    @property
    def los_parameter_filepath(self) -> str:
        """Table of links with line of sight."""
        return str(table_path("los"))

    @property
    def nlos_parameter_filepath(self) -> str:
        """Table of links without line of sight."""
        return str(table_path("nlos"))

    @property
    def o2i_parameter_filepath(self) -> str:
        """Sionna asks for a table of penetrated walls; never used."""
        return self.nlos_parameter_filepath

    def clip_carrier_frequency_lsp(self, fc: tf.Tensor) -> tf.Tensor:
        """Return the carrier frequency [GHz]: no bound for the indoor factory."""
        return fc

    def _compute_lsp_log_mean_std(self) -> None:
        """Set mean and standard deviation of lg of the large-scale parameters."""
        moments = [
            large_scale_moments(state, self.sub_scenario, self.hall, self._frequency)
            for state in ("los", "nlos")
        ]
        # Sionna's are all lg of linear values, those in dB, too.
        scale = np.where(_IN_DB, 0.1, 1.0)
        mean, spread = (
            tf.where(
                self.los[..., None],
                tf.constant(with_sight * scale, self.rdtype),
                tf.constant(without * scale, self.rdtype),
            )
            for with_sight, without in zip(*moments, strict=True)
        )
        self._lsp_log_mean = mean
        self._lsp_log_std = spread
        self._zod_offset = tf.zeros_like(self.distance_2d)

    def _compute_pathloss_basic(self) -> None:
        """Set the path loss [dB]."""
        self._pl_b = path_loss(
            self.distance_3d, self._frequency, self.sub_scenario, self.los
        )


class InF(SystemLevelChannel):
    """Channel of an indoor factory, with delays that include the time of flight.

    Called as any channel of Sionna; see `SystemLevelChannel`.

    Args:
        scenario: the scenario.
        always_generate_lsp: bool. Draw large-scale parameters, and excess delays with
            them, for each call instead of for each topology.

    Returns: path coefficients [batch, num_rx, num_rx_ant, num_tx, num_tx_ant,
        num_paths, num_time_samples], and delays [batch, num_rx, num_tx, num_paths]
        [s]: time of flight, excess delay without line of sight, and delay of the
        cluster; the rays, too, if `return_rays` is set.
    References: TR 38.901, clauses 7.5 and 7.6.9.
    """

    def __init__(
        self, scenario: InFScenario, always_generate_lsp: bool = False
    ) -> None:
        super().__init__(scenario, always_generate_lsp)
        self._lsp_sampler = _LSPGenerator(scenario)
        self._ray_sampler = _RaysGenerator(scenario)

    def __call__(
        self,
        num_time_samples: int,
        sampling_frequency: float,
        foo: float | None = None,
    ) -> tuple[Any, ...]:
        """See the class; Sionna passes the batch size first where it passes three."""
        h, delays, *rays = super().__call__(num_time_samples, sampling_frequency, foo)
        start = self._scenario.distance_3d / SPEED_OF_LIGHT
        start += self._lsp_sampler.excess_delay  # [batch, num_bs, num_ut]
        if self._scenario.direction == "downlink":
            start = tf.transpose(start, [0, 2, 1])
        return h, delays + start[..., None], *rays


class _LSPGenerator(LSPGenerator):
    """Draws the excess delays together with the large-scale parameters."""

    excess_delay: tf.Tensor

    def __call__(self) -> Any:
        """Draw; UTs that are near each other have similar excess delays."""
        scenario = self._scenario
        normals = config.tf_rng.normal(
            [scenario.batch_size, scenario.num_bs, scenario.num_ut], dtype=self.rdtype
        )
        distance = read_table("nlos")[f"corrDistToA_{scenario.sub_scenario}"]
        root = tf.linalg.cholesky(scenario.spatial_correlation_matrix(distance))
        normals = tf.matmul(normals, root, transpose_b=True)
        self.excess_delay = excess_delay(normals, scenario.los, scenario.hall)
        return super().__call__()


class _RaysGenerator(RaysGenerator):
    """Draws rays by steps 6 and 8 of clause 7.5, where Sionna's does otherwise."""

    _is_strong: tf.Tensor

    def __init__(self, scenario: InFScenario) -> None:
        super().__init__(scenario)
        self._ray_offsets = tf.constant(RAY_OFFSETS, self.rdtype)

    def _cluster_powers(self, *args: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Leave out weak clusters (step 6); remember the two strongest."""
        powers, powers_for_angles = super()._cluster_powers(*args)
        strongest = tf.math.top_k(powers, k=2).indices
        is_strong = tf.one_hot(strongest, powers.shape[-1], dtype=self.rdtype)
        self._is_strong = tf.reduce_sum(is_strong, axis=-2)
        return prune(powers), powers_for_angles

    def _shuffle_angles(self, angles: tf.Tensor) -> tf.Tensor:
        """Shuffle rays, those of strong clusters within their sub-cluster (step 8)."""
        shape = tf.shape(angles)  # [batch, num_bs, num_ut, num_clusters, num_rays]
        # One order for all UTs of a BS, as Sionna's.
        shape = tf.concat([shape[:2], [1], shape[3:]], axis=0)
        group = tf.constant(SUB_CLUSTER_OF_RAY, self.rdtype)
        ranks = config.tf_rng.uniform(shape, dtype=self.rdtype)
        order = tf.argsort(ranks + self._is_strong[..., None] * group)
        # Those drawn for the first sub-cluster go to the first's places, and so on.
        places = np.argsort(np.argsort(SUB_CLUSTER_OF_RAY, kind="stable"))
        return tf.gather(angles, tf.gather(order, places, axis=-1), batch_dims=4)
