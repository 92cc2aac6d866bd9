import numpy as np
import pytest
from keras import ops

from sionna_loc.signals import (
    array_phase,
    band_limited_noise,
    band_limited_taps,
    num_noise_samples,
)

NUMBERS = {"num_taps": 32, "sampling_rate": 200e6, "bandwidth": 100e6}


def taps(gain, delay, **numbers):
    real, imag = band_limited_taps(
        ops.convert_to_tensor(np.asarray(gain, "complex64")),
        ops.convert_to_tensor(np.asarray(delay, "float32")),
        **{**NUMBERS, **numbers},
    )
    return ops.convert_to_numpy(real) + 1j * ops.convert_to_numpy(imag)


def test_path_on_a_tap_at_critical_sampling_is_that_one_tap():
    h = taps([[0.5 - 2j]], [[7 / 100e6]], sampling_rate=100e6)
    expected = np.zeros((1, 32), complex)
    expected[0, 7] = 0.5 - 2j
    np.testing.assert_allclose(h, expected, atol=1e-5)


def test_taps_follow_the_formula_between_taps():
    gain, delay = np.array([1.0, 0.3j]), np.array([33.3e-9, 61.7e-9])
    k = np.arange(32)
    expected = sum(
        g * np.sinc(100e6 * (k / 200e6 - t)) for g, t in zip(gain, delay, strict=True)
    )
    np.testing.assert_allclose(taps(gain, delay), expected, atol=2e-5)


def test_late_delays_stay_exact_to_a_thousandth_of_a_tap():
    delay = np.float32(1.2345e-6)
    h = taps([1.0], [delay], num_taps=256)
    expected = np.sinc(100e6 * (np.arange(256) / 200e6 - np.float64(delay)))
    np.testing.assert_allclose(h, expected, atol=1e-4)


def test_paths_without_gain_add_nothing():
    alone = taps([[1.0]], [[50e-9]])
    padded = taps([[1.0, 0.0, 0.0]], [[50e-9, 0.0, 99e-9]])
    np.testing.assert_array_equal(alone, padded)


def test_gain_keeps_its_phase():
    h = taps([1j], [50e-9])
    assert h[10].imag == pytest.approx(1, abs=1e-6)
    assert abs(h[10].real) < 1e-6


def test_phase_is_the_way_towards_the_arrival_in_wavelengths():
    """60 degrees from above, 30 degrees north of east."""
    aoa = np.array([[[np.pi / 3, np.pi / 6]]], "float32")
    places = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0]], "float32")
    expected = np.pi * np.array([0.75, np.sqrt(3) / 4, 0.5, 0])

    phase = ops.convert_to_numpy(array_phase(aoa, places))
    assert phase.shape == (1, 4, 1)
    np.testing.assert_allclose(phase[0, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize("sampling_rate", [100e6, 160e6, 200e6])
def test_noise_has_the_width_of_the_filter(sampling_rate):
    """Autocorrelation sinc(B t), and the same power in every tap."""
    numbers = {**NUMBERS, "sampling_rate": sampling_rate}
    size = num_noise_samples(**numbers)
    samples = np.random.default_rng(0).standard_normal((40_000, size), "float32")
    noise = ops.convert_to_numpy(band_limited_noise(samples, **numbers))
    assert noise.shape == (40_000, 32)
    np.testing.assert_allclose(noise.var(axis=0), 1, atol=0.04)
    expected = np.sinc(100e6 / sampling_rate * np.arange(32))
    for tap in (0, 16, 31):
        found = noise.T @ noise[:, tap] / len(noise)
        np.testing.assert_allclose(
            found, expected[np.abs(np.arange(32) - tap)], atol=0.04
        )
