"""From normal variates to clusters: TR 38.901, clause 7.5, steps 5 to 11.

Everything here is a pure function; what is random comes in as standard normal values,
so that it may belong to a place (`random_fields`). Clusters keep their index: they are
never sorted by delay, else their identity would jump between neighbouring positions.
"""

import math

import tensorflow as tf

from sionna_loc.channels.random_fields import normal_cdf

NUM_CLUSTERS = 25
NUM_RAYS = 20
SUB_CLUSTER_RAYS = (10, 6, 4)
"""Rays of the three sub-clusters of each of the two strongest, Table 7.5-5."""
SUB_CLUSTER_DELAYS = (0.0, 1.28, 2.56)
"""Delay of the sub-clusters, in cluster delay spreads, eq. (7.5-26)."""

_PRUNED_BELOW = 10**-2.5
"""Clusters 25 dB below the strongest are removed, clause 7.5, step 6."""
_MAX_AZIMUTH_SPREAD = math.radians(104)
_MAX_ZENITH_SPREAD = math.radians(52)


def cluster_delays(
    normals: tf.Tensor, delay_spread: tf.Tensor, proportionality: tf.Tensor
) -> tf.Tensor:
    """Return the delays after the first cluster's (step 5).

    Args:
        normals: [..., num_clusters], float32. Standard normal.
        delay_spread: [...], float32 [s].
        proportionality: [...], float32. `r_tau`, the ratio of the spread of delays
            to the delay spread.

    Returns: [..., num_clusters], float32 [s]. Not sorted; the smallest is 0.
    References: TR 38.901, eqs. (7.5-1) and (7.5-2).
    """
    scale = (proportionality * delay_spread)[..., None]
    delay = -scale * _log_uniform(normals)
    return delay - tf.reduce_min(delay, axis=-1, keepdims=True)


def cluster_powers(
    delays: tf.Tensor,
    delay_spread: tf.Tensor,
    proportionality: tf.Tensor,
    shadowing: tf.Tensor,
) -> tf.Tensor:
    """Return the share of each cluster in the power (step 6).

    Args:
        delays: [..., num_clusters], float32 [s], not yet scaled for line of sight.
        delay_spread: [...], float32 [s].
        proportionality: [...], float32. `r_tau`.
        shadowing: [..., num_clusters], float32 [dB].

    Returns: [..., num_clusters], float32. Adds up to 1; pruning comes later.
    References: TR 38.901, eqs. (7.5-5) and (7.5-6).
    """
    decay = ((proportionality - 1) / (proportionality * delay_spread))[..., None]
    return tf.nn.softmax(-delays * decay - shadowing * (math.log(10) / 10), axis=-1)


def prune(powers: tf.Tensor) -> tf.Tensor:
    """Set to 0 what is more than 25 dB below the strongest cluster."""
    strongest = tf.reduce_max(powers, axis=-1, keepdims=True)
    return tf.where(powers < _PRUNED_BELOW * strongest, 0.0, powers)


def los_delay_scale(k_factor: tf.Tensor) -> tf.Tensor:
    """Return what delays are divided by where there is line of sight.

    Args:
        k_factor: [...], float32 [dB].

    References: TR 38.901, eq. (7.5-3).
    """
    return 0.7705 + k_factor * (-0.0433 + k_factor * (0.0002 + k_factor * 0.000017))


def sub_cluster_sums(normals: tf.Tensor) -> tf.Tensor:
    """Add up the rays of each sub-cluster, with phases that normals stand for (10).

    A normal value z stands for the phase 2 pi Phi(z), uniform on a circle.

    Args:
        normals: [..., num_clusters * NUM_RAYS], float32. Standard normal.

    Returns: [..., num_clusters, 3], complex64. Of a cluster of power 1: the power of
        all three together is 1 on average.
    References: TR 38.901, clause 7.5, step 10, and Table 7.5-5.
    """
    # 2 pi Phi(z) = pi + pi erf(z / sqrt(2)); the common turn by pi changes nothing.
    phase = math.pi * tf.math.erf(normals * math.sqrt(0.5))
    phase = tf.reshape(phase, [-1, NUM_RAYS])
    member = tf.repeat(tf.eye(len(SUB_CLUSTER_RAYS)), SUB_CLUSTER_RAYS, axis=0)
    member /= math.sqrt(NUM_RAYS)
    sums = tf.complex(tf.cos(phase) @ member, tf.sin(phase) @ member)
    count = normals.shape[-1] // NUM_RAYS
    shape = tf.concat([tf.shape(normals)[:-1], [count, len(SUB_CLUSTER_RAYS)]], axis=0)
    return tf.reshape(sums, shape)


