import numpy as np
import pytest

from sionna_loc.channels.raytraced import RayTracer
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.places import madrid_grid
from sionna_loc.places.madrid_grid import (
    BUILDINGS,
    GNB_POSITION,
    PARK,
    SIZE,
    MadridGrid,
)


@pytest.fixture(scope="module")
def grid():
    return MadridGrid(28e9)


def volume_and_outward(corners, triangles):
    """Volume that triangles enclose with the origin's plane, and whether all of their
    normals point away from the mesh's middle."""
    a, b, c = (corners[triangles[:, k]].astype(float) for k in range(3))
    normal = np.cross(b - a, c - a)
    outward = ((a + b + c) / 3 - corners.mean(axis=0)) * normal
    return (a * normal).sum() / 6, bool((outward.sum(axis=1) > 0).all())


def test_fifteen_blocks_of_whole_storeys_around_a_park():
    assert BUILDINGS.shape == (15, 5)
    storeys = BUILDINGS[:, 4] / 3.5
    np.testing.assert_array_equal(storeys, storeys.round())
    assert (storeys.min(), storeys.max()) == (8, 15)
    sides = BUILDINGS[:, 2:4] - BUILDINGS[:, :2]
    assert set(map(tuple, sides.tolist())) == {(120, 120), (30, 120)}
    assert (BUILDINGS[:, :2] >= 9).all()
    assert (BUILDINGS[:, 2:4] <= np.subtract(SIZE, 9)).all()
    west, south, east, north = PARK
    middle = [(west + east) / 2, (south + north) / 2]
    assert not madrid_grid.in_building(np.array([middle]))[0]


def test_blocks_are_closed_at_the_sides_and_on_top():
    # Closed with the floor, which lies in the plane of the origin, it is a box.
    volume, outward = volume_and_outward(*madrid_grid.box_mesh(BUILDINGS[0]))
    assert volume == pytest.approx(120 * 120 * 52.5)
    assert outward
    corners, triangles = madrid_grid.ground_mesh()
    a, b, c = (corners[triangles[:, k]] for k in range(3))
    np.testing.assert_allclose(np.cross(b - a, c - a)[:, 2], 507 * 672)


def test_sionna_sees_the_blocks_from_above(grid):
    middle = BUILDINGS[:, :2] / 2 + BUILDINGS[:, 2:4] / 2
    np.testing.assert_allclose(grid.heights(middle), BUILDINGS[:, 4], atol=1e-3)
    ground = np.array([[138, 60], [282, 300], [207, 345], [-50, -50], [4.5, 4.5]])
    np.testing.assert_allclose(grid.heights(ground), 0, atol=1e-3)
    np.testing.assert_array_equal(grid.bounds, [[-60, -60, 0], [447, 612, 52.5]])
    view = grid.top_view()
    row, column = int(60 + 60 - view.extent[2] - 60), int(200 - view.extent[0])
    assert view.height[row, column] == pytest.approx(28, abs=1e-3)


def test_eighteen_gnbs_stand_in_the_streets_close_to_a_wall():
    assert GNB_POSITION.shape == (18, 3)
    assert (GNB_POSITION[:, 2] == 5).all()
    assert not madrid_grid.in_building(GNB_POSITION).any()
    low, high = BUILDINGS[:, :2], BUILDINGS[:, 2:4]
    plan = GNB_POSITION[:, None, :2]
    gap = np.linalg.norm(np.maximum(np.maximum(low - plan, plan - high), 0), axis=-1)
    assert gap.min(axis=1).max() <= 15
    assert len(np.unique(GNB_POSITION, axis=0)) == 18


@pytest.fixture(scope="module")
def links(grid):
    """Links of a gNB to a UE in its street and to three around the corner, without and
    with diffraction."""
    ue = [[138, 120, 1.5], [170, 136.5, 1.5], [200, 139.5, 1.5], [230, 136.5, 1.5]]
    ue = np.array(ue, np.float32)
    tracers = [
        RayTracer(grid, num_paths=8, solver="stock", diffraction=on)
        for on in (False, True)
    ]
    return [tracer(GNB_POSITION[:1], ue, (0, 0)) for tracer in tracers]


def test_line_of_sight_has_the_delay_of_the_distance(links):
    for paths in links:
        distance = np.linalg.norm([138 - 132, 120 - 70, 1.5 - 5])
        delay = paths["path_delay"].numpy()[0, 0, 0]
        assert delay == pytest.approx(distance / SPEED_OF_LIGHT, abs=1e-10)
        free_space = SPEED_OF_LIGHT / (4 * np.pi * 28e9 * distance)
        gain = np.abs(paths["path_gain"].numpy()[0, 0, 0])
        assert gain == pytest.approx(free_space, rel=1e-3)


def test_walls_block_and_diffraction_bends_around_them(links):
    specular, _ = links
    assert specular["los"].numpy()[0, 0] and not specular["los"].numpy()[1:].any()
    paths = [values["num_paths"].numpy()[1:, 0] for values in links]
    assert (paths[1] > 0).all() and paths[1].sum() > paths[0].sum()
    bent = [(np.abs(v["path_gain"].numpy()[1:, 0]) ** 2).sum(axis=-1) for v in links]
    assert (bent[1] > bent[0]).any()
