import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from sionna_loc.calibration import (
    Belief,
    HorizontalDensity,
    draw_positions,
    examine,
    gaussian_maps,
    promise,
    significant,
)
from sionna_loc.checks import UserError


def gaussians(deviations, places=((0.0, 0.0),), weights=(1.0,), correlation=0.0):
    """A map [1, num_components, 8] of Gaussians of 1.5 m height."""
    rows = [
        [np.log(w), *place, 1.5, d, d, 0.1, correlation]
        for w, place, d in zip(weights, places, deviations, strict=True)
    ]
    return np.array([rows])


def examine_one(maps, truth, estimate=(0.0, 0.0, 1.5), num_draws=20_000):
    outputs = {"position": np.array([estimate]), "map": maps}
    generator = np.random.default_rng(1)
    return examine(outputs, [[*truth, 1.5]], generator, num_draws)


def test_a_round_gaussian():
    """A circle of radius r holds 1 - exp(-r^2 / 2 s^2) of it."""
    belief = examine_one(gaussians([2.0]), (3.0, 0.0))
    assert belief.level[0] == pytest.approx(1 - np.exp(-9 / 8), abs=0.01)
    assert belief.expected_error[0] == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.02)
    assert belief.log_density[0] == pytest.approx(-np.log(8 * np.pi) - 9 / 8)
    beside = examine_one(gaussians([2.0]), (3.0, 0.0), estimate=(30.0, 40.0, 1.5))
    assert beside.expected_error[0] == pytest.approx(50.1, abs=0.2)
    assert belief.circle_level[0] == pytest.approx(belief.level[0], abs=0.01)
    # As far as 48.26 m of 50.04, with a deviation of 2 m.
    assert beside.circle_level[0] == pytest.approx(norm.cdf(-0.89), abs=0.01)


def test_radii_of_a_round_gaussian():
    """A circle of radius s sqrt(-2 ln(1 - p)) holds p of it."""
    outputs = {"position": np.zeros((2, 3)), "map": np.repeat(gaussians([2.0]), 2, 0)}
    outputs["position"][1] = [30.0, 40.0, 1.5]
    found = promise(outputs, np.random.default_rng(1), num_draws=20_000)
    assert found.credible_radius.shape == (2, 3) and found.expected_error.shape == (2,)
    radii = 2 * np.sqrt(-2 * np.log(1 - np.array([0.5, 0.9, 0.95])))
    np.testing.assert_allclose(found.credible_radius[0], radii, rtol=0.02)
    away = 50 + 2 * norm.ppf([0.5, 0.9, 0.95])  # as good as a straight line
    np.testing.assert_allclose(found.credible_radius[1], away, atol=0.2)
    belief = examine_one(gaussians([2.0]), (3.0, 0.0))
    assert found.expected_error[0] == pytest.approx(belief.expected_error[0], rel=0.02)
    assert promise({"position": np.zeros((2, 3))}, np.random.default_rng(0)) is None


def test_a_circle_between_two_modes_is_wide():
    """The region of highest density is two small circles, that around the mean not."""
    maps = gaussians([0.5, 0.5], [(-20, 0), (20, 0)], [0.5, 0.5])
    outputs = {"position": np.zeros((1, 3)), "map": maps}
    found = promise(outputs, np.random.default_rng(0))
    np.testing.assert_allclose(found.credible_radius[0], 20, atol=1.5)
    at_mode = examine_one(maps, (20.0, 0.0))
    assert at_mode.level[0] < 0.02
    assert at_mode.circle_level[0] == pytest.approx(0.5, abs=0.02)


def test_the_second_of_two_modes_counts():
    """The lighter mode begins where the heavier has given all its higher places."""
    maps = gaussians([1.0, 1.0], [(0, 0), (50, 0)], [0.8, 0.2])
    at_light = examine_one(maps, (50.0, 0.0)).level[0]
    assert at_light == pytest.approx(0.8 - 0.2, abs=0.01)  # 0.8 (1 - 0.2 / 0.8)
    assert examine_one(maps, (0.0, 0.0)).level[0] < 0.01
    assert examine_one(maps, (25.0, 0.0)).level[0] == 1.0


