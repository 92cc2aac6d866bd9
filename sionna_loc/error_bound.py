"""How well a position can be known from delays: the position error bound.

The delay of the direct path of a link in line of sight says how far the TRP is. No
unbiased estimator knows that distance better than its Cramer-Rao bound allows,
`range_deviation`, nor the position better than the Fisher information of all such links
together, `position_error_bound`. Links without line of sight add nothing as long as
nothing is known of where their paths lead: who knows the place can be better than the
bound, above all where it is infinite.

References: Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory",
Ch. 3; Shen and Win, "Fundamental Limits of Wideband Localization, Part I: A General
Framework", Sec. III.
"""

import math
from typing import Any

import numpy as np

from sionna_loc.checks import check, check_number, check_positive
from sionna_loc.constants import SPEED_OF_LIGHT

_SINGULAR = 1e-12  # determinant by squared trace: less is rounding


def range_deviation(bandwidth: float, snr_db: float) -> float:
    """Return the least standard deviation of a range from one path's delay [m].

    The spectrum is flat over the bandwidth, so that its root mean square width is the
    bandwidth by the square root of 12; gain and phase of the path are not known.

    Args:
        bandwidth: float > 0 [Hz].
        snr_db: float [dB]. Power of the path at its peak in the CIR by that of the
            noise in a tap, noise and CIR being limited to the bandwidth.

    Raises: UserError (a ValueError) for a value that cannot be.
    References: Kay, Sec. 3.11 (range estimation); Shen and Win, Part I, Theorem 1,
        one path.
    """
    check_positive("bandwidth", bandwidth)
    check_number("snr_db", snr_db)
    width = 2 * math.pi * bandwidth / math.sqrt(12)  # [rad/s]
    return SPEED_OF_LIGHT / (width * math.sqrt(2 * 10 ** (snr_db / 10)))


def position_error_bound(
    ue_position: Any, trp_position: Any, deviation: float
) -> float:
    """Return the least root mean square of the horizontal error [m].

    TRPs and UE share a time base, and the UE's height is known: a range then tells the
    horizontal position as far as it points along the ground.

    Args:
        ue_position: [3], float [m].
        trp_position: [num_trps, 3], float [m]. Of the TRPs in line of sight.
        deviation: float > 0, or one for each TRP [num_trps] [m]. Of the ranges.

    Returns: infinity if the position is not determined, as by fewer than two TRPs or by
        TRPs all in one line with the UE.
    Raises: UserError (a ValueError) if shapes disagree, or a TRP is where the UE is.
    References: Shen and Win, Part I, Theorem 1, without overlap of paths.
    """
    ue = np.asarray(ue_position, dtype=float)
    trps = np.asarray(trp_position, dtype=float)
    check(
        ue.shape == (3,) and trps.ndim == 2 and trps.shape[1] == 3,
        "Positions must have the shapes [3] and [num_trps, 3].",
        ue_position=ue.shape,
        trp_position=trps.shape,
    )
    way = trps - ue
    distance = np.linalg.norm(way, axis=1, keepdims=True)
    check(bool(np.all(distance > 0)), "A TRP is where the UE is.", ue_position=ue)
    along = way[:, :2] / distance
    weight = np.broadcast_to(np.asarray(deviation, dtype=float) ** -2.0, len(trps))
    (a, b), (_, c) = along.T @ (weight[:, None] * along)  # [1/m^2]
    determinant = a * c - b * b
    if determinant <= _SINGULAR * (a + c) ** 2:
        return math.inf
    return math.sqrt((a + c) / determinant)
