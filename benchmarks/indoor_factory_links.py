"""This library's indoor factories, link by link, for a comparison with others.

Links are dicts of arrays [num_ues, num_trps]: `los`, what `path_statistics` measures,
and `excess_delay` [s], by how much the first path is later than the direct way.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from link_statistics import cluster_of_paths, path_statistics

from sionna_loc.channels.indoor_factory import IndoorFactory
from sionna_loc.channels.indoor_factory_links import LargeScaleModel
from sionna_loc.channels.indoor_factory_tables import (
    CALIBRATION_CLUTTER,
    LARGE_SCALE,
    large_scale_moments,
    los_probability,
    path_loss,
    read_table,
)
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places.factory_hall import FactoryHall

Links = dict[str, np.ndarray]

_BATCH = 50
"""UEs at a time, of the system-level channel."""
_LARGEST_AZIMUTH_SPREAD = 104.0
_LARGEST_ZENITH_SPREAD = 52.0


def of_factory(channel: IndoorFactory, ue_position: np.ndarray) -> Links:
    """Measure `IndoorFactory` at [num_ues, 3] float32 [m]."""
    trps = channel.hall.trp_position
    paths = channel(tf.constant(trps), tf.constant(ue_position), (0, 0))
    paths = {name: value.numpy() for name, value in paths.items()}
    gain, delay = paths["path_gain"], paths["path_delay"].astype(np.float64)
    links = path_statistics(gain, delay, paths["path_aoa"], paths["path_aod"])
    first = np.where(np.abs(gain) > 0, delay, np.inf).min(axis=-1)
    flight = np.linalg.norm(ue_position[:, None] - trps, axis=-1) / SPEED_OF_LIGHT
    return {**links, "los": paths["los"], "excess_delay": first - flight}


def of_system_level(
    hall: FactoryHall, sub_scenario: str, ue_position: np.ndarray, frequency: float
) -> Links:
    """Measure `InF`, each UE in a drop of its own; angles are those of clusters."""
    channel = _system_level_channel(hall, sub_scenario, frequency)
    num_trps = len(hall.trp_position)
    parts = []
    for start in range(0, len(ue_position), _BATCH):
        ues = tf.constant(ue_position[start : start + _BATCH, None])
        size = ues.shape[0]
        bs_loc = tf.broadcast_to(hall.trp_position, [size, num_trps, 3])
        still = tf.zeros_like(ues)
        in_state = tf.zeros([size, 1], tf.bool)
        channel.set_topology(
            ues, bs_loc, still, tf.zeros_like(bs_loc), still, in_state, None
        )
        parts.append(_measure(channel, channel(1, 1.0)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drawn_parameters(
    hall: FactoryHall, sub_scenario: str, los: np.ndarray, frequency: float, seed: int
) -> Links:
    """Draw large-scale parameters for links in the states `los`, spreads in degrees."""
    model = LargeScaleModel(sub_scenario, hall, frequency)
    size = (*los.shape, model.num_normals)
    normals = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    large = model(tf.constant(normals), tf.constant(los))
    azimuth = {"drawn_ASA": large.aoa_spread, "drawn_ASD": large.aod_spread}
    zenith = {"drawn_ZSA": large.zoa_spread, "drawn_ZSD": large.zod_spread}
    links = {
        "drawn_DS": large.delay_spread.numpy(),
        "drawn_SF": large.shadowing.numpy(),
        "drawn_K": large.k_factor.numpy(),
    }
    for spreads, most in (
        (azimuth, _LARGEST_AZIMUTH_SPREAD),
        (zenith, _LARGEST_ZENITH_SPREAD),
    ):
        for name, value in spreads.items():
            links[name] = np.minimum(np.degrees(value.numpy()), most)
    return links


def computed(
    hall: FactoryHall,
    sub_scenario: str,
    ue_position: np.ndarray,
    los: np.ndarray,
    frequency: float,
) -> Links:
    """Return what is not random: path loss [dB], probability of sight, moments."""
    way = (ue_position[:, None] - hall.trp_position).astype(np.float64)
    distance = tf.constant(np.linalg.norm(way, axis=-1))
    horizontal = tf.constant(np.linalg.norm(way[..., :2], axis=-1))
    links = {
        "path_loss": path_loss(distance, frequency, sub_scenario, los).numpy(),
        "los_probability": los_probability(
            horizontal,
            hall.trp_height,
            hall.ue_height,
            sub_scenario,
            CALIBRATION_CLUTTER[sub_scenario],
        ).numpy(),
    }
    for state, mask in (("los", los), ("nlos", ~los)):
        moments = large_scale_moments(state, sub_scenario, hall, frequency)
        for kind, values in zip(("mean", "std"), moments, strict=True):
            for name, value in zip(LARGE_SCALE, values, strict=True):
                links.setdefault(f"{kind}_{name}", np.zeros(los.shape))[mask] = value
    return links


def _system_level_channel(hall: FactoryHall, sub_scenario: str, frequency: float):
    """Return `InF` with isotropic antennas, whose rays have no width."""
    from sionna.phy.channel.tr38901 import PanelArray

    from sionna_loc.channels.indoor_factory_system_level import InF, InFScenario

    array = PanelArray(
        num_rows_per_panel=1,
        num_cols_per_panel=1,
        polarization="single",
        polarization_type="V",
        antenna_pattern="omni",
        carrier_frequency=frequency,
    )
    scenario = InFScenario(
        frequency, array, array, "downlink", sub_scenario=sub_scenario, hall=hall
    )
    channel = InF(scenario)
    channel.return_rays = True
    channel._ray_sampler._ray_offsets *= 0.0
    return channel


def _measure(channel: Any, response: tuple[Any, ...]) -> Links:
    """Measure one batch of the system-level channel, one UE in each drop."""
    gain, delay, rays = response
    gain = gain[:, 0, 0, :, 0, :, 0].numpy()
    delay = delay[:, 0].numpy().astype(np.float64)
    spread = read_table("nlos")["cDSa"] * 1e-9
    clusters = rays.delays[:, :, 0].numpy(), rays.powers[:, :, 0].numpy()
    index, expected = cluster_of_paths(*clusters, spread)
    first = delay.min(axis=-1, keepdims=True)
    np.testing.assert_allclose(delay - first, expected, atol=1e-11)
    ends = []
    for zenith, azimuth in ((rays.zoa, rays.aoa), (rays.zod, rays.aod)):
        angles = [angle[:, :, 0, :, 0].numpy() for angle in (zenith, azimuth)]
        ends.append(
            np.stack(
                [np.take_along_axis(angle, index, axis=-1) for angle in angles], axis=-1
            )
        )
    flight = channel._scenario.distance_3d[..., 0].numpy() / SPEED_OF_LIGHT
    return {
        **path_statistics(gain, delay, *ends),
        "los": channel._scenario.los[..., 0].numpy(),
        "excess_delay": first[..., 0] - flight,
    }
