import types

import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.experiments import vinloc_fig7
from sionna_loc.experiments.figures import angle_delay_figure

SCENARIO = types.SimpleNamespace(
    ue_array=PlanarArray(4, 4), num_taps=64, sampling_rate=200e6, bandwidth=100e6
)


def link(gain, delay, aoa):
    """Return a link of paths, angles in degrees, with one that does not exist."""
    return {
        "path_gain": np.array([*gain, 0], np.complex64),
        "path_delay": np.array([*delay, 0], np.float32),
        "path_aoa": np.radians([*aoa, (0, 0)]).astype(np.float32),
    }


def test_the_spectrum_peaks_where_the_paths_are():
    paths = link([1, 0.5j], [100e-9, 180e-9], [(60, 40), (60, -130)])
    image = vinloc_fig7.make_image(paths, SCENARIO)
    assert image.zenith == pytest.approx(60)
    for delay, azimuth in ((100, 40), (180, -130)):
        tap = int(np.argmin(np.abs(image.delay - delay)))
        found = image.azimuth[np.argmax(image.azimuths[:, tap])]
        assert found == pytest.approx(azimuth, abs=2)
    assert image.path_delay == pytest.approx([100, 180])
    # Sixteen antennas add up: unitary, so by their root.
    assert image.azimuths.max() == pytest.approx(4 * image.antennas.max(), rel=0.02)


def test_beams_are_those_of_the_network():
    cosines = PlanarArray(4, 4).beam_cosines
    zenith, azimuth = PlanarArray(4, 4).beam_directions[11]
    paths = link([1], [100e-9], [(zenith, azimuth)])
    image = vinloc_fig7.make_image(paths, SCENARIO)
    assert np.argmax(image.beams[:, 20]) == 11
    assert np.hypot(*cosines[11]) < 1


def test_the_link_with_two_paths_far_apart_is_chosen():
    gain = np.array([[1, 0.1], [1, 0.6], [1, 0.7]])
    delay = np.array([[1, 9], [1, 2], [1, 5]]) * 1e-7
    aoa = np.zeros((3, 2, 2))
    aoa[..., 0] = np.pi / 2
    aoa[:, 1, 1] = np.pi
    assert vinloc_fig7.choose_link(gain, delay, aoa) == 2
    with pytest.raises(UserError, match="two paths"):
        vinloc_fig7.choose_link(gain[:1], delay[:1], aoa[:1])


def test_the_figure_has_an_axis_in_degrees_and_one_in_nanoseconds():
    image = vinloc_fig7.make_image(link([1], [100e-9], [(60, 40)]), SCENARIO)
    raw, beams, turning, _ = angle_delay_figure(image).axes
    assert all("[ns]" in axes.get_xlabel() for axes in (raw, beams, turning))
    assert "[deg]" in turning.get_ylabel()
    low, high = turning.get_xlim()
    assert low < 100 < high < 200
    labels = [text.get_text() for text in beams.get_yticklabels()]
    assert "0, 0" in labels and "none" in labels
