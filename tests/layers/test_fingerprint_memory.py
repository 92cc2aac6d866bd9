"""In free space, four TRPs in the corners of a hall, UEs at the points of a grid."""

import keras
import numpy as np
import pytest
from free_space_links import NUM_TAPS, TRP, batches, grid, links

from sionna_loc.checks import UserError
from sionna_loc.layers import fingerprint_memory
from sionna_loc.layers.fingerprint_memory import FAR, FingerprintMemory
from sionna_loc.layers.token_set import TokenSet

EVERY_THREE = [(0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)]


def make(**options):
    keras.utils.set_random_seed(0)
    sizes = {"num_slots": len(TRP), "num_taps": NUM_TAPS, "num_neighbours": 4}
    memory = FingerprintMemory(**{"num_references": 200, **sizes, **options})
    memory.build(None)
    return memory


def ask(memory, *args, **options):
    found = memory(TokenSet.from_inputs(links(*args)), **options)
    return found._replace(**{k: np.asarray(x) for k, x in found._asdict().items()})


def away(found, ue):
    """Distance of each neighbour from the UE [m]."""
    return np.linalg.norm(found.position - ue[:, None], axis=2)


@pytest.fixture(scope="module")
def memory():
    built = make()
    built.adapt(batches(grid(2.0), 64))
    return built


def test_it_finds_what_was_heard_nearby(memory):
    ue = np.random.default_rng(0).uniform([3, 3, 1.5], [37, 17, 1.5], (50, 3))
    found = ask(memory, ue.astype("float32"))
    assert found.position.shape == (50, 4, 3) and found.by_slot.shape == (50, 4, 4)
    assert (np.diff(found.difference, axis=1) >= 0).all() and found.shared.all()
    everywhere = np.linalg.norm(grid(2.0) - ue[:, None], axis=2)
    assert away(found, ue).mean() < 0.25 * everywhere.mean()
    np.testing.assert_allclose(found.by_slot.mean(axis=2), found.difference, atol=1e-6)


