import numpy as np

from sionna_loc.layers.trp_anchor import TrpAnchor

RNG = np.random.default_rng(0)
STATE = RNG.normal(size=(2, 6)).astype("float32")
TOKENS = RNG.normal(size=(2, 4, 8)).astype("float32")
POSITION = RNG.uniform(-1, 1, (2, 4, 3)).astype("float32")
MASK = np.array([[True, True, True, False], [True, False, False, False]])


def test_anchor_is_a_mean_of_the_trps_that_are_heard():
    layer = TrpAnchor()
    anchor = np.asarray(layer(STATE, TOKENS, POSITION, MASK))
    heard = POSITION[0, :3]
    assert (anchor[0] >= heard.min(axis=0)).all()
    assert (anchor[0] <= heard.max(axis=0)).all()
    np.testing.assert_allclose(anchor[1], POSITION[1, 0], atol=1e-6)
    moved = POSITION.copy()
    moved[0, 3] += 100.0
    np.testing.assert_array_equal(layer(STATE, TOKENS, moved, MASK), anchor)


def test_weights_follow_the_tokens():
    layer = TrpAnchor()
    anchor = np.asarray(layer(STATE, TOKENS, POSITION, MASK))
    order = [2, 0, 1, 3]
    same = layer(STATE, TOKENS[:, order], POSITION[:, order], MASK[:, order])
    np.testing.assert_allclose(same[0], anchor[0], atol=1e-6)
    other = np.asarray(layer(STATE, TOKENS[:, order], POSITION, MASK))
    assert np.abs(other[0] - anchor[0]).max() > 1e-3
    assert np.abs(layer(3 * STATE, TOKENS, POSITION, MASK)[0] - anchor[0]).max() > 1e-3


def test_config_round_trip():
    layer = TrpAnchor(name="anchor")
    assert TrpAnchor.from_config(layer.get_config()).get_config() == layer.get_config()
