import keras
import numpy as np
import pytest

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.refinement import PositionRefiner, delay_window


def test_window_reads_the_response_around_the_delay():
    response = np.stack([np.arange(20.0), np.arange(20.0) ** 2], -1)[None, None]
    window = delay_window(response.astype("f"), np.array([[7.5]], "f"), 3, 2.0)
    np.testing.assert_allclose(window[0, 0, :, 0], [5.5, 7.5, 9.5], atol=1e-5)
    np.testing.assert_allclose(window[0, 0, 1, 1], (49 + 64) / 2, atol=1e-4)


def test_window_is_zero_outside_of_the_response():
    response = np.ones((1, 2, 8, 1), "f")
    window = delay_window(response, np.array([[0.0, 7.0]], "f"), 3, 1.0)
    np.testing.assert_allclose(window[0, :, :, 0], [[0, 1, 1], [1, 1, 0]])


@pytest.fixture
def refiner():
    keras.utils.set_random_seed(0)
    return PositionRefiner(
        16, 1, 2, 32, 9, 1.0, taps_per_metre=200e6 / SPEED_OF_LIGHT, scale=50.0
    )


def arguments(num_trps=4):
    rng = np.random.default_rng(1)
    return [
        rng.uniform(-1, 1, (2, 3)).astype("f"),
        rng.uniform(-1, 1, (2, num_trps, 3)).astype("f"),
        rng.normal(size=(2, num_trps, 64, 3)).astype("f"),
        rng.normal(size=(2, 5)).astype("f"),
        np.ones((2, num_trps), bool),
    ]


def test_untrained_refinement_changes_nothing(refiner):
    values = arguments()
    np.testing.assert_allclose(refiner(*values), values[0], atol=1e-6)


def test_config_round_trip(refiner):
    twin = PositionRefiner.from_config(refiner.get_config())
    assert twin.get_config() == refiner.get_config()


def test_learns_ranging_from_few_samples(refiner):
    """An estimate a few metres off is corrected by the first peaks of four TRPs."""
    rng = np.random.default_rng(2)
    scale, rate = 50.0, 200e6 / SPEED_OF_LIGHT
    size = 512
    true = rng.uniform(-0.5, 0.5, (size, 3)).astype("f")
    true[:, 2] = 0
    trp = np.concatenate([rng.uniform(-1, 1, (size, 4, 2)), np.ones((size, 4, 1))], -1)
    delay = np.linalg.norm(trp - true[:, None], axis=-1) * scale * rate
    response = np.sinc((np.arange(128) - delay[..., None]) / 2)[..., None]
    estimate = true + rng.uniform(-0.05, 0.05, true.shape) * [1, 1, 0]
    estimate, trp, response = (a.astype("f") for a in (estimate, trp, response))
    state, mask = np.zeros((size, 1), "f"), np.ones((size, 4), bool)
    refiner(estimate[:2], trp[:2], response[:2], state[:2], mask[:2])

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.refiner = refiner

        def call(self, inputs):
            return self.refiner(*inputs)

    model = Model()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    inputs, new = [
        [a[part] for a in (estimate, trp, response, state, mask)]
        for part in (slice(0, 384), slice(384, None))
    ]
    model.fit(inputs, true[:384], batch_size=64, epochs=40, verbose=0)

    def error(p):
        return np.linalg.norm(p - true[384:], axis=-1).mean() * scale

    before, after = error(estimate[384:]), error(model.predict(new, verbose=0))
    assert before > 1.5
    assert after < 0.7 * before
