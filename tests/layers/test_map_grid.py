import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.map_grid import MapGrid, child_offsets


def test_cells_of_the_block_in_paris():
    grid = MapGrid.over([[-10, -230, 0], [270, 50, 3]], 28, 2)
    assert (grid.num_rows, grid.num_columns, grid.spacing) == (28, 28, 10.0)
    centers = grid.centers()
    np.testing.assert_allclose(centers[[0, 1, 28]], [[-5, -225], [5, -225], [-5, -215]])
    np.testing.assert_allclose(centers[-1], [265, 45])


def test_cells_grow_with_the_region_and_cover_it():
    grid = MapGrid.over([[0, 0, 0], [120, 50, 3]], 28, 2)
    assert (grid.num_rows, grid.num_columns) == (12, 28)
    centers, half = grid.centers(), grid.spacing / 2
    assert (centers.min(axis=0) - half <= [1e-3, 1e-3]).all()
    assert (centers.max(axis=0) + half >= [120 - 1e-3, 50 - 1e-3]).all()
    np.testing.assert_allclose(centers.mean(axis=0), [60, 25], atol=1e-3)


def test_parts_tile_their_cell():
    offsets = child_offsets(4)
    np.testing.assert_allclose(offsets[:5, 0], [-0.375, -0.125, 0.125, 0.375, -0.375])
    np.testing.assert_allclose(offsets[:5, 1], [-0.375] * 4 + [-0.125])
    assert len(np.unique(offsets, axis=0)) == 16


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="num_cells=0"):
        MapGrid.over([[0, 0, 0], [1, 1, 1]], 0)
    with pytest.raises(UserError, match="region="):
        MapGrid.over([[0, 0, 0], [0, 0, 3]], 4)
