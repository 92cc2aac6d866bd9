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


def test_gradients_of_rows_count_for_these_rows():
    table, indices = keras.Variable(np.ones((4, 2), "f")), [1, 3, 1]
    optimizer = FusedAdamW(learning_rate=0.1, weight_decay=0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table.value, indices))
    gradient = tape.gradient(loss, table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_allclose(table[:, 0], [1, 0.9, 1, 0.9], atol=1e-4)


def test_config_round_trip():
    optimizer = FusedAdamW(**OPTIONS)
    copy = FusedAdamW.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()
