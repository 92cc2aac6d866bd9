import json

import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data import frozen
from sionna_loc.registry import get_scenario
from sionna_loc.sample import FIELDS
from sionna_loc.scenarios import cities
from sionna_loc.scenarios.paris_scn1 import ParisScenario1

SIDE = 280


@pytest.fixture(scope="module")
def scenario():
    """Loads cities only where they are asked for."""
    return get_scenario("cities", small=True)


@pytest.fixture(scope="module")
def one_city():
    """One scene is enough to trace in."""
    return get_scenario(
        "cities", small=True, train_cities=["etoile"], test_place="held_out"
    )


def test_a_model_fits_both_this_and_paris(scenario):
    for name in ("carrier_frequency", "bandwidth", "sampling_rate", "num_taps"):
        assert getattr(scenario, name) == getattr(ParisScenario1, name)
    assert scenario.ue_array.num_ant == 1 and scenario.num_trps == 12
    size, paris = (np.ptp(one.region, axis=0) for one in (scenario, ParisScenario1))
    assert size[:2].tolist() == paris[:2].tolist() == [SIDE, SIDE]
    assert scenario.region.mean(axis=0).tolist() == [0, 0, 1.5]
    assert get_scenario("cities").num_sites == 64


def corner_of(name, street):
    """South-western corner of the block of a street, [2] [m]."""
    return street.origin[:2] - SIDE / 2


def test_training_never_touches_what_is_held_out(scenario):
    """Blocks of training, and all that stands in them, in all three cities."""
    generator = np.random.default_rng(4)
    seen = {}
    for _ in range(60):
        name, street = scenario.draw_street(generator, "train")
        for held_out in cities.HELD_OUT[name].values():
            assert (np.abs(corner_of(name, street) - held_out) >= SIDE).any()
            for cells in (street.ue_cells, street.trp_cells):
                inside = (cells > held_out) & (cells < np.add(held_out, SIDE))
                assert not inside.all(axis=1).any()
        seen.setdefault(name, set()).add(tuple(street.origin))
    assert set(seen) == {"etoile", "munich", "florence"}
    assert all(len(places) > 5 for places in seen.values())


def blocks_of(scenario, split):
    """Names of the cities in which a split is, and corners of the blocks there."""
    generator = np.random.default_rng(0)
    drawn = [scenario.draw_street(generator, split) for _ in range(16)]
    return {name: tuple(corner_of(name, street)) for name, street in drawn}


def test_what_is_held_out_is_the_block_of_paris_and_two_of_each_other_city(
    scenario, monkeypatch
):
    monkeypatch.setattr(scenario, "test_place", "held_out")
    for split, names in (
        ("test", {"etoile", "munich", "florence"}),
        ("validation", {"munich", "florence"}),
    ):
        corners = blocks_of(scenario, split)
        assert corners == {name: cities.HELD_OUT[name][split] for name in names}
    tested = blocks_of(scenario, "test")
    assert tested["etoile"] == tuple(ParisScenario1.region[0, :2])


@pytest.mark.parametrize("test_place", cities.TEST_PLACES)
def test_no_place_of_the_test_has_chosen_the_weights(scenario, test_place, monkeypatch):
    monkeypatch.setattr(scenario, "test_place", test_place)
    validated, tested = (blocks_of(scenario, s) for s in ("validation", "test"))
    for name in validated.keys() & tested.keys():
        assert (np.abs(np.subtract(validated[name], tested[name])) >= SIDE).any()
    assert tested and "etoile" not in validated


def test_who_trains_in_paris_alone_validates_elsewhere(one_city):
    assert set(one_city.cities) == {"etoile", "munich"}
    assert one_city._cities_of("train") == one_city._cities_of("test") == ("etoile",)
    assert blocks_of(one_city, "validation") == {
        "munich": cities.HELD_OUT["munich"]["validation"]
    }


@pytest.mark.parametrize("name", ["munich", "florence"])
def test_blocks_for_validation_are_typical_of_their_city(scenario, name):
    generator = np.random.default_rng(0)
    blocks = scenario.blocks[name]
    areas = {
        split: [
            (len(street.ue_cells), len(street.trp_cells))
            for street in (blocks.draw(generator, split) for _ in range(24))
        ]
        for split in (None, "validation")
    }
    ratio = np.median(areas["validation"], axis=0) / np.median(areas[None], axis=0)
    assert (ratio > 1 / 2).all() and (ratio < 2).all()


def test_the_test_is_in_a_city_of_its_own_and_follows_its_hills(scenario):
    names = {scenario.draw_street(np.random.default_rng(k), "test")[0] for k in (1, 2)}
    assert names == {"san_francisco"}
    hills = scenario.cities["san_francisco"]
    grounds = []
    for seed in range(3):
        index, origin, trp, ue = (
            x.numpy() for x in scenario._draw(np.array([seed, 3]), 16, "test")
        )
        assert list(scenario.cities)[index] == "san_francisco"
        ground = hills.ground_heights(ue[:, :2])
        np.testing.assert_allclose(ue[:, 2], ground + 1.5, atol=0.11)
        np.testing.assert_allclose(hills.heights(ue[:, :2]), ground, atol=0.1)
        roof = hills.heights(trp[:, :2])
        np.testing.assert_allclose(trp[:, 2], roof + 2, atol=1e-3)
        assert (roof - hills.ground_heights(trp[:, :2]) >= 8).all()
        relative = ue - origin
        assert (relative >= scenario.region[0]).all()
        assert (relative <= scenario.region[1]).all()
        grounds.append(origin[2])
    assert np.ptp(grounds) > 5


