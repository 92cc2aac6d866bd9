import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.places.sionna_scene import SionnaScene, Surface
from sionna_loc.places.tracer_thread import TRACER_THREAD

ARC_CENTRE = (-127.0, 37.0)
OPEN_PLACE = (-200.0, 20.0)
ROOF = (77.0, -110.0)


@pytest.fixture(scope="module")
def place(small_paris):
    return small_paris.place


def test_heights_tell_the_arc_a_roof_and_the_street_apart(place):
    heights = place.heights(np.array([ARC_CENTRE, OPEN_PLACE, ROOF]))

    assert heights[0] == pytest.approx(50, abs=1)
    assert heights[1] == pytest.approx(0, abs=1e-3)
    assert 10 < heights[2] < 25


def test_heights_are_missing_outside_of_the_scene(place):
    assert np.isnan(place.heights(np.array([[5000.0, 0.0]]))).all()


def test_top_view_has_the_arc_at_its_place(place):
    view = place.top_view(2.0)
    west, east, south, north = view.extent
    row = int((ARC_CENTRE[1] - south) / 2.0)
    column = int((ARC_CENTRE[0] - west) / 2.0)

    assert east - west == pytest.approx(854, abs=3)
    assert view.height.shape == ((north - south) / 2.0, (east - west) / 2.0)
    assert view.height[row, column] == pytest.approx(50, abs=1)
    assert np.nanmax(view.height) == pytest.approx(50, abs=0.1)


def test_antennas_and_frequency_are_the_scenarios(place):
    def read():
        scene = place.scene
        return float(scene.frequency[0]), scene.tx_array.num_ant, scene.rx_array.num_ant

    assert TRACER_THREAD.call(read) == (pytest.approx(40e9), 1, 1)


def test_surface_draws_fill_the_surface_and_nothing_else(place):
    def is_low(points, heights):
        return np.abs(heights) < 0.1

    region = np.array([[0.0, -120.0], [60.0, -60.0]])
    surface = Surface(place, is_low, region, resolution=1.0)
    points = surface.draw(np.random.default_rng(0).random((2000, 8, 3)))

    np.testing.assert_allclose(place.heights(points[:, :2]), 0, atol=0.1)
    assert (points[:, :2] >= region[0]).all()
    assert (points[:, :2] <= region[1]).all()
    # Uniform: the share of points in the west half is that of the cells there.
    share = (points[:, 0] < 30).mean()
    assert share == pytest.approx((surface.cells[:, 0] < 30).mean(), abs=0.04)


def test_surface_takes_a_spare_draw_where_the_first_misses(place):
    calls = []

    def contains(points, heights):
        calls.append(len(points))
        east = points[:, 0] > 0
        return east if len(calls) == 1 else east & (points[:, 0] > 5)

    surface = Surface(place, contains, np.array([[0.0, -40.0], [10.0, -30.0]]), 1.0)
    uniform = np.full((1, 2, 3), 0.5)
    uniform[0, :, 0] = [0.0, 0.99]  # The first cell is west of x = 5, the last east.

    assert surface.draw(uniform)[0, 0] > 5
    with pytest.raises(RuntimeError, match="spare draws"):
        surface.draw(uniform[:, :1])


def test_unknown_scene_lists_the_known_ones():
    place = SionnaScene("etoil", 40e9)

    with pytest.raises(UserError, match=r"Did you mean 'etoile'\?.*munich"):
        place.heights(np.zeros((1, 2)))
