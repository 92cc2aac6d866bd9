import keras
import numpy as np
import pytest

from sionna_loc.losses import EuclideanDistance


def test_mean_distance_in_space():
    true = np.array([[0, 0, 0], [1, 1, 1]], "float32")
    estimate = np.array([[3, 4, 12], [1, 1, 3]], "float32")
    assert float(EuclideanDistance()(true, estimate)) == pytest.approx((13 + 2) / 2)


def test_survives_serialisation():
    config = keras.saving.serialize_keras_object(EuclideanDistance())
    assert isinstance(keras.saving.deserialize_keras_object(config), EuclideanDistance)
