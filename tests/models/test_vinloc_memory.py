"""VIn-Loc with a memory of its training set."""

import keras
import numpy as np
import pytest
import tiny_vinloc
from free_space_links import NUMBERS, TRP, batches, grid, links

from sionna_loc import saving
from sionna_loc.checks import UserError
from sionna_loc.models.vinloc import VInLoc

pytestmark = pytest.mark.usefixtures("eager")
SIZES = {
    **{**NUMBERS, **tiny_vinloc.SIZES, **tiny_vinloc.REFINER, "refiner_window": 5},
    **{"num_neighbours": 4, "neighbour_units": 8},
    **{"num_references": 200, "num_sites": len(TRP)},
}


def make(**options):
    keras.utils.set_random_seed(0)
    return VInLoc(**{**SIZES, **options})


@pytest.fixture(scope="module")
def model():
    built = make()
    built.adapt(batches(grid(2.0), 64))
    return built


def located(model, *args):
    outputs = model(links(*args))
    return np.asarray(outputs["position"]), np.asarray(outputs["stages"])


def error(model, ue):
    return np.linalg.norm(located(model, ue)[0] - ue, axis=1).mean()


@pytest.fixture(scope="module")
def ue():
    places = np.random.default_rng(1).uniform([3, 3, 1.5], [37, 17, 1.5], (64, 3))
    return places.astype("float32")


def test_what_it_remembers_has_the_last_word(model, ue):
    position, stages = located(model, ue)
    assert stages.shape == (64, 1 + len(SIZES["refiner_spacings"]), 3)
    before = np.linalg.norm(stages[:, -1] - ue, axis=1).mean()
    assert np.linalg.norm(position - ue, axis=1).mean() < 2.0 < 0.5 * before


def test_other_trps_leave_the_estimate_of_before(model, ue):
    inputs = links(ue)
    inputs["trp_position"] = inputs["trp_position"] + 4.0
    outputs = model(inputs)
    np.testing.assert_array_equal(outputs["position"], outputs["stages"][:, -1])


def test_padded_inputs_and_the_order_of_trps_make_no_difference(model, ue):
    chosen = [(0, 1, 2) if i % 2 else (3, 1, 0, 2) for i in range(len(ue))]
    ragged = links(ue, chosen)
    expected = model(ragged)["position"].numpy()
    mask = np.arange(6) < np.array([[3] if i % 2 else [4] for i in range(len(ue))])
    padded = {
        name: x.to_tensor(7.0, shape=(None, 6, *x.shape[2:]))
        for name, x in ragged.items()
    }
    position = model({**padded, "trp_mask": mask})["position"]
    np.testing.assert_allclose(position, expected, atol=1e-3)
    position, _ = located(model, ue, [one[::-1] for one in chosen])
    np.testing.assert_allclose(position, expected, atol=1e-3)


def test_without_refinement_and_with_a_gaussian(ue):
    model = make(refiner_spacings=(), gaussian_head=True)
    model.adapt(batches(grid(2.0), 64))
    outputs = model(links(ue))
    assert outputs["stages"].shape == (64, 1, 3)
    assert np.linalg.eigvalsh(outputs["covariance"]).min() > 0


def test_training_reaches_the_vote_and_goes_on_from_the_mean(model, ue):
    model = make()
    data = batches(grid(2.0), 64)
    model.adapt(data)
    before = error(model, ue)
    initial = [x.numpy() for x in model.neighbour_vote.trainable_weights]
    memory = [x.numpy() for x in model.memory.weights]
    model.compile(keras.optimizers.Adam(1e-3), loss={"position": "mae"})
    for _ in range(3):
        for inputs, targets in data:
            model.train_on_batch(inputs, targets)
    for weight, old in zip(
        model.neighbour_vote.trainable_weights, initial, strict=True
    ):
        assert np.any(weight.numpy() != old), weight.path
    for weight, old in zip(model.memory.weights, memory, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert error(model, ue) < 1.2 * before
    model.forget()
    assert not np.any(model.memory.filled)


def test_it_is_saved_with_its_memory(model, ue, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(located(loaded, ue)[0], located(model, ue)[0])


def test_other_samples_are_remembered_instead(model, ue):
    other = make()
    other.set_weights(model.get_weights())
    # As if the hall stood elsewhere: what is heard is the same.
    moved = [(x, {"position": y["position"] + 7}) for x, y in batches(grid(2.0), 64)]
    other.remember(moved)
    position, stages = located(other, ue)
    np.testing.assert_allclose(position, located(model, ue)[0] + 7, atol=0.2)
    np.testing.assert_allclose(stages, located(model, ue)[1], atol=1e-4)
    make(num_neighbours=0, refiner_spacings=()).remember(moved)  # nothing to do


def test_weights_to_begin_with_may_have_no_memory_or_that_of_another_region(
    model, ue, tmp_path
):
    plain = make(num_neighbours=0, num_references=7, num_sites=9)
    plain.adapt(batches(grid(2.0), 64))
    plain.save(tmp_path / "plain.keras")
    begun = make()
    saving.set_initial_weights(begun, tmp_path / "plain.keras")
    np.testing.assert_allclose(located(begun, ue)[0], located(plain, ue)[0], atol=1e-4)
    begun.remember(batches(grid(2.0), 64))  # with scales, as there are none
    assert error(begun, ue) < 2.0
    model.save(tmp_path / "model.keras")
    more = make(num_references=300, num_neighbours=5)  # another training set
    saving.set_initial_weights(more, tmp_path / "model.keras")
    assert not np.any(more.memory.filled)
    for weight, there in zip(
        more.neighbour_vote.weights, model.neighbour_vote.weights, strict=True
    ):
        np.testing.assert_array_equal(weight, there)
    moved = make(region=[[1, 0, 0], [41, 20, 3]])
    initial = [x.numpy() for x in moved.neighbour_vote.weights]
    saving.set_initial_weights(moved, tmp_path / "model.keras")
    for weight, there in zip(moved.neighbour_vote.weights, initial, strict=True):
        np.testing.assert_array_equal(weight, there)
    with pytest.raises(UserError, match=r"do not fit; .* neighbour_units"):
        other = make(neighbour_units=16)
        saving.set_initial_weights(other, tmp_path / "model.keras")
    # Without a memory on either side its sizes do not matter.
    other = make(num_neighbours=0, num_references=5, refiner_peaks=2)
    saving.set_initial_weights(other, tmp_path / "plain.keras")


@pytest.mark.parametrize(
    "name", ["num_neighbours", "neighbour_units", "num_references", "num_sites"]
)
def test_mistakes_are_named(name):
    with pytest.raises(UserError, match=f"{name}=-1"):
        make(**{name: -1})
