"""Tables of the indoor factory against TR 38.901, number by number."""

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.channels.indoor_factory_tables import (
    DENSE,
    LARGE_SCALE,
    Clutter,
    delay_spread_level,
    large_scale_correlation,
    large_scale_moments,
    los_probability,
    path_loss,
    read_table,
)
from sionna_loc.checks import UserError
from sionna_loc.places.factory_hall import FactoryHall

CARRIER = 3.5e9

# Mean and standard deviation at 3.5 GHz in the hall of 120 m x 60 m x 10 m, worked out
# by hand from Table 7.5-6 part 3 and Table 7.5-11; DS, ASD, ASA, SF, K, ZSA, ZSD.
MOMENTS = {
    "los": (
        [-7.278, 1.56, 1.66242, 0.0, 7.0, 1.36936, 1.35],
        [0.15, 0.25, 0.27839, 4.3, 8.0, 0.35, 0.35],
    ),
    "nlos": (
        [-7.25816, 1.57, 1.72, 0.0, 0.0, 1.36508, 1.20],
        [0.19, 0.20, 0.30, 4.0, 0.0, 0.45, 0.55],
    ),
}
SINGLE_VALUES = {
    "numClusters": (25, 25),
    "raysPerCluster": (20, 20),
    "rTau": (2.7, 3.0),
    "zeta": (4.0, 3.0),
    "muXPR": (12.0, 11.0),
    "sigmaXPR": (6.0, 6.0),
    "cASD": (5.0, 5.0),
    "cASA": (8.0, 8.0),
    "cZSA": (9.0, 9.0),
    "cDSa": (3.91, 3.91),
    "CPhiNLoS": (1.358, 1.358),
    "CThetaNLoS": (1.282, 1.282),
    **{f"corrDist{name}": (10, 10) for name in LARGE_SCALE},
}


@pytest.mark.parametrize("state", ["los", "nlos"])
def test_moments_of_the_large_scale_parameters(state):
    mean, spread = large_scale_moments(state, "dh", FactoryHall(), CARRIER)
    np.testing.assert_allclose(mean, MOMENTS[state][0], atol=2e-4)
    np.testing.assert_allclose(spread, MOMENTS[state][1], atol=2e-4)


def test_delay_spread_grows_with_the_hall():
    large = FactoryHall.calibration("dl")
    np.testing.assert_allclose(delay_spread_level("nlos", large), -7.2138, atol=1e-4)


@pytest.mark.parametrize("name", SINGLE_VALUES)
def test_single_values(name):
    assert (read_table("los")[name], read_table("nlos")[name]) == SINGLE_VALUES[name]


def test_shadowing_and_excess_delay_by_sub_scenario():
    table = read_table("nlos")
    spread = [table[f"sigmaSF_{name}"] for name in ("sl", "dl", "sh", "dh")]
    distance = [table[f"corrDistToA_{name}"] for name in ("sl", "dl", "sh", "dh")]
    assert spread == [5.7, 7.2, 5.9, 4.0]
    assert distance == [6.0, 6.0, 11.0, 11.0]
    assert (table["muToA"], table["sigmaToA"]) == (-7.5, 0.4)
    los = read_table("los")
    assert {los[f"sigmaSF_{name}"] for name in ("sl", "dl", "sh", "dh", "hh")} == {4.3}


def test_cross_correlations():
    ds, asd, k = (LARGE_SCALE.index(name) for name in ("DS", "ASD", "K"))
    root = large_scale_correlation("los")
    expected = np.eye(7)
    expected[ds, k] = expected[k, ds] = -0.7
    expected[asd, k] = expected[k, asd] = -0.5
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-12)
    np.testing.assert_array_equal(large_scale_correlation("nlos"), np.eye(7))


@pytest.mark.parametrize(
    ("sub_scenario", "distance", "expected"),
    [
        ("dh", 10.0, 66.4114),  # 33.63 + 21.9 + 20 lg 3.5
        ("sh", 100.0, 89.2814),  # 32.40 + 46 + 20 lg 3.5
        ("sl", 100.0, 94.8814),  # 33.00 + 51 + 20 lg 3.5
        ("dl", 100.0, 100.8814),  # 18.60 + 71.4 + 20 lg 3.5
        ("dl", 10.0, 69.3814),  # not 65.18: that of the sparse clutter is larger
        ("dh", 1.0, 44.5114),
        ("dh", 0.1, 44.5114),  # below 1 m as at 1 m
        ("hh", 100.0, 85.1773),  # 31.84 + 43 + 19 lg 3.5
    ],
)
def test_path_loss_without_line_of_sight(sub_scenario, distance, expected):
    loss = path_loss(tf.constant([distance]), CARRIER, sub_scenario, tf.constant(False))
    np.testing.assert_allclose(loss, [expected], atol=2e-4)


@pytest.mark.parametrize("sub_scenario", ["sl", "dl", "sh", "dh", "hh"])
def test_path_loss_with_line_of_sight(sub_scenario):
    loss = path_loss(tf.constant([10.0]), CARRIER, sub_scenario, tf.constant([True]))
    np.testing.assert_allclose(loss, [63.6773], atol=2e-4)


def test_no_path_loss_below_that_with_line_of_sight():
    # At 100 MHz the law of SH is below that of line of sight near the TRP.
    loss = path_loss(tf.constant([1.0]), 0.1e9, "sh", tf.constant([False]))
    np.testing.assert_allclose(loss, [31.84 - 19.0], atol=1e-4)


@pytest.mark.parametrize(
    ("clutter", "distance", "expected"),
    [
        (DENSE, 3.1527, np.exp(-1)),  # k_subsce of the calibration
        (DENSE, 10.0, 0.0419),
        (DENSE, 20.0, 0.0018),
        (Clutter(0.4, 2.0, 2.0), 10.0, 0.8216),
        (Clutter(0.4, 2.0, 2.0), 20.0, 0.6751),
    ],
)
def test_los_probability_of_high_trps(clutter, distance, expected):
    probability = los_probability(tf.constant(distance), 8.0, 1.5, "dh", clutter)
    np.testing.assert_allclose(probability, expected, atol=1e-4)


def test_los_probability_of_low_trps_and_above_the_clutter():
    distance = tf.constant(10.0)
    low = los_probability(distance, 1.5, 1.5, "dl", DENSE)
    np.testing.assert_allclose(low, 0.4**5, rtol=1e-5)
    above = los_probability(distance, 8.0, 7.0, "dh", DENSE)
    np.testing.assert_array_equal(above, 1.0)
    np.testing.assert_array_equal(los_probability(distance, 8, 8, "hh", DENSE), 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 6.0, 2.0), "`density` must be below 1. Received: density=1.0."),
        ((0.6, 0.0, 2.0), "`height` must be a number above 0. Received: height=0.0."),
    ],
)
def test_impossible_clutter_is_named(values, message):
    with pytest.raises(UserError) as error:
        Clutter(*values)
    assert str(error.value) == message


def test_unknown_sub_scenario_names_the_known_ones():
    with pytest.raises(UserError, match="Known: dh, dl, hh, sh, sl"):
        los_probability(tf.constant(1.0), 8.0, 1.5, "dd", DENSE)
