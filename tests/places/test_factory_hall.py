"""The hall: lattice of TRPs, sizes that the channel depends on, top view."""

import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.places.factory_hall import FactoryHall


def test_lattice_of_the_default_hall():
    position = FactoryHall().trp_position
    x, y = np.meshgrid([10, 30, 50, 70, 90, 110], [10, 30, 50])
    assert position.dtype == np.float32
    np.testing.assert_array_equal(position[:, 0], x.ravel())
    np.testing.assert_array_equal(position[:, 1], y.ravel())
    np.testing.assert_array_equal(position[:, 2], 8.0)


def test_lattice_is_centred_where_the_spacing_leaves_a_rest():
    position = FactoryHall(length=50.0, width=25.0, trp_spacing=20.0).trp_position
    np.testing.assert_allclose(position[:, :2], [[15.0, 12.5], [35.0, 12.5]])


@pytest.mark.parametrize(
    ("name", "volume", "surface", "first_trp", "num_trps"),
    [
        ("sl", 72_000, 18_000, (10, 10, 1.5), 18),
        ("dl", 450_000, 99_000, (25, 25, 1.5), 18),
        ("sh", 450_000, 99_000, (25, 25, 8.0), 18),
        ("dh", 72_000, 18_000, (10, 10, 8.0), 18),
    ],
)
def test_calibration_halls(name, volume, surface, first_trp, num_trps):
    hall = FactoryHall.calibration(name)
    assert (hall.volume, hall.surface) == (volume, surface)
    assert hall.trp_position.shape == (num_trps, 3)
    np.testing.assert_allclose(hall.trp_position[0], first_trp)


def test_contains_includes_walls_and_nothing_beyond():
    inside = FactoryHall().contains(
        np.array(
            [[0, 0, 0], [120, 60, 10], [120.1, 30, 1.5], [60, -0.1, 1], [1, 1, 11]]
        )
    )
    np.testing.assert_array_equal(inside, [True, True, False, False, False])


def test_ue_region_keeps_the_margin():
    region = FactoryHall(ue_margin=10.0).ue_region
    np.testing.assert_allclose(region, [[10, 10, 1.5], [110, 50, 1.5]])


def test_top_view_shows_floor_and_walls_in_place():
    view = FactoryHall(length=40.0, width=20.0).top_view(0.5)
    assert view.height.shape == (42, 82)
    assert view.extent == (-0.5, 40.5, -0.5, 20.5)
    assert (view.height[1:-1, 1:-1] == 0).all()
    assert (view.height[[0, -1]] == 10).all() and (view.height[:, [0, -1]] == 10).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0.0}, "`length` must be a number above 0."),
        ({"trp_height": 10.0}, "`trp_height` must be below the ceiling."),
        ({"ue_height": 12.0}, "`ue_height` must be below the ceiling."),
        ({"trp_spacing": 61.0}, "No TRP fits in the hall."),
        ({"ue_margin": 30.0}, "`ue_margin` must leave UEs room."),
        ({"ue_margin": -1.0}, "`ue_margin` must leave UEs room."),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(UserError) as error:
        FactoryHall(**options)
    ((name, value),) = options.items()
    assert str(error.value) == f"{message} Received: {name}={value!r}."


def test_unknown_calibration_hall_names_the_known_ones():
    with pytest.raises(UserError, match="Known: dh, dl, sh, sl"):
        FactoryHall.calibration("hh")