def split_strongest(
    amplitudes: tf.Tensor, delays: tf.Tensor, powers: tf.Tensor, delay_spread: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Turn clusters into paths, the two strongest into three each (step 11).

    Args:
        amplitudes: [..., num_clusters, 3], complex64. Of the sub-clusters.
        delays: [..., num_clusters], float32 [s].
        powers: [..., num_clusters], float32. Says which are the strongest.
        delay_spread: float >= 0 [s]. Of a cluster.

    Returns: complex64 amplitude, float32 delay [s] and int32 index of the cluster,
        each [..., num_clusters + 4].
    References: TR 38.901, eqs. (7.5-22), (7.5-26) and (7.5-28).
    """
    count = powers.shape[-1]
    axes = len(powers.shape) - 1
    strongest = tf.math.top_k(powers, k=2).indices  # [..., 2]
    is_split = tf.reduce_any(tf.one_hot(strongest, count, True, False), axis=-2)
    whole = tf.where(is_split, amplitudes[..., 0], tf.reduce_sum(amplitudes, axis=-1))
    late = tf.gather(amplitudes[..., 1:], strongest, batch_dims=axes)  # [..., 2, 2]
    late_delay = tf.gather(delays, strongest, batch_dims=axes)[..., None]
    late_delay += delay_spread * tf.constant(SUB_CLUSTER_DELAYS[1:])
    cluster = tf.broadcast_to(tf.range(count), tf.shape(powers))
    late_cluster = tf.repeat(strongest, 2, axis=-1)
    flat = tf.concat([tf.shape(powers)[:-1], [4]], axis=0)
    return (
        tf.concat([whole, tf.reshape(late, flat)], axis=-1),
        tf.concat([delays, tf.reshape(late_delay, flat)], axis=-1),
        tf.concat([cluster, late_cluster], axis=-1),
    )


def azimuth_angles(
    powers: tf.Tensor,
    spread: tf.Tensor,
    scale: tf.Tensor,
    signs: tf.Tensor,
    normals: tf.Tensor,
    los_angle: tf.Tensor,
    first: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return the azimuth of each cluster (step 7).

    Args:
        powers: [..., num_clusters], float32. With the specular part where there is
            line of sight.
        spread: [...], float32 [rad]. Azimuth spread; 104 degrees at most count.
        scale: [...], float32. `C_phi`.
        signs: [..., num_clusters], float32. `X`, each 1 or -1.
        normals: [..., num_clusters], float32. Standard normal.
        los_angle: [...], float32 [rad]. Azimuth of the other end.
        first: [..., num_clusters], float32. 1 for the cluster that is turned to the
            other end, 0 for all others; all 0 where there is no line of sight.

    Returns: [..., num_clusters], float32 [rad], from -pi to pi.
    References: TR 38.901, eqs. (7.5-9), (7.5-11) and (7.5-12).
    """
    spread = tf.minimum(spread, _MAX_AZIMUTH_SPREAD)[..., None]
    width = 2 * (spread / 1.4) * tf.sqrt(_log_ratio(powers)) / scale[..., None]
    angle = signs * width + normals * (spread / 7)
    angle = _turned_to_first(angle, first) + los_angle[..., None]
    return tf.math.floormod(angle + math.pi, 2 * math.pi) - math.pi


def zenith_angles(
    powers: tf.Tensor,
    spread: tf.Tensor,
    scale: tf.Tensor,
    signs: tf.Tensor,
    normals: tf.Tensor,
    los_angle: tf.Tensor,
    first: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return the zenith angle of each cluster (step 7), as `azimuth_angles`.

    Returns: [..., num_clusters], float32 [rad], from 0 to pi.
    References: TR 38.901, eqs. (7.5-14), (7.5-16) and (7.5-17).
    """
    spread = tf.minimum(spread, _MAX_ZENITH_SPREAD)[..., None]
    width = spread * _log_ratio(powers) / scale[..., None]
    angle = signs * width + normals * (spread / 7)
    angle = _turned_to_first(angle, first) + los_angle[..., None]
    angle = tf.math.floormod(angle, 2 * math.pi)
    return tf.minimum(angle, 2 * math.pi - angle)


def los_azimuth_scale(k_factor: tf.Tensor) -> tf.Tensor:
    """Return what `C_phi` is multiplied by with line of sight, eq. (7.5-10).

    Args:
        k_factor: [...], float32 [dB].
    """
    return 1.1035 + k_factor * (-0.028 + k_factor * (-0.002 + k_factor * 0.0001))


def los_zenith_scale(k_factor: tf.Tensor) -> tf.Tensor:
    """Return what `C_theta` is multiplied by with line of sight, eq. (7.5-15).

    Args:
        k_factor: [...], float32 [dB].
    """
    return 1.3086 + k_factor * (0.0339 + k_factor * (-0.0077 + k_factor * 0.0002))


def _log_uniform(normals: tf.Tensor) -> tf.Tensor:
    """Return ln Phi(z), precise at both ends."""
    tail = normal_cdf(-tf.abs(normals))
    return tf.where(normals > 0, tf.math.log1p(-tail), tf.math.log(tail))


def _log_ratio(powers: tf.Tensor) -> tf.Tensor:
    """Return -ln(P / max P), 0 or more."""
    level = tf.math.log(tf.maximum(powers, 1e-30))
    return tf.reduce_max(level, axis=-1, keepdims=True) - level


def _turned_to_first(angle: tf.Tensor, first: tf.Tensor | None) -> tf.Tensor:
    """Turn all angles so that the marked cluster's, if any, becomes 0."""
    if first is None:
        return angle
    return angle - tf.reduce_sum(angle * first, axis=-1, keepdims=True)
