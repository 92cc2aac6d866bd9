import keras
import numpy as np
import pytest

from sionna_loc.layers.coarse_map import CoarseMap

NUMBERS = {
    "num_rows": 4,
    "num_columns": 6,
    "spacing": 10.0,
    "height": 1.5,
    "taps_per_metre": 0.5,
    "units": 8,
    "num_blocks": 1,
    "channels": 5,
}


def make(use_map, middle=(0.0, 0.0), seed=0):
    keras.utils.set_random_seed(seed)
    layer = CoarseMap(middle=middle, use_map=use_map, **NUMBERS)
    layer.build((None, None, 32, 4))
    for weight in layer.trainable_weights:  # Zeros would hide errors.
        weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    return layer


def silence_convolutions(layer):
    """Leave each cell alone with itself."""
    encoder = layer._encoder
    for part in (*encoder._blocks, encoder._overview, encoder._leave):
        part.kernel.assign(np.zeros(part.kernel.shape))
    # It differs between the cells that are folded into one.
    encoder._leave.bias.assign(np.zeros(encoder._leave.bias.shape))


def arguments(num_trps=3):
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(2, num_trps, 32, 4)).astype("f")
    trp = rng.uniform(-30, 30, (2, num_trps, 3)).astype("f")
    return evidence, trp, np.ones((2, num_trps), bool)


@pytest.mark.parametrize("use_map", [True, False])
def test_a_set_of_trps(use_map):
    layer, (evidence, trp, mask) = make(use_map), arguments()
    expected = np.asarray(layer(evidence, trp, mask))
    assert expected.shape == (2, 24, 5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    order = [2, 0, 1]
    found = layer(evidence[:, order], trp[:, order], mask)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    pad = [(0, 0), (0, 2)]
    padded = (
        np.pad(evidence, [*pad, (0, 0), (0, 0)], constant_values=3.0),
        np.pad(trp, [*pad, (0, 0)], constant_values=5.0),
        np.pad(mask, pad),
    )
    np.testing.assert_allclose(layer(*padded), expected, atol=1e-4)
    swapped = layer(evidence[:, order], trp, mask)
    assert np.abs(np.asarray(swapped) - expected).max() > 1e-2


def test_only_the_map_knows_where_the_region_is():
    evidence, trp, mask = arguments()
    moved = trp + np.array([200, -70, 0], "f")
    for use_map, stays in ((False, True), (True, False)):
        here, there = make(use_map), make(use_map, middle=(200.0, -70.0))
        there.set_weights(here.get_weights())
        expected = np.asarray(here(evidence, trp, mask))
        np.testing.assert_allclose(there(evidence, moved, mask), expected, atol=1e-3)
        # TRPs moved by a cell, the map left where it is: what a cell says of itself
        # moves with them, unless cells have learned where they are.
        silence_convolutions(here)
        before = np.asarray(here(evidence, trp, mask)).reshape(2, 4, 6, 5)
        by_a_cell = trp + np.array([10, 0, 0], "f")
        after = np.asarray(here(evidence, by_a_cell, mask)).reshape(2, 4, 6, 5)
        difference = np.abs(after[:, :, 1:] - before[:, :, :-1]).max()
        assert (difference < 1e-3) == stays
        assert np.abs(after - before).max() > 1e-2


def test_what_is_heard_appears_where_it_is_said_to_come_from():
    """One TRP, evidence at one delay only: cells on a circle around it."""
    keras.utils.set_random_seed(0)
    layer = CoarseMap(middle=(0.0, 0.0), use_map=False, **NUMBERS)
    layer.build((None, None, 32, 1))
    silence_convolutions(layer)
    trp = np.array([[[-25, -15, 1.5]]], "f")  # above the centre of the first cell
    evidence = np.zeros((1, 1, 32, 1), "f")
    evidence[:, :, 11:18] = 1.0  # 22 to 34 m
    mask = np.ones((1, 1), bool)
    found = layer(evidence, trp, mask) - layer(0 * evidence, trp, mask)
    lit = np.abs(np.asarray(found))[0].max(axis=-1) > 1e-4
    away = np.linalg.norm(layer.grid.centers() - trp[0, 0, :2], axis=-1)
    np.testing.assert_array_equal(lit, (away > 21) & (away < 35))
    assert 0 < lit.sum() < 24


def test_config_round_trip():
    layer = make(True, middle=(3.0, 4.0))
    assert CoarseMap.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.compute_output_shape((7, 3, 32, 4)) == (7, 24, 5)
