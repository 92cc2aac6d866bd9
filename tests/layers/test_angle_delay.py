import keras
import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.layers.angle_delay import AngleDelay
from sionna_loc.signals import array_phase, band_limited_taps

ARRAY = PlanarArray(2, 4)


def cir_of_path(zenith, azimuth, tap, array=ARRAY):
    """[num_ant, 32, 2], one path of gain 1."""
    angles = np.radians([[zenith, azimuth]]).astype("float32")
    phase = np.asarray(array_phase(angles, array.element_position))  # [num_ant, 1]
    delay = np.full_like(phase, tap / 200e6)
    real, imag = band_limited_taps(
        np.exp(1j * phase).astype("complex64"),
        delay,
        num_taps=32,
        sampling_rate=200e6,
        bandwidth=200e6,
    )
    return np.stack([real, imag], axis=-1)


@pytest.mark.parametrize("beam", [2, 4, 5, 6, 7])
def test_a_path_lands_on_its_beam_and_tap(beam):
    zenith, azimuth = ARRAY.beam_directions[beam]
    image = np.asarray(AngleDelay(2, 4)(cir_of_path(zenith, azimuth, 11)))
    magnitude = np.hypot(image[..., 0], image[..., 1])
    expected = np.zeros((8, 32))
    expected[beam, 11] = np.sqrt(8)

    np.testing.assert_allclose(magnitude, expected, atol=1e-4)


def test_rows_and_columns_are_not_swapped():
    """Swapped, a path between two beams spreads in another way."""
    cir = cir_of_path(50, 20, 3)
    image = np.asarray(AngleDelay(2, 4)(cir))
    grid = (cir[..., 0] + 1j * cir[..., 1]).reshape(2, 4, 32)
    expected = np.fft.fftshift(np.fft.fft2(grid, axes=(0, 1)), axes=(0, 1))

    np.testing.assert_allclose(
        np.hypot(image[..., 0], image[..., 1]),
        np.abs(expected).reshape(8, 32) / np.sqrt(8),
        atol=1e-5,
    )


def test_keeps_the_energy_of_any_response():
    cir = np.random.default_rng(0).normal(size=(3, 5, 8, 16, 2)).astype("float32")
    image = np.asarray(AngleDelay(4, 2)(cir))

    assert image.shape == cir.shape
    np.testing.assert_allclose(
        (image**2).sum(axis=(2, 4)), (cir**2).sum(axis=(2, 4)), rtol=1e-4
    )


def test_another_number_of_antennas_is_refused():
    with pytest.raises(UserError, match="2 x 4 antennas"):
        AngleDelay(2, 4)(np.zeros((1, 6, 16, 2), "float32"))


def test_config_round_trip():
    layer = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(AngleDelay(2, 4))
    )
    assert (layer.num_rows, layer.num_columns) == (2, 4)
