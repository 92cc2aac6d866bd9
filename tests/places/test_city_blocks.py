"""Blocks and streets on plans drawn by hand."""

import types

import numpy as np
import pytest
from scipy import ndimage

from sionna_loc.checks import UserError
from sionna_loc.places import city_blocks
from sionna_loc.places.city import City, CityPlan
from sionna_loc.places.city_blocks import CityBlocks, seen_from
from sionna_loc.places.sionna_scene import grid_centres


def test_a_room_is_seen_from_everywhere_and_a_wall_throws_a_shadow():
    room = np.ones((30, 50), bool)
    assert seen_from(room, 3, 40).all()
    room[:20, 25] = False  # a wall from the south, open in the north
    seen = seen_from(room, 5, 10)
    assert seen[:, :25].all() and not seen[~room].any()
    assert not seen[:19, 26:].any()  # right behind it
    # Over the end of the wall, (19.5, 25), one sees what is above the line to it.
    row, column = np.mgrid[:30, :50]
    behind = column > 26
    line = 5 + (19.5 - 5) / 15 * (column - 10)
    assert seen[behind & (row > line + 2)].all()
    assert not seen[behind & (row < line - 2)].any()


@pytest.mark.parametrize("place", [(70, 209), (0, 0), (139, 140), (92, 187), (205, 77)])
def test_on_open_ground_every_cell_of_a_block_is_seen(place):
    assert seen_from(np.ones((280, 280), bool), *place).all()
    assert seen_from(np.ones((1, 1), bool), 0, 0).all()


@pytest.mark.parametrize("rise", [1, 2, -1, -3])
def test_nothing_is_seen_through_a_wall_whose_cells_touch_at_corners(rise):
    """One cell thick, straight lines at several slopes, seen from many places."""
    size = 60
    row, column = np.mgrid[:size, :size]
    across = row - 30 - (column - 30) // rise  # one column each row, or several
    room = across != 0
    for place in ((3, 3), (3, 56), (17, 30), (40, 8), (56, 56), (33, 51)):
        if not room[place]:
            continue
        seen = seen_from(room, *place)
        side = np.sign(across[place])
        assert not seen[np.sign(across) != side].any()
        own = np.sign(across) == side
        assert seen[own].mean() > 0.9


def test_nothing_is_seen_through_a_street_corner():
    cross = np.zeros((41, 41), bool)
    cross[18:23], cross[:, 18:23] = True, True
    seen = seen_from(cross, 20, 20)
    np.testing.assert_array_equal(seen, cross)
    from_end = seen_from(cross, 20, 2)
    assert from_end[18:23].all() and not from_end[:10].any()


def grid_city(size=700, slope=0.0, pitch=70, width=14):
    """Square houses 20 m high between streets, on ground that rises to the east."""
    corner = np.array([-300, 100])
    centres = grid_centres(corner, corner + size, 1.0)
    row, column = np.mgrid[:size, :size]
    street = (row % pitch < width) | (column % pitch < width)
    plan = CityPlan(
        corner=corner,
        centres=centres,
        ground=(slope * column).astype("f"),
        street=street,
        roof=~street,
        clearance=ndimage.distance_transform_edt(street).astype("f"),
    )
    return types.SimpleNamespace(name="grid", plan=plan, config=dict)


def test_streets_are_in_their_block_and_trps_along_them():
    city = grid_city()
    blocks = CityBlocks(city)
    generator = np.random.default_rng(0)
    depths = []
    for _ in range(20):
        street = blocks.draw(generator)
        depths.append(street.roof_depth)
        for cells in (street.ue_cells, street.trp_cells):
            assert np.abs(cells - street.origin[:2]).max() < 140
        column, row = (street.ue_cells - city.plan.corner).astype(int).T
        assert city.plan.street[row, column].all()
        column, row = (street.trp_cells - city.plan.corner).astype(int).T
        assert city.plan.roof[row, column].all()
        ue = street.ue_cells[None]
        far = np.linalg.norm(street.trp_cells[::97, None] - ue, axis=-1).min(axis=1)
        assert far.max() <= street.roof_depth + 1e-3
        assert 1500 <= len(street.ue_cells) < city.plan.street.sum() / 2
    assert min(depths) < 4 and 2 <= min(depths) and 12 < max(depths) <= 25


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_ues_are_where_the_ground_is_like_that_at_the_point_of_view(slope):
    street = CityBlocks(grid_city(slope=slope, width=30)).draw(np.random.default_rng(1))
    ground = slope * (street.ue_cells[:, 0] + 300 - 0.5)
    assert np.abs(ground - street.origin[2]).max() <= 3 + 1e-3
    assert (np.ptp(ground) > 2) == bool(slope)


def test_blocks_do_not_overlap_those_held_out():
    held_out = (-280, 120)
    other = (100, 500)
    blocks = CityBlocks(grid_city(), {"test": held_out, "validation": other})
    every = CityBlocks(grid_city()).corners
    apart = np.abs(every - held_out).max(axis=1) >= 280
    assert 0 < apart.mean() < 1 and len(every) == 421**2
    away = np.abs(every - other).max(axis=1) >= 280
    assert 0 < (apart & away).mean() < apart.mean()
    np.testing.assert_array_equal(blocks.corners, every[apart & away])
    for name, origin in (("test", [-140, 260]), ("validation", [240, 640])):
        own = blocks.draw(np.random.default_rng(0), name)
        assert own.origin[:2].tolist() == origin


def test_blocks_have_roofs_in_each_of_their_quarters():
    city = grid_city()
    city.plan.roof[:, 300:] = False
    corners = CityBlocks(city).corners
    # The eastern half, of columns 140 to 279, needs a tenth of roofs: 14 columns
    # or more of the western part, where 64 % of a house's columns are roof.
    assert 300 - 140 - 40 < (corners[:, 0] + 300).max() < 300 - 140


def test_a_city_without_streets_is_none():
    city = grid_city(width=4)
    with pytest.raises(RuntimeError, match="enough street and roofs"):
        CityBlocks(city).draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    "name",
    [name for name, value in vars(city_blocks).items() if name.isupper()],
)
def test_what_is_drawn_follows_from_the_configuration(name, monkeypatch):
    blocks = CityBlocks(grid_city())
    before = blocks.config()
    value = getattr(city_blocks, name)
    new = (1.0, 2.0) if isinstance(value, tuple) else 2 * value
    monkeypatch.setattr(city_blocks, name, new)
    assert blocks.config() != before


def test_an_unknown_city_lists_the_known_ones():
    with pytest.raises(UserError, match="Did you mean 'munich'"):
        City("munick", 1e9)
