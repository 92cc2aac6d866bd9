import sys

import keras
import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.layers.angle_spectrum import AngleSpectrum
from sionna_loc.layers.path_agreement import PathAgreement

NUM_TAPS, TAPS_PER_UNIT = 128, 2.0
ARRAY = PlanarArray(2, 4).to_dict()
UE = np.array([20.0, 30, 1])
TRPS = np.array([[0.0, 0, 5], [26, 8, 5], [10, 40, 5]])
IMAGES = (np.array([-1, 1, 1]) * TRPS + [60, 0, 0])[:, None]
FAR = np.full((3, 1, 3), 1e4)


def tap_of(source, ue=UE):
    return np.linalg.norm(source - ue, axis=-1) * TAPS_PER_UNIT


def profile(*peaks):
    """Magnitudes [num_taps], 1 at the peaks [taps] and 0.5 beside them."""
    taps = np.arange(NUM_TAPS)
    return np.max([1 - 0.5 * np.abs(taps - np.round(p)) for p in peaks], 0).clip(0)


def agreement(
    points, magnitude, images=FAR, mask=(True, True, True), come_from=None, **options
):
    """What the layer finds; `come_from` [3, 3] is whence an array hears the paths."""
    layer = PathAgreement(TAPS_PER_UNIT, array=None if come_from is None else ARRAY)
    links = magnitude, TRPS, images
    points, *links = (np.asarray(x, "float32")[None] for x in (points, *links))
    if come_from is not None:
        options["spectrum"] = spectra(come_from)[None]
    found = layer(points, *links, np.array([mask]), **options)
    return np.asarray(found)[0]


def spectra(come_from):
    """[3, NUM_TAPS, num_terms]: of each link all power is from one place."""
    array = PlanarArray(**ARRAY)
    ways = (come_from - UE) / np.linalg.norm(come_from - UE, axis=-1, keepdims=True)
    phase = 2 * np.pi * ways @ array.element_position.T  # [3, num_ant]
    cir = np.stack([np.cos(phase), np.sin(phase)], axis=-1)[:, :, None]
    cir = np.tile(cir, (1, 1, NUM_TAPS, 1)).astype("float32")
    return np.asarray(AngleSpectrum(array.num_rows, array.num_columns, [1])(cir)[0])


def test_all_delays_agree_with_where_the_ue_is_and_not_elsewhere():
    magnitude = [profile(tap_of(trp)) for trp in TRPS]
    here, near, far = agreement([UE, UE + np.eye(3)[1], [40, 10, 1]], magnitude)
    assert here > 0.9 > near > 0.2 > far


def test_far_from_the_origin_images_are_found_as_well(monkeypatch):
    magnitude = [profile(tap_of(image[0])) for image in IMAGES]
    expected = agreement([UE], magnitude, IMAGES)
    shift = np.array([4e4, -3e4, 0])
    monkeypatch.setattr(sys.modules[__name__], "TRPS", TRPS + shift)
    found = agreement([UE + shift], magnitude, IMAGES + shift)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_peak_counts_by_its_distance_in_taps():
    magnitude = [profile(tap_of(trp)) for trp in TRPS]
    apart = np.array([np.round(t) - t for t in tap_of(TRPS)])
    for tolerance in (1.5, 4.0):
        expected = np.mean(np.exp(-np.square(apart / tolerance)))
        found = agreement([UE], magnitude, tolerance=tolerance)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_reflection_agrees_through_the_image():
    """No direct paths: only with the images do the delays tell where the UE is."""
    magnitude = [profile(tap_of(image[0])) for image in IMAGES]
    assert agreement([UE], magnitude, IMAGES)[0] > 0.85
    assert agreement([UE], magnitude)[0] < 0.1


