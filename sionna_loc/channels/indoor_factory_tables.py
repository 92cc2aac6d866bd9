"""Numbers of the indoor factory (InF) of 3GPP TR 38.901.

`indoor_factory_los.json` and `indoor_factory_nlos.json` hold Table 7.5-6 part 3, the
columns of Tables 7.4.1-1, 7.5-2, 7.5-4, 7.5-11 and 7.6.9-1 that belong to InF, and the
correlation distances of Table 7.6.3.1-2, under the names that Sionna's
`SystemLevelScenario` reads. What depends on hall and clutter is computed here.
"""

import functools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import check, check_known, check_positive
from sionna_loc.places.factory_hall import FactoryHall

SUB_SCENARIOS = ("sl", "dl", "sh", "dh", "hh")
"""Sparse or dense clutter, TRPs low among it or high above it; both ends high."""

LARGE_SCALE = ("DS", "ASD", "ASA", "SF", "K", "ZSA", "ZSD")
"""Large-scale parameters, in the order of Sionna's `SystemLevelScenario`."""


@dataclass(frozen=True)
class Clutter:
    """What stands in the hall.

    Args:
        density: float in (0, 1). Share of the floor that is covered.
        height: float > 0 [m]. Effective height.
        size: float > 0 [m]. Typical size, `d_clutter`.

    Raises: UserError for a value out of its range.
    References: TR 38.901, Table 7.2-4.
    """

    density: float
    height: float
    size: float

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in asdict(self).items():
            check_positive(name, value)
        check(self.density < 1, "`density` must be below 1.", density=self.density)


SPARSE = Clutter(density=0.2, height=2.0, size=10.0)
DENSE = Clutter(density=0.6, height=6.0, size=2.0)
CALIBRATION_CLUTTER = {"sl": SPARSE, "dl": DENSE, "sh": SPARSE, "dh": DENSE}
"""Clutter with which 3GPP calibrated, TR 38.901, Table 7.8-7; HH has no table."""


@functools.cache
def read_table(state: str) -> dict[str, Any]:
    """Return the table of `"los"` or `"nlos"`, as it stands in its file."""
    return json.loads(table_path(state).read_text(encoding="utf-8"))


def table_path(state: str) -> Path:
    """Return where the table of `"los"` or `"nlos"` lies."""
    return Path(__file__).with_name(f"indoor_factory_{state}.json")


def delay_spread_level(state: str, hall: FactoryHall) -> float:
    """Return the mean of lg(delay spread / s), which grows with the hall.

    Args:
        state: `"los"` or `"nlos"`.
        hall: its ratio of volume to surface counts.

    References: TR 38.901, Table 7.5-6 part 3.
    """
    table = read_table(state)
    ratio = hall.volume / hall.surface
    return math.log10(table["dsVolume"] * ratio + table["dsLevel"]) + table["dsScale"]


def large_scale_moments(
    state: str, sub_scenario: str, hall: FactoryHall, carrier_frequency: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the large-scale parameters.

    Args:
        state: `"los"` or `"nlos"`.
        sub_scenario: one of `SUB_SCENARIOS`.
        hall: see `delay_spread_level`.
        carrier_frequency: float > 0 [Hz].

    Returns: two arrays [7], float64, in the order of `LARGE_SCALE`: spreads as lg of
        seconds or degrees, SF and K in dB.
    References: TR 38.901, Tables 7.5-6 part 3 and 7.5-11.
    """
    table = read_table(state)

    def level(name: str) -> float:
        if name in table:
            return table[name]
        a, b, c = (table[name + letter] for letter in "abc")
        return a * math.log10(b + carrier_frequency / 1e9) + c

    mean = {name: level("mu" + name) for name in ("ASD", "ASA", "K", "ZSA", "ZSD")}
    mean |= {"DS": delay_spread_level(state, hall), "SF": 0.0}
    spread = {name: level("sigma" + name) for name in LARGE_SCALE if name != "SF"}
    spread["SF"] = table[f"sigmaSF_{sub_scenario}"]
    return tuple(np.array([d[name] for name in LARGE_SCALE]) for d in (mean, spread))


def large_scale_correlation(state: str) -> np.ndarray:
    """Return the matrix that gives independent normals their cross-correlation.

    Args:
        state: `"los"` or `"nlos"`.

    Returns: [7, 7], float64. Lower triangular square root of the correlation matrix,
        rows and columns in the order of `LARGE_SCALE`.
    References: TR 38.901, Table 7.5-6 part 3 and clause 7.5, step 4.
    """
    table = read_table(state)
    matrix = np.eye(len(LARGE_SCALE))
    for i, first in enumerate(LARGE_SCALE):
        for j, second in enumerate(LARGE_SCALE):
            if f"corr{first}vs{second}" in table:
                matrix[i, j] = matrix[j, i] = table[f"corr{first}vs{second}"]
    return np.linalg.cholesky(matrix)


def path_loss(
    distance: tf.Tensor, carrier_frequency: float, sub_scenario: str, los: tf.Tensor
) -> tf.Tensor:
    """Return the path loss of links.

    Args:
        distance: [...], float [m]. Between both ends, in three dimensions; what is
            below 1 m counts as 1 m.
        carrier_frequency: float > 0 [Hz].
        sub_scenario: one of `SUB_SCENARIOS`.
        los: [...], bool. Which links have line of sight.

    Returns: [...], as `distance` [dB].
    References: TR 38.901, Table 7.4.1-1.
    """
    distance = tf.maximum(distance, tf.ones_like(distance))
    decades = tf.math.log(distance) / math.log(10)

    def slope(state: str, name: str) -> tf.Tensor:
        level, per_decade, per_frequency = read_table(state)[name]
        level += per_frequency * math.log10(carrier_frequency / 1e9)
        return level + per_decade * decades

    with_sight = without = slope("los", "pathLoss")
    # A low TRP in dense clutter loses no less than one in sparse clutter.
    for name in ("dl", "sl") if sub_scenario == "dl" else (sub_scenario,):
        if name != "hh":
            without = tf.maximum(without, slope("nlos", f"pathLoss_{name}"))
    return tf.where(los, with_sight, without)


def los_probability(
    distance: tf.Tensor,
    trp_height: tf.Tensor,
    ue_height: tf.Tensor,
    sub_scenario: str,
    clutter: Clutter,
) -> tf.Tensor:
    """Return the probability of a line of sight.

    Args:
        distance: [...], float [m]. In the horizontal plane.
        trp_height: float [m], broadcast against `distance`.
        ue_height: float [m], broadcast against `distance`. A UE above the clutter
            always has line of sight to a TRP above it.
        sub_scenario: one of `SUB_SCENARIOS`.
        clutter: what stands in the hall.

    Returns: [...], as `distance`.
    References: TR 38.901, Table 7.4.2-1.
    """
    check_known("InF sub-scenario", sub_scenario, SUB_SCENARIOS)
    if sub_scenario == "hh":
        return tf.ones_like(distance)
    rate = -math.log(1 - clutter.density) / clutter.size
    if sub_scenario in ("sh", "dh"):
        # The share of the way that runs below the top of the clutter.
        trp_height = tf.convert_to_tensor(trp_height, distance.dtype)
        share = tf.math.divide_no_nan(
            clutter.height - ue_height, trp_height - ue_height
        )
        rate *= tf.clip_by_value(share, 0.0, 1.0)
    return tf.exp(-distance * rate)
