import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.back_projection import BackProjection, ways


def evidence():
    """Tap number, its square, and which link it is, [2, 3, 16, 3]."""
    taps = np.broadcast_to(np.arange(16.0), (2, 3, 16))
    link = np.broadcast_to(np.arange(6.0).reshape(2, 3, 1), (2, 3, 16))
    return np.stack([taps, taps**2, link], axis=-1).astype("f")


def test_reads_between_taps():
    distance = np.full((2, 3, 2), [7.0, 9.8], "f")
    found = np.asarray(BackProjection(0.5)(evidence(), distance))
    np.testing.assert_allclose(found[1, 2, :, 0], [3.5, 4.9], atol=1e-5)
    # A parabola is read as the chord between two taps.
    np.testing.assert_allclose(found[0, 1, :, 1], [12.5, 24.1], atol=1e-4)
    np.testing.assert_allclose(found[:, :, 0, 2].ravel(), np.arange(6), atol=1e-5)


def test_reads_the_nearest_tap():
    distance = np.full((2, 3, 3), [6.9, 7.1, 0.0], "f")
    found = np.asarray(BackProjection(0.5, interpolate=False)(evidence(), distance))
    np.testing.assert_array_equal(found[1, 0, :, 0], [3, 4, 0])
    np.testing.assert_array_equal(found[:, :, 1, 2].ravel(), np.arange(6))


@pytest.mark.parametrize("interpolate", [True, False])
def test_nothing_is_heard_after_the_last_tap(interpolate):
    layer = BackProjection(1.0, interpolate)
    distance = np.full((2, 3, 3), [15.0, 16.6, 1e6], "f")
    found = np.asarray(layer(evidence() + 1, distance))
    np.testing.assert_array_equal(found[0, 0, :, 0], [16, 0, 0])
    assert layer.compute_output_shape((2, 3, 16, 3), (2, 3, 5)) == (2, 3, 5, 3)


def test_distance_and_direction():
    trp = np.array([[[0, 0, 12], [10, 4, 1]]], "f")
    distance, east, north, up = ways(trp, np.array([[[3, 4, 0]]], "f"))
    np.testing.assert_allclose(distance[0, :, 0], [13, np.sqrt(50)], rtol=1e-5)
    np.testing.assert_allclose(east[0, :, 0], [3 / 13, -7 / np.sqrt(50)], rtol=1e-5)
    np.testing.assert_allclose(north[0, :, 0], [4 / 13, 0], atol=1e-6)
    np.testing.assert_allclose(up[0, :, 0], [-12 / 13, -1 / np.sqrt(50)], rtol=1e-5)


def test_config_and_bad_arguments():
    layer = BackProjection(0.7, interpolate=False)
    assert BackProjection.from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )
    with pytest.raises(UserError, match="taps_per_metre=0"):
        BackProjection(0)
    with pytest.raises(UserError, match="interpolate='no'"):
        BackProjection(1.0, "no")
