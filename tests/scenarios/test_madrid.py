import math

import numpy as np
import pytest

from sionna_loc import assembly
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data import frozen
from sionna_loc.models.hyploc import HypLoc
from sionna_loc.places.madrid_grid import in_building
from sionna_loc.recipes import RunConfig
from sionna_loc.registry import get_scenario
from sionna_loc.scenarios.madrid import numbered_constellations


@pytest.fixture(scope="module")
def small():
    return get_scenario("madrid", small=True)


@pytest.fixture(scope="module")
def test_set(small):
    return frozen.load(small, "test", 64)


def plan(split, **options):
    return get_scenario("madrid", **options).split_positions(split)[1][:, :2]


def test_numbers_are_the_papers():
    full = get_scenario("madrid")
    assert (full.num_sites, full.num_trps) == (18, 7)
    assert full.carrier_frequency == 28e9
    assert (full.trp_position[:, 2] == 5).all()
    assert full.num_train == 22_784  # the paper's 22,775 in whole tracks
    assert (full.tracks.train, full.tracks.test) == (32, 4)
    assert full.tracks.interval == 0.1


def test_tracks_of_the_splits_are_different_and_on_the_streets():
    sets = {split: plan(split) for split in frozen.SPLITS}
    assert {split: len(ues) for split, ues in sets.items()} == {
        "train": 32 * 712,
        "validation": 4 * 712,
        "test": 4 * 712,
    }
    for ues in sets.values():
        assert not in_building(ues).any()
        steps = np.linalg.norm(np.diff(ues, axis=0), axis=1)
        breaks = np.flatnonzero(steps > 60 / 3.6 * 0.1 + 1e-3)
        assert set((breaks + 1) % 712) <= {0}  # only from one track to the next
    starts = np.concatenate([ues[::712] for ues in sets.values()])
    assert len(np.unique(starts, axis=0)) == 40
    assert np.ptp(sets["train"], axis=0).min() > 350


def test_links_that_lose_more_than_160_db_do_not_exist(test_set):
    heard = test_set["num_paths"] > 0
    power = (np.abs(test_set["path_gain"]) ** 2).sum(axis=-1)
    assert 0.4 < heard.mean() < 0.95
    assert (power[~heard] == 0).all()
    # The paths beyond the eight that are kept hardly count.
    assert -10 * np.log10(power[heard].min()) < 160.5
    assert heard.any(axis=1).all()


def test_the_first_path_in_line_of_sight_has_the_delay_of_the_distance(test_set):
    ue, gnb = test_set["ue_position"][:, None], test_set["trp_position"]
    distance = np.linalg.norm(ue - gnb, axis=-1)
    heard, los = test_set["num_paths"] > 0, test_set["los"]
    exists = np.arange(8) < test_set["num_paths"][..., None]
    first = np.where(exists, test_set["path_delay"], np.inf).min(axis=-1)
    assert 0.1 < los.mean() < 0.6
    np.testing.assert_allclose(first[los] * SPEED_OF_LIGHT, distance[los], atol=0.03)
    behind = heard & ~los
    assert (first[behind] * SPEED_OF_LIGHT > distance[behind] - 0.03).all()


def test_measurements_point_from_the_gnb_to_the_ue(small):
    features = assembly.make_features(small, HypLoc)
    options = assembly.reading_options(features)
    batch = next(iter(small.frozen("test", 64, fields=None, keep_silent=True)))
    inputs, targets = features({name: batch[name] for name in options["fields"]})
    link = inputs["link"].to_tensor().numpy()
    assert link.shape[1:] == (7, 5)
    way = targets["position"][:, None] - inputs["trp_position"].to_tensor()
    distance = np.linalg.norm(way, axis=-1)
    los = batch["los"].to_tensor().numpy()
    cosine = (way * link[..., 2:]).numpy().sum(axis=-1)[los] / distance[los]
    # Rounded to 20 degrees each way, 10 off at most, a direction is 14 degrees off.
    assert (cosine > math.cos(math.radians(14.2))).mean() > 0.9
    np.testing.assert_array_equal(inputs["trp_heard"].to_tensor(), link[..., 0] != 0)


