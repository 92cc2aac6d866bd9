import numpy as np
import pytest
from keras import ops
from vinloc_samples import make, pulses, ragged

from sionna_loc.antennas import PlanarArray
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers import second_look

METRES_PER_TAP = SPEED_OF_LIGHT / 200e6

STREET = [[-4.0, -16, 0], [36, 16, 3]]
WALLS = [[[-1, 0, 0], [0, 1, 0]], [[-1, 0, 60], [0, 1, 0]]]  # x = 0 and x = 30


def reflections(num_samples=12, num_trps=5, array=None):
    """UEs in a street that hear TRPs over its walls only, and where they are."""
    array = array or PlanarArray()
    rng = np.random.default_rng(4)
    ue = rng.uniform([6, -12, 1.5], [24, 12, 1.5], (num_samples, 3))
    trp = rng.uniform([4, -14, 9], [26, 14, 9], (num_samples, num_trps, 3))
    cir = np.zeros((num_samples * num_trps, array.num_ant, 32), complex)
    mirrored = trp * [-1, 1, 1]
    for gain, images in ((1, mirrored), (1j, mirrored + np.array([60, 0, 0]))):
        way = (images - ue[:, None]).reshape(-1, 3)
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        phase = 2 * np.pi * way @ array.element_position.T
        path = gain * np.exp(1j * phase)[..., None]
        cir += path * pulses(images, ue[:, None])[:, None]
    cir = np.stack([cir.real, cir.imag], axis=-1).astype("f")
    trp = trp.reshape(-1, 3).astype("f")
    return ragged(cir, trp, [num_trps] * num_samples), ue


def street_model(**options):
    model = make(region=STREET, refiner_images=2, **options)
    model.images.isometry.assign(WALLS)
    model.scaling.reference_db.assign(-100.0)
    return model


def best_places(model, inputs):
    """Where the second look begins [m]."""
    starts = []
    plain = model.second_look.best_place
    model.second_look.best_place = lambda links: (
        starts.append(plain(links)) or starts[-1]
    )
    model(inputs)
    return model._center + model._scale * np.asarray(starts[0])


def errors(model, inputs, ue, training=False):
    position = np.asarray(model(inputs, training=training)["position"])
    return np.linalg.norm(position - ue, axis=1)


def lost_from(ue):
    """Places far from the UEs, in the street."""
    away = np.array([14.0, 9, 0])
    return np.where(ue > [15, 0, 0], ue - away, ue + away)


def look_with(model, inputs, first, refine):
    """What `SecondLook.look` makes of `first` [m], with `refine` of positions [m]."""
    found = []

    def scaled(starts):
        start = model._center + model._scale * np.asarray(starts)
        end = (refine(start) - model._center) / model._scale
        estimates = np.stack([np.asarray(starts), end], axis=2).astype("f")
        return ops.convert_to_tensor(estimates), ops.convert_to_tensor(starts)[..., :2]

    def look(_, links, *__, **___):
        start = ops.convert_to_tensor((first - model._center) / model._scale, "float32")
        found.append(plain(start, links, scaled, num_stages=2, units=2))
        return found[-1]

    plain = model.second_look.look
    model.second_look.look = look
    position = np.asarray(model(inputs, training=False)["position"])
    estimates, state = found[0]
    assert estimates.shape == (len(first), 2, 3) and state.shape == (len(first), 2)
    return position, model._center + model._scale * np.asarray(estimates)


def drawn_to(places, reach):
    """A refinement that finds the nearest of `places` [batch, n, 3] within `reach`."""

    def refine(start):
        apart = np.linalg.norm(start[:, :, None] - places[:, None], axis=-1)
        nearest = apart.argmin(axis=2)
        end = np.take_along_axis(places, nearest[..., None], axis=1)
        return np.where(apart.min(axis=2)[..., None] < reach, end, start)

    return refine


