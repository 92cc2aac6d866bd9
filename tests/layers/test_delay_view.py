import numpy as np

from sionna_loc.antennas import PlanarArray
from sionna_loc.layers.delay_view import DelayView, delay_window


def test_window_reads_the_response_around_the_delay():
    response = np.stack([np.arange(20.0), np.arange(20.0) ** 2], -1)[None, None]
    window = delay_window(
        response.astype("f"), np.array([[[7.5]]], "f"), np.array([-2, 0, 2], "f")
    )
    np.testing.assert_allclose(window[0, 0, :, 0], [5.5, 7.5, 9.5], atol=1e-5)
    np.testing.assert_allclose(window[0, 0, 1, 1], (49 + 64) / 2, atol=1e-4)


def test_window_is_zero_outside_of_the_response():
    response = np.ones((1, 2, 8, 1), "f")
    window = delay_window(
        response, np.array([[[0.0], [7.0]]], "f"), np.array([-1, 0, 1], "f")
    )
    np.testing.assert_allclose(window[0, :, :, 0], [[0, 1, 1], [1, 1, 0]])


def test_window_of_the_nearest_taps():
    response = np.arange(20.0).reshape(1, 1, 20, 1).astype("f")
    delay, offset = np.array([[[2.4, 2.6, 19.2]]], "f"), np.array([-1, 0], "f")
    window = delay_window(response, delay, offset, interpolate=False)
    np.testing.assert_allclose(window[0, 0, :, 0], [1, 2, 2, 3, 18, 0])


def test_windows_of_a_link_follow_one_another():
    response = np.arange(40.0).reshape(1, 2, 20, 1).astype("f")
    delay = np.array([[[2.5, 10.0, 99.0], [1.0, 0.0, 18.5]]], "f")
    window = delay_window(response, delay, np.array([-1, 1], "f"))
    expected = [[1.5, 3.5, 9, 11, 0, 0], [20, 22, 0, 21, 37.5, 0]]
    np.testing.assert_allclose(window[0, ..., 0], expected, atol=1e-5)


def test_magnitudes_are_seen_by_what_arrives_from_trp_and_image():
    """Beside the other features: each ray's window times the share from its direction.

    All power arrives from 60 degrees from the array's axis, as far as two antennas
    tell: shares of 1 from there, of 0.5 from across and of 0 from 120 degrees.
    """
    array = PlanarArray(2, 1)
    view = DelayView(size=3, spacing=1.0, taps_per_unit=100 / 3)
    magnitude = np.random.default_rng(0).uniform(0.1, 1, (1, 1, 128, 1)).astype("f")
    spectrum = np.tile([0.5, 0.0, 0.5], (1, 1, 128, 1)).astype("f")
    spectrum[0, 0, 40:43] = 0  # no power
    distance = np.array([[[0.3, 0.6, 1.2]]], "f")  # taps 10, 20 and 40
    for cosines, shares in (
        ([0.5, 0, 0.5], [1, 0.5, 1]),
        ([-0.5, 0.5, 0], [0, 1, 0.5]),
    ):
        direction = [[c, -((1 - c**2) ** 0.5), 0] for c in cosines]
        direction = np.array([[direction]], "f")
        around = view.around(magnitude, distance)
        found = view.directed(around, spectrum, distance, direction, array)
        level = magnitude[0, 0, :, 0]
        expected = [
            s * level[t : t + 3] for s, t in zip(shares, (9, 19, 39), strict=True)
        ]
        expected[2][1:] = 0
        np.testing.assert_allclose(found[0, 0], np.ravel(expected), atol=1e-5)


def test_a_peak_counts_by_how_near_it_is():
    """The next one of the strongest, not the strongest itself."""
    magnitude = np.zeros((1, 1, 64, 1), "f")[..., 0]
    for tap, level in ((10, 0.6), (30, 0.9), (50, 0.2)):
        magnitude[0, 0, tap] = level
    view = DelayView(size=12, spacing=2.0, taps_per_unit=4.0)
    distance = np.array([[[3.0, 7.0, 12.0]]], "f")  # taps 12, 28 and 48
    apart, share, near, weight = view.next_peaks(magnitude, distance, num_peaks=2)
    np.testing.assert_allclose(apart[0, 0], [-2, 2, -18], atol=1e-5)
    np.testing.assert_allclose(share[0, 0], [-0.25, 0.25, -1], atol=1e-6)
    expected = np.exp(-((np.array([2, 2, 18]) / 4) ** 2))
    np.testing.assert_allclose(near[0, 0], expected, atol=1e-6)
    assert weight[0, 0, 0] < weight[0, 0, 1] == weight[0, 0, 2]


def test_without_peaks_none_is_near():
    view = DelayView(size=12, spacing=2.0, taps_per_unit=4.0)
    nothing = np.zeros((1, 1, 64), "f")
    apart, _, near, weight = view.next_peaks(nothing, np.ones((1, 1, 2), "f"), 3)
    assert (np.abs(apart) > 40).all()
    assert not np.any(near) and not np.any(weight)