def test_what_it_remembers_is_found_where_it_was_but_not_in_training(memory):
    references = grid(2.0)
    asked = ask(memory, references)
    np.testing.assert_allclose(asked.difference[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(away(asked, references)[:, 0], 0, atol=1e-4)
    trained = ask(memory, references, training=True)
    assert away(trained, references).min() > 1.9 and trained.difference.min() > 1e-5


def test_in_training_some_samples_see_a_thinner_memory(memory, monkeypatch):
    ue = np.repeat(grid(9.0), 60, axis=0) + np.array([0.3, 0.2, 0], "float32")
    full = ask(memory, ue).difference
    thinned = ask(memory, ue, training=True).difference
    share = np.mean(thinned[:, 3] > full[:, 3] + 1e-6)
    assert 0.1 < share < 0.25  # a fifth, of whom a few keep these four
    assert (thinned >= full - 1e-6).all()
    monkeypatch.setattr(fingerprint_memory, "_THINNED", 1e-9)
    np.testing.assert_allclose(ask(memory, ue, training=True).difference, full)


def test_trps_are_told_by_their_places_and_those_missing_do_not_count(memory):
    ue = grid(5.0)
    turned = ask(memory, ue, [(3, 1, 0, 2)] * len(ue))
    np.testing.assert_allclose(turned.by_slot, ask(memory, ue).by_slot, atol=1e-6)
    fewer = ask(memory, ue, [(1, 3)] * len(ue))
    by_place = np.argsort(np.lexsort(TRP.T[::-1]))
    expected = np.isin(np.arange(4), by_place[[1, 3]])
    assert (fewer.shared == expected).all() and not fewer.by_slot[..., ~expected].any()
    mean = fewer.by_slot[..., expected].mean(axis=2)
    np.testing.assert_allclose(mean, fewer.difference, atol=1e-6)


def test_without_a_common_trp_all_are_far():
    memory = make(num_neighbours=20)
    ue = grid(5.0)
    both = [(0, 1), (2, 3)]
    chosen = [both[i % 2] for i in range(len(ue))]
    memory.adapt(batches(ue, 64, chosen))
    found = ask(memory, ue, [(0, 1)] * len(ue))
    shares_none = found.difference > FAR / 2
    assert len(ue) == 32 and (shares_none == (np.arange(20) >= 16)).all()
    assert not found.shared[shares_none].any()
    # The rows that hold nothing are far from everything, too.
    assert (ask(make(), ue).difference == FAR).all()


def test_a_second_pass_gives_samples_the_trps_that_they_lack():
    ue = grid(2.0)
    passes = [
        [EVERY_THREE[(i + shift) % 4] for i in range(len(ue))] for shift in (0, 1)
    ]
    memory = make()
    memory.adapt(batches(ue, 64, passes[0]))
    assert np.asarray(memory.filled)[: len(ue)].sum(axis=1).max() == 3
    memory.adapt(batches(ue, 64, passes[0]) + batches(ue, 64, passes[1]))
    assert np.asarray(memory.filled)[: len(ue)].all()
    whole = make()
    whole.adapt(batches(ue, 64))
    np.testing.assert_allclose(memory.position, whole.position)
    np.testing.assert_allclose(
        np.asarray(memory.profile) - np.asarray(whole.profile), 0, atol=0.05
    )


def test_other_measurements_at_a_place_are_other_samples():
    ue = np.repeat(grid(9.0), 2, axis=0)
    data = batches(ue, 64)
    noise = np.random.default_rng(0).normal(size=(len(ue) * 4, 1, NUM_TAPS, 2))
    cir = data[0][0]["cir"]
    data[0][0]["cir"] = cir.with_flat_values(cir.flat_values + 0.01 * noise)
    memory = make()
    memory.adapt(data)
    assert np.asarray(memory.filled).all(axis=1).sum() == len(ue)
    again = make()
    again.adapt(data + data)  # which brings nothing new
    assert np.asarray(again.filled).all(axis=1).sum() == len(ue)


def test_it_stops_to_read_when_it_is_full_and_forgets_what_was_before():
    read = []

    class Endless:
        def __iter__(self):
            for batch in batches(grid(2.0), 16) * 100:
                read.append(1)
                yield batch

    memory = make(num_references=40)
    memory.adapt(Endless())
    assert len(read) < 30 and memory.num_adapt_samples == 80
    np.testing.assert_allclose(memory.position, grid(2.0)[:40])
    smoother = np.array(memory.smoother)
    memory.remember(batches(grid(2.0)[100:120], 16))
    np.testing.assert_allclose(np.asarray(memory.position)[:20], grid(2.0)[100:120])
    assert not np.asarray(memory.filled)[20:].any()
    np.testing.assert_array_equal(memory.smoother, smoother)


def test_points_of_profiles_are_those_that_differ():
    memory = make(num_points=6, smoothing=2)
    memory.adapt(batches(grid(2.0), 64))
    centre = np.argmax(memory.smoother, axis=0)
    assert memory.profile.shape == (200, 4 * 6) and (np.diff(centre) > 0).all()
    # No UE is further than 38 m from a TRP, 13 taps of 100 MHz.
    assert centre.max() <= 14
    np.testing.assert_allclose(np.sum(memory.smoother, axis=0), 1, atol=1e-6)


def test_config_round_trip_and_mistakes():
    config = make().get_config()
    assert FingerprintMemory.from_config(config).get_config() == config
    names = "num_slots num_taps num_references num_neighbours num_points smoothing"
    for name in names.split():
        with pytest.raises(UserError, match=f"{name}=0"):
            make(**{name: 0})
    few = make(num_slots=3)
    with pytest.raises(UserError, match="slot for each: there are 3 slots"):
        few.adapt(batches(grid(9.0), 64))
    few.adapt(batches(grid(9.0), 64, [(0, 1, 2)] * 15))
    few.remember(batches(grid(9.0), 64))  # another site: nothing to go by
    assert not np.any(few.filled)
