"""What benchmarks measure on single links, against closed forms."""

import benchmark_scripts
import numpy as np
import pytest


@pytest.fixture(scope="module")
def link_statistics():
    return benchmark_scripts.load("link_statistics")


def test_two_paths_have_the_moments_of_their_powers(link_statistics):
    # Powers 0.9 and 0.1 of 1e-6, the third path does not exist.
    gain = np.sqrt(np.array([[0.9, 0.1, 0.0]]) * 1e-6) * np.exp(1j * np.arange(3))
    delay = np.array([[1e-6, 1.1e-6, 0.0]])
    aoa = np.array([[[1.0, 3.1], [1.2, -3.1], [0.0, 0.0]]])
    aod = aoa + np.array([0.0, 0.5])
    found = link_statistics.path_statistics(gain, delay, aoa, aod)
    np.testing.assert_allclose(found["coupling_loss"], 60.0)
    np.testing.assert_allclose(found["delay_spread"], 0.3 * 100e-9, rtol=1e-6)

    def spread(step):  # Of two directions that far apart.
        resultant = abs(0.9 + 0.1 * np.exp(1j * step))
        return np.degrees(np.sqrt(-2 * np.log(resultant)))

    # Azimuths lie on both sides of pi, 2 pi - 6.2 apart, and turning changes nothing.
    for name, step in (("asa", 2 * np.pi - 6.2), ("asd", 2 * np.pi - 6.2)):
        np.testing.assert_allclose(found[name], spread(step), rtol=1e-6)
    for name in ("zsa", "zsd"):
        np.testing.assert_allclose(found[name], spread(0.2), rtol=1e-6)


def test_uniform_directions_have_a_spread_without_end(link_statistics):
    angle = np.linspace(-np.pi, np.pi, 5)[:-1]
    assert link_statistics.circular_spread(angle, np.full(4, 0.25)) > 4.0


def test_paths_find_their_clusters_again(link_statistics):
    delay = np.array([0.0, 4e-9, 50e-9, 9e-9])
    power = np.array([0.2, 0.4, 0.3, 0.1])
    index, delays = link_statistics.cluster_of_paths(delay, power, 10e-9)
    # Clusters 1 and 2 are split: 4, 16.8, 29.6 ns and 50, 62.8, 75.6 ns.
    assert index.tolist() == [0, 1, 3, 1, 1, 2, 2, 2]
    expected = [0, 4, 9, 16.8, 29.6, 50, 62.8, 75.6]
    np.testing.assert_allclose(delays, np.array(expected) * 1e-9)


def test_distance_of_samples_is_the_largest_gap(link_statistics):
    assert link_statistics.ks_distance(np.arange(4), np.arange(4)) == 0.0
    assert link_statistics.ks_distance(np.arange(4), np.arange(4) + 1.5) == 0.5
    assert link_statistics.ks_distance(np.zeros(3), np.ones(5)) == 1.0


def test_one_sample_in_a_hundred_is_beyond_the_bound(link_statistics):
    generator = np.random.default_rng(0)
    bound = link_statistics.ks_bound(400, 600)
    beyond = 0
    for _ in range(1000):
        samples = generator.normal(size=400), generator.normal(size=600)
        beyond += link_statistics.ks_distance(*samples) > bound
    assert 2 <= beyond <= 20