def test_a_truth_that_only_a_light_component_holds():
    maps = np.zeros((1, 2, 8))
    maps[0, 0] = [np.log(1 - 5e-7), 0, 0, 0, 0.5, 0.5, 1, 0]
    maps[0, 1] = [np.log(5e-7), 50, 0, 0, 20, 20, 1, 0]
    outputs = {"position": np.zeros((1, 3)), "map": maps}
    belief = examine(outputs, np.array([[50.0, 0, 0]]), np.random.default_rng(0))
    expected = np.log(5e-7 / (2 * np.pi * 400))
    assert belief.log_density[0] == pytest.approx(expected, rel=1e-3)
    assert belief.level[0] == 1


def test_correlation_and_density():
    maps = gaussians([2.0], correlation=0.8)
    normal = multivariate_normal([0, 0], [[4, 3.2], [3.2, 4]])
    for place in ((1.0, 1.5), (1.0, -1.5)):
        belief = examine_one(maps, place)
        assert belief.log_density[0] == pytest.approx(normal.logpdf(place))
        squared = place @ np.linalg.inv(normal.cov) @ place
        assert belief.level[0] == pytest.approx(1 - np.exp(-squared / 2), abs=0.01)


@pytest.mark.parametrize(("scale", "coverage"), [(1.0, 0.9), (0.5, 1 - 0.1**0.25)])
def test_coverage_holds_exactly_where_the_deviation_is_right(scale, coverage):
    rng = np.random.default_rng(2)
    covariance = np.array([[4.0, 1.0, 0], [1.0, 2.0, 0], [0, 0, 0.01]])
    true = rng.multivariate_normal(np.zeros(3), covariance, size=2000)
    outputs = {
        "position": np.zeros((2000, 3)),
        "covariance": np.broadcast_to(scale**2 * covariance, (2000, 3, 3)),
    }
    belief = examine(outputs, true, rng, num_draws=200)
    metrics = belief.metrics()
    assert metrics["coverage_90"] == pytest.approx(coverage, abs=0.025)
    assert metrics["coverage_50"] < metrics["coverage_90"] <= metrics["coverage_95"]
    errors = np.linalg.norm(true[:, :2], axis=1)
    promised = metrics["expected_error"] / scale
    assert promised == pytest.approx(errors.mean(), rel=0.05)
    right = multivariate_normal(np.zeros(2), scale**2 * covariance[:2, :2])
    assert metrics["nll"] == pytest.approx(-right.logpdf(true[:, :2]).mean())


def test_modes_and_their_shares():
    """Three far apart, one of them of two components that make one hill."""
    places = [(0, 0), (30, 0), (30.8, 0.5), (0, 40)]
    maps = gaussians([1.0, 1.0, 1.0, 2.0], places, [0.3, 0.25, 0.2, 0.25])
    found, shares = HorizontalDensity(maps[0]).modes()
    np.testing.assert_allclose(shares, [0.45, 0.3, 0.25])
    np.testing.assert_allclose(found[1:], [(0, 0), (0, 40)], atol=1e-3)
    assert 30 < found[0, 0] < 30.8 and 0 < found[0, 1] < 0.5
    density = HorizontalDensity(maps[0])
    around = found[0] + 0.05 * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1)
    heights = density.log(around.reshape(-1, 2))
    assert heights.argmax() == 4  # the middle one


@pytest.mark.parametrize(("distance", "number"), [(1.9, 1), (2.1, 2)])
def test_two_gaussians_are_two_modes_beyond_two_deviations(distance, number):
    """Of equal ones the middle is a maximum up to there, and a minimum beyond."""
    maps = gaussians([1.0, 1.0], [(0, 0), (distance, 0)], [0.5, 0.5])
    assert len(HorizontalDensity(maps[0]).modes()[1]) == number


