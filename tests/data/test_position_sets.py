"""Sets whose UEs the scenario names, traced in parts; sets of sites."""

import types

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.data import epochs, frozen, position_sets
from sionna_loc.data.streaming import draw_samples
from sionna_loc.scenarios.base import DropSizes, Scenario

SITES = np.array([[0, 0, 5], [50, 0, 5], [0, 50, 5], [50, 50, 5]], np.float32)
SETS = np.array([[0, 1], [1, 3], [2, 3]], np.int32)
NUM = 10


class Line(Scenario):
    """UEs on a line, ten of each split; a UE hears the sites within 45 m."""

    name = "line"
    carrier_frequency, bandwidth, sampling_rate, num_taps = 1e9, 1e8, 1e8, 8
    num_trps, min_trps = 2, 1
    region = np.array([[0, 0, 0], [60, 60, 3]])
    num_train = NUM

    def __init__(self, per_ue=3, sets=SETS):
        self.sets = sets
        self.calls = 0
        channel = types.SimpleNamespace(num_paths=1, config=dict)
        super().__init__(DropSizes(4, 4, per_ue, 1, num_frozen_ues=4), channel)
        self.channel = self.trace
        self.channel_config = dict
        self.trace_failure = None

    @property
    def num_paths(self):
        return 1

    def config(self):
        return {"name": self.name}

    def trace(self, trp_position, ue_position, seed):
        self.calls += 1
        if self.calls == self.trace_failure:
            raise KeyboardInterrupt
        assert ue_position.shape == (4, 3)
        distance = tf.norm(ue_position[:, None] - trp_position, axis=-1)[..., None]
        angles = tf.zeros([*distance.shape, 2])
        heard = distance[..., 0] < 45
        return {
            "path_gain": tf.cast(distance, tf.complex64),
            "path_delay": distance,
            "path_aoa": angles,
            "path_aod": angles,
            "num_paths": tf.cast(heard, tf.int32),
            "los": heard,
        }

    def positions(self, seed, num_ues):
        raise NotImplementedError

    def split_positions(self, split):
        offset = frozen.SPLITS.index(split) * 0.1
        x = np.arange(NUM, dtype=np.float32) + offset
        return SITES, np.stack([x, x * 0, x * 0], axis=-1)

    def site_sets(self, num_trps):
        return self.sets


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path))
    return tmp_path


def test_the_set_has_the_scenarios_ues_with_their_links(cache):
    line = Line()
    links = frozen.load(line, "test", NUM)
    ue = links["ue_position"]
    np.testing.assert_allclose(ue[:, 0], np.arange(NUM) + 0.2)
    distance = np.linalg.norm(ue[:, None] - SITES, axis=-1)
    np.testing.assert_allclose(links["path_delay"][..., 0], distance, rtol=1e-6)
    np.testing.assert_array_equal(links["trp_position"][7], SITES)
    assert line.calls == 3  # drops of four, the last one filled up
    again = frozen.load(line, "test", NUM)
    assert line.calls == 3
    np.testing.assert_array_equal(again["path_delay"], links["path_delay"])
    assert [path.suffix for path in cache.iterdir()] == [".npz"]  # no parts are left


def test_a_trace_that_was_interrupted_goes_on_where_it_stopped(cache):
    line = Line()
    line.trace_failure = 3
    with pytest.raises(KeyboardInterrupt):
        frozen.load(line, "train", NUM)
    parts = sorted(cache.rglob("*.npz"))
    assert [path.name for path in parts] == ["00000.npz", "00001.npz"]
    parts[1].write_bytes(b"damaged")
    other = Line()
    links = frozen.load(other, "train", NUM)
    assert other.calls == 2
    fresh = position_sets.trace(Line(), *line.split_positions("train"), cache / "new")
    for name, values in fresh.items():
        np.testing.assert_array_equal(links[name], values)


def test_fewer_ues_are_random_ones_of_all():
    line = Line()
    few, more = (frozen.load(line, "test", n)["ue_position"][:, 0] for n in (4, 7))
    assert set(few) < set(more) and len(set(more)) == 7
    assert (np.diff(few) > 0).all() and np.ptp(few) > 4  # not just the first
    with pytest.raises(UserError, match=r"test set of line has 10 UEs.*num_samples=11"):
        frozen.load(line, "test", 11)


def rows(dataset, *names):
    values = {name: [] for name in names}
    for batch in dataset:
        for name in names:
            value = batch[name]
            value = value.to_list() if hasattr(value, "to_list") else value.numpy()
            values[name].extend(list(value))
    return values


