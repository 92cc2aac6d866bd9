import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from sionna_loc.layers.place_map import PlaceMap
from sionna_loc.layers.refiner_chain import (
    HeardTrps,
    NearTrps,
    refined,
    refined_each,
    refiner_chain,
)

BOX = (np.full(3, -2, "f"), np.full(3, 2, "f"))
SIZES = {
    "units": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "window": 5,
    "num_rays": 2,
    "taps_per_metre": 0.5,
    "scale": 20.0,
}


def links(trps=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))):
    """Two samples; TRPs that the UE is at most 1.5 away from."""
    rng = np.random.default_rng(0)
    position = np.broadcast_to(np.array(trps, "f"), (2, 3, 3))
    mask = np.ones((2, 3), bool)
    embedding = rng.normal(size=(2, 3, 6)).astype("f")
    longest = np.full((2, 3), 1.5, "f")
    response = rng.normal(size=(2, 3, 16, 3)).astype("f")
    heard = HeardTrps(embedding, position, longest, mask)
    return heard, NearTrps(embedding, position, ops.convert_to_tensor(response), mask)


def test_each_step_begins_where_the_delays_allow_and_the_last_state_stays():
    starts = []

    def step(number):
        def refine(start, position, response, embedding, loc, mask, *others):
            image, spectrum, place = others
            assert image is None and spectrum is None
            np.testing.assert_array_equal(place, start + 1)
            starts.append(np.asarray(start))
            return start + np.float32([0, 0, 5 * number]), number

        return refine

    heard, near = links()
    first = np.array([[0.2, 0.2, 0.2], [9.0, 0.0, 0.0]], "f")
    steps = [step(1), step(2)]
    looked_up = refined(first, steps, heard, near, None, BOX, lambda start: start + 1)
    estimates, state = looked_up
    assert estimates.shape == (2, 3, 3) and state == 2
    np.testing.assert_array_equal(estimates[:, 0], first)
    np.testing.assert_array_equal(starts[0][0], first[0])
    for start in (starts[0][1], *starts[1]):  # which come from out of reach
        away = np.linalg.norm(heard.position[0] - start, axis=-1)
        assert away.max() == pytest.approx(1.5, abs=0.05)
    for number, start in enumerate(starts):
        moved = np.asarray(estimates)[:, number + 1] - start
        np.testing.assert_allclose(moved, [[0, 0, 5 * (number + 1)]] * 2, rtol=1e-5)


def test_without_steps_the_estimate_is_all():
    heard, _ = links()
    first = np.ones((2, 3), "f")
    estimates, state = refined(first, [], heard, None, None, BOX)
    np.testing.assert_array_equal(estimates, first[:, None])
    assert state is None


def test_a_chain_of_refiners_and_no_gradient_into_responses():
    keras.utils.set_random_seed(0)
    refiners = refiner_chain((2.0, 1.0), (None, None, 16, 3), 6, **SIZES)
    assert [refiner.spacing for refiner in refiners] == [2.0, 1.0]
    for refiner in refiners:
        for weight in refiner.trainable_weights:  # zeros would hide errors
            weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    heard, near = links()
    first, loc = np.zeros((2, 3), "f"), np.ones((2, 6), "f")
    embedding = tf.constant(near.embedding)
    with tf.GradientTape() as tape:
        tape.watch([near.response, embedding])
        seen = near._replace(embedding=embedding)
        estimates, state = refined(first, refiners, heard, seen, loc, BOX)
    response, embedded = tape.gradient(estimates, [near.response, embedding])
    assert response is None and np.abs(embedded).max() > 0
    assert estimates.shape == (2, 3, 3) and state.shape == (2, 8)
    louder = near._replace(response=near.response * 1.5)
    changed, _ = refined(first, refiners, heard, louder, loc, BOX)
    assert np.abs(changed - estimates)[:, 1:].max() > 1e-3


def test_images_reach_every_step():
    """An image that moves within the delays changes all estimates but the first."""
    keras.utils.set_random_seed(0)
    sizes = {**SIZES, "num_images": 2}
    refiners = refiner_chain((2.0, 1.0), (None, None, 16, 3), 6, **sizes)
    for refiner in refiners:
        for weight in refiner.trainable_weights:
            weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    heard, near = links()
    first, loc = np.zeros((2, 3), "f"), np.ones((2, 6), "f")
    estimates = []
    for places in ([0.5, 0.7], [0.5, 0.9]):
        image = np.array(places, "f")[:, None] * np.ones((2, 3, 1, 3), "f")
        seen = near._replace(image=image)
        estimates.append(refined(first, refiners, heard, seen, loc, BOX)[0])
    moved = np.abs(estimates[1] - estimates[0]).max(axis=-1)
    assert (moved[:, 0] == 0).all() and (moved[:, 1:] > 1e-4).all()


def test_only_the_last_step_sees_peaks():
    shape = (None, None, 16, 3)
    refiners = refiner_chain((2.0, 1.0), shape, 6, num_peaks=3, **SIZES)
    assert [refiner.num_peaks for refiner in refiners] == [0, 3]


def test_a_map_reaches_every_step():
    keras.utils.set_random_seed(0)
    place_map = PlaceMap([[-2, -2, 0], [2, 2, 0]], (2, 4), 3)
    place_map.build((None, 3))
    shape = (None, None, 16, 3)
    refiners = refiner_chain((2.0, 1.0), shape, 6, place_units=6, **SIZES)
    for refiner in refiners:
        for weight in refiner.trainable_weights:
            weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    heard, near = links()
    first, loc = np.zeros((2, 3), "f"), np.ones((2, 6), "f")
    known = refiners, heard, near, loc, BOX, place_map
    estimates, _ = refined(first, *known)
    several, _ = refined_each(np.stack([first, first + 1], axis=1), *known)
    np.testing.assert_allclose(several[:, 0], estimates, atol=1e-5)
    for weight in place_map.trainable_weights:
        weight.assign_add(keras.random.normal(weight.shape))
    changed, _ = refined(first, *known)
    moved = np.abs(changed - estimates).max(axis=-1)
    assert (moved[:, 0] == 0).all() and (moved[:, 1:] > 1e-4).all()
