import numpy as np
import pytest
from vinloc_samples import make, pulses, ragged

from sionna_loc.layers import second_look

STREET = [[-4.0, -16, 0], [36, 16, 3]]
WALLS = [[[-1, 0, 0], [0, 1, 0]], [[-1, 0, 60], [0, 1, 0]]]  # x = 0 and x = 30


def reflections(num_samples=12, num_trps=5):
    """UEs in a street that hear TRPs over its walls only, and where they are."""
    rng = np.random.default_rng(4)
    ue = rng.uniform([6, -12, 1.5], [24, 12, 1.5], (num_samples, 3))
    trp = rng.uniform([4, -14, 9], [26, 14, 9], (num_samples, num_trps, 3))
    cir = np.zeros((num_samples * num_trps, 1, 32, 2), "f")
    for axis, images in enumerate((trp * [-1, 1, 1], trp * [-1, 1, 1] + [60, 0, 0])):
        cir[:, 0, :, axis] += pulses(images, ue[:, None])
    trp = trp.reshape(-1, 3).astype("f")
    return ragged(cir, trp, [num_trps] * num_samples), ue


def street_model(**options):
    model = make(region=STREET, refiner_images=2, **options)
    model.images.isometry.assign(WALLS)
    model.scaling.reference_db.assign(-100.0)
    return model


def errors(model, inputs, ue, training=False):
    position = np.asarray(model(inputs, training=training)["position"])
    return np.linalg.norm(position - ue, axis=1)


@pytest.mark.usefixtures("eager")
def test_delays_over_walls_bring_an_estimate_that_is_lost_to_where_they_agree():
    """Nothing is trained: the first estimates are anywhere."""
    inputs, ue = reflections()
    lost = errors(street_model(), inputs, ue)
    found = errors(street_model(second_look_cells=16), inputs, ue)
    assert np.median(lost) > 8
    # What an untrained refinement does after it, it does to both.
    assert np.median(found) < 0.5 * np.median(lost)


@pytest.mark.usefixtures("eager")
def test_the_best_place_is_where_the_ue_is():
    model = street_model(second_look_cells=16)
    inputs, ue = reflections()
    starts = []
    plain = model.second_look.best_place
    model.second_look.best_place = lambda links: (
        starts.append(plain(links)) or starts[-1]
    )
    model(inputs)
    start = model._center + model._scale * np.asarray(starts[0])
    apart = np.linalg.norm((start - ue)[:, :2], axis=1)
    assert np.median(apart) < 1 and np.mean(apart < 2) > 0.8
    np.testing.assert_allclose(start[:, 2], 1.5, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_estimates_stay_where_no_place_is_much_better(monkeypatch):
    inputs, ue = reflections()
    plain = errors(street_model(), inputs, ue)
    model = street_model(second_look_cells=16)
    np.testing.assert_allclose(errors(model, inputs, ue, training=True), plain)
    monkeypatch.setattr(second_look, "_MARGIN", 2.5)  # of at most 2
    np.testing.assert_allclose(errors(model, inputs, ue), plain, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"refiner_images": 2, "input_scaling": "linear"}]
)
def test_without_images_or_levels_in_db_there_is_no_second_look(options):
    assert make(second_look_cells=16, **options).second_look is None
