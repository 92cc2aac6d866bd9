import json

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
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
    config = CirTokens(64, 200e6, 100e6, PlanarArray(2, 4), False).get_config()
    assert config == {
        "num_taps": 64,
        "sampling_rate": 200e6,
        "bandwidth": 100e6,
        "array": {"num_rows": 2, "num_columns": 4, "spacing": 0.5},
        "synchronised": False,
    }
    again = CirTokens.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config


def test_each_antenna_turns_the_phase_of_each_path():
    """From the east: half a wavelength between the rows, none between the columns."""
    paths = batch()
    east, north = [np.pi / 2, 0.0], [np.pi / 2, np.pi / 2]
    angles = np.array([[east, east], [north, east], [east, north]], "float32")
    paths["path_aoa"] = tf.RaggedTensor.from_row_lengths(angles, [2, 1])
    inputs, _ = CirTokens(64, 200e6, 100e6, PlanarArray(2, 2))(paths)
    cir = inputs["cir"].flat_values.numpy()
    cir = cir[..., 0] + 1j * cir[..., 1]

    assert cir.shape == (3, 4, 64)
    np.testing.assert_allclose(cir[0, :, 10], [-1j, -1j, 1j, 1j], atol=1e-5)
    np.testing.assert_allclose(cir[1, :, 20], [2, -2, 2, -2], atol=1e-5)
    np.testing.assert_allclose(cir[2, :, 40], [-1j, 1j, -1j, 1j], atol=1e-4)


def test_without_a_common_time_base_each_cir_begins_with_its_first_path():
    inputs, _ = CirTokens(64, 200e6, 100e6, synchronised=False)(batch())
    cir = inputs["cir"].flat_values.numpy()

    np.testing.assert_allclose(cir[0, 0, 0], [1, 0], atol=1e-5)
    np.testing.assert_allclose(cir[1, 0, 0], [0, 2], atol=1e-5)
    np.testing.assert_allclose(cir[2, 0, [0, 10], 0], [3, 1], atol=1e-4)


@pytest.mark.parametrize("bad", [{"num_taps": 0}, {"bandwidth": -1.0}])
def test_bad_numbers_are_refused(bad):
    numbers = {"num_taps": 64, "sampling_rate": 200e6, "bandwidth": 100e6, **bad}
    with pytest.raises(UserError, match=f"Received: {next(iter(bad))}="):
        CirTokens(**numbers)