@pytest.mark.usefixtures("eager")
def test_a_lost_estimate_gives_way_to_one_that_is_found_again():
    inputs, ue = reflections()
    lost = lost_from(ue)
    model = street_model(second_look_cells=16)
    position, estimates = look_with(model, inputs, lost, drawn_to(ue[:, None], 8.0))
    error = np.linalg.norm(position - ue, axis=1)
    assert np.mean(error < 1e-3) > 0.8
    changed = error < 1e-3
    assert (np.linalg.norm(estimates[changed, 0] - ue[changed], axis=1) < 3).all()
    np.testing.assert_allclose(estimates[~changed, 0], lost[~changed], atol=1e-4)


@pytest.mark.usefixtures("eager")
def test_an_estimate_that_is_found_again_stays_wherever_delays_agree_better():
    inputs, ue = reflections()
    lost = lost_from(ue)
    both = np.stack([lost, ue], axis=1)
    model = street_model(second_look_cells=16)
    position, _ = look_with(model, inputs, lost, drawn_to(both, 8.0))
    np.testing.assert_allclose(position, lost, atol=1e-3)


@pytest.mark.usefixtures("eager")
def test_no_estimate_gives_way_to_one_that_is_not_found_again():
    inputs, ue = reflections()
    lost = lost_from(ue)
    model = street_model(second_look_cells=16)
    position, _ = look_with(model, inputs, lost, lambda start: start)
    np.testing.assert_allclose(position, lost, atol=1e-3)


@pytest.mark.usefixtures("eager")
def test_the_best_place_is_where_the_ue_is():
    model = street_model(second_look_cells=16)
    inputs, ue = reflections()
    start = best_places(model, inputs)
    apart = np.linalg.norm((start - ue)[:, :2], axis=1)
    assert np.median(apart) < 1 and np.mean(apart < 2) > 0.8
    np.testing.assert_allclose(start[:, 2], 1.5, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_the_answer_is_the_median_of_what_is_found(monkeypatch):
    inputs, ue = reflections()
    monkeypatch.setattr(second_look, "_MARGIN", 2.5)  # of at most 2
    model = street_model(second_look_cells=16)
    middle = ue.mean(axis=0)
    position, _ = look_with(model, inputs, ue, lambda start: (3 * start + middle) / 4)
    once = (3 * ue + middle) / 4
    shifts = METRES_PER_TAP * np.array([(*shift, 0) for shift in second_look._SHIFTS])
    again = (3 * (once + shifts[:, None]) + middle) / 4
    expected = np.median([once, *again], axis=0)
    assert np.abs(expected - once).max() > 0.1
    np.testing.assert_allclose(position, expected, atol=1e-3)


@pytest.mark.usefixtures("eager")
def test_training_has_no_second_look():
    inputs, ue = reflections()
    plain = errors(street_model(), inputs, ue)
    model = street_model(second_look_cells=16)
    np.testing.assert_allclose(errors(model, inputs, ue, training=True), plain)
    assert not np.allclose(errors(model, inputs, ue), plain)


@pytest.mark.parametrize(
    "options", [{}, {"refiner_images": 2, "input_scaling": "linear"}]
)
def test_without_images_or_levels_in_db_there_is_no_second_look(options):
    assert make(second_look_cells=16, **options).second_look is None


@pytest.mark.usefixtures("eager")
def test_directions_tell_where_a_ue_is_that_hears_a_single_trp():
    """Its two reflections have the right delays in several places."""
    inputs, ue = reflections(num_trps=1, array=PlanarArray(2, 4))
    error = {}
    for use_angles in (False, True):
        model = street_model(
            second_look_cells=16,
            num_ant=8,
            array_shape=(2, 4),
            use_angles=use_angles,
            refiner_trps=None,
        )
        start = best_places(model, inputs)
        error[use_angles] = np.linalg.norm((start - ue)[:, :2], axis=1)
    assert np.mean(error[True] < 2.5) > 0.8 > 0.7 > np.mean(error[False] < 2.5)
