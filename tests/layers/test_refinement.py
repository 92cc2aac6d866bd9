import keras
import numpy as np
import pytest

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.refinement import (
    PositionRefiner,
    delay_window,
    weighted_step,
)


def test_window_reads_the_response_around_the_delay():
    response = np.stack([np.arange(20.0), np.arange(20.0) ** 2], -1)[None, None]
    window = delay_window(
        response.astype("f"), np.array([[[7.5]]], "f"), np.array([-2, 0, 2], "f")
    )
    np.testing.assert_allclose(window[0, 0, :, 0], [5.5, 7.5, 9.5], atol=1e-5)
    np.testing.assert_allclose(window[0, 0, 1, 1], (49 + 64) / 2, atol=1e-4)


def test_window_is_zero_outside_of_the_response():
    response = np.ones((1, 2, 8, 1), "f")
    window = delay_window(
        response, np.array([[[0.0], [7.0]]], "f"), np.array([-1, 0, 1], "f")
    )
    np.testing.assert_allclose(window[0, :, :, 0], [[0, 1, 1], [1, 1, 0]])


def test_weighted_step_solves_the_least_squares_problem():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(5, 6, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    longer, weight = rng.normal(size=(5, 6)), rng.uniform(0.1, 1, (5, 6))
    stiffness = rng.uniform(0, 0.5, (5, 3))
    step = weighted_step(
        *(a.astype("f") for a in (direction, longer, weight, stiffness))
    )
    for k in range(5):
        matrix = np.concatenate(
            [direction[k] * weight[k, :, None] ** 0.5, np.diag(stiffness[k] ** 0.5)]
        )
        target = np.concatenate([-longer[k] * weight[k] ** 0.5, np.zeros(3)])
        expected = np.linalg.lstsq(matrix, target, rcond=None)[0]
        np.testing.assert_allclose(step[k], expected, atol=5e-3)


def test_weighted_step_undoes_a_small_error():
    """Exact ranges of four TRPs lead back to where the UE is."""
    trp = np.array([[80, 0, 10], [-70, 30, 0], [0, -90, 20], [10, 60, -40]], "f")
    true, estimate = np.array([3.0, 4, 1], "f"), np.array([3.5, 3.2, 1.4], "f")
    towards = trp - estimate
    distance = np.linalg.norm(towards, axis=-1, keepdims=True)
    longer = np.linalg.norm(trp - true, axis=-1) - distance[:, 0]
    ones, none = np.ones((1, 4), "f"), np.zeros((1, 3), "f")
    step = weighted_step((towards / distance)[None], longer[None], ones, none)
    np.testing.assert_allclose(estimate + step[0], true, atol=0.02)


@pytest.fixture
def refiner():
    keras.utils.set_random_seed(0)
    return PositionRefiner(
        16, 1, 2, 13, 1.0, 2, taps_per_metre=200e6 / SPEED_OF_LIGHT, scale=50.0
    )


def arguments(size=512, num_trps=4):
    """Estimates some metres off, and the responses of links in line of sight."""
    rng = np.random.default_rng(2)
    true = rng.uniform(-0.5, 0.5, (size, 3))
    true[:, 2] = 0
    height = np.full((size, num_trps, 1), 0.3)
    trp = np.concatenate([rng.uniform(-1, 1, (size, num_trps, 2)), height], -1)
    delay = np.linalg.norm(trp - true[:, None], axis=-1) * 50.0 * 200e6 / SPEED_OF_LIGHT
    response = np.sinc((np.arange(128) - delay[..., None]) / 2)[..., None]
    estimate = true + rng.uniform(-0.05, 0.05, true.shape) * [1, 1, 0]
    values = estimate, trp, response, np.zeros_like(trp), np.zeros_like(true)
    mask = np.ones((size, num_trps), bool)
    return [*(a.astype("f") for a in values), mask], true.astype("f")


def test_untrained_refinement_changes_nothing(refiner):
    values, _ = arguments(8)
    np.testing.assert_allclose(refiner(*values), values[0], atol=5e-3)


def test_state_beside_the_estimate(refiner):
    """What a step knows differs from sample to sample; the estimate is the same."""
    values, _ = arguments(8)
    expected = refiner(*values)
    twin = PositionRefiner(**{**refiner.get_config(), "return_state": True})
    twin.build(*(value.shape for value in values))
    twin.set_weights(refiner.get_weights())
    estimate, state = twin(*values)
    np.testing.assert_array_equal(estimate, expected)
    assert state.shape == (8, 16) and np.ptp(state, axis=0).min() > 1e-3
    assert twin.compute_output_shape((8, 3)) == ((8, 3), (8, 16))
    assert refiner.compute_output_shape((8, 3)) == (8, 3)


def test_config_round_trip(refiner):
    for return_state in (False, True):
        config = {**refiner.get_config(), "return_state": return_state}
        assert PositionRefiner.from_config(config).get_config() == config


def test_learns_ranging_from_few_samples(refiner):
    values, true = arguments()
    refiner(*(a[:2] for a in values))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.refiner = refiner

        def call(self, inputs):
            return self.refiner(*inputs)

    model = Model()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    seen, unseen = (
        [a[part] for a in values] for part in (slice(384), slice(384, None))
    )
    model.fit(seen, true[:384], batch_size=64, epochs=30, verbose=0)

    def error(position):
        return np.linalg.norm(position - true[384:], axis=-1).mean() * 50.0

    assert error(unseen[0]) > 1.5
    assert error(model.predict(unseen, verbose=0)) < error(unseen[0]) / 3


@pytest.mark.parametrize(
    "bad", [{"window": 0}, {"num_rays": 0}, {"spacing": 0.0}, {"units": -1}]
)
def test_bad_arguments_are_named(bad, refiner):
    config = {**refiner.get_config(), **bad}
    with pytest.raises(ValueError, match=f"Received: {next(iter(bad))}="):
        PositionRefiner(**config)
