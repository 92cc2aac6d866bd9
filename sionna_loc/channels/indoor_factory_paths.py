"""From the fields of an indoor factory to the paths of its links.

Shapes begin with [num_ues, num_trps]; written out is what follows.
"""

import math
from dataclasses import dataclass

import tensorflow as tf

from sionna_loc.channels import indoor_factory_clusters as steps
from sionna_loc.channels.indoor_factory_links import LargeScale, LinkGeometry
from sionna_loc.channels.indoor_factory_tables import read_table
from sionna_loc.constants import SPEED_OF_LIGHT

MAX_PATHS = 1 + steps.NUM_CLUSTERS + 4
"""The specular path, the clusters, two more sub-clusters for each of two of them."""

SPECULAR = steps.NUM_CLUSTERS
"""Index that stands for the specular path among the indices of clusters."""


@dataclass(frozen=True)
class Clusters:
    """The clusters of the links.

    Args:
        delay: [num_clusters], float32 [s], after the first one.
        power: [num_clusters], float32. Share in the power of all clusters.
        is_first: [num_clusters], float32. 1 for the first cluster to arrive with
            line of sight, which then is turned to the other end; else 0.
        ratio: [], float32. Power of the specular path over that of all clusters.
    """

    delay: tf.Tensor
    power: tf.Tensor
    is_first: tf.Tensor
    ratio: tf.Tensor


def make_clusters(normals: tf.Tensor, large: LargeScale, los: tf.Tensor) -> Clusters:
    """Return delays and powers (steps 5 and 6).

    Args:
        normals: [2 num_clusters], float32. For the delays, then for the shadowing.
        large: large-scale parameters.
        los: [], bool.
    """
    for_delay, for_shadowing = tf.split(normals, 2, axis=-1)
    proportionality = by_state("rTau", los)
    delay = steps.cluster_delays(for_delay, large.delay_spread, proportionality)
    power = steps.cluster_powers(
        delay,
        large.delay_spread,
        proportionality,
        for_shadowing * by_state("zeta", los)[..., None],
    )
    scale = tf.where(los, steps.los_delay_scale(large.k_factor), 1.0)
    first = tf.one_hot(tf.argmin(delay, axis=-1), steps.NUM_CLUSTERS)
    return Clusters(
        delay=delay / scale[..., None],
        power=power,
        is_first=first * tf.cast(los, tf.float32)[..., None],
        ratio=tf.pow(10.0, large.k_factor / 10),
    )


