import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sionna_loc.calibration import gaussian_maps
from sionna_loc.layers.mixture import MAP_COLUMNS, PositionMixture

WEIGHT = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
MEAN = np.array([[[0, 0, 1], [3, 1, 2], [-2, 5, 1]], [[9, 9, 0], [1, 1, 1], [2, 0, 1]]])
DEVIATION = np.array([[[1, 2, 0.5], [2, 1, 1], [3, 3, 2]], [[1, 1, 1]] * 3])
CORRELATION = np.array([[0.8, -0.5, 0.0], [0.0, 0.3, -0.9]])


def make_map():
    columns = np.log(WEIGHT)[..., None], MEAN, DEVIATION, CORRELATION[..., None]
    return np.concatenate(columns, axis=-1).astype("f")


def covariance_of(sample, component):
    covariance = np.diag(DEVIATION[sample, component] ** 2)
    shared = CORRELATION[sample, component] * np.prod(DEVIATION[sample, component, :2])
    covariance[0, 1] = covariance[1, 0] = shared
    return covariance


def density(sample, position):
    return sum(
        WEIGHT[sample, k]
        * multivariate_normal(MEAN[sample, k], covariance_of(sample, k)).pdf(position)
        for k in range(3)
    )


def test_density_is_the_sum_of_the_gaussians():
    mixture = PositionMixture.from_map(make_map())
    positions = np.array([[1.5, -0.5, 1.2], [2.5, 0.3, 0.4]])
    expected = [density(k, position) for k, position in enumerate(positions)]
    found = np.exp(mixture.log_density(positions.astype("f")))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_mean_and_covariance_of_the_density():
    mixture = PositionMixture.from_map(make_map())
    center, covariance = np.asarray(mixture.center()), np.asarray(mixture.covariance())
    for k in range(2):
        mean = WEIGHT[k] @ MEAN[k]
        moment = sum(
            WEIGHT[k, i] * (covariance_of(k, i) + np.outer(MEAN[k, i], MEAN[k, i]))
            for i in range(3)
        )
        np.testing.assert_allclose(center[k], mean, rtol=1e-5)
        expected = moment - np.outer(mean, mean)
        np.testing.assert_allclose(covariance[k], expected, rtol=1e-4, atol=1e-4)


def test_mode_is_where_the_density_is_highest():
    """Two neighbours together are higher than the one that is highest alone."""
    values = np.zeros((1, 3, 8), "f")
    values[0, :, 0] = np.log([0.42, 0.29, 0.29])
    values[0, :, 1:3] = [[0, 0], [20, 10], [21, 10.4]]
    values[0, :, 4:7] = 1
    values[0, :, 7] = [0, 0.3, 0.3]
    mixture = PositionMixture.from_map(values)
    places = np.stack(np.meshgrid(np.arange(-2, 24, 0.02), np.arange(-2, 13, 0.02)), -1)
    places = places.reshape(-1, 2)
    flat = np.concatenate([places, np.zeros((len(places), 1))], axis=-1).astype("f")
    many = PositionMixture.from_map(np.asarray(mixture.to_map()))
    highest = flat[np.argmax(many.log_density(flat))]
    assert highest[0] > 20
    np.testing.assert_allclose(mixture.mode()[0], highest, atol=0.03)


def test_the_median_makes_the_expected_distance_small():
    """Against all places of a fine grid, with points drawn from the density."""
    generator = np.random.default_rng(0)
    found = np.asarray(PositionMixture.from_map(make_map()).median())
    axis = np.linspace(-3, 10, 131)
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    for sample in range(2):
        drawn = [
            generator.multivariate_normal(
                MEAN[sample, k], covariance_of(sample, k), int(3000 * WEIGHT[sample, k])
            )
            for k in range(3)
        ]
        drawn = np.concatenate(drawn)[:, :2]

        def expected(place, drawn=drawn):
            return np.linalg.norm(drawn - place, axis=-1).mean()

        least = min(map(expected, places))
        assert expected(found[sample, :2]) < 1.01 * least
        assert MEAN[sample, :, 2].min() <= found[sample, 2] <= MEAN[sample, :, 2].max()
    # Of the second sample, with a place far from the others, the mean does not.
    assert expected((WEIGHT[1] @ MEAN[1])[:2]) > 1.03 * least


