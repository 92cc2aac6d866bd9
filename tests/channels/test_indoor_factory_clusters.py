"""Steps 5 to 11 of TR 38.901, clause 7.5, against closed forms."""

import numpy as np
import tensorflow as tf
from scipy import stats

from sionna_loc.channels import indoor_factory_clusters as steps

GENERATOR = np.random.default_rng(0)
LINK = tf.constant(50e-9), tf.constant(3.0)
"""Delay spread, and ratio of the spread of delays to it."""


def constant(*values):
    return tf.constant(values, tf.float32)


def test_delays_are_exponential_and_begin_at_zero():
    uniform = np.array([0.9, 0.2, 0.5, 1e-6])
    delays = steps.cluster_delays(
        tf.constant(stats.norm.ppf(uniform), tf.float32), *LINK
    )
    expected = -150e-9 * np.log(uniform / 0.9)
    np.testing.assert_allclose(delays, expected, rtol=1e-4, atol=1e-14)


def test_powers_decay_with_delay_and_shadowing():
    powers = steps.cluster_powers(
        constant(0.0, 100e-9, 100e-9), *LINK, constant(0.0, 0.0, 10.0)
    )
    late = np.exp(-100 / 50 * 2 / 3)
    expected = np.array([1.0, late, late / 10])
    np.testing.assert_allclose(powers, expected / expected.sum(), rtol=1e-5)


def test_pruning_keeps_what_is_within_25_db():
    powers = 10 ** (-constant(0.0, 24.9, 25.1, 3.0) / 10)
    kept = steps.prune(powers).numpy() > 0
    np.testing.assert_array_equal(kept, [True, True, False, True])


def test_scalings_with_line_of_sight_at_10_db():
    k_factor = constant(10.0)
    np.testing.assert_allclose(steps.los_delay_scale(k_factor), [0.3745], rtol=1e-5)
    np.testing.assert_allclose(steps.los_azimuth_scale(k_factor), [0.7235], rtol=1e-5)
    np.testing.assert_allclose(steps.los_zenith_scale(k_factor), [1.0776], rtol=1e-5)


def test_rays_of_equal_phase_add_up_to_the_size_of_the_sub_clusters():
    # Phi(z) = 3/4 is a phase of pi / 2 beyond that of z = 0.
    normals = np.full((1, 40), stats.norm.ppf(0.75), np.float32)
    normals[:, :20] = 0.0
    sums = steps.sub_cluster_sums(tf.constant(normals)).numpy()
    sizes = np.array([10, 6, 4]) / np.sqrt(20)
    np.testing.assert_allclose(sums[0, 0], sizes, rtol=1e-5)
    np.testing.assert_allclose(sums[0, 1], 1j * sizes, atol=1e-5)


def test_sums_of_random_rays_have_the_power_of_their_share():
    normals = GENERATOR.standard_normal((4000, 20)).astype(np.float32)
    sums = steps.sub_cluster_sums(tf.constant(normals)).numpy()[:, 0]
    power = (np.abs(sums) ** 2).mean(axis=0)
    np.testing.assert_allclose(power, [0.5, 0.3, 0.2], rtol=0.06)
    np.testing.assert_allclose(np.abs(sums.mean(axis=0)), 0.0, atol=0.03)


def test_two_strongest_clusters_are_split():
    amplitudes = (np.arange(12).reshape(4, 3) + 1).astype(np.complex64)
    gain, delay, cluster = steps.split_strongest(
        tf.constant(amplitudes)[None],
        constant(1e-7, 2e-7, 3e-7, 4e-7)[None],
        constant(0.1, 0.4, 0.2, 0.3)[None],
        4e-9,
    )
    # Clusters 1 and 3, by power 1 first; the others stay whole.
    np.testing.assert_array_equal(cluster[0], [0, 1, 2, 3, 1, 1, 3, 3])
    np.testing.assert_array_equal(gain[0], [6, 4, 24, 10, 5, 6, 11, 12])
    offsets = np.array([0, 0, 0, 0, 5.12, 10.24, 5.12, 10.24])
    expected = np.array([100, 200, 300, 400, 200, 200, 400, 400]) + offsets
    np.testing.assert_allclose(delay[0] * 1e9, expected, rtol=1e-6)


def angles_of(make, direct, first, spread=1.4, normals=(0.0, 0.0, 0.0)):
    powers = constant(1.0, np.exp(-1.0), np.exp(-4.0))
    return make(
        powers,
        tf.constant(spread),
        tf.constant(2.0),
        constant(1.0, 1.0, -1.0),
        constant(*normals),
        tf.constant(direct),
        constant(*first),
    ).numpy()


def test_azimuths_grow_with_the_root_of_the_logarithm_of_power():
    angles = angles_of(steps.azimuth_angles, 0.5, (0, 0, 0), normals=(0, 1, 0))
    np.testing.assert_allclose(angles, [0.5, 0.5 + 1 + 0.2, 0.5 - 2], atol=1e-5)


def test_zeniths_grow_with_the_logarithm_of_power():
    spread = 0.7
    angles = angles_of(steps.zenith_angles, 1.5, (0, 0, 0), spread, (0, 1, 0))
    expected = [1.5, 1.5 + 0.35 + 0.1, 1.5 - 1.4]
    np.testing.assert_allclose(angles, expected, atol=1e-5)


def test_first_cluster_is_turned_to_the_other_end():
    angles = angles_of(steps.azimuth_angles, 0.5, (0, 1, 0))
    np.testing.assert_allclose(angles, [-0.5, 0.5, -2.5], atol=1e-5)


def test_azimuths_wrap_around_and_zeniths_fold_back():
    azimuth = angles_of(steps.azimuth_angles, 3.0, (0, 0, 0))
    np.testing.assert_allclose(azimuth, [3.0, 4.0 - 2 * np.pi, 1.0], atol=1e-5)
    zenith = angles_of(steps.zenith_angles, 0.2, (0, 0, 0), 0.7)
    np.testing.assert_allclose(zenith, [0.2, 0.55, 1.2], atol=1e-5)


def test_spreads_are_capped():
    wide = angles_of(steps.azimuth_angles, 0.0, (0, 0, 0), spread=50.0)
    cap = np.radians(104) / 1.4
    expected = [0.0, cap, -2 * cap]
    np.testing.assert_allclose(wide, expected, atol=1e-5)
