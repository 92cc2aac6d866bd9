"""Contract over all layers: configuration, shapes, and weights survive."""

import keras
import numpy as np
import pytest
from keras import ops

from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.position_embedding import PositionEmbedding
from sionna_loc.layers.transformer import EncoderBlock, LocTokenEncoder
from sionna_loc.layers.unet import UNet1D, UNet2D


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


MASK = np.array([[True, True, False], [True, False, False]])
LAYERS = {
    "unet_1d": (lambda: UNet1D((4, 6, 8), fold=2), [normal(2, 32, 3)], (2, 32, 6)),
    "unet_1d_odd": (lambda: UNet1D((4, 6, 8, 8)), [normal(2, 23, 3)], (2, 23, 6)),
    "unet_2d": (
        lambda: UNet2D((4, 6, 8), out_channels=5),
        [normal(2, 3, 16, 3)],
        (2, 3, 16, 5),
    ),
    "position_embedding": (
        lambda: PositionEmbedding(16),
        [normal(2, 3, 3)],
        (2, 3, 16),
    ),
    "block_pre": (lambda: EncoderBlock(2, 32), [normal(2, 3, 8), MASK], (2, 3, 8)),
    "block_post": (
        lambda: EncoderBlock(4, 16, norm="post", activation="gelu"),
        [normal(2, 3, 8), MASK],
        (2, 3, 8),
    ),
    "loc_token": (lambda: LocTokenEncoder(2, 2, 16), [normal(2, 3, 8), MASK], (2, 8)),
    "cir_scaling": (lambda: CirScaling("linear"), [normal(5, 1, 9, 2)], (5, 1, 9, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_contract(name):
    make, inputs, shape = LAYERS[name]
    layer = make()
    output = ops.convert_to_numpy(layer(*inputs))
    assert output.shape == shape
    assert np.isfinite(output).all()
    assert output.std() > 0
    shapes = [x.shape for x in inputs]
    assert tuple(layer.compute_output_shape(*shapes)) == shape
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    twin(*inputs)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(output, ops.convert_to_numpy(twin(*inputs)))
    assert not np.allclose(output, layer(inputs[0] * inputs[0], *inputs[1:]), atol=1e-3)


def test_unet_pools_as_often_as_it_has_levels_less_one():
    unet = UNet1D((4, 4, 4, 4, 4))
    unet.build((None, 256, 3))
    assert unet._sizes == [(256,), (128,), (64,), (32,), (16,)]


def test_unet_sees_across_its_whole_length():
    unet = UNet1D((8, 8, 8, 8, 8))
    x = np.abs(normal(1, 64, 3))
    changed = x.copy()
    changed[0, 0] += 5.0
    difference = np.abs(ops.convert_to_numpy(unet(changed) - unet(x)))[0]
    assert difference[-8:].max() > 0


def test_fold_moves_neighbouring_taps_into_channels_and_back():
    keras.utils.set_random_seed(0)  # with some seeds every ReLU is off here
    unet = UNet1D((4,), fold=4, kernel_size=1)
    x = normal(1, 16, 3)
    base = ops.convert_to_numpy(unet(x))
    x[0, 5] += 1.0
    moved = np.abs(ops.convert_to_numpy(unet(x)) - base).sum(axis=-1)[0]
    assert set(np.flatnonzero(moved)) <= {4, 5, 6, 7}
    assert moved.max() > 0


def test_position_embedding_carries_the_coordinates():
    x = normal(4, 3)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(PositionEmbedding(9)(x))[:, :3], x
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_equals_keras_attention(norm):
    width, heads = 8, 2
    block = EncoderBlock(heads, 16, norm=norm)
    x = normal(2, 5, width)
    mask = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], bool)
    block.build(x.shape)
    reference = keras.layers.MultiHeadAttention(heads, width // heads)
    reference.build(x.shape, x.shape)
    kernel, bias = (ops.convert_to_numpy(w) for w in block._qkv.weights)
    bias = normal(3 * width)
    block._qkv.bias.assign(bias)
    out, out_bias = (ops.convert_to_numpy(w) for w in block._projection.weights)

    def split(a):
        return [p.reshape(*p.shape[:-1], heads, -1) for p in np.split(a, 3, -1)]

    (q, k, v), (bq, bk, bv) = split(kernel), split(bias)
    reference.set_weights(
        [q, bq, k, bk, v, bv, out.reshape(heads, -1, width), out_bias]
    )

    def attend(a):
        return reference(a, a, attention_mask=mask[:, None, :])

    first, second = block._norms

    def mlp(a):
        return block._contract(block._expand(a))

    if norm == "pre":
        y = x + attend(first(x))
        expected = y + mlp(second(y))
    else:
        y = first(x + attend(x))
        expected = second(y + mlp(y))
    np.testing.assert_allclose(block(x, mask), expected, atol=1e-5)
    np.testing.assert_allclose(
        block(x, mask, num_outputs=1), ops.convert_to_numpy(expected)[:, :1], atol=1e-5
    )


def test_log_scaling_runs_linearly_in_db():
    scaling = CirScaling("log", dynamic_range_db=60.0)
    cir = np.zeros((1, 1, 4, 2), "f")
    cir[0, 0, :, 1] = [1e-4, 1e-5, 1e-7, 1e-8]
    scaling.reference_db.assign(-80.0)
    scaled = ops.convert_to_numpy(scaling(cir))[0, 0]
    np.testing.assert_allclose(scaled[:, 2], [1, 2 / 3, 0, 0], atol=1e-4)
    np.testing.assert_allclose(scaled[:, 1], scaled[:, 2], atol=1e-4)
    np.testing.assert_allclose(scaled[:, 0], 0, atol=1e-6)


def test_scaling_adapts_to_the_strongest_links():
    for mode in ("log", "linear"):
        scaling = CirScaling(mode)
        cir = np.zeros((50, 1, 4, 2), "f")
        cir[:, 0, 2, 0] = 2e-5
        cir[:, 0, 1, 0] = 1e-6
        scaling.adapt([cir])
        assert scaling.reference_db.numpy() == pytest.approx(20 * np.log10(2e-5))
        scaled = ops.convert_to_numpy(scaling(cir))
        assert scaled[0, 0, 2, 0] == pytest.approx(1, rel=1e-4)
        assert 0 < scaled[0, 0, 1, 0] < 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNet1D(()),
        lambda: UNet1D((4, 0)),
        lambda: UNet1D((4,), fold=3)(normal(1, 16, 3)),
        lambda: UNet1D((4,))(normal(1, 4, 16, 3)),
        lambda: PositionEmbedding(3),
        lambda: PositionEmbedding("a"),
        lambda: PositionEmbedding(8, hidden_units=0),
        lambda: EncoderBlock(3, 8)(normal(1, 2, 8), MASK[:1, :2]),
        lambda: EncoderBlock(2, 8, norm="none"),
        lambda: LocTokenEncoder(0, 2, 8),
        lambda: CirScaling("decibel"),
        lambda: CirScaling(dynamic_range_db=0.0),
    ],
)
def test_bad_arguments_are_named(make):
    with pytest.raises(ValueError, match="Received: "):
        make()
