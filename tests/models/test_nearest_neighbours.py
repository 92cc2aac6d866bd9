import keras
import numpy as np
import pytest
from free_space_links import NUMBERS, TRP, batches, grid, links

from sionna_loc.checks import UserError
from sionna_loc.models.nearest_neighbours import NearestNeighbours

EVERY_THREE = [(0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)]


def make(**options):
    return NearestNeighbours(**{**NUMBERS, "num_sites": len(TRP), **options})


@pytest.fixture(scope="module")
def references():
    return grid(2.0)


@pytest.fixture(scope="module")
def model(references):
    built = make(num_references=500)
    built.adapt(batches(references, 64))
    return built


def locate(model, *args):
    return np.asarray(model.predict_on_batch(links(*args))["position"])


def nearest(references):
    one = make(num_neighbours=1)
    one.adapt(batches(references, 64))
    return one


def test_a_reference_is_found_where_it_is(references):
    estimate = locate(nearest(references), references)
    np.testing.assert_allclose(estimate, references, atol=1e-4)


def test_the_denser_the_references_the_smaller_the_error(model):
    ue = np.random.default_rng(0).uniform([2, 2, 1.5], [38, 18, 1.5], (100, 3))
    ue = ue.astype("float32")

    def error(localizer):
        return np.mean(np.linalg.norm(locate(localizer, ue) - ue, axis=1))

    dense = make()
    dense.adapt(batches(grid(1.0), 64))
    assert error(dense) < 0.75 * error(model) < 0.75 * 3.0


def profiles(model, ue):
    """Smoothed powers in dB from 0, at the floor, to 1, [num_ues, all taps]."""
    power = np.square(links(ue)["cir"].flat_values)[:, 0].sum(axis=-1)
    weights = np.array([1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1]) / 36
    power = np.array([np.convolve(row, weights, mode="same") for row in power])
    level = 10 * np.log10(power) - float(np.asarray(model.scaling.reference_db))
    return np.maximum(1 + level / 47, 0).reshape(len(ue), -1)


def test_it_is_the_weighted_mean_of_the_nearest(model, references):
    ue = np.array([[8.3, 7.1, 1.5]], "float32")
    known, asked = profiles(model, references), profiles(model, ue)
    distance = np.mean((known - asked) ** 2, axis=1)
    eight = np.argsort(distance)[:8]
    weight = (distance[eight] + 1e-6) ** -6.0
    expected = weight @ references[eight] / weight.sum()
    np.testing.assert_allclose(locate(model, ue)[0], expected, atol=0.02)
    even = make(num_neighbours=3, sharpness=1e-6)
    even.adapt(batches(references, 64))
    expected = references[eight[:3]].mean(axis=0)
    np.testing.assert_allclose(locate(even, ue)[0], expected, atol=0.02)


def test_missing_trps_are_left_out_of_the_comparison(references):
    model = make()
    chosen = [EVERY_THREE[i % 4] for i in range(len(references))]
    model.adapt(batches(references, 64, chosen))
    for shift in (1, 2):
        others = [EVERY_THREE[(i + shift) % 4] for i in range(len(references))]
        estimate = locate(model, references, others)
        error = np.linalg.norm(estimate - references, axis=1)
        assert np.median(error) < 2.0


def test_only_so_many_references_are_kept(references):
    model = make(num_references=70, num_neighbours=1)
    model.adapt(batches(references, 64))
    estimate = locate(model, references[-5:])
    last = references[:70]
    away = np.linalg.norm(estimate[:, None] - last, axis=2).min(axis=1)
    np.testing.assert_allclose(away, 0, atol=1e-4)
    few = make(num_references=3)
    few.adapt(batches(references, 64))
    assert np.ptp(locate(few, references), axis=0)[0] <= 4.0 + 1e-4


def test_it_is_saved_with_its_references(model, references, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ue = references[::7] + np.array([0.7, 0.4, 0], "float32")
    np.testing.assert_array_equal(locate(loaded, ue), locate(model, ue))


def test_a_new_training_set_replaces_the_old_one(references):
    model = make()
    model.adapt(batches(references, 64))
    before = locate(model, references[:5])
    model.adapt(batches(references[100:], 64))
    assert np.abs(locate(model, references[:5]) - before).max() > 1.0


def test_without_references_and_with_unknown_trps_it_says_so(model):
    ue = grid(9.0)
    with pytest.raises(UserError, match="call `adapt` first"):
        make()(links(ue))
    inputs = links(ue)
    inputs["trp_position"] = inputs["trp_position"] + 1.0
    with pytest.raises(UserError, match="knows only the TRPs that it was made of"):
        model.predict_on_batch(inputs)
    for name in ("num_neighbours", "smoothing", "dynamic_range_db", "sharpness"):
        with pytest.raises(UserError, match=f"{name}=0"):
            make(**{name: 0})
