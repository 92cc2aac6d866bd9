import keras
import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.layers.angle_spectrum import AngleSpectrum, num_terms, share_from
from sionna_loc.signals import array_phase, band_limited_taps

ARRAYS = [PlanarArray(2, 4), PlanarArray(1, 3, 0.4), PlanarArray(3, 1), PlanarArray()]
DIRECTIONS = np.radians([[50.0, 20.0], [75.0, -130.0]]).astype("f")
RATE, NUM_TAPS = 200e6, 64


def cosines(angles):
    """East and north of (zenith, azimuth)."""
    across = np.sin(angles[..., 0])
    return across * np.cos(angles[..., 1]), across * np.sin(angles[..., 1])


def cir_of(array, angles, taps, gains):
    """[1, num_ant, NUM_TAPS, 2] of paths."""
    phase = np.asarray(array_phase(angles, array.element_position))
    delay = np.broadcast_to(np.asarray(taps, "f") / RATE, phase.shape)
    real, imag = band_limited_taps(
        (np.asarray(gains) * np.exp(1j * phase)).astype("complex64"),
        delay.astype("f"),
        num_taps=NUM_TAPS,
        sampling_rate=RATE,
        bandwidth=RATE,
    )
    return np.stack([real, imag], axis=-1)[None]


def spectrum(array, cir, windows=(1,), stride=1):
    layer = AngleSpectrum(array.num_rows, array.num_columns, windows, stride)
    return [np.asarray(found) for found in layer(cir)]


def beamformed(array, cir, angles):
    """Share of each tap's power, by turning the antennas to a direction."""
    response = cir[0, ..., 0] + 1j * cir[0, ..., 1]
    phase = np.asarray(array_phase(angles[None], array.element_position))
    received = np.abs((np.exp(-1j * phase) * response).sum(axis=0)) ** 2
    return received, array.num_ant * (np.abs(response) ** 2).sum(axis=0)


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_a_single_path_arrives_from_where_it_does_and_nowhere_else(array):
    cir = cir_of(array, DIRECTIONS[:1], [20], [3e-6])
    (found,) = spectrum(array, cir)
    assert found.shape == (1, NUM_TAPS, num_terms(array))
    there = np.asarray(share_from(found, array, *cosines(DIRECTIONS[0])))[0, 20]
    np.testing.assert_allclose(there, 1, atol=2e-3)
    received, total = beamformed(array, cir, DIRECTIONS[1])
    elsewhere = np.asarray(share_from(found, array, *cosines(DIRECTIONS[1])))
    np.testing.assert_allclose(elsewhere[0, 20, 0], received[20] / total[20], atol=1e-4)
    if array.num_ant > 1:
        assert elsewhere[0, 20, 0] < 0.6
        assert elsewhere[0, 20, 1] < elsewhere[0, 20, 0] / 2  # told apart more clearly
    np.testing.assert_allclose(elsewhere[0, 50], 0, atol=1e-3)  # silence


def test_windows_hold_the_power_weighted_share_of_their_taps():
    array = ARRAYS[0]
    cir = cir_of(array, DIRECTIONS, [20.3, 24.0], [1e-5, 2e-5])
    narrow, wide = spectrum(array, cir, windows=(1, 7), stride=2)
    assert narrow.shape == wide.shape == (1, NUM_TAPS // 2, 21)
    received, total = beamformed(array, cir, DIRECTIONS[1])
    east, north = cosines(DIRECTIONS[1])
    for window, found in ((1, narrow), (7, wide)):
        half = window // 2
        taps = slice(22 - half, 23 + half)
        share = np.asarray(share_from(found, array, east, north))[0, 11, 0]
        expected = received[taps].sum() / total[taps].sum()
        assert float(share) == pytest.approx(expected, abs=1e-4)
    whole = np.asarray(share_from(wide, array, east, north))[0, 10:13, 0]
    between = share_from(0.5 * (wide[:, 10] + wide[:, 11]), array, east, north)
    assert float(between[0, 0]) == pytest.approx(whole[:2].mean(), abs=1e-5)


def test_the_mean_over_all_directions_is_one_antennas_part():
    array = ARRAYS[0]
    cir = np.random.default_rng(0).normal(size=(2, 8, NUM_TAPS, 2)).astype("f")
    (found,) = spectrum(array, cir)
    np.testing.assert_allclose(found[..., 0], 1 / 8, rtol=1e-4)
    silent = spectrum(array, np.zeros((1, 8, NUM_TAPS, 2), "f"))[0]
    np.testing.assert_array_equal(silent, 0)
    assert np.abs(np.asarray(share_from(silent, array, 0.3, 0.1))).max() == 0


def test_config_and_bad_arguments():
    layer = AngleSpectrum(2, 4, (15, 5), 2)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape((7, 8, 65, 2)) == ((7, 33, 21),) * 2
    with pytest.raises(UserError, match="2 x 4 antennas"):
        layer(np.zeros((1, 6, 16, 2), "f"))
    with pytest.raises(UserError, match="must be odd"):
        AngleSpectrum(2, 4, (4,))
    with pytest.raises(UserError, match="stride=0"):
        AngleSpectrum(2, 4, (5,), 0)
