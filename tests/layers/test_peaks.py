import numpy as np

from sionna_loc.layers.peaks import strongest_peaks

TAPS = np.arange(64)


def pulses(*places):
    """Magnitude of 60 dB a unit, [64], of pulses (tap, level) that do not overlap."""
    shapes = [level - 0.02 * (TAPS - tap) ** 2 for tap, level in places]
    return np.maximum(np.max(shapes, axis=0), 0).astype("f")


def test_between_taps_and_by_strength():
    magnitude = pulses((30.3, 0.9), (10.0, 0.8), (49.6, 0.72))
    tap, weight = (np.asarray(x) for x in strongest_peaks(magnitude[None], 4))
    np.testing.assert_allclose(tap[0, :3], [30.3, 10.0, 49.6], atol=1e-3)
    top = magnitude.max()
    expected = [1, 1 - (top - 0.8) / 0.3, 1 - (top - magnitude[50]) / 0.3, 0]
    np.testing.assert_allclose(weight[0], expected, atol=1e-4)


def test_peaks_far_below_the_strongest_count_nothing():
    tap, weight = strongest_peaks(pulses((30, 0.9), (10, 0.55))[None], 2)
    assert float(tap[0, 0]) == 30 and np.asarray(weight)[0].tolist() == [1, 0]
    near = np.asarray(strongest_peaks(pulses((30, 0.9), (10, 0.605))[None], 2)[1])
    np.testing.assert_allclose(near, [[1, 0.05]])


def test_of_few_taps_there_are_as_many_as_can_be():
    magnitude = np.array([[0.7, 0.8, 0.7, 0.9, 0.7]], "f")
    tap, weight = (np.asarray(x) for x in strongest_peaks(magnitude, 4))
    np.testing.assert_allclose(tap[0, :2], [3, 1], atol=1e-5)
    np.testing.assert_allclose(weight, [[1, 2 / 3, 0]], atol=1e-5)


def test_silence_has_no_peak():
    tap, weight = strongest_peaks(np.zeros((2, 3, 64), "f"), 5)
    assert tap.shape == weight.shape == (2, 3, 5)
    assert np.isfinite(tap).all() and not np.any(weight)
