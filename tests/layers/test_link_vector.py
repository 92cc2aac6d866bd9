import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.link_vector import LinkTokens, LinkVector

LINK = np.array(
    [
        [[-60, 2e-7, 1, 0, 0], [-80, 6e-7, 0, 1, 0], [0, 0, 0, 0, 0]],
        [[-70, 4e-7, 0, 0, 1], [-90, 8e-7, -1, 0, 0], [-65, 1e-7, 0, -1, 0]],
    ],
    "float32",
)
HEARD = np.array([[True, True, False], [True, True, True]])
POSITION = np.array([[[30, 0, 5], [10, 20, 5], [10, 5, 5]]] * 2, "float32")
MASK = np.ones((2, 3), bool)


@pytest.fixture
def layer():
    layer = LinkVector(3, center=(10, 0, 5), scale=20)
    layer.adapt([LINK[:1], LINK[1:]], [HEARD[:1], HEARD[1:]])
    return layer


def test_scales_are_those_of_the_links_that_exist(layer):
    power, tof = LINK[HEARD][:, 0], LINK[HEARD][:, 1]
    rows = layer(LINK, HEARD, POSITION, MASK).numpy().reshape(2, 3, 8)
    # In the order of x, then y: the third TRP, the second, the first.
    np.testing.assert_allclose(
        rows[1, :, 0], (np.array([-65, -90, -70]) - power.mean()) / power.std(), 1e-5
    )
    np.testing.assert_allclose(
        rows[1, :, 1], (np.array([1, 8, 4]) * 1e-7 - tof.mean()) / tof.std(), 1e-5
    )
    np.testing.assert_array_equal(rows[1, :, 2:5], [[0, -1, 0], [-1, 0, 0], [0, 0, 1]])
    places = [[0, 0.25, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(rows[1, :, 5:], places, atol=1e-6)


def test_a_missing_link_counts_as_the_weakest_and_longest(layer):
    power, tof = LINK[HEARD][:, 0], LINK[HEARD][:, 1]
    row = layer(LINK, HEARD, POSITION, MASK).numpy().reshape(2, 3, 8)[0, 0]
    assert row[0] == pytest.approx((-90 - power.mean()) / power.std(), rel=1e-5)
    assert row[1] == pytest.approx((8e-7 - tof.mean()) / tof.std(), rel=1e-5)
    np.testing.assert_allclose(row[2:], [0, 0, 0, 0, 0.25, 0], atol=1e-6)
    nonsense = np.where(HEARD[..., None], LINK, 77)
    again = layer(nonsense, HEARD, POSITION, MASK).numpy().reshape(2, 3, 8)[0, 0]
    np.testing.assert_array_equal(again, row)


def test_neither_order_nor_padding_matters(layer):
    expected = layer(LINK, HEARD, POSITION, MASK)
    order = [2, 0, 1]
    permuted = [x[:, order] for x in (LINK, HEARD, POSITION, MASK)]
    np.testing.assert_array_equal(layer(*permuted), expected)
    padding = [np.concatenate([x[:, :1], x], axis=1) for x in (LINK, HEARD, POSITION)]
    mask = np.array([[False, True, True, True]] * 2)
    np.testing.assert_array_equal(layer(*padding, mask), expected)


def test_trps_at_one_place_keep_their_order(layer):
    position = np.broadcast_to(np.array([10, 0, 5], "float32"), (2, 3, 3))
    rows = layer(LINK, HEARD, position, MASK).numpy().reshape(2, 3, 8)
    np.testing.assert_array_equal(rows[1, :, 2:5], LINK[1, :, 2:])


def test_height_decides_between_trps_above_each_other(layer):
    position = POSITION.copy()
    position[:] = [[10, 0, 9], [10, 0, 3], [10, 0, 6]]
    rows = layer(LINK, HEARD, position, MASK).numpy().reshape(2, 3, 8)
    np.testing.assert_array_equal(rows[1, :, 2:5], LINK[1, [1, 2, 0], 2:])


def test_config_and_weights(layer, tmp_path):
    again = LinkVector.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        again(LINK, HEARD, POSITION, MASK), layer(LINK, HEARD, POSITION, MASK)
    )
    assert layer.compute_output_shape((4, 3, 5)) == (4, 24)
    assert not layer.trainable_weights


def test_what_cannot_be_is_one_clear_line():
    with pytest.raises(UserError, match="at least one link"):
        LinkVector(3, (0, 0, 0), 1).adapt([LINK], [np.zeros((2, 3), bool)])
    with pytest.raises(UserError, match="num_slots=0"):
        LinkVector(0, (0, 0, 0), 1)
    with pytest.raises(UserError, match="scale=0"):
        LinkVector(3, (0, 0, 0), 0)


def test_tokens_are_the_rows_of_the_vector_in_the_order_of_the_input(layer):
    tokens = LinkTokens(center=(10, 0, 5), scale=20)
    tokens.adapt([LINK], [HEARD])
    rows = tokens(LINK, HEARD, POSITION)
    vector = layer(LINK, HEARD, POSITION, MASK).numpy().reshape(2, 3, 8)
    np.testing.assert_allclose(rows.numpy()[:, [2, 1, 0]], vector, atol=1e-6)
    assert tokens.compute_output_shape((2, 3, 5)) == rows.shape
    again = LinkTokens.from_config(tokens.get_config())
    assert again.get_config() == tokens.get_config()
