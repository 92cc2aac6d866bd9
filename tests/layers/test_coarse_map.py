import keras
import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.layers.angle_spectrum import AngleSpectrum
from sionna_loc.layers.coarse_map import CoarseMap
from sionna_loc.signals import array_phase

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


FEATURES, VIEWS = {"view_rank": 0}, {"map_units": 0}  # alone


def make(use_map, middle=(0.0, 0.0), seed=0, **options):
    keras.utils.set_random_seed(seed)
    layer = CoarseMap(middle=middle, use_map=use_map, **options, **NUMBERS)
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


@pytest.mark.parametrize(
    ("use_map", "options"),
    [(True, {}), (True, FEATURES), (True, VIEWS), (False, {})],
)
def test_a_set_of_trps(use_map, options):
    layer, (evidence, trp, mask) = make(use_map, **options), arguments()
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
    for use_map, options, stays in (
        (False, {}, True),
        (True, {"map_units": 0, "view_rank": 0}, True),
        (True, {}, False),
        (True, FEATURES, False),
        (True, VIEWS, False),
    ):
        here = make(use_map, **options)
        there = make(use_map, middle=(200.0, -70.0), **options)
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


@pytest.mark.parametrize(
    ("options", "of_cells", "of_trps"),
    [(FEATURES, True, False), (VIEWS, True, True), ({**FEATURES, **VIEWS}, 0, 0)],
)
def test_what_the_map_says_of_cells_and_of_trps(options, of_cells, of_trps):
    """Where nothing is heard, and each cell is alone with itself."""
    layer, (evidence, trp, mask) = make(True, **options), arguments()
    silence_convolutions(layer)
    here = np.asarray(layer(0 * evidence, trp, mask))
    there = np.asarray(layer(0 * evidence, trp[::-1], mask))
    assert (np.ptp(here, axis=1).max() > 1e-3) == of_cells
    assert (np.abs(here - there).max() > 1e-3) == of_trps


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


def heard(ue, trp, array):
    """Evidence of one path, at its delay, with the spectrum of its directions."""
    way = trp - ue
    distance = np.linalg.norm(way)
    angles = [np.arccos(way[2] / distance), np.arctan2(way[1], way[0])]
    phase = array_phase(np.array([angles], "f"), array.element_position)
    path = np.exp(1j * np.asarray(phase))[:, 0]
    tap = round(distance * NUMBERS["taps_per_metre"])
    cir = np.zeros((1, array.num_ant, 32, 2), "f")
    cir[0, :, tap] = np.stack([path.real, path.imag], axis=-1)
    (spectrum,) = AngleSpectrum(array.num_rows, array.num_columns, (9,))(cir)
    reach = np.abs(np.arange(32) - tap) <= 2  # as far as half a cell's diagonal
    evidence = np.where(reach, 0.0, -1.0)[None, :, None]
    return np.concatenate([evidence, spectrum], axis=-1)[None].astype("f")


@pytest.mark.parametrize("cell", [1, 8, 16, 22])
def test_one_path_at_an_array_lights_up_the_cell_that_it_comes_to(cell):
    """One TRP: the delay leaves a circle, the direction a place on it."""
    array = PlanarArray(2, 4)
    keras.utils.set_random_seed(0)
    layer = CoarseMap(
        middle=(0.0, 0.0), use_map=False, array=array.to_dict(), **NUMBERS
    )
    layer.build((None, None, 32, 1 + 21))
    layer._angle.kernel.assign([[0.0], [1.0]])
    trp = np.array([2.0, -3.0, 9.0], "f")
    ue = np.append(layer.grid.centers()[cell], NUMBERS["height"])
    evidence = heard(ue, trp, array)
    mask = np.ones((1, 1), bool)
    lit = np.asarray(layer._pool(evidence, trp[None, None], mask))[0, :, 1]
    assert np.argmax(lit) == cell
    rivals = np.sort(np.delete(lit, cell))
    assert lit[cell] > 1.3 * rivals[-1]
    layer._angle.kernel.assign(np.zeros((2, 1)))
    evidence[..., 0] += 1.0  # the delay alone: many cells, all the same
    lit = np.asarray(layer._pool(evidence, trp[None, None], mask))[0, :, 1]
    assert (lit == lit[cell]).sum() > 3


def test_with_an_array_padding_still_changes_nothing():
    array = {"num_rows": 1, "num_columns": 2, "spacing": 0.5}
    keras.utils.set_random_seed(0)
    layer = CoarseMap(middle=(0.0, 0.0), array=array, **NUMBERS)
    layer.build((None, None, 32, 4))  # one channel, three terms
    evidence, trp, mask = arguments()
    expected = np.asarray(layer(evidence, trp, mask))
    pad = [(0, 0), (0, 2)]
    found = layer(
        np.pad(evidence, [*pad, (0, 0), (0, 0)], constant_values=3.0),
        np.pad(trp, [*pad, (0, 0)], constant_values=5.0),
        np.pad(mask, pad),
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    without = np.concatenate([evidence[..., :1], 0 * evidence[..., 1:]], axis=-1)
    assert np.abs(np.asarray(layer(without, trp, mask)) - expected).max() > 1e-3


def test_a_condition_scales_and_shifts_what_is_encoded():
    keras.utils.set_random_seed(0)
    conditioned, plain = (
        CoarseMap(middle=(0.0, 0.0), use_map=False, **NUMBERS) for _ in range(2)
    )
    shapes = (None, None, 32, 4), (None, None, 3), (None, None)
    plain.build(*shapes)
    conditioned.build(*shapes, (None, 2))
    film, bias = conditioned._film.weights
    rest = [w for w in conditioned.weights if w is not film and w is not bias]
    plain.set_weights([np.asarray(w) for w in rest])
    condition = np.array([[1.0, 0.0], [0.0, 1.0]], "f")
    expected = np.asarray(plain(*arguments()))
    before = conditioned(*arguments(), condition)
    np.testing.assert_allclose(before, expected, atol=1e-5)  # untrained: none
    kernel = np.zeros((2, 16))
    kernel[0, :8] = -1.0  # the first sample: all that is seen is taken away,
    kernel[1, 8:] = 0.5  # the second: a shift
    film.assign(kernel)
    after = np.asarray(conditioned(*arguments(), condition))
    blank = plain(0 * arguments()[0], *arguments()[1:])
    np.testing.assert_allclose(after[0], blank[0], atol=1e-5)
    assert np.abs(after[1] - expected[1]).max() > 1e-2


def test_config_round_trip():
    array = {"num_rows": 2, "num_columns": 4, "spacing": 0.4}
    layer = CoarseMap(middle=(0.0, 0.0), array=array, **NUMBERS)
    again = CoarseMap.from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and again.array == array
    layer = make(True, middle=(3.0, 4.0))
    assert CoarseMap.from_config(layer.get_config()).get_config() == layer.get_config()
    layer = make(True, map_units=3, view_rank=2)
    assert CoarseMap.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.compute_output_shape((7, 3, 32, 4)) == (7, 24, 5)
