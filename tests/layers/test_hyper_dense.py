import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.layers.hyper_dense import HyperDense


def draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


@pytest.mark.parametrize("activation", [None, "gelu", "sigmoid", keras.ops.tanh])
def test_with_one_parameter_vector_for_all_it_is_a_dense_layer(activation):
    inputs = draw(5, 3)
    dense = keras.layers.Dense(4, activation, bias_initializer="random_normal")
    expected = dense(inputs)
    kernel, bias = dense.get_weights()
    parameters = np.concatenate([kernel.ravel(), bias])
    assert HyperDense(4).num_parameters(3) == len(parameters)
    outputs = HyperDense(4, activation)(inputs, np.tile(parameters, (5, 1)))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_each_sample_has_its_own_kernel():
    inputs, parameters = draw(2, 3), draw(2, 16)
    outputs = HyperDense(4)(inputs, parameters).numpy()
    for row in range(2):
        kernel, bias = parameters[row, :12].reshape(3, 4), parameters[row, 12:]
        np.testing.assert_allclose(outputs[row], inputs[row] @ kernel + bias, atol=1e-5)
    swapped = HyperDense(4)(inputs, parameters[::-1]).numpy()
    assert np.abs(swapped - outputs).min() > 1e-3


def test_rows_of_a_sample_share_its_kernel():
    inputs, parameters = draw(2, 5, 3), draw(2, 16)
    layer = HyperDense(4, "gelu")
    outputs = layer(inputs, parameters).numpy()
    assert outputs.shape == layer.compute_output_shape((2, 5, 3)) == (2, 5, 4)
    for row in range(5):
        single = layer(inputs[:, row], parameters)
        np.testing.assert_allclose(outputs[:, row], single, atol=1e-5)


def test_gradients_reach_what_makes_the_parameters():
    inputs = draw(6, 3)
    hyper = keras.layers.Dense(16, "sigmoid")
    with tf.GradientTape() as tape:
        outputs = HyperDense(4, "gelu")(inputs, hyper(inputs))
        loss = tf.reduce_sum(outputs**2)
    kernel, bias = tape.gradient(loss, hyper.trainable_weights)
    assert (np.abs(kernel).min(axis=0) > 0).all() and (np.abs(bias) > 0).all()


def test_config_and_symbolic_shapes():
    layer = HyperDense(4, "gelu")
    again = HyperDense.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    outputs = layer(keras.Input((3,)), keras.Input((16,)))
    assert outputs.shape == (None, 4)
    assert layer.compute_output_shape((7, 3), (7, 16)) == (7, 4)
    assert not layer.weights


def test_sizes_that_do_not_fit_are_one_clear_line():
    with pytest.raises(UserError, match="3 inputs and 4 units need 16 parameters"):
        HyperDense(4)(draw(2, 3), draw(2, 15))
    with pytest.raises(UserError, match="units=0"):
        HyperDense(0)