def test_constellations_are_different_choices_of_seven(small):
    numbered = numbered_constellations()
    assert numbered.shape == (20, 7)
    assert len(set(map(tuple, numbered.tolist()))) == 20
    assert all(len(set(choice)) == 7 for choice in numbered.tolist())
    assert np.bincount(numbered.ravel(), minlength=18).min() > 0
    np.testing.assert_array_equal(numbered_constellations(), numbered)
    np.testing.assert_array_equal(small.site_sets(7), numbered[:1])
    some = get_scenario("madrid", small=True, constellations=[3, 1])
    np.testing.assert_array_equal(some.site_sets(7), numbered[[3, 1]])
    assert (some.subsets_per_ue, some.num_test) == (2, 2 * small.num_test)


def test_any_constellation_is_none_that_has_a_number():
    anything = get_scenario("madrid", small=True, constellations="any")
    sets = anything.site_sets(7)
    assert len(sets) == math.comb(18, 7) - 20
    taken = set(map(tuple, numbered_constellations().tolist()))
    assert not taken & set(map(tuple, sets.tolist()))
    assert len(anything.site_sets(3)) == math.comb(18, 3)


def test_constellations_and_number_of_ues_do_not_change_the_traced_links(small):
    others = [{"constellations": "any"}, {"constellations": [1, 2]}, {"num_train": 9}]
    for options in others:
        other = get_scenario("madrid", small=True, **options)
        assert other.fingerprint() == small.fingerprint()
    assert get_scenario("madrid").fingerprint() != small.fingerprint()


def test_streamed_ues_drive(small):
    trp, ue = small.positions((3, -4), 6)
    assert (trp.shape, ue.shape) == ((18, 3), (6, 3))
    np.testing.assert_array_equal(ue[:, 2], 1.5)
    steps = np.linalg.norm(np.diff(ue, axis=0), axis=1)
    assert (steps > 1).all() and (steps < 60 / 3.6).all()
    _, again = small.positions((3, -4), 6)
    np.testing.assert_array_equal(again, ue)
    _, other = small.positions((3, -5), 6)
    assert np.abs(other - ue).max() > 1


def test_a_run_takes_all_of_the_sets_and_the_models_recipe():
    config = RunConfig(scenario="madrid", model="hyploc")
    scenario = get_scenario("madrid", constellations=[0, 1])
    resolved = assembly.make_record(config, scenario)["resolved"]
    assert resolved["recipe"] == "hyploc"
    assert resolved["epoch_size"] == 2 * 22_784
    assert resolved["num_val"] == resolved["num_test"] == 2 * 4 * 712
    assert resolved["steps"] == math.ceil(30 * 2 * 22_784 / 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constellations": 20}, "from 0 to 19. Received: constellations=20"),
        ({"constellations": [0, -1]}, "from 0 to 19"),
        ({"constellations": [1, 1]}, "different numbers"),
        ({"constellations": []}, "different numbers"),
        ({"constellations": "all"}, "must be 'any'"),
        ({"constellations": [True]}, "different numbers"),
        ({"num_train": 0}, "num_train=0"),
        ({"num_train": 129}, "have 128 UEs. Received: num_train=129"),
    ],
)
def test_what_does_not_exist_is_one_clear_line(options, message):
    with pytest.raises(UserError, match=message):
        get_scenario("madrid", small=True, **options)


def test_a_constellation_has_seven_gnbs(small):
    with pytest.raises(UserError, match=r"A constellation has 7 gNBs.*num_trps=6"):
        small.batches(4, num_trps=6)


def test_evaluation_asks_only_for_what_a_constellation_has(small):
    from sionna_loc.evaluate import _can_have

    assert [n for n in (2, 4, 7, 14) if _can_have(small, n)] == [7]
    anything = get_scenario("madrid", small=True, constellations="any")
    assert all(_can_have(anything, n) for n in (2, 4, 7, 14))
