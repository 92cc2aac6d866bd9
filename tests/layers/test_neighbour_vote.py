import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.fingerprint_memory import FAR, Neighbours
from sionna_loc.layers.neighbour_vote import NeighbourVote

NUM_SLOTS = 3


def make(**options):
    keras.utils.set_random_seed(0)
    return NeighbourVote(
        **{"num_slots": NUM_SLOTS, "units": 16, "spacing": 0.1, **options}
    )


def crowd(size, seed=0, count=8):
    """Neighbours of true places, how far they differ falling with how far they are."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(-1, 1, (size, 3)).astype("f")
    position = true[:, None] + rng.normal(0, 0.15, (size, count, 3)).astype("f")
    squared = np.sum((position - true[:, None]) ** 2, axis=2)
    by_slot = (
        0.01
        * np.cbrt(squared)[..., None]
        * np.exp(0.1 * rng.normal(size=(size, count, NUM_SLOTS)))
    )
    order = np.argsort(by_slot.mean(axis=2), axis=1)
    position, by_slot = (
        np.take_along_axis(x, order[..., None], axis=1) for x in (position, by_slot)
    )
    shared = np.ones_like(by_slot, bool)
    values = position, by_slot.mean(axis=2), by_slot
    return Neighbours(*(x.astype("f") for x in values), shared), true


def far(neighbours, rows):
    difference = neighbours.difference.copy()
    difference[rows] = FAR
    return neighbours._replace(difference=difference)


def test_untrained_it_is_the_weighted_mean_of_the_neighbours():
    neighbours, true = crowd(50)
    vote = make()(neighbours, true + 40)
    weight = (neighbours.difference + 1e-6) ** -6.0
    mean = np.sum(weight[..., None] * neighbours.position, axis=1)
    mean /= weight.sum(axis=1, keepdims=True)
    # The estimate, 70 m off, counts for less than e^-8.
    np.testing.assert_allclose(vote, mean, atol=40 * np.exp(-8) + 0.005)
    near = make()(neighbours, mean.astype("f"))
    np.testing.assert_allclose(near, mean, atol=0.005)


def test_without_a_neighbour_the_estimate_stays():
    neighbours, true = crowd(6)
    vote = np.asarray(make()(far(neighbours, [1, 4]), true + 5))
    np.testing.assert_array_equal(vote[[1, 4]], true[[1, 4]] + np.float32(5))
    assert np.abs(vote[0] - true[0]).max() < 0.5


def test_neighbours_that_are_far_do_not_count():
    neighbours, true = crowd(20)
    fewer = Neighbours(*(x[:, :5] for x in neighbours))
    difference = neighbours.difference.copy()
    difference[:, 5:] = FAR
    padded = neighbours._replace(difference=difference)
    np.testing.assert_allclose(make()(padded, true), make()(fewer, true), atol=1e-5)


def test_it_learns_more_than_weights():
    """Distances to eight known places tell more than which of them is the nearest."""
    vote = make(units=32)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), crowd(2)[0]
    )
    estimate = keras.Input((3,))
    model = keras.Model([inputs, estimate], vote(inputs, estimate))
    model.compile(keras.optimizers.Adam(3e-3), loss="mae")
    neighbours, true = crowd(4096)
    unseen, truth = crowd(512, seed=1)
    before = model.evaluate([unseen, truth + 3], truth, verbose=0)
    model.fit([neighbours, true + 3], true, batch_size=64, epochs=4, verbose=0)
    assert model.evaluate([unseen, truth + 3], truth, verbose=0) < 0.8 * before


def test_config_round_trip_and_mistakes():
    config = make().get_config()
    assert NeighbourVote.from_config(config).get_config() == config
    for name in ("num_slots", "units", "spacing", "num_blocks"):
        with pytest.raises(UserError, match=f"{name}=0"):
            make(**{name: 0})
