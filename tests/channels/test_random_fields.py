"""Random fields: autocorrelation, independence, and that place and seed decide."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from sionna_loc.channels.random_fields import (
    SHAPES,
    SumOfSinusoids,
    WhiteNoise,
    wave_numbers,
)
from sionna_loc.checks import UserError

DISTANCE = 10.0
SITES = np.array([[10, 10, 8], [30, 10, 8], [10, 30, 8], [30, 30, 8]], np.float32)

AUTOCORRELATION = {
    "exponential": lambda r: np.exp(-r),
    "gaussian": lambda r: np.exp(-(r**2)),
    "quadriga": lambda r: np.where(r < 1, np.exp(-(r**2)), np.exp(-r)),
}
# In any direction, and on average over directions. The third shape is that of no
# process: the nearest that is one is 0.075 away.
TOLERANCE = {
    "exponential": (0.04, 0.002),
    "gaussian": (0.01, 0.001),
    "quadriga": (0.09, 0.08),
}


def plane(x, y):
    x, y = np.broadcast_arrays(x, y)
    return np.stack([x, y, np.full(x.shape, 1.5)], axis=-1).astype(np.float32)


def values(field, position, sites=SITES):
    return field.values(field.sites(tf.constant(sites)), tf.constant(position)).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_wave_numbers_have_the_autocorrelation_in_every_direction(shape):
    lag = np.arange(0.0, 20.5, 0.5)
    angle = np.linspace(0, np.pi, 91)
    x, y = np.outer(lag, np.cos(angle)), np.outer(lag, np.sin(angle))
    kx, ky = wave_numbers(shape, 512, turn=0.3) / DISTANCE
    actual = np.cos(x[..., None] * kx + y[..., None] * ky).mean(axis=-1)
    expected = AUTOCORRELATION[shape](lag / DISTANCE)[:, None]
    error = actual - expected
    anywhere, on_average = TOLERANCE[shape]
    assert np.abs(error).max() < anywhere
    assert np.abs(error.mean(axis=1)).max() < on_average


@pytest.mark.parametrize("lag", [1.0, 5.0, 10.0])
def test_fields_have_the_exponential_autocorrelation(lag):
    field = SumOfSinusoids(500, DISTANCE, key=11)
    x, y = np.linspace(5, 95, 10), np.linspace(50, 5, 10)
    here, there = (values(field, plane(x + dx, y)) for dx in (0.0, lag))
    product = (here * there).mean()
    np.testing.assert_allclose(product, np.exp(-lag / DISTANCE), atol=0.05)


def test_fields_are_standard_normal_and_independent_of_each_other():
    field = SumOfSinusoids(200, DISTANCE, key=5)
    samples = values(field, plane(np.array([60.0]), np.array([30.0]))).ravel()
    assert stats.kstest(samples, "norm").pvalue > 0.01
    many = SumOfSinusoids(4000, DISTANCE, key=6)
    across = values(many, plane(np.array([60.0]), np.array([30.0])))[0]  # [4, 4000]
    off_diagonal = np.corrcoef(across)[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.06
    assert abs(np.corrcoef(across[0, 1:], across[0, :-1])[0, 1]) < 0.06


@pytest.mark.parametrize("make", [SumOfSinusoids, WhiteNoise])
def test_values_depend_on_place_site_and_key_alone(make):
    arguments = (7, DISTANCE) if make is SumOfSinusoids else (7,)
    field, other = make(*arguments, key=1), make(*arguments, key=2)
    position = plane(np.array([3.0, 50.0, 119.0]), np.array([2.0, 31.0, 59.0]))
    everything = values(field, position)
    alone = values(field, position[2:], SITES[[3, 1]])
    np.testing.assert_allclose(alone[0], everything[2, [3, 1]], atol=1e-5)
    assert np.abs(everything[:, 0] - everything[:, 1]).max() > 0.1
    assert np.abs(values(other, position) - everything).max() > 0.1


def test_white_noise_has_no_correlation_a_centimetre_on():
    field = WhiteNoise(1000, key=3)
    position = plane(np.array([30.0, 30.01]), np.array([20.0, 20.0]))
    here, there = values(field, position).reshape(2, -1)
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.05
    np.testing.assert_allclose(here.std(), 1.0, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "gausian"}, "Did you mean 'gaussian'?"),
        ({"distance": 0.0}, "`distance` must be a number above 0."),
        ({"num_sinusoids": 0}, "`num_sinusoids` must be a whole number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError) as error:
        SumOfSinusoids(**{"num_fields": 1, "distance": 1.0, "key": 0, **options})
    assert message in str(error.value)