def test_each_ue_comes_with_each_set_of_sites():
    test = Line().frozen("test", 3 * NUM, keep_silent=True)
    found = rows(test, "ue_position", "trp_position", "num_paths")
    ue = np.array(found["ue_position"])[:, 0]
    sets = [{(x, y) for x, y, _ in sites} for sites in found["trp_position"]]
    expected = [{(x, y) for x, y, _ in SITES[chosen].tolist()} for chosen in SETS]
    heard = np.linalg.norm(
        np.stack([ue, 0 * ue, 0 * ue], axis=-1)[:, None] - SITES, axis=-1
    )
    for number, (sites, paths) in enumerate(zip(sets, found["num_paths"], strict=True)):
        chosen = SETS[expected.index(sites)]
        np.testing.assert_array_equal(np.array(paths) > 0, heard[number, chosen] < 45)
    assert sets.count(expected[0]) == NUM  # always heard: 10 m or less from site 0
    assert sets.count(expected[1]) == 4  # 45 m from site 1 at x > 50 - 44.7 m
    assert sets.count(expected[2]) == 0  # too far away from all: left out


def test_only_what_is_heard_stays_unless_asked_for():
    assert set(rows(Line().frozen("test", 5), "num_paths")["num_paths"][0]) == {1}
    kept = rows(Line().frozen("test", 5, keep_silent=True), "num_paths")["num_paths"]
    assert {len(counts) for counts in kept} == {2}
    assert any(0 in counts for counts in kept)


def test_a_pass_shows_each_ue_with_each_set_once():
    everywhere = Line(sets=np.array([[0, 1], [0, 2], [0, 3]], np.int32))
    batches = everywhere.batches(15, seed=4, keep_silent=True)
    found = rows(batches.take(4), "ue_position", "trp_position")
    pairs = [
        (round(float(ue[0]), 3), tuple(sites[1]))
        for ue, sites in zip(*found.values(), strict=True)
    ]
    first, second = pairs[:30], pairs[30:]
    assert len(set(first)) == len(set(second)) == 30
    assert first != second and first != sorted(first)


def test_with_many_sets_each_pass_draws_others():
    many = Line(per_ue=1, sets=np.array([[0, 1], [0, 2], [0, 3]], np.int32))
    found = rows(
        many.batches(10, keep_silent=True).take(30), "ue_position", "trp_position"
    )
    ue = np.array(found["ue_position"])[:, 0].reshape(30, 10)
    second = np.array(found["trp_position"])[:, 1, :2].reshape(30, 10, 2) @ [1, 2]
    for one_pass in ue:
        assert len(set(one_pass)) == NUM
    counts = [np.sum(second == value) for value in (50, 100, 150)]
    assert np.abs(np.array(counts) - 100).max() < 35  # 4 standard deviations
    assert len({tuple(sites) for sites in second}) > 20


def test_spare_draws_replace_samples_that_hear_too_little():
    far = Line(sets=np.array([[0, 1], [2, 3]], np.int32), per_ue=2)
    found = rows(far.batches(20, keep_silent=True).take(3), "num_paths")
    assert all(sum(counts) >= 1 for counts in found["num_paths"])


def test_sets_of_sites_are_drawn_as_wholes():
    pool = {
        "num_paths": tf.ones([1, 5, 4], tf.int32),
        "path_delay": tf.reshape(tf.range(20.0), [1, 5, 4, 1]),
        "trp_position": tf.constant(SITES[None]),
        "ue_position": tf.zeros([1, 5, 3]),
    }
    drawn = draw_samples(
        pool, (1, 2), num_samples=15, num_trps=2, min_trps=1, site_sets=SETS
    )
    delay = drawn["path_delay"].numpy()[..., 0].astype(int)
    expected = {tuple(4 * ue + SETS[chosen]) for ue in range(5) for chosen in range(3)}
    assert set(map(tuple, delay.tolist())) == expected


def test_the_size_of_a_pass_moves_the_start():
    line = Line(sets=np.array([[0, 1], [0, 2], [0, 3]], np.int32))
    whole = rows(line.batches(10, keep_silent=True).take(5), "ue_position")
    later = rows(line.batches(10, start=20, keep_silent=True).take(3), "ue_position")
    np.testing.assert_array_equal(later["ue_position"], whole["ue_position"][20:])
    assert epochs.batches(line, NUM, 5, samples_per_ue=3).cardinality() < 0


def test_a_drop_of_a_set_is_the_same_whoever_draws_it():
    line = Line()
    whole = frozen.load(line, "test", NUM)
    last = frozen.draw_rows(line, "test", 2)
    np.testing.assert_array_equal(last["path_delay"][:2], whole["path_delay"][8:])
    np.testing.assert_array_equal(last["ue_position"][2:], whole["ue_position"][[9, 9]])
    with pytest.raises(UserError, match=r"has 10 UEs.*sample=12"):
        frozen.draw_rows(line, "test", 3)
    with pytest.raises(UserError, match=r"same for all seeds.*seed=1"):
        frozen.draw_rows(line, "test", 0, seed=1)
