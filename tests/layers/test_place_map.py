import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.layers.place_map import PlaceMap, PlaceView
from sionna_loc.layers.refinement import PositionRefiner

REGION = [[-2.0, -1.0, 0.0], [2.0, 1.0, 0.1]]


def built(num_cells=(4,), units=2, region=REGION):
    keras.utils.set_random_seed(0)
    place_map = PlaceMap(region, num_cells, units)
    place_map.build((None, 3))
    return place_map


def plan(*points):
    return np.array([[x, y, 0.05] for x, y in points], "f")


def test_features_are_those_of_a_cell_at_its_centre_and_between_them_linear():
    """Cells of 1 x 1; features that are x and y themselves come back as x and y."""
    place_map = built()
    centers = place_map._grids[0].centers()
    place_map._maps[0].assign(centers)
    points = plan((-1.5, -0.5), (0.5, 0.5), (0.0, 0.0), (-0.9, 0.3), (1.2, -0.4))
    np.testing.assert_allclose(place_map(points), points[:, :2], atol=1e-6)


def test_beyond_the_outermost_centres_features_stay():
    place_map = built()
    place_map._maps[0].assign(place_map._grids[0].centers())
    points = plan((-2, -1), (7, 0.2), (0.3, 9), (1.5, -0.5))
    expected = [[-1.5, -0.5], [1.5, 0.2], [0.3, 0.5], [1.5, -0.5]]
    np.testing.assert_allclose(place_map(points), expected, atol=1e-6)


def test_a_single_cell_is_the_same_everywhere():
    place_map = built(num_cells=(1,), region=[[0, 0, 0], [1, 1, 0]])
    found = place_map(plan((0.1, 0.9), (0.5, 0.5), (3.0, -2.0)))
    np.testing.assert_array_equal(found, np.repeat(place_map._maps[0], 3, axis=0))


def test_features_of_several_maps_one_after_the_other():
    several, points = built(num_cells=(2, 8)), plan((0.3, 0.1), (-1.7, 0.9))
    found = np.asarray(several(points))
    assert found.shape == several.compute_output_shape((2, 3)) == (2, 4)
    assert [tuple(x.shape) for x in several._maps] == [(2, 2), (32, 2)]
    for index, count in enumerate((2, 8)):
        one = built(num_cells=(count,))
        one._maps[0].assign(several._maps[index])
        np.testing.assert_array_equal(found[:, 2 * index :][:, :2], one(points))


def test_gradients_reach_the_cells_around_and_no_position():
    place_map, points = built(), tf.constant(plan((0.1, -0.2)))
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(place_map(points))
    cells, position = tape.gradient(loss, [place_map._maps[0].value, points])
    share = tf.convert_to_tensor(cells)[:, 0].numpy()
    assert position is None
    # Columns -0.5 and 0.5, rows -0.5 and 0.5.
    expected = [0, 0.4 * 0.7, 0.6 * 0.7, 0, 0, 0.4 * 0.3, 0.6 * 0.3, 0]
    np.testing.assert_allclose(share, expected, atol=1e-6)


def test_an_untrained_view_says_nothing_and_learns():
    keras.utils.set_random_seed(0)
    view = PlaceView(6)
    place, trp = np.ones((2, 4), "f"), np.ones((2, 3, 3), "f")
    links, whole = view(place, trp)
    assert not np.any(links) and not np.any(whole)
    assert view.compute_output_shape((2, 4), (2, 3, 3)) == ((2, 3, 6), (2, 6))
    with tf.GradientTape() as tape:
        links, whole = view(place, trp)
        loss = tf.reduce_sum(links) + tf.reduce_sum(whole)
    kernels = [view._link.kernel.value, view._whole.kernel.value]
    for gradient in tape.gradient(loss, kernels):
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize(
    "layer_class, arguments", [(PlaceMap, (REGION, (2, 4), 3)), (PlaceView, (5,))]
)
def test_config_round_trip(layer_class, arguments):
    layer = layer_class(*arguments)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "bad", [{"units": 0}, {"num_cells": 4}, {"num_cells": (0,)}, {"num_cells": (2.5,)}]
)
def test_bad_arguments_are_named(bad):
    options = {"region": REGION, "num_cells": (4,), "units": 2, **bad}
    with pytest.raises(ValueError, match="Received: "):
        PlaceMap(**options)


def detours(place, rng_seed):
    """By how much the ways of four TRPs [m] are longer at places, scaled [n, 3]."""
    rng = np.random.default_rng(rng_seed)
    wave, phase = rng.uniform(-12, 12, (4, 2)), rng.uniform(0, 6, 4)
    return 4 + 4 * np.sin(place[:, :2] @ wave.T + phase)


def without_line_of_sight(size, seed):
    """Estimates 2 m off, and CIRs of one path each, longer than the direct one."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(-0.9, 0.9, (size, 3))
    true[:, 2] = 0
    trp = np.array([[-1, -1, 0.3], [1, -1, 0.3], [-1, 1, 0.3], [1, 1, 0.3]])
    way = 50 * np.linalg.norm(trp - true[:, None], axis=-1) + detours(true, 5)
    response = np.sinc((np.arange(128) - way[..., None] * 2 / 3) / 2)[..., None]
    estimate = true + rng.uniform(-0.04, 0.04, true.shape) * [1, 1, 0]
    trp = np.broadcast_to(trp, (size, 4, 3))
    values = estimate, trp, response, np.zeros_like(trp), np.zeros_like(true)
    mask = np.ones((size, 4), bool)
    return [*(x.astype("f") for x in values), mask], true.astype("f")


class Refined(keras.Model):
    """A step of refinement, with or without a map of the place."""

    def __init__(self, num_cells):
        super().__init__()
        keras.utils.set_random_seed(0)
        self.refiner = PositionRefiner(16, 1, 2, 25, 1.0, 1, 2 / 3, scale=50.0)
        self.map = None
        shapes = (None, None, 3), (None, None, 128, 1), (None, None, 3), (None, 3)
        if num_cells:
            self.map = PlaceMap([[-1, -1, 0], [1, 1, 0]], num_cells, 16)
            self.map.build((None, 3))
            shapes = *shapes, None, None, None, (None, 16 * len(num_cells))
        self.refiner.build((None, 3), *shapes)

    def call(self, inputs):
        place = None if self.map is None else self.map(inputs[0])
        return self.refiner(*inputs, place=place)


def test_a_map_tells_what_detours_links_take_where():
    """Positions between those of the training are found better."""
    values, true = without_line_of_sight(2048, 0)
    unseen, truth = without_line_of_sight(512, 1)
    errors = []
    for num_cells in ((), (16,)):
        model = Refined(num_cells)
        model.compile(keras.optimizers.Adam(5e-3), "mse")
        model.fit(values, true, batch_size=64, epochs=20, verbose=0)
        found = model.predict(unseen, verbose=0)
        errors.append(50 * np.linalg.norm(found - truth, axis=-1).mean())
    assert errors[1] < 0.8 * errors[0], errors
