import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.layers.token_set import TokenSet

NUM_HEARD = [4, 1, 3]
STRENGTH = np.array([0.2, 0.9, 0.5, 0.7, 0.1, 0.3, 0.3, 0.8], "float32")
STRONGEST_TWO = [[1, 3], [4], [5, 7]]  # of equally strong ones the first


def flat_set():
    """Eight tokens, each with its index as its position."""
    index = np.arange(8, dtype="float32")
    cir = np.zeros((8, 1, 4, 2), "float32") + index[:, None, None, None]
    position = np.repeat(index[:, None], 3, axis=1)
    return TokenSet(cir, position, None, np.array(NUM_HEARD)), index


def padded_set():
    """The same as other back ends see it; padding is the strongest of all."""
    flat, _ = flat_set()
    mask = np.arange(4) < np.array(NUM_HEARD)[:, None]
    cir, position = np.full((3, 4, 1, 4, 2), 9.0), np.full((3, 4, 3), 9.0)
    index, strength = np.full((3, 4), 9.0), np.full((3, 4), 5.0)
    cir[mask], position[mask] = flat.cir, flat.trp_position
    index[mask], strength[mask] = np.arange(8), STRENGTH
    cir, position = cir.reshape(-1, 1, 4, 2), position.reshape(-1, 3)
    padded = TokenSet(cir.astype("f"), position.astype("f"), mask, None)
    return padded, index.ravel(), strength.ravel()


def kept(found):
    """What exists of dense values, one list a sample."""
    *dense, mask = map(np.asarray, found)
    return [[row[m].tolist() for row, m in zip(x, mask, strict=True)] for x in dense]


@pytest.mark.parametrize("is_padded", [False, True])
def test_the_strongest_stay_in_their_order(is_padded):
    if is_padded:
        whole, index, strength = padded_set()
    else:
        (whole, index), strength = flat_set(), STRENGTH
    found = whole.densify_strongest(strength, 2, whole.trp_position[:, :1], index)
    places, indices = kept(found)
    assert indices == STRONGEST_TWO
    assert places == [[[float(i)] for i in row] for row in STRONGEST_TWO]


def test_tokens_know_their_samples_and_whether_they_exist():
    sample, exists = flat_set()[0].samples()
    assert sample.tolist() == [0, 0, 0, 0, 1, 2, 2, 2] and exists.all()
    sample, exists = padded_set()[0].samples()
    assert sample.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sample[exists].tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    none = flat_set()[0]._replace(num_heard=np.array([0, 2, 0]))
    assert none.samples()[0].tolist() == [1, 1]


def test_all_stay_where_there_are_no_more():
    whole, index = flat_set()
    found = whole.densify_strongest(STRENGTH, 4, index)
    for there, here in zip(found, whole.densify(index), strict=True):
        np.testing.assert_array_equal(there, here)


def test_inside_a_graph_of_open_shapes():
    whole, index = flat_set()
    signature = [tf.TensorSpec([None]), tf.TensorSpec([None]), tf.TensorSpec([None])]

    @tf.function(input_signature=signature)
    def strongest(num_heard, strength, index):
        tokens = whole._replace(num_heard=tf.cast(num_heard, tf.int64))
        return tokens.densify_strongest(strength, 2, index)

    (indices,) = kept(strongest(np.array(NUM_HEARD, "f"), STRENGTH, index))
    assert indices == STRONGEST_TWO


@pytest.mark.parametrize(
    ("num_heard", "width"), [(1, 4), (13, 16), (17, 24), (32, 32), (33, 48), (64, 64)]
)
def test_few_widths_occur(num_heard, width):
    count = num_heard + 1
    cir, position = np.zeros((count, 1, 4, 2), "f"), np.zeros((count, 3), "f")
    tokens = TokenSet(cir, position, None, np.array([num_heard, 1]))
    value, mask = tokens.densify(np.ones(count, "f"))
    assert value.shape == (2, width)
    np.testing.assert_array_equal(np.sum(mask, axis=1), [num_heard, 1])
