import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.data import frozen
from sionna_loc.registry import get_scenario

NUM = 20


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path))
    return tmp_path


def positions(dataset, name="ue_position"):
    values = [batch[name] for batch in dataset]
    return np.concatenate([getattr(v, "flat_values", v).numpy() for v in values])


@pytest.mark.parametrize("num_trps", [1, 3, 16])
def test_same_ues_for_every_number_of_trps(small_paris, num_trps):
    few = small_paris.frozen("test", NUM, num_trps=num_trps, batch_size=8)
    usual = small_paris.frozen("test", NUM, batch_size=20)
    lengths = np.concatenate([b["num_paths"].row_lengths() for b in few])

    np.testing.assert_array_equal(positions(few), positions(usual))
    assert len(lengths) == NUM
    assert lengths.max() <= num_trps
    assert lengths.min() >= min(num_trps, small_paris.min_trps)
    assert all((b["num_paths"].flat_values.numpy() > 0).all() for b in few)


def test_reading_again_gives_the_same_and_does_not_draw(small_paris, monkeypatch):
    first = positions(small_paris.frozen("test", NUM), "path_gain")

    def refuse(*args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(frozen, "_draw", refuse)
    np.testing.assert_array_equal(
        positions(small_paris.frozen("test", NUM), "path_gain"), first
    )


def test_drawn_again_elsewhere_it_is_the_same(small_paris, own_cache):
    fresh = frozen.load(small_paris, "test", NUM)
    again = frozen._draw(small_paris, "test", NUM)

    assert len(list(own_cache.iterdir())) == 1
    for name, values in fresh.items():
        np.testing.assert_array_equal(again[name], values)


def test_a_larger_set_begins_with_the_smaller_and_has_many_sites(small_paris):
    small = frozen.load(small_paris, "test", NUM)
    large = frozen.load(small_paris, "test", 2 * NUM)

    np.testing.assert_array_equal(large["ue_position"][:NUM], small["ue_position"])
    sets = {sites.tobytes() for sites in large["trp_position"]}
    assert len(sets) == 2 * NUM / small_paris.sizes.num_frozen_ues
    assert small["trp_position"].shape == (NUM, small_paris.num_sites, 3)


def test_splits_and_stream_share_neither_ues_nor_sites(small_paris):
    sources = {
        "validation": small_paris.frozen("validation", NUM),
        "test": small_paris.frozen("test", NUM),
        "stream": small_paris.batches(32, seed=0).take(6),
    }
    for name in ("ue_position", "trp_position"):
        seen = [
            {row.tobytes() for row in positions(dataset, name)}
            for dataset in sources.values()
        ]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]


def test_direct_delays_fit_the_positions(small_paris):
    links = frozen.load(small_paris, "test", NUM)
    away = links["trp_position"] - links["ue_position"][:, None]
    distance = np.linalg.norm(away, axis=-1)
    delay = np.where(np.abs(links["path_gain"]) > 0, links["path_delay"], 1)
    los = links["los"]

    assert los.any()
    np.testing.assert_allclose(
        delay.min(axis=-1)[los] * 299_792_458, distance[los], rtol=1e-5
    )


def test_another_configuration_never_reads_the_cache(small_paris, own_cache):
    other = get_scenario("paris_scn1", small=True, max_depth=1)
    path = frozen.cache_path(small_paris, "test", 8)
    frozen.load(other, "test", 8)
    stale = frozen.cache_path(other, "test", 8)

    assert stale != path
    stale.rename(path)  # As if two digests began alike.
    links = frozen.load(small_paris, "test", 8)
    assert frozen._read(path, frozen._fingerprint(other, "test")) is None
    assert (links["num_paths"] > 2).any()


def test_another_seed_never_reads_the_cache(small_paris, monkeypatch):
    before = {s: frozen.cache_path(small_paris, s, 8) for s in frozen.SPLITS}
    monkeypatch.setitem(frozen._SPLIT_SALTS, "test", 1)

    assert frozen.cache_path(small_paris, "test", 8) != before["test"]
    assert frozen.cache_path(small_paris, "validation", 8) == before["validation"]


def test_a_truncated_cache_is_named_with_the_remedy(small_paris, own_cache):
    frozen.load(small_paris, "validation", 8)
    (path,) = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(UserError, match=f"delete the file.*{path.name}") as error:
        small_paris.frozen("validation", 8)
    assert "\n" not in str(error.value)
    path.unlink()
    assert len(positions(small_paris.frozen("validation", 8))) == 8


def test_a_cache_that_cannot_be_written_shows_before_drawing(
    small_paris, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(frozen, "_draw", None)
    with pytest.raises(UserError, match=r"SIONNA_LOC_CACHE.* cannot be written"):
        frozen.load(small_paris, "test", 8)


@pytest.mark.parametrize("num_trps", [0, 17])
def test_impossible_numbers_of_trps_are_refused(small_paris, num_trps):
    with pytest.raises(UserError, match="num_trps"):
        small_paris.frozen("test", NUM, num_trps=num_trps)


def test_unknown_split_lists_the_known_ones(small_paris):
    with pytest.raises(UserError, match=r"'tset'.*'test'.*validation"):
        small_paris.frozen("tset", NUM)


def test_ues_that_hear_few_sites_get_those():
    links = {
        "num_paths": np.eye(1, 40, 3, dtype=np.int32).repeat(5, axis=0),
        "ue_position": np.zeros((5, 3), np.float32),
    }
    rows = frozen._choose_sites(links, 2, 1)

    assert rows["num_paths"].shape == (5, 2)
    assert (rows["num_paths"].sum(axis=1) == 1).all()