def test_modes_of_correlated_components():
    """Along the ridge of one the other is no hill, across it is."""
    for place, number in (((1.2, 1.2), 1), ((1.2, -1.2), 2)):
        maps = gaussians([1.0, 1.0], [(0, 0), place], [0.5, 0.5], correlation=0.9)
        assert len(HorizontalDensity(maps[0]).modes()[1]) == number


def test_negligible_and_narrow_components():
    maps = gaussians([0.1, 1.0, 3.0], [(0, 0)] * 3, [0.6, 0.4, 1e-8])
    assert len(significant(maps[0])) == 2
    wide = HorizontalDensity(significant(maps[0]), least_deviation=0.5)
    np.testing.assert_array_equal(wide.deviation, [[0.5, 0.5], [1, 1]])
    assert wide.log(np.zeros((1, 2)))[0] == pytest.approx(
        np.log((0.6 / 0.25 + 0.4) / (2 * np.pi)), abs=1e-6
    )


def test_a_gaussian_as_a_map():
    covariance = np.array([[[4.0, -1.5, 0], [-1.5, 1.0, 0], [0, 0, 0.25]]])
    (row,) = gaussian_maps(np.array([[1.0, 2.0, 3.0]]), covariance)[0]
    np.testing.assert_allclose(row, [0, 1, 2, 3, 2, 1, 0.5, -0.75])


def test_without_density_and_with_a_wrong_one():
    generator = np.random.default_rng(0)
    position = np.zeros((2, 3))
    assert examine({"position": position}, position, generator) is None
    with pytest.raises(UserError, match="num_components, 8"):
        outputs = {"position": position, "map": np.zeros((2, 5, 6))}
        examine(outputs, position, generator)
    half = Belief(*(np.array([x]) for x in (0.2, 0.4, 1.0, -3.0)))
    other = Belief(*(np.array([x]) for x in (0.92, 0.8, 3.0, -5.0)))
    metrics = Belief.joined([half, other]).metrics()
    assert metrics == {
        "coverage_50": 0.5,
        "coverage_90": 0.5,
        "coverage_95": 1.0,
        "radius_coverage_50": 0.5,
        "radius_coverage_90": 1.0,
        "radius_coverage_95": 1.0,
        "expected_error": 2.0,
        "nll": 4.0,
    }


def test_positions_are_drawn_from_the_whole_density():
    maps = np.array(
        [
            [
                [np.log(0.25), 0, 0, 1, 1, 2, 0.5, 0.8],
                [np.log(0.75), 9, 9, 5, 1, 1, 0.1, 0],
            ]
        ]
    )
    draws = draw_positions({"map": maps}, np.random.default_rng(0), 40_000)
    assert draws.shape == (1, 40_000, 3)
    left = draws[0, draws[0, :, 2] < 3.5]
    assert len(left) / 40_000 == pytest.approx(0.25, abs=0.01)
    assert left.mean(axis=0) == pytest.approx([0, 0, 1], abs=0.06)
    assert left.std(axis=0) == pytest.approx([1, 2, 0.5], rel=0.03)
    assert np.corrcoef(left.T)[0, 1] == pytest.approx(0.8, abs=0.02)
    assert np.corrcoef(left.T)[0, 2] == pytest.approx(0.0, abs=0.03)
    gaussian = {
        "position": np.ones((2, 3)),
        "covariance": np.tile(np.eye(3), (2, 1, 1)),
    }
    draws = draw_positions(gaussian, np.random.default_rng(0), 20_000)
    assert draws.mean(axis=1) == pytest.approx(np.ones((2, 3)), abs=0.03)
    assert draws.std(axis=1) == pytest.approx(np.ones((2, 3)), rel=0.03)
    assert draw_positions({"position": np.ones((2, 3))}, None, 3) is None
