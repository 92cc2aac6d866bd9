import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.optimizers import FusedAdamW

SHAPES = ((3, 4), (5,), ())
OPTIONS = {
    "learning_rate": 0.05,
    "weight_decay": 0.1,
    "beta_1": 0.8,
    "beta_2": 0.95,
    "global_clipnorm": 1.0,
}


def variables():
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape).astype("f")) for shape in SHAPES]


def trained(optimizer, compiled, steps=6):
    """Weights and moments after some steps, whose rates differ."""
    weights = variables()
    optimizer.build(weights)

    def apply(*gradients):
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    step = tf.function(apply) if compiled else apply
    rng = np.random.default_rng(1)
    for index in range(steps):
        optimizer.learning_rate = OPTIONS["learning_rate"] / (1 + index)
        step(*(tf.constant(rng.normal(size=s), tf.float32) for s in SHAPES))
    return [np.asarray(x) for x in (*weights, *optimizer.variables)]


@pytest.mark.parametrize("compiled", [False, True])
def test_it_is_keras_adamw(compiled):
    found = trained(FusedAdamW(**OPTIONS), compiled)
    expected = trained(keras.optimizers.AdamW(**OPTIONS), compiled)
    assert len(found) == len(expected)
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - np.asarray(variables()[0])).min() > 1e-3


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_of_a_table_that_are_read_twice_have_one_gradient(compiled):
    """In the norm that is limited as well as in the update."""
    options = {"learning_rate": 0.1, "weight_decay": 0.0, "global_clipnorm": 0.5}
    rows = tf.IndexedSlices(tf.ones((3, 2)), tf.constant([1, 3, 1]), (4, 2))
    dense = np.array([[0, 0], [2, 2], [0, 0], [1, 1]], "f")
    found = []
    for optimizer, gradient in (
        (FusedAdamW(**options), rows),
        (keras.optimizers.AdamW(**options), tf.constant(dense)),
    ):
        table = keras.Variable(np.ones((4, 2), "f"))
        optimizer.build([table])
        step = functools.partial(optimizer.apply_gradients, [(gradient, table)])
        (tf.function(step) if compiled else step)()
        found.append([np.asarray(x) for x in (table, optimizer._momentums[0])])
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[0][1], 0.1 * dense * 0.5 / 10**0.5, rtol=1e-5)


def test_what_the_kernel_has_not_is_said():
    with pytest.raises(ValueError, match=r"amsgrad.*Received: amsgrad=True"):
        FusedAdamW(amsgrad=True)


def test_config_round_trip():
    optimizer = FusedAdamW(**OPTIONS)
    copy = FusedAdamW.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()
