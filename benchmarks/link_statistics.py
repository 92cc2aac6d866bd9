"""What single links of a channel look like, and how far two samples of them differ.

Nothing but NumPy, so that environments with different frameworks measure alike.
"""

import numpy as np

SUB_CLUSTER_OFFSETS = (1.28, 2.56)
"""Delay of the later two sub-clusters in cluster delay spreads, eq. (7.5-26)."""

ANGLES = ("asa", "zsa", "asd", "zsd")
"""Spreads at the UE, then at the TRP; azimuth, then zenith."""


def path_statistics(
    gain: np.ndarray, delay: np.ndarray, aoa: np.ndarray, aod: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure links on their paths.

    Args:
        gain: [..., num_paths], complex. Paths that do not exist have 0.
        delay: [..., num_paths], float [s].
        aoa: [..., num_paths, 2], float [rad]. Zenith and azimuth at the UE.
        aod: [..., num_paths, 2], float [rad]. Zenith and azimuth at the TRP.

    Returns: `coupling_loss` [dB], `delay_spread` [s] and the `ANGLES` [deg], each
        [...], float64.
    References: TR 38.901, Annex A.1 for the spreads of angles.
    """
    power = np.abs(gain.astype(np.complex128)) ** 2
    total = power.sum(axis=-1)
    share = power / total[..., None]
    delay = delay.astype(np.float64)
    mean = (share * delay).sum(axis=-1, keepdims=True)
    statistics = {
        "coupling_loss": -10 * np.log10(total),
        "delay_spread": np.sqrt((share * (delay - mean) ** 2).sum(axis=-1)),
    }
    columns = (aoa[..., 1], aoa[..., 0], aod[..., 1], aod[..., 0])
    for name, angle in zip(ANGLES, columns, strict=True):
        statistics[name] = np.degrees(circular_spread(angle, share))
    return statistics


def circular_spread(angle: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the spread of angles [..., num_paths] whose powers add up to 1 [rad].

    References: TR 38.901, eq. (A-1).
    """
    resultant = np.abs((share * np.exp(1j * angle.astype(np.float64))).sum(axis=-1))
    return np.sqrt(-2 * np.log(np.clip(resultant, 1e-12, 1.0)))


def cluster_of_paths(
    delay: np.ndarray, power: np.ndarray, delay_spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Say which cluster each path belongs to, where paths are sorted by delay.

    Sionna's channels return the paths, two strongest clusters split in three, without
    saying which cluster a path is of.

    Args:
        delay: [..., num_clusters], float [s]. Of the clusters.
        power: [..., num_clusters], float. Of the clusters.
        delay_spread: float [s]. Of a cluster.

    Returns: index of the cluster, int, and delay [s], each [..., num_clusters + 4].
    References: TR 38.901, clause 7.5, step 11.
    """
    strongest = np.argsort(-power, axis=-1)[..., :2]
    late = np.take_along_axis(delay, strongest, axis=-1)[..., None]
    late = late + delay_spread * np.array(SUB_CLUSTER_OFFSETS)
    flat = (*delay.shape[:-1], -1)
    delays = np.concatenate([delay, late.reshape(flat)], axis=-1)
    whole = np.broadcast_to(np.arange(delay.shape[-1]), delay.shape)
    index = np.concatenate([whole, np.repeat(strongest, 2, axis=-1)], axis=-1)
    order = np.argsort(delays, axis=-1)
    return tuple(np.take_along_axis(v, order, axis=-1) for v in (index, delays))


def ks_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of two empirical distribution functions."""
    first, second = np.sort(first), np.sort(second)
    everywhere = np.concatenate([first, second])
    shares = [
        np.searchsorted(values, everywhere, side="right") / len(values)
        for values in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_bound(first: int, second: int) -> float:
    """Return what the distance of two samples of one law exceeds in 1 % of all cases.

    Args:
        first: int > 0. Size of a sample, whose values are independent.
        second: int > 0. Size of the other.
    """
    return float(np.sqrt(-np.log(0.01 / 2) / 2 * (1 / first + 1 / second)))
