import keras
import numpy as np
import pytest

from sionna_loc.losses import EuclideanDistance, PositionLikelihood


def test_mean_distance_in_space():
    true = np.array([[0, 0, 0], [1, 1, 1]], "float32")
    estimate = np.array([[3, 4, 12], [1, 1, 3]], "float32")
    assert float(EuclideanDistance()(true, estimate)) == pytest.approx((13 + 2) / 2)


def test_likelihood_of_two_gaussians():
    """The true position lies in the middle of the lighter one of two far apart."""
    true = np.array([[50, 20, 1.5], [0, 3, 1.5]], "float32")
    heavy = [np.log(0.75), 0, 0, 1.5, 1, 1, 1, 0]
    light = [np.log(0.25), 50, 20, 1.5, 2, 4, 1, 0]
    maps = np.array([[heavy, light]] * 2, "float32")
    first = np.log(0.25 / (2 * np.pi) ** 1.5 / 8)
    second = np.log(0.75 / (2 * np.pi) ** 1.5) - 9 / 2
    found = float(PositionLikelihood()(true, maps))
    assert found == pytest.approx(-(first + second) / 2, rel=1e-5)
    only_first = PositionLikelihood()(true, maps, sample_weight=np.array([1.0, 0.0]))
    assert 2 * float(only_first) == pytest.approx(-first, rel=1e-5)


@pytest.mark.parametrize("loss_class", [EuclideanDistance, PositionLikelihood])
def test_survives_serialisation(loss_class):
    config = keras.saving.serialize_keras_object(loss_class())
    assert isinstance(keras.saving.deserialize_keras_object(config), loss_class)
