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


def test_noise_has_the_power_asked_for_and_belongs_to_the_link():
    numbers = (4096, 200e6, 100e6)
    noisy, _ = CirTokens(*numbers, noise_power_db=-20.0)(batch())
    clean, _ = CirTokens(*numbers)(batch())
    noise = (noisy["cir"] - clean["cir"]).flat_values.numpy()
    assert np.square(noise).sum(-1).mean() == pytest.approx(0.01, rel=0.05)
    parts = noise.reshape(3, -1, 2)
    assert abs(np.mean(parts[..., 0] * parts[..., 1])) < 3e-4  # of 5e-3
    assert np.abs(np.corrcoef(parts.reshape(3, -1))[0, 1:]).max() < 0.1

    second = {name: value[1:] for name, value in batch().items()}
    again, _ = CirTokens(*numbers, noise_power_db=-20.0)(second)
    np.testing.assert_allclose(again["cir"][0], noisy["cir"][1], atol=1e-6)


def test_two_antennas_have_noise_of_their_own():
    paths = batch() | {
        "path_aoa": batch()["path_gain"].with_values(np.zeros((3, 2, 2)))
    }
    paths["path_aoa"] = tf.cast(paths["path_aoa"], tf.float32)
    features = CirTokens(64, 200e6, 100e6, PlanarArray(1, 2), noise_power_db=20.0)
    cir = features(paths)[0]["cir"].flat_values.numpy()
    assert cir.shape == (3, 2, 64, 2)
    assert np.abs(np.corrcoef(cir.reshape(6, -1)) - np.eye(6)).max() < 0.4


def test_trps_are_said_to_stand_where_the_survey_puts_them():
    many = np.random.default_rng(0).uniform(0, 100, (2000, 3)).astype("float32")
    paths = {
        "trp_position": tf.RaggedTensor.from_row_lengths(many, [1500, 500]),
        "path_gain": tf.RaggedTensor.from_row_lengths(
            np.ones((2000, 1), "complex64"), [1500, 500]
        ),
        "path_delay": tf.RaggedTensor.from_row_lengths(
            np.zeros((2000, 1), "float32"), [1500, 500]
        ),
        "ue_position": tf.zeros([2, 3]),
    }
    inputs, _ = CirTokens(4, 1e8, 1e8, trp_position_error=0.5)(paths)
    error = inputs["trp_position"].flat_values.numpy() - many
    np.testing.assert_allclose(error.std(axis=0), 0.5, rtol=0.06)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=0.05)
    paths["ue_position"] += 7.0  # the error is the TRP's own
    again, _ = CirTokens(4, 1e8, 1e8, trp_position_error=0.5)(paths)
    np.testing.assert_array_equal(again["trp_position"].flat_values, many + error)


def test_config_round_trip():
    config = CirTokens(
        64, 200e6, 100e6, PlanarArray(2, 4), False, -100, 0.5
    ).get_config()
    assert config == {
        "num_taps": 64,
        "sampling_rate": 200e6,
        "bandwidth": 100e6,
        "array": {"num_rows": 2, "num_columns": 4, "spacing": 0.5},
        "synchronised": False,
        "noise_power_db": -100,
        "trp_position_error": 0.5,
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
