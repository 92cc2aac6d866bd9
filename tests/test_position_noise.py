"""Numbers that belong to a place: the generator, and what decides them."""

import numpy as np
import tensorflow as tf

from sionna_loc.position_noise import normals, position_keys, uniforms

WRAP = 2**64


def splitmix64(state, count):
    """The generator in plain integers, after Steele et al., OOPSLA 2014."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WRAP
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WRAP
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WRAP
        numbers.append(z ^ (z >> 31))
    return numbers


def test_reference_of_the_test_is_the_published_sequence():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, 3) == published


def test_uniforms_are_the_high_bits_of_splitmix64():
    keys = [0, 1234567, WRAP - 1]
    expected = [[((z >> 41) + 0.5) / 2**23 for z in splitmix64(key, 5)] for key in keys]
    actual = uniforms(tf.constant(np.array(keys, np.uint64)), 5)
    np.testing.assert_array_equal(actual, np.float32(expected))


def test_normals_are_normal_and_finite():
    values = normals(position_keys(tf.random.normal([2000, 3]), 5), 500).numpy()
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.mean(), 0.0, atol=0.005)
    np.testing.assert_allclose(values.std(), 1.0, atol=0.005)
    np.testing.assert_allclose((np.abs(values) > 1.96).mean(), 0.05, atol=0.001)


def test_keys_differ_by_seed_axis_and_millimetre():
    position = tf.constant(
        [[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.0, 2.001, 3.0], [-1.0, 2.0, 3.0]]
    )
    keys = np.concatenate([position_keys(position, 1), position_keys(position, 2)])
    assert len(set(keys.tolist())) == 8


def test_keys_forget_less_than_half_a_millimetre():
    keys = position_keys(tf.constant([[1.0, 2.0, 3.0], [1.0002, 1.9998, 3.0]]), 1)
    assert keys[0] == keys[1]
