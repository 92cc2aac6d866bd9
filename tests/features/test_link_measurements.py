import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.data.ragged import to_ragged
from sionna_loc.features.link_measurements import LinkMeasurements


def make_batch(**fields):
    """Two samples of two TRPs with two paths; of the last TRP nothing is heard."""
    rows = {
        "trp_position": np.arange(12).reshape(2, 2, 3),
        "path_gain": np.array([[[3e-5j, 4e-5], [-1e-6, 0]], [[1e-7, 0], [0, 0]]]),
        "path_delay": np.array([[[1e-7, 2e-7], [3e-7, 0]], [[4e-7, 0], [0, 0]]]),
        "path_aod": np.zeros((2, 2, 2, 2)),
        "num_paths": np.array([[2, 1], [1, 0]]),
        "ue_position": np.array([[1, 2, 3], [4, 5, 6]]),
        **fields,
    }
    dtypes = {"path_gain": "complex64", "num_paths": "int32"}
    rows = {k: tf.constant(v, dtypes.get(k, "float32")) for k, v in rows.items()}
    return to_ragged(rows, LinkMeasurements.fields, keep_silent=True)


def test_power_of_all_paths_and_tof_of_the_strongest():
    inputs, targets = LinkMeasurements(tx_power_dbm=20.0)(make_batch())
    link = inputs["link"].to_tensor().numpy()
    # 20 dBm + 10 log10(9e-10 + 16e-10) and so on.
    np.testing.assert_allclose(link[0, :, 0], [-66.0206, -100.0], atol=1e-3)
    np.testing.assert_allclose(link[1, 0, 0], -120.0, atol=1e-3)
    np.testing.assert_allclose(link[..., 1], [[1e-7, 3e-7], [4e-7, 0]])
    np.testing.assert_array_equal(targets["position"], [[1, 2, 3], [4, 5, 6]])
    position = inputs["trp_position"].to_tensor()
    np.testing.assert_array_equal(position, np.arange(12).reshape(2, 2, 3))


def test_a_missing_link_is_zero_and_not_heard():
    inputs, _ = LinkMeasurements()(make_batch())
    heard = inputs["trp_heard"].to_tensor().numpy()
    np.testing.assert_array_equal(heard, [[True, True], [True, False]])
    np.testing.assert_array_equal(inputs["link"].to_tensor()[1, 1], np.zeros(5))


def unit_vector(zenith, azimuth):
    zenith, azimuth = np.deg2rad(zenith), np.deg2rad(azimuth)
    across = np.sin(zenith)
    return across * np.cos(azimuth), across * np.sin(azimuth), np.cos(zenith)


@pytest.mark.parametrize(
    ("angles", "rounded"),
    [((90.5, 0), (100, 0)), ((81, 69), (80, 60)), ((99, -131), (100, -140))],
)
def test_direction_is_the_strongest_paths_in_steps_of_20_degrees(angles, rounded):
    aod = np.zeros((2, 2, 2, 2))
    aod[0, 0] = np.deg2rad([angles, (45, 45)])
    inputs, _ = LinkMeasurements()(make_batch(path_aod=aod))
    direction = inputs["link"].to_tensor()[0, 0, 2:]
    np.testing.assert_allclose(direction, unit_vector(*rounded), atol=1e-6)
    fine, _ = LinkMeasurements(angle_resolution=0.5)(make_batch(path_aod=aod))
    direction = fine["link"].to_tensor()[0, 0, 2:]
    np.testing.assert_allclose(direction, unit_vector(*angles), atol=1e-5)


def test_config_round_trip():
    features = LinkMeasurements(angle_resolution=10.0, tx_power_dbm=5.0, window=3)
    again = LinkMeasurements.from_config(features.get_config())
    expected = {"angle_resolution": 10.0, "tx_power_dbm": 5.0, "window": 3}
    assert again.get_config() == expected
    with pytest.raises(UserError, match="window=0"):
        LinkMeasurements(window=0)


def test_windows_of_samples_keep_their_form():
    batch = make_batch()
    inputs, targets = LinkMeasurements()(batch)
    windows = {
        name: values
        if name == "ue_position"
        else tf.RaggedTensor.from_row_lengths(values, [values.nrows()])
        for name, values in batch.items()
    }
    found, same = LinkMeasurements(window=2)(windows)
    for name, values in inputs.items():
        assert found[name].to_list() == [values.to_list()], name
    np.testing.assert_array_equal(same["position"], targets["position"])


@pytest.mark.parametrize("resolution", [0.0, -20.0, 7.0])
def test_a_resolution_that_cannot_be_is_one_clear_line(resolution):
    with pytest.raises(UserError, match="angle_resolution"):
        LinkMeasurements(angle_resolution=resolution)
