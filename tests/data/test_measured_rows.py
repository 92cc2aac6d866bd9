import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.measured_rows import Changes, choose_trps, draw_pass, turn

LENGTHS = np.array([3, 1, 2])
NUM_SITES = 3


def make_tokens():
    generator = np.random.default_rng(0)
    direction = generator.normal(size=(6, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    link = np.concatenate([generator.normal(size=(6, 2)), direction], axis=1)
    return {
        "trp_position": generator.uniform(0, 9, (6, 3)).astype(np.float32),
        "link": link.astype(np.float32),
        "trp_heard": np.array([True, False, True, True, False, True]),
    }


def test_the_trps_of_the_smallest_ranks_stay():
    ranks = np.array([[0.3, 0.1, 0.2], [0.5, 0, 0], [0.9, 0.8, 0]])
    kept, lengths = choose_trps(LENGTHS, None, ranks, 2)
    assert kept.tolist() == [False, True, True, True, True, True]
    assert lengths.tolist() == [2, 1, 2]


def test_one_that_is_heard_stays_in_any_case():
    ranks = np.array([[0.3, 0.1, 0.2], [0.5, 0, 0], [0.9, 0.8, 0]])
    heard = make_tokens()["trp_heard"]
    kept, lengths = choose_trps(LENGTHS, heard, ranks, 1)
    assert kept.tolist() == [False, False, True, True, False, True]
    assert lengths.tolist() == [1, 1, 1]


@pytest.mark.parametrize("mirrored", [False, True])
def test_turning_keeps_distances_and_where_signals_come_from(mirrored):
    tokens = make_tokens()
    ue = np.array([[1, 2, 1.5], [3, 4, 1.5], [5, 6, 1.5]], np.float32)
    owner = np.repeat(np.arange(3), LENGTHS)
    way = ue[owner] - tokens["trp_position"]
    tokens["link"][:, 2:] = way / np.linalg.norm(way, axis=1, keepdims=True)
    frames = np.array([[0.25, 0.2 if mirrored else 0.7]] * 3)
    turned, places = turn(tokens, LENGTHS, ue, frames, np.array([2.0, 0.0, 9.0]))
    new_way = places[owner] - turned["trp_position"]
    length = np.linalg.norm(way, axis=1)
    np.testing.assert_allclose(np.linalg.norm(new_way, axis=1), length, rtol=1e-5)
    direction = new_way / length[:, None]
    np.testing.assert_allclose(turned["link"][:, 2:], direction, atol=1e-5)
    np.testing.assert_array_equal(turned["link"][:, :2], tokens["link"][:, :2])
    # A quarter turn about (2, 0): (1, 2) -> (2 - 2, -1); mirrored (1, -2) -> (4, -1).
    expected = [4, -1, 1.5] if mirrored else [0, -1, 1.5]
    np.testing.assert_allclose(places[0], expected, atol=1e-5)


def changed(tokens, chance=None, **options):
    size = 2 + 3 * NUM_SITES
    if chance is None:
        chance = np.random.default_rng(1).random((3, size), np.float32)
    ue = np.zeros((3, 3), np.float32)
    return Changes(**options)(tokens, LENGTHS, ue, chance, np.zeros(3))


def test_nothing_changes_by_default():
    tokens, ue, lengths = changed(make_tokens())
    for name, values in make_tokens().items():
        np.testing.assert_array_equal(tokens[name], values)
    assert not ue.any() and lengths is LENGTHS


def test_jitter_has_the_deviations_asked_for_and_spares_what_is_not_heard():
    tokens = make_tokens()
    draws = np.random.default_rng(2)
    tokens["link"][:, 1] = 0  # at a ToF of around 1 s, metres are lost in rounding
    added = []
    for _ in range(400):
        chance = draws.random((3, 2 + 3 * NUM_SITES), np.float32)
        other, *_ = changed(tokens, chance, range_jitter=0.5, power_jitter=3.0)
        added.append(other["link"] - tokens["link"])
    added = np.array(added)
    heard = tokens["trp_heard"]
    assert not added[:, ~heard].any() and not added[..., 2:].any()
    np.testing.assert_allclose(added[:, heard, 0].std(), 3.0, rtol=0.05)
    ranges = added[:, heard, 1] * SPEED_OF_LIGHT
    np.testing.assert_allclose(ranges.std(), 0.5, rtol=0.05)


def test_muted_trps_stay_in_their_place_without_a_measurement():
    tokens = make_tokens()
    draws = np.random.default_rng(3)
    heard = []
    for _ in range(400):
        chance = draws.random((3, 2 + 3 * NUM_SITES), np.float32)
        other, _, lengths = changed(tokens, chance, mute=0.5)
        assert lengths is LENGTHS
        assert not other["link"][~other["trp_heard"]].any()
        heard.append(other["trp_heard"])
    share = np.mean(heard, axis=0)
    # Two are heard of the first sample: each falls silent unless the other would too.
    np.testing.assert_allclose(share, [5 / 8, 0, 5 / 8, 1, 0, 1], atol=0.08)


def test_muted_cirs_are_not_there():
    tokens = {"cir": np.arange(6.0)[:, None], "trp_position": np.zeros((6, 3))}
    other, _, lengths = changed(tokens, mute=0.9)
    assert lengths.sum() == len(other["cir"]) < 6 and lengths.min() == 1


def test_a_pass_shows_each_sample_once_and_depends_on_seed_and_index():
    numbers = np.arange(10, 20)
    order, ranks, chance = draw_pass(numbers, NUM_SITES, seed=1, index=4)
    assert sorted(order) == numbers.tolist()
    assert ranks.shape == (10, 3) and chance.shape == (10, 11)
    again = draw_pass(numbers, NUM_SITES, seed=1, index=4)
    np.testing.assert_array_equal(again[2], chance)
    for seed, index in ((2, 4), (1, 5)):
        assert not np.array_equal(draw_pass(numbers, 3, seed, index)[0], order)


@pytest.mark.parametrize(
    "options", [{"mute": 1.0}, {"mute": -1}, {"range_jitter": "a"}]
)
def test_changes_that_cannot_be(options):
    with pytest.raises(UserError):
        Changes(**options)
