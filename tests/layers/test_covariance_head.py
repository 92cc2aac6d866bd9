import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.covariance_head import CovarianceHead
from sionna_loc.layers.mixture import PositionMixture
from sionna_loc.losses import PositionLikelihood

EXTENT = [200.0, 80.0, 0.0]


def make(**options):
    keras.utils.set_random_seed(0)
    return CovarianceHead(**{"units": 32, "extent": EXTENT, **options})


def test_untrained_deviations_are_a_quarter_of_the_sides():
    covariance = np.asarray(make(smallest=0.1)(np.ones((2, 5), "f")))
    expected = np.diag([50.0, 20, 0.2]) ** 2  # a height without extent: twice the least
    np.testing.assert_allclose(covariance, [expected] * 2, rtol=1e-4, atol=1e-6)


def test_covariances_stay_between_the_bounds():
    """And positive definite, whatever comes in."""
    head = make(smallest=0.1)
    head.build((None, 4))
    for weight in head.trainable_weights:
        weight.assign(50 * keras.random.normal(weight.shape, seed=1))
    inputs = np.random.default_rng(0).normal(size=(200, 4)).astype("f")
    covariance = np.asarray(head(inputs), float)
    deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert deviation.min() == pytest.approx(0.1, rel=1e-3)
    assert deviation.max() == pytest.approx(200, rel=1e-3)
    correlation = covariance[:, 0, 1] / np.prod(deviation[:, :2], axis=1)
    assert 0.98 < np.abs(correlation).max() < 0.991
    np.testing.assert_array_equal(covariance, np.swapaxes(covariance, 1, 2))
    assert not covariance[:, 2, :2].any()


def test_likelihood_finds_the_deviations_and_the_correlation():
    """They follow from the inputs: 1 m to 4 m along x, correlation -0.6 to 0.6."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (4000, 2)).astype("f")
    true_deviation = np.stack(
        [2 * 2 ** inputs[:, 0], np.full(4000, 0.5), np.full(4000, 0.1)], axis=1
    )
    correlation = 0.6 * inputs[:, 1]
    normal = rng.normal(size=(4000, 3))
    normal[:, 1] = (
        correlation * normal[:, 0] + np.sqrt(1 - correlation**2) * normal[:, 1]
    )
    errors = (true_deviation * normal).astype("f")

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = make()

        def call(self, inputs):
            covariance = self.head(inputs)
            mean = keras.ops.zeros_like(covariance[:, 0])
            return PositionMixture.gaussian(mean, covariance).to_map()

    model = Model()
    model.compile(keras.optimizers.Adam(1e-2), PositionLikelihood())
    model.fit(inputs, errors, batch_size=250, epochs=25, verbose=0)
    covariance = np.asarray(model.head(inputs))
    deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    ratio = deviation / true_deviation
    np.testing.assert_allclose(np.median(ratio, axis=0), 1, atol=0.05)
    assert np.abs(np.log(ratio)).mean() < 0.08
    found = covariance[:, 0, 1] / np.prod(deviation[:, :2], axis=1)
    assert np.abs(found - correlation).mean() < 0.08


def test_config_round_trip():
    config = make(smallest=0.3).get_config()
    assert CovarianceHead.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"units": 0}, "units=0"),
        ({"smallest": 0.0}, "smallest=0.0"),
        ({"extent": [1.0, 2.0]}, r"extent=\[1.0, 2.0\]"),
        ({"extent": [0.01, 0.01, 0]}, "the longest above 0.02 m"),
        ({"extent": 5.0}, "extent=5.0"),
    ],
)
def test_bad_arguments_are_named(bad, message):
    with pytest.raises(UserError, match=message):
        make(**bad)
