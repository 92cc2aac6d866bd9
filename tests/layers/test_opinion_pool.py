import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.mixture import PositionMixture
from sionna_loc.layers.opinion_pool import OpinionPool
from sionna_loc.losses import PositionLikelihood

SCALES, WEIGHTS = (1, 3, 10, 100), np.exp([0, -2, -4, -6])


def make_map(seed, num_components, batch=4, spread=5.0):
    """Gaussians at random places."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(batch, num_components, 1))
    weights = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    mean = generator.normal(0, spread, (batch, num_components, 3))
    deviation = np.exp(generator.normal(0, 0.3, (batch, num_components, 3)))
    correlation = generator.uniform(-0.8, 0.8, (batch, num_components, 1))
    columns = weights, mean, deviation, correlation
    return np.concatenate(columns, axis=-1).astype("f")


def log_density(values, place):
    belief = PositionMixture.from_map(values)
    return np.asarray(belief.log_density(np.tile(place, (len(values), 1)).astype("f")))


def at_temperature(values, temperature):
    tempered = values.copy()
    logs = values[..., 0] / temperature
    tempered[..., 0] = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return tempered


def heavy(values, scale):
    """Logarithm of a density with tails, as a function of place."""

    def function(place):
        total = 0
        for factor, weight in zip(SCALES, WEIGHTS / WEIGHTS.sum(), strict=True):
            wide = values.copy()
            wide[..., 4:7] *= factor * np.array(scale)[[0, 0, 1]]
            total += weight * np.exp(log_density(wide, place))
        return np.log(total)

    return function


def test_all_but_a_map_have_tails():
    pool = OpinionPool(3)
    pool.log_scale.assign(np.log([[1.5, 1.2], [7.0, 9.0], [0.5, 0.9]]))
    pool.log_temperature.assign(np.log([2.0, 0.7, 3.0]))
    maps = make_map(0, 2), make_map(1, 17), make_map(2, 1)
    values = np.asarray(pool(maps))
    np.testing.assert_allclose(np.exp(values[..., 0]).sum(axis=1), 1, rtol=1e-4)
    first = heavy(at_temperature(maps[0], 2.0), (1.5, 1.2))
    covering, last = at_temperature(maps[1], 0.7), heavy(maps[2], (0.5, 0.9))
    places = np.random.default_rng(3).normal(0, 4, (20, 3))
    constant = [
        first(place) + last(place) + log_density(covering, place)
        - log_density(values, place)
        for place in places
    ]  # fmt: skip
    np.testing.assert_allclose(constant, np.tile(constant[0], (20, 1)), atol=5e-3)


def test_the_number_of_components_is_bounded():
    pool = OpinionPool(3)
    maps = [make_map(seed, count, 2) for seed, count in enumerate((100, 40, 1))]
    values = pool(maps)
    assert values.shape == (2, 2048, 8)
    assert pool.compute_output_shape([x.shape for x in maps]) == values.shape
    np.testing.assert_allclose(np.exp(values[..., 0]).sum(axis=1), 1, rtol=1e-4)
    for counts in ((1, 3, 1), (1, 17, 2)):
        few = [make_map(seed, count, 2) for seed, count in enumerate(counts)]
        assert pool.compute_output_shape([x.shape for x in few]) == pool(few).shape


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("num_parts", [1, 20])
def test_who_is_wrong_is_ignored_and_who_is_right_is_trusted(num_parts, order):
    """By the likelihood, from samples with known positions."""
    generator = np.random.default_rng(0)
    count = 400
    truth = generator.uniform(-50, 50, (count, 3)).astype("f")
    covariance = np.tile(np.eye(3, dtype="f"), (count, 1, 1))
    mean = truth + generator.normal(size=truth.shape).astype("f")
    vague = PositionMixture.gaussian(mean, covariance).to_map()
    exact = truth + 0.1 * generator.normal(size=truth.shape).astype("f")
    exact = PositionMixture.gaussian(exact, 0.04 * covariance)  # twice as good as said
    wrong = PositionMixture.gaussian(truth[::-1], 0.01 * covariance)
    # As a map of many components, too, in which it is vague where the UE is.
    vague = np.repeat(np.asarray(vague), num_parts, axis=1)
    vague[..., 0] -= np.log(num_parts)
    maps = [np.asarray(x) for x in (exact.to_map(), vague, wrong.to_map())]
    maps = [maps[k] for k in order]
    pool = OpinionPool(3)

    def loss():
        belief = PositionMixture.from_map(pool(maps))
        return -float(np.mean(belief.log_density(truth)))

    inputs = [keras.Input(x.shape[1:]) for x in maps]
    model = keras.Model(inputs, pool(inputs))
    before = loss()
    model.compile(keras.optimizers.Adam(0.1), PositionLikelihood())
    model.fit(maps, truth, batch_size=100, epochs=40, verbose=0)
    ideal = np.log(0.1) * 3 + 1.5 * (1 + np.log(2 * np.pi))  # of `exact` as it is
    assert before > ideal + 1
    assert ideal - 0.2 < loss() < ideal + 0.2


def test_is_rebuilt_from_its_config():
    pool = OpinionPool(2)
    assert OpinionPool.from_config(pool.get_config()).num_experts == 2
    assert len(pool.trainable_weights) == 3


@pytest.mark.parametrize("number", [1, 0, 2.0, None])
def test_there_must_be_two(number):
    with pytest.raises(UserError, match="`num_experts` must be a whole number"):
        OpinionPool(number)