@pytest.mark.parametrize("split", ["train", "test"])
def test_delays_fit_the_positions_relative_to_the_block(one_city, split):
    """Fails if paths are of another city, or of other positions."""
    drop = {k: v.numpy() for k, v in one_city.drop((5, 7), None, split).items()}
    links = one_city.num_ues, one_city.num_sites
    for name, spec in FIELDS.items():
        assert drop[name].dtype == spec.numpy_dtype
        if name not in ("ue_position", "trp_position"):
            inner = spec.element_shape(one_city.num_paths)[1:]
            assert drop[name].shape == (*links, *inner)
    for name in ("ue_position", "trp_position"):
        assert np.abs(drop[name][:, :2]).max() <= SIDE / 2
    np.testing.assert_allclose(drop["ue_position"][:, 2], 1.5, atol=1e-3)
    way = drop["ue_position"][:, None] - drop["trp_position"][None]
    distance = np.linalg.norm(way, axis=-1)
    exists = np.abs(drop["path_gain"]) > 0
    first = np.where(exists, drop["path_delay"], np.inf).min(axis=-1) * SPEED_OF_LIGHT
    heard, los = drop["num_paths"] > 0, drop["los"]
    assert los.any() and (heard & ~los).any()
    np.testing.assert_allclose(first[los], distance[los], rtol=1e-5)
    assert (first[heard & ~los] > distance[heard & ~los] * 1.00001).all()


def test_the_middles_of_cells_are_on_their_surface(one_city):
    """The last of the tries of a point, which must not miss."""
    name, street = one_city.draw_street(np.random.default_rng(2), "train")
    here = one_city.cities[name]
    assert here.is_roof(street.trp_cells, here.heights(street.trp_cells)).all()
    assert here.is_street(street.ue_cells, here.heights(street.ue_cells)).all()


def read(batches, count):
    found = []
    for batch in batches:
        found.extend(batch["ue_position"].numpy())
        if len(found) >= count:
            return np.array(found[:count])


def test_same_seed_same_samples_and_other_seeds_differ(one_city):
    fields = {"fields": ("ue_position", "path_delay")}
    first = read(one_city.batches(8, seed=1, **fields), 40)
    again = read(one_city.batches(10, seed=1, start=10, **fields), 30)
    other = read(one_city.batches(8, seed=2, **fields), 40)
    np.testing.assert_array_equal(first[10:], again)
    assert not np.isin(other[:, 0], first[:, 0]).any()


def test_splits_draw_in_places_of_their_own(one_city):
    drops = [one_city.drop((5, 7), 4, split) for split in ("train", "test")]
    assert not np.array_equal(*(drop["trp_position"] for drop in drops))
    trp, ue = one_city.positions((5, 7), 4)
    np.testing.assert_array_equal(trp, drops[0]["trp_position"])
    np.testing.assert_array_equal(ue, drops[0]["ue_position"])
    asked = []
    drop = one_city.drop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            one_city, "drop", lambda *a: asked.append(a[2]) or drop(*a[:2], "train")
        )
        frozen.draw_rows(one_city, "validation", 0)
    assert set(asked) == {"validation"}


def test_fingerprint_follows_places_and_sizes(scenario):
    others = [
        get_scenario("cities"),
        get_scenario("cities", small=True, max_depth=2),
        get_scenario("cities", small=True, train_cities=["munich", "etoile"]),
        get_scenario("cities", small=True, test_place="munich"),
        get_scenario("cities", small=True, test_place="held_out"),
    ]
    assert len({one.fingerprint() for one in (scenario, *others)}) == 6
    turned = get_scenario(
        "cities", small=True, train_cities=["florence", "etoile", "munich"]
    )
    assert turned.fingerprint() == scenario.fingerprint()
    json.dumps(scenario.config())


@pytest.mark.parametrize("name", ["_NUM_TRIES", "UE_HEIGHT", "TRP_ABOVE_ROOF"])
def test_fingerprint_follows_the_constants(scenario, monkeypatch, name):
    before = scenario.fingerprint()
    monkeypatch.setattr(cities, name, 2 * getattr(cities, name))
    assert get_scenario("cities", small=True).fingerprint() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_place": "sanfrancisco"}, "Did you mean 'san_francisco'"),
        ({"train_cities": ["munich", "rome"]}, "Unknown city to train in 'rome'"),
        ({"train_cities": ["san_francisco"]}, "Unknown city to train in"),
        ({"train_cities": []}, "one city or more"),
        ({"train_cities": ["munich", "munich"]}, "each once"),
        ({"train_cities": "munich"}, "must be a list"),
        ({"max_depth": 0}, "max_depth=0"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        get_scenario("cities", small=True, **options)


@pytest.mark.slow
def test_hills_are_traced_like_flat_ground(scenario):
    """The terrain has 192,000 triangles; each may mirror."""
    drop = {k: v.numpy() for k, v in scenario.drop((0, 9), None, "test").items()}
    way = drop["ue_position"][:, None] - drop["trp_position"][None]
    first = np.where(drop["path_delay"] > 0, drop["path_delay"], np.inf).min(axis=-1)
    los = drop["los"]
    assert los.any()
    distance = np.linalg.norm(way, axis=-1)
    np.testing.assert_allclose(first[los] * SPEED_OF_LIGHT, distance[los], rtol=1e-5)
    assert len(np.unique(drop["ue_position"][:, 2].round(2))) > 8
