import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.error_bound import position_error_bound, range_deviation

UE = (10.0, 20.0, 1.5)


def around(*ways):
    """TRPs at these ways (east, north, up) from the UE."""
    return np.array(UE) + np.array(ways, float)


def test_two_trps_at_right_angles():
    """At the UE's height x and y are as good as a range each: sqrt(2) of it."""
    level = around((30, 0, 0), (0, -70, 0))
    assert position_error_bound(UE, level, 0.5) == pytest.approx(math.sqrt(2) / 2)
    # From 3 m across and 4 m up, a range moves by 3 / 5 of what the UE does.
    high = around((3, 0, 4), (0, 70, 0))
    expected = 0.5 * math.sqrt((5 / 3) ** 2 + 1)
    assert position_error_bound(UE, high, 0.5) == pytest.approx(expected)
    each = position_error_bound(UE, high, np.array([0.3, 2.0]))
    assert each == pytest.approx(math.hypot(0.3 * 5 / 3, 2.0))


def test_trps_all_around():
    """n TRPs at even angles: 2 s / sqrt(n), the dilution of precision."""
    for number in (3, 4, 9):
        angle = 2 * np.pi * np.arange(number) / number + 0.3
        ways = 50 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        bound = position_error_bound(UE, around(*ways), 0.2)
        assert bound == pytest.approx(2 * 0.2 / math.sqrt(number))


def test_two_trps_at_a_sharp_angle():
    """Of two ranges that meet at an angle t: sqrt(2) s / sin(t)."""
    for angle in (0.02, 1.0, 3.0):
        trps = around((40, 0, 0), (90 * np.cos(angle), 90 * np.sin(angle), 0))
        expected = math.sqrt(2) * 0.1 / math.sin(angle)
        assert position_error_bound(UE, trps, 0.1) == pytest.approx(expected)


@pytest.mark.parametrize(
    "ways",
    [
        [],
        [(30, 0, 20)],
        [(30, 40, 0), (-60, -80, 20), (3, 4, 7)],
        [(0, 0, 20), (30, 40, 10)],
        [(0, 0, 20), (0, 0, 30)],
    ],
    ids=["none", "one", "in line", "one above", "all above"],
)
def test_not_determined(ways):
    trps = np.reshape(around(*ways) if ways else [], (-1, 3))
    assert position_error_bound(UE, trps, 0.1) == math.inf


def test_least_squares_reaches_the_bound():
    """The most likely position of many noisy ranges, which is efficient."""
    rng = np.random.default_rng(0)
    trps = around((60, 10, 20), (-40, 30, 15), (20, -50, 25), (-5, 80, 18))
    deviation = np.array([0.05, 0.1, 0.2, 0.05])
    ranges = np.linalg.norm(trps - UE, axis=1)
    errors = []
    for noise in deviation * rng.normal(size=(1000, 4)):

        def misfit(place, noisy=ranges + noise):
            there = np.array([*place, UE[2]])
            return (np.linalg.norm(trps - there, axis=1) - noisy) / deviation

        errors.append(least_squares(misfit, UE[:2]).x - UE[:2])
    rmse = np.sqrt(np.mean(np.sum(np.square(errors), axis=1)))
    assert rmse == pytest.approx(position_error_bound(UE, trps, deviation), rel=0.06)


def test_range_deviation_is_that_of_the_most_likely_delay():
    """Against the curvature of the likelihood of a noisy pulse, by differences."""
    bandwidth, snr_db = 80e6, 17.0
    frequency = (np.arange(4001) / 4000 - 0.5) * bandwidth
    power = 10 ** (snr_db / 10) / frequency.size  # of each frequency, by the noise's

    def loss(delay):
        """Mean of |difference|^2 by the noise's power; the gain is fitted."""
        overlap = np.abs(np.mean(np.exp(2j * np.pi * frequency * delay)))
        return power * frequency.size * (1 - overlap**2)

    step = 1e-3 / bandwidth
    information = (loss(step) - 2 * loss(0) + loss(-step)) / step**2
    expected = SPEED_OF_LIGHT / math.sqrt(information)
    assert range_deviation(bandwidth, snr_db) == pytest.approx(expected, rel=1e-3)
    # By hand: c / B is 3 m, sqrt(1.5) / pi of it at 0 dB.
    by_hand = SPEED_OF_LIGHT / 1e8 * math.sqrt(1.5) / math.pi
    assert range_deviation(100e6, 0) == pytest.approx(by_hand)
    assert range_deviation(100e6, 20) == pytest.approx(by_hand / 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: range_deviation(0, 20), "bandwidth=0"),
        (lambda: range_deviation(1e8, "a"), "snr_db='a'"),
        (lambda: position_error_bound(UE[:2], [UE], 0.1), r"ue_position=\(2,\)"),
        (lambda: position_error_bound(UE, UE, 0.1), r"trp_position=\(3,\)"),
        (lambda: position_error_bound(UE, [UE], 0.1), "A TRP is where the UE is"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()
