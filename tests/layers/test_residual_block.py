import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.residual_block import ResidualBlock2D


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(2, 5, 8, 3)).astype("float32")


def test_without_its_convolutions_it_is_the_rectified_input(image):
    block = ResidualBlock2D(3)
    block.build(image.shape)
    for weight in block.trainable_weights:
        if weight.path.endswith("kernel"):
            weight.assign(np.zeros(weight.shape))
    np.testing.assert_allclose(block(image), np.maximum(image, 0), atol=1e-6)


def test_strides_and_channels_change_the_shape(image):
    block = ResidualBlock2D(6, strides=(2, 4))
    assert block(image).shape == (2, 3, 2, 6)
    assert block.compute_output_shape((None, 5, None, 3)) == (None, 3, None, 6)


def test_statistics_of_the_batch_count_when_training_only(image):
    block = ResidualBlock2D(3)
    block.build(image.shape)
    alone = np.asarray(block(image[:1], training=False))
    both = np.asarray(block(image, training=False))
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)
    trained = np.asarray(block(image, training=True))
    assert np.abs(trained - both).max() > 1e-2


def test_config_round_trip_and_refusals():
    block = ResidualBlock2D(4, strides=(2, 1))
    again = ResidualBlock2D.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    with pytest.raises(UserError, match="filters=0"):
        ResidualBlock2D(0)
    with pytest.raises(UserError, match="strides=0"):
        ResidualBlock2D(4, strides=(0, 1))
