import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.cell_agreement import CellAgreement
from sionna_loc.layers.map_grid import MapGrid
from sionna_loc.layers.path_agreement import PathAgreement

NUM_TAPS, TAPS_PER_METRE, HEIGHT = 128, 2.0, 1.5
GRID = MapGrid.over([[0, 0, 0], [40, 20, 3]], 10)  # cells of 4 m
TRPS = np.array([[-3, 5, 8], [35, -4, 8], [5, 25, 8], [33, 22, 8]])
MIRRORS = np.array([[-1, 1, 1], [1, -1, 1]])  # x = 0 and y = 0
IMAGES = TRPS[:, None] * MIRRORS
RNG = np.random.default_rng(0)
UES = RNG.uniform([1, 1, HEIGHT], [39, 19, HEIGHT], (30, 3))


def links(which):
    """What UEs hear over images, one peak for each, and where images are."""
    ways = IMAGES[:, which] - UES[:, None, None]
    delays = np.linalg.norm(ways, axis=-1) * TAPS_PER_METRE  # [ues, trps, images]
    taps = np.arange(NUM_TAPS)
    peaks = (1 - 0.5 * np.abs(taps - delays[..., None])).clip(0)
    peaks = peaks.max(axis=2)
    each = [peaks, *(np.broadcast_to(x, (30, *x.shape)) for x in (TRPS, IMAGES))]
    return *(x.astype("f") for x in each), np.ones((30, 4), bool)


def agreement(center, side, heard, tolerances=(1.5, 0.5)):
    layer = CellAgreement(TAPS_PER_METRE, HEIGHT, tolerances)
    center = np.asarray(center, "f")
    found = layer(center, *heard, side=side)
    shapes = [x.shape for x in (center, *heard)]
    assert found.shape == layer.compute_output_shape(*shapes)
    symbols = [keras.KerasTensor(x.shape, x.dtype) for x in (center, *heard)]
    assert layer(*symbols, side=side).shape == found.shape
    return np.asarray(found)


def errors(center, value):
    """How far from the UE the cell is that agrees best."""
    far = np.abs(center - UES[:, None, :2]).max(axis=-1)
    return np.take_along_axis(far, value.argmax(axis=1)[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
def test_the_cell_that_agrees_best_is_that_of_the_ue(which):
    cells = GRID.centers()[None]
    value = agreement(cells, GRID.spacing, links(which))[..., 0]
    assert np.mean(errors(cells, value) < 0.75 * GRID.spacing) > 0.5
    unknown = links(which)
    unknown[2][:] = 1e5
    blind = agreement(cells, GRID.spacing, unknown)[..., 0]
    assert np.mean(errors(cells, blind) < 0.75 * GRID.spacing) < 0.3


def test_small_cells_and_a_narrow_tolerance_tell_where_the_ue_is():
    offsets = RNG.permutation(np.mgrid[-2:3, -2:3].reshape(2, -1).T)
    centers = UES[:, None, :2] + offsets
    wide, narrow = np.moveaxis(agreement(centers, 1.0, links([0, 1])), -1, 0)
    assert np.mean(errors(centers, narrow) < 0.5) > 0.9
    there = (offsets == 0).all(axis=1)
    rival = [value[:, ~there].max(axis=1) for value in (wide, narrow)]
    here = [value[:, there][:, 0] for value in (wide, narrow)]
    margin = np.mean(np.subtract(here, rival), axis=1)
    assert margin[1] > 1.2 * margin[0] > 0.1


def test_a_cell_agrees_as_the_best_of_its_places():
    center, side, heard = UES[:, None, :2] + [0.3, 0.2], 6.0, links([0])
    looks = center + 1.5 * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    points = np.insert(looks, 2, HEIGHT, axis=-1).astype("f")
    tolerance = 1.5 * TAPS_PER_METRE * np.sqrt(2)  # to the corner of a quarter
    each = PathAgreement(TAPS_PER_METRE)(points, *heard, tolerance=tolerance)
    found = agreement(center, side, heard, tolerances=(1.5,))
    np.testing.assert_allclose(found[:, 0, 0], np.max(each, axis=1), atol=1e-5)


def test_cells_of_all_samples_are_those_of_each():
    cells, heard = GRID.centers()[None], links([0, 1])
    once = agreement(cells, GRID.spacing, heard)
    each = agreement(np.repeat(cells, 30, axis=0), GRID.spacing, heard)
    np.testing.assert_allclose(once, each, atol=1e-6)


def test_it_is_rebuilt_from_its_config():
    layer = CellAgreement(TAPS_PER_METRE, 2.5, [1.5, 0.4])
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert (again.taps_per_metre, again.height) == (TAPS_PER_METRE, 2.5)
    assert again.tolerances == (1.5, 0.4)


@pytest.mark.parametrize("arguments", [(0, 1, [1.0]), (1, 1, [0.0]), (1, 1, 2.0)])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(UserError):
        CellAgreement(*arguments)
