import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.features.cir_tokens import CirTokens


def batch():
    lengths = [2, 1]
    return {
        "trp_position": tf.RaggedTensor.from_row_lengths(
            np.arange(9, dtype="f").reshape(3, 3), lengths
        ),
        "path_gain": tf.RaggedTensor.from_row_lengths(
            np.array([[1, 0], [2j, 0], [3, 1]], "complex64"), lengths
        ),
        "path_delay": tf.RaggedTensor.from_row_lengths(
            np.array([[10, 0], [20, 0], [30, 40]], "f") / 200e6, lengths
        ),
        "ue_position": tf.constant([[1.0, 2, 3], [4, 5, 6]]),
    }


@pytest.mark.parametrize("in_graph", [False, True])
def test_each_trp_becomes_one_cir(in_graph):
    features = CirTokens(64, 200e6, 100e6)
    call = tf.function(features.__call__) if in_graph else features
    inputs, targets = call(batch())
    assert inputs["cir"].row_lengths().numpy().tolist() == [2, 1]
    cir = inputs["cir"].flat_values.numpy()
    assert cir.shape == (3, 1, 64, 2)
    np.testing.assert_allclose(cir[0, 0, 10], [1, 0], atol=1e-5)
    np.testing.assert_allclose(cir[1, 0, 20], [0, 2], atol=1e-5)
    np.testing.assert_allclose(cir[2, 0, [30, 40], 0], [3, 1], atol=1e-4)
    np.testing.assert_array_equal(
        inputs["trp_position"].flat_values, batch()["trp_position"].flat_values
    )
    np.testing.assert_array_equal(targets["position"], batch()["ue_position"])


def test_config_round_trip():
    config = CirTokens(64, 200e6, 100e6).get_config()
    assert config == {"num_taps": 64, "sampling_rate": 200e6, "bandwidth": 100e6}
    assert CirTokens.from_config(config).get_config() == config


@pytest.mark.parametrize("bad", [{"num_taps": 0}, {"bandwidth": -1.0}])
def test_bad_numbers_are_refused(bad):
    numbers = {"num_taps": 64, "sampling_rate": 200e6, "bandwidth": 100e6, **bad}
    with pytest.raises(UserError, match=f"Received: {next(iter(bad))}="):
        CirTokens(**numbers)
