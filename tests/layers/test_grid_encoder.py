import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.grid_encoder import GridEncoder


def make(shape=(None, 6, 8, 3)):
    keras.utils.set_random_seed(0)
    layer = GridEncoder(units=16, num_blocks=2, channels=5)
    layer.build(shape)
    return layer


def changed_cells(layer):
    """Which cells [6, 8] of the output an input cell in row 3, column 4 changes."""
    inputs = np.random.default_rng(0).normal(size=(1, 6, 8, 3)).astype("f")
    other = inputs.copy()
    other[0, 3, 4] += 1.0
    difference = np.abs(np.asarray(layer(inputs)) - np.asarray(layer(other)))
    return difference[0].max(axis=-1) > 1e-6


def test_cells_come_out_where_they_went_in():
    layer = make()
    for part in (*layer._blocks, layer._overview):
        part.kernel.assign(np.zeros(part.kernel.shape))
    expected = np.zeros((6, 8), bool)
    expected[2:4, 4:6] = True  # the block of 2 x 2 that holds the cell
    np.testing.assert_array_equal(changed_cells(layer), expected)


def test_convolutions_reach_neighbours_and_the_overview_reaches_all():
    layer = make((None, 6, 8, 3))
    assert changed_cells(layer).all()
    layer._overview.kernel.assign(np.zeros(layer._overview.kernel.shape))
    layer._blocks[1].kernel.assign(np.zeros(layer._blocks[1].kernel.shape))
    expected = np.zeros((6, 8), bool)
    expected[:, 2:] = True  # one convolution over blocks of 2 x 2
    np.testing.assert_array_equal(changed_cells(layer), expected)


def test_config_and_bad_arguments():
    layer = make()
    twin = GridEncoder.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert layer.compute_output_shape((None, 6, 8, 3)) == (None, 6, 8, 5)
    with pytest.raises(UserError, match="fold=2"):
        make((None, 5, 8, 3))
    with pytest.raises(UserError, match="num_blocks=0"):
        GridEncoder(8, 0, 4)
