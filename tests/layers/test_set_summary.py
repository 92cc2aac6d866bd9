import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.set_summary import SetSummary

REGION = [[0.0, -50.0, 0.0], [100.0, 50.0, 3.0]]


def make(region=REGION):
    keras.utils.set_random_seed(0)
    layer = SetSummary(32, 2, region)
    layer.build((None, None, 12, 4))
    return layer


def arguments():
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(2, 3, 12, 4)).astype("f")
    trp = rng.uniform(-50, 100, (2, 3, 3)).astype("f")
    return evidence, trp, np.ones((2, 3), bool)


@pytest.mark.parametrize("region", [REGION, None])
def test_a_set_of_trps(region):
    layer, (evidence, trp, mask) = make(region), arguments()
    expected = np.asarray(layer(evidence, trp, mask))
    assert expected.shape == layer.compute_output_shape(evidence.shape) == (2, 32)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    order = [2, 0, 1]
    found = layer(evidence[:, order], trp[:, order], mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    pad = [(0, 0), (0, 2)]
    padded = (
        np.pad(evidence, [*pad, (0, 0), (0, 0)], constant_values=3.0),
        np.pad(trp, [*pad, (0, 0)], constant_values=5.0),
        np.pad(mask, pad),
    )
    np.testing.assert_allclose(layer(*padded), expected, atol=1e-5)
    # Which CIR belongs to which TRP matters where tokens hold positions.
    swapped = np.asarray(layer(evidence[:, order], trp, mask))
    assert (np.abs(swapped - expected).max() > 1e-3) == (region is not None)


def test_only_with_a_region_do_positions_count():
    (evidence, trp, mask), shift = arguments(), np.array([7.0, -300.0, 0.0], "f")
    for region, counts in ((REGION, True), (None, False)):
        layer = make(region)
        there = np.asarray(layer(evidence, trp + shift, mask))
        assert (np.abs(there - layer(evidence, trp, mask)).max() > 1e-3) == counts
    moved = (np.asarray(REGION) + shift).tolist()
    here, there = make(), make(moved)
    np.testing.assert_allclose(
        there(evidence, trp + shift, mask), here(evidence, trp, mask), atol=1e-4
    )


def test_every_tap_and_channel_is_seen():
    layer, (evidence, trp, mask) = make(), arguments()
    expected = np.asarray(layer(evidence, trp, mask))
    for tap, channel in ((0, 0), (0, 1), (11, 3), (5, 2)):
        changed = evidence.copy()
        changed[:, :, tap, channel] += 3.0
        assert np.abs(layer(changed, trp, mask) - expected).max() > 1e-4


def test_config_and_bad_arguments():
    for layer in (make(), make(None)):
        config = layer.get_config()
        assert SetSummary.from_config(config).get_config() == config
    with pytest.raises(UserError, match="multiple of 16"):
        SetSummary(24, 1)
    with pytest.raises(UserError, match="num_blocks=0"):
        SetSummary(32, 0)