def test_where_two_places_are_likely_the_median_is_the_likelier():
    columns = np.zeros((1, 2, 8), "f")
    columns[..., 0], columns[..., 4:7] = np.log([0.8, 0.2]), 0.1
    columns[0, 1, 1:3] = 200.0
    mixture = PositionMixture.from_map(columns)
    assert np.linalg.norm(mixture.center()[0]) > 40
    assert np.linalg.norm(mixture.median()[0]) < 0.5


def test_a_single_gaussian():
    """From mean and covariance, and back."""
    mean = np.array([[1, 2, 3], [4, 5, 6]], "f")
    covariance = np.stack([covariance_of(0, 0), covariance_of(1, 2)]).astype("f")
    mixture = PositionMixture.gaussian(mean, covariance)
    np.testing.assert_allclose(mixture.center(), mean)
    np.testing.assert_allclose(mixture.covariance(), covariance, rtol=1e-5)
    maps = np.asarray(mixture.to_map())
    np.testing.assert_allclose(maps, gaussian_maps(mean, covariance), rtol=1e-5)
    normal = multivariate_normal(mean[0], covariance[0])
    place = np.array([[1.5, 1.0, 3.1]] * 2, "f")
    found = mixture.log_density(place)
    assert float(found[0]) == pytest.approx(normal.logpdf(place[0]), rel=1e-4)


def test_map_round_trip_and_normalisation():
    values = make_map()
    assert values.shape[-1] == len(MAP_COLUMNS)
    mixture = PositionMixture.from_map(values)
    np.testing.assert_array_equal(mixture.to_map(), values)
    heavier = mixture._replace(log_weight=mixture.log_weight + 3.0)
    np.testing.assert_allclose(heavier.normalised().to_map(), values, atol=1e-5)
    joined = mixture.joined(heavier)
    np.testing.assert_array_equal(np.asarray(joined.mean[1])[:, 3:], values[..., 2])
    assert np.exp(joined.normalised().log_weight).sum() == pytest.approx(2, rel=1e-5)


def repeated(mixture, number):
    """The mixture of the first sample, for as many positions."""
    values = np.repeat(np.asarray(mixture.to_map())[:1], number, axis=0)
    return PositionMixture.from_map(values)


def test_the_product_is_both_densities_times_each_other():
    """At any place, up to a constant that makes it a density."""
    one = PositionMixture.from_map(make_map())
    other = PositionMixture.from_map(make_map()[::-1, :2]).normalised()
    product = one.times(other)
    assert product.log_weight.shape == (2, 6)
    np.testing.assert_allclose(np.exp(product.log_weight).sum(axis=1), 1, rtol=1e-5)
    places = np.random.default_rng(0).normal(1, 3, (50, 3)).astype("f")
    logs = [repeated(m, 50).log_density(places) for m in (one, other, product)]
    constant = np.asarray(logs[0] + logs[1] - logs[2])
    np.testing.assert_allclose(constant, constant[0], rtol=1e-3)


def test_times_of_nothing_known_changes_nothing():
    one = PositionMixture.from_map(make_map())
    covariance = np.tile(1e8 * np.eye(3, dtype="f"), (2, 1, 1))
    product = one.times(PositionMixture.gaussian(np.zeros((2, 3), "f"), covariance))
    np.testing.assert_allclose(product.to_map(), make_map(), rtol=1e-3, atol=1e-3)


def test_scaled_components_are_as_many_times_as_wide_and_as_high():
    mixture = PositionMixture.from_map(make_map())
    values = make_map()
    values[..., 4:7] *= [3, 3, 0.5]
    np.testing.assert_allclose(mixture.scaled(3.0, 0.5).to_map(), values, rtol=1e-6)


def test_a_high_temperature_makes_weights_alike():
    mixture = PositionMixture.from_map(make_map()).tempered(2.0)
    expected = np.sqrt(WEIGHT) / np.sqrt(WEIGHT).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(mixture.log_weight), expected, rtol=1e-5)


def test_the_heaviest_components_stay_and_are_a_density():
    heaviest = PositionMixture.from_map(make_map()).heaviest(2)
    expected = np.take_along_axis(
        make_map(), np.array([[0, 1], [2, 0]])[..., None], axis=1
    )
    np.testing.assert_allclose(heaviest.to_map()[..., 1:], expected[..., 1:])
    weights = np.exp(heaviest.log_weight)
    np.testing.assert_allclose(weights, [[0.625, 0.375], [8 / 9, 1 / 9]], rtol=1e-5)


def test_of_few_components_all_are_the_heaviest():
    mixture = PositionMixture.from_map(make_map())
    assert mixture.heaviest(3) is mixture