def make_paths(
    normals: tf.Tensor,
    clusters: Clusters,
    geometry: LinkGeometry,
    carrier_frequency: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the paths of a link whose mean power is 1 (steps 10 and 11).

    Args:
        normals: [num_clusters * NUM_RAYS], float32. For the initial phases.
        clusters: the clusters.
        geometry: where the specular path runs.
        carrier_frequency: float > 0 [Hz].

    Returns: complex64 gain, float32 delay [s] after the first one, and int32 index of
        the cluster, each [MAX_PATHS]; the specular path first.
    References: TR 38.901, eqs. (7.5-22), (7.5-28), (7.5-29) and (7.5-30).
    """
    power = steps.prune(clusters.power)
    amplitude = tf.sqrt(power / (clusters.ratio + 1)[..., None])
    rays = steps.sub_cluster_sums(normals)
    gain, delay, index = steps.split_strongest(
        rays * tf.cast(amplitude, tf.complex64)[..., None],
        clusters.delay,
        power,
        read_table("nlos")["cDSa"] * 1e-9,
    )
    turns = geometry.distance * (carrier_frequency / SPEED_OF_LIGHT)
    phase = -2 * math.pi * (turns - tf.round(turns))
    amplitude = tf.sqrt(clusters.ratio / (clusters.ratio + 1))
    specular = tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))

    def with_specular(rest: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        return tf.concat([first[..., None], rest], axis=-1)

    return (
        with_specular(gain, specular),
        with_specular(delay, tf.zeros_like(phase)),
        with_specular(index, tf.fill(tf.shape(phase), SPECULAR)),
    )


def cluster_angles(
    normals: tf.Tensor,
    signs: tf.Tensor,
    clusters: Clusters,
    large: LargeScale,
    geometry: LinkGeometry,
    los: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the angles of the clusters and, last, of the direct way (step 7).

    Args:
        normals: [4 num_clusters], float32. For AoA, AoD, ZoA and ZoD.
        signs: [4, num_clusters], float32, without the axis of UEs. 1 or -1.
        clusters: the clusters.
        large: large-scale parameters.
        geometry: where the direct way runs.
        los: [], bool.

    Returns: at the UE and at the TRP, [num_clusters + 1, 2], float32 [rad], each as
        (zenith, azimuth).
    """
    power = clusters.power + clusters.is_first * clusters.ratio[..., None]
    k_factor = tf.where(los, large.k_factor, 0.0)
    scale = {
        steps.azimuth_angles: by_state("CPhiNLoS", los)
        * tf.where(los, steps.los_azimuth_scale(k_factor), 1.0),
        steps.zenith_angles: by_state("CThetaNLoS", los)
        * tf.where(los, steps.los_zenith_scale(k_factor), 1.0),
    }
    turned = tf.math.floormod(geometry.azimuth, 2 * math.pi) - math.pi
    kinds = (
        (steps.azimuth_angles, large.aoa_spread, turned),
        (steps.azimuth_angles, large.aod_spread, geometry.azimuth),
        (steps.zenith_angles, large.zoa_spread, math.pi - geometry.zenith),
        (steps.zenith_angles, large.zod_spread, geometry.zenith),
    )
    parts = tf.split(normals, len(kinds), axis=-1)
    angles = []
    for index, (make, spread, direct) in enumerate(kinds):
        angle = make(
            power,
            spread,
            scale[make],
            signs[:, index],
            parts[index],
            direct,
            clusters.is_first,
        )
        angles.append(tf.concat([angle, direct[..., None]], axis=-1))
    aoa, aod, zoa, zod = angles
    return tf.stack([zoa, aoa], axis=-1), tf.stack([zod, aod], axis=-1)


def strongest_paths(
    gain: tf.Tensor,
    delay: tf.Tensor,
    angles: tuple[tf.Tensor, tf.Tensor],
    index: tf.Tensor,
    num_paths: int,
) -> dict[str, tf.Tensor]:
    """Sort paths by power, keep the strongest, and set what does not exist to 0.

    Args:
        gain: [MAX_PATHS], complex64.
        delay: [MAX_PATHS], float32 [s].
        angles: of the clusters, as `cluster_angles` returns them.
        index: [MAX_PATHS], int32. Cluster of each path.
        num_paths: int > 0, at most `MAX_PATHS`.

    Returns: the fields `path_gain`, `path_delay`, `path_aoa`, `path_aod` and
        `num_paths` of the sample contract.
    """
    power = tf.math.real(gain) ** 2 + tf.math.imag(gain) ** 2
    power, order = tf.math.top_k(power, num_paths)
    exists = power > 0
    index = tf.gather(index, order, batch_dims=2)

    def masked(value: tf.Tensor) -> tf.Tensor:
        mask = exists if value.shape.rank == exists.shape.rank else exists[..., None]
        return tf.where(mask, value, tf.zeros_like(value))

    aoa, aod = (tf.gather(angle, index, batch_dims=2) for angle in angles)
    return {
        "path_gain": tf.gather(gain, order, batch_dims=2),
        "path_delay": masked(tf.gather(delay, order, batch_dims=2)),
        "path_aoa": masked(aoa),
        "path_aod": masked(aod),
        "num_paths": tf.reduce_sum(tf.cast(exists, tf.int32), axis=-1),
    }


def by_state(name: str, los: tf.Tensor) -> tf.Tensor:
    """Return the table's value `name` for the state of each link, as `los`."""
    return tf.where(los, read_table("los")[name], read_table("nlos")[name])
