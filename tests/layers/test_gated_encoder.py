import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.gated_encoder import GatedEncoderBlock, SwiGLU


def test_swiglu_is_its_formula():
    mlp = SwiGLU(5)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    actual = np.asarray(mlp(x))
    gate, linear, contract = (np.asarray(w) for w in mlp.weights)
    gated = x @ gate
    gated = gated / (1 + np.exp(-gated))
    np.testing.assert_allclose(actual, (gated * (x @ linear)) @ contract, atol=1e-5)


@pytest.fixture
def tokens():
    return np.random.default_rng(1).normal(size=(2, 4, 8)).astype("float32")


def test_tokens_that_do_not_exist_change_nothing(tokens):
    block = GatedEncoderBlock(num_heads=2, hidden_units=12)
    mask = np.array([[True, True, True, False]] * 2)
    expected = np.asarray(block(tokens[:, :3], mask[:, :3]))
    changed = tokens.copy()
    changed[:, 3] = 7.0
    np.testing.assert_allclose(block(changed, mask)[:, :3], expected, atol=1e-5)
    # ... and those that exist do: the block mixes tokens.
    everything = np.asarray(block(changed, np.ones_like(mask)))
    assert np.abs(everything[:, :3] - expected).max() > 1e-2


def test_permuted_tokens_are_permuted_outputs(tokens):
    block = GatedEncoderBlock(num_heads=4, hidden_units=12)
    mask, order = np.ones((2, 4), bool), [2, 0, 3, 1]
    expected = np.asarray(block(tokens, mask))[:, order]
    np.testing.assert_allclose(block(tokens[:, order], mask), expected, atol=1e-5)


def test_dropout_only_when_training(tokens):
    block = GatedEncoderBlock(num_heads=2, hidden_units=12, dropout=0.5)
    mask = np.ones((2, 4), bool)
    still = np.asarray(block(tokens, mask))
    np.testing.assert_array_equal(np.asarray(block(tokens, mask)), still)
    assert np.abs(np.asarray(block(tokens, mask, training=True)) - still).max() > 1e-2


@pytest.mark.parametrize("layer", [SwiGLU(3), GatedEncoderBlock(2, 8, 0.1)])
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_what_does_not_fit_is_refused(tokens):
    with pytest.raises(UserError, match=r"multiple of `num_heads`.*num_heads=3"):
        GatedEncoderBlock(3, 8)(tokens, np.ones((2, 4), bool))
    with pytest.raises(UserError, match="dropout=1"):
        GatedEncoderBlock(2, 8, dropout=1)
    with pytest.raises(UserError, match="hidden_units=0"):
        SwiGLU(0)
