import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.tap_evidence import TapEvidence


def response(delays, gains):
    """Scaled responses [num_links, 64, 3] of band-limited paths."""
    taps = np.arange(64)
    cir = sum(
        g * np.sinc((taps - d[:, None]) / 2) for d, g in zip(delays, gains, strict=True)
    )
    magnitude = np.maximum(1 + 20 * np.log10(np.abs(cir) + 1e-9) / 60, 0)
    return np.stack([magnitude, 0 * magnitude, magnitude], axis=-1).astype("f")


def make():
    keras.utils.set_random_seed(0)
    layer = TapEvidence(units=8, channels=4, window=5)
    layer.build((None, 64, 3))
    return layer


def test_range_counts_from_the_first_arrival():
    """Neither sidelobes nor later, stronger paths are the first arrival."""
    layer = make()
    for weight in layer._out.weights:
        weight.assign(np.zeros(weight.shape))
    delays = np.array([[20.0, 41.0]]).T, np.array([[33.0, 52.0]]).T
    found = np.asarray(layer(response([d[:, 0] for d in delays], [0.6, 1.0])))
    first = found[:, 0, 0]  # at tap 0: how many taps until the direct path
    assert (np.abs(first - [20, 41]) <= 1).all()
    taps = np.arange(64)
    np.testing.assert_allclose(found[..., 0], first[:, None] - taps, atol=1e-5)
    np.testing.assert_array_equal(found[..., 1:], 0)


def test_same_response_later_is_the_same_evidence_later():
    layer = make()
    early, late = response([np.array([25.0, 31.0])], [1.0])
    found = np.asarray(layer(np.stack([early, late])))
    np.testing.assert_allclose(found[0, 12:40], found[1, 18:46], atol=2e-3)
    assert np.ptp(found[0, 12:40, 1:], axis=0).min() > 0.02  # so this can fail


def test_stride_leaves_out_judgements_and_nothing_else():
    every = make()
    other = TapEvidence(units=8, channels=4, window=5, stride=3)
    other.build((None, 64, 3))
    other.set_weights(every.get_weights())
    links = response([np.array([25.0, 40.3])], [1.0])
    found = np.asarray(other(links))
    assert found.shape == other.compute_output_shape(links.shape) == (2, 22, 4)
    np.testing.assert_allclose(found, np.asarray(every(links))[:, ::3], atol=1e-5)


def test_config_and_bad_arguments():
    layer = make()
    assert TapEvidence.from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )
    assert layer.compute_output_shape((7, 64, 3)) == (7, 64, 4)
    with pytest.raises(UserError, match="window=4"):
        TapEvidence(8, 4, window=4)
    with pytest.raises(UserError, match="units=0"):
        TapEvidence(0, 4)