def test_with_an_array_paths_also_have_to_come_from_their_source():
    direct = [profile(tap_of(trp)) for trp in TRPS]
    plain = agreement([UE], direct)[0]
    right = agreement([UE], direct, come_from=TRPS)[0]
    assert right == pytest.approx(plain, abs=0.02)
    behind = 2 * UE - TRPS
    assert agreement([UE], direct, come_from=behind)[0] < 0.4 * plain
    # Nor is a reflection one whose direction is that of the direct path.
    reflected = [profile(tap_of(image[0])) for image in IMAGES]
    through = agreement([UE], reflected, IMAGES, come_from=IMAGES[:, 0])[0]
    assert through == pytest.approx(agreement([UE], reflected, IMAGES)[0], abs=0.02)
    assert agreement([UE], reflected, IMAGES, come_from=TRPS)[0] < 0.6 * through


def test_one_link_with_an_array_tells_where_the_ue_is():
    """All places at the right distance have the right delay, one the direction."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = np.linalg.norm((UE - TRPS[0])[:2])
    circle = TRPS[0] + radius * np.stack(
        [np.cos(angle), np.sin(angle), 0 * angle], axis=-1
    )
    circle[:, 2] = UE[2]
    links = [profile(tap_of(trp)) for trp in TRPS]
    alone = {"mask": (True, False, False)}
    assert np.ptp(agreement(circle, links, **alone)) < 0.05
    found = agreement(circle, links, come_from=TRPS, **alone)
    assert np.linalg.norm(circle[found.argmax()] - UE) < 4 and np.ptp(found) > 0.8


def test_half_of_the_peaks_explained_is_half():
    other = [tap_of(trp) + 30 for trp in TRPS]
    pairs = zip(tap_of(TRPS), other, strict=True)
    magnitude = [profile(*pair) for pair in pairs]
    assert agreement([UE], magnitude)[0] == pytest.approx(0.5, abs=0.04)


def test_a_ue_cannot_be_farther_than_the_first_peak():
    magnitude = [profile(tap_of(trp) - 20) for trp in TRPS]
    assert agreement([UE], magnitude)[0] == pytest.approx(-1, abs=1e-3)
    late = [profile(tap_of(trp) + 20) for trp in TRPS]
    assert agreement([UE], late)[0] == pytest.approx(0, abs=1e-3)


def test_trps_that_are_not_heard_say_nothing():
    magnitude = [profile(tap_of(trp)) for trp in TRPS]
    wrong = [magnitude[0], magnitude[1], profile(10)]
    without = agreement([UE], wrong, mask=(True, True, False))
    assert without[0] > 0.9 > agreement([UE], wrong)[0]
    silent = agreement([UE], np.zeros((3, NUM_TAPS)), mask=(False, False, False))
    assert np.isfinite(silent).all()


def test_weak_peaks_count_little_and_very_weak_ones_nothing():
    strong = [profile(tap_of(trp)) for trp in TRPS]
    for level, expected in ((0.85, 2 / 3), (0.5, 1.0)):
        weak = [level * profile(tap_of(trp) + 30) for trp in TRPS]
        both = np.maximum(strong, weak)
        expected = expected * agreement([UE], strong)[0]
        assert agreement([UE], both)[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("come_from", [None, TRPS])
def test_several_tolerances_give_what_each_gives_alone(come_from):
    magnitude = [profile(tap_of(trp)) for trp in TRPS]
    points = UE + np.array([[0.0, 0, 0], [0.4, 0, 0], [0, 1.5, 0]])
    options = {"come_from": come_from}
    both = agreement(points, magnitude, tolerance=[1.5, 0.5], **options)
    for column, tolerance in zip(both.T, (1.5, 0.5), strict=True):
        alone = agreement(points, magnitude, tolerance=tolerance, **options)
        np.testing.assert_allclose(column, alone, atol=1e-6)
    assert np.all(both[1:, 0] > both[1:, 1] + 0.01)


def test_it_is_rebuilt_from_its_config():
    layer = PathAgreement(3.0, num_peaks=2, array=ARRAY)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("arguments", [(0,), (1.0, 0)])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(UserError):
        PathAgreement(*arguments)
