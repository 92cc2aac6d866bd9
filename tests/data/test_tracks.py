"""Windows of tracks, as samples of the same tracks."""

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.data import frozen, tracks
from sionna_loc.data.link_table import LinkTable
from sionna_loc.registry import get_scenario

LENGTHS = {"train": [4, 6, 5], "validation": [5], "test": [3, 7]}
SITES = np.array([[0, 0, 5], [50, 0, 5], [0, 50, 5]], np.float32)
FIELDS = ("trp_position", "path_delay", "num_paths", "ue_position")
SETS = np.array([[0, 1], [2, 1]])


class Ways:
    """What a scenario says of its tracks."""

    name, prepared, min_trps, num_trps, num_sites = "ways", None, 1, 2, 3
    subsets_per_ue = 1
    region = np.array([[0.0, -1.0, 0.0], [1000.0, 1.0, 2.0]])

    def __init__(self, lengths=LENGTHS):
        self.lengths = lengths

    def track_lengths(self, split):
        return np.array(self.lengths[split])

    def site_sets(self, num_trps):
        return SETS[:, :num_trps]


def make_links(num_ues):
    """UE k is at x = k m; site s has the delay 100 k + s; every 4th UE hears nothing
    but site 2."""
    ue = np.arange(num_ues, dtype=np.float32)
    heard = np.ones((num_ues, 3), np.int32)
    heard[::4, :2] = 0
    return {
        "trp_position": np.broadcast_to(SITES, (num_ues, 3, 3)),
        "path_delay": (100 * ue[:, None] + np.arange(3.0, dtype=np.float32))[..., None],
        "num_paths": heard,
        "ue_position": np.stack([ue, 0 * ue, 0 * ue], axis=-1),
    }


@pytest.fixture
def ways(monkeypatch):
    def load(scenario, split, num_ues):
        assert num_ues == sum(scenario.lengths[split])
        return make_links(num_ues)

    monkeypatch.setattr(frozen, "load", load)
    return Ways()


def read(scenario, num_samples, window, split="test"):
    """Windows as lists: their UEs, by their delays, and the sites of each sample."""
    dataset = frozen.batches(
        scenario, split, num_samples, fields=FIELDS, keep_silent=True, window=window
    )
    (batch,) = list(dataset)
    delays = [
        [np.array(sample)[:, 0].astype(int) for sample in one]
        for one in batch["path_delay"].to_list()
    ]
    ues = [[int(sample[0]) // 100 for sample in one] for one in delays]
    sites = [[(sample % 100).tolist() for sample in one] for one in delays]
    return batch, ues, sites


def test_windows_end_with_their_sample_and_stay_on_its_track(ways):
    batch, ues, sites = read(ways, 10, 3)
    ends = [one[-1] for one in ues]
    # UEs 4 and 8 have drawn the first set of sites and hear nothing: no samples.
    assert ends == [0, 1, 2, 3, 5, 6, 7, 9]
    for end, one in zip(ends, ues, strict=True):
        start = 0 if end < 3 else 3  # the second track begins with UE 3
        assert one == list(range(max(start, end - 2), end + 1))
    assert ues[:5] == [[0], [0, 1], [0, 1, 2], [3], [3, 4, 5]]
    np.testing.assert_array_equal(batch["ue_position"][:, 0], ends)
    for one in sites:
        assert len(set(map(tuple, one))) == 1 and one[0] in SETS.tolist()


def test_moments_in_which_nothing_is_heard_are_in_the_windows_of_others(ways):
    batch, ues, sites = read(ways, 10, 3)
    paths = batch["num_paths"].to_list()
    silent = [
        (window, place)
        for window, one in enumerate(paths)
        for place, counts in enumerate(one)
        if sum(counts) == 0
    ]
    assert silent
    for window, place in silent:
        assert ues[window][place] % 4 == 0 and place < len(ues[window]) - 1
        assert len(sites[window][place]) == 2


def test_samples_are_the_same_as_without_windows(monkeypatch, ways):
    monkeypatch.setattr(
        frozen, "load", lambda scenario, split, n: _some(make_links(10), n)
    )

    def _some(links, num_ues):
        chosen = frozen.position_sets.chosen(10, num_ues)
        return {name: values[chosen] for name, values in links.items()}

    for num_samples in (10, 4):
        options = {"fields": FIELDS, "keep_silent": True}
        (alone,) = frozen.batches(ways, "test", num_samples, **options)
        (batch,) = frozen.batches(ways, "test", num_samples, **options, window=3)
        np.testing.assert_array_equal(batch["ue_position"], alone["ue_position"])
        for name in ("path_delay", "num_paths", "trp_position"):
            last = batch[name][:, -1:].merge_dims(0, 1)
            assert last.to_list() == alone[name].to_list(), name


def test_a_pass_over_the_training_set_has_windows_too(ways, monkeypatch):
    from sionna_loc.data import epochs

    dataset = epochs.batches(
        ways, 15, 5, seed=3, fields=FIELDS, keep_silent=True, window=4
    )
    starts = np.repeat([0, 4, 10], [4, 6, 5])
    seen = []
    for batch in dataset.take(6):
        assert batch["path_delay"].shape[0] == 5
        for one, end in zip(
            batch["path_delay"].to_list(), batch["ue_position"], strict=True
        ):
            end = int(end[0])
            ues = [int(sample[0][0]) // 100 for sample in one]
            assert ues == list(range(max(starts[end], end - 3), end + 1))
            seen.append(end)
    assert seen[:15] != sorted(seen[:15]) and len(set(seen[:15])) > 8
    late = epochs.batches(
        ways, 15, 3, seed=3, fields=FIELDS, keep_silent=True, window=4, start=21
    )
    ends = np.concatenate([batch["ue_position"][:, 0] for batch in late.take(3)])
    assert ends.astype(int).tolist() == seen[21:30]


def test_few_samples_keep_what_came_before_them(ways):
    from sionna_loc.data import epochs

    dataset = epochs.batches(ways, 2, 8, fields=FIELDS, keep_silent=True, window=3)
    batch = next(iter(dataset))
    ends = batch["ue_position"][:, 0].numpy().astype(int)
    assert set(ends) <= set(frozen.position_sets.chosen(15, 2))
    lengths = batch["path_delay"].row_lengths().numpy()
    starts = np.repeat([0, 4, 10], [4, 6, 5])
    np.testing.assert_array_equal(lengths, np.minimum(ends - starts[ends] + 1, 3))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (4, r"The test tracks of ways have 3 samples or more.*Received: window=4"),
        (0, "window=0"),
        (2.5, "window=2.5"),
    ],
)
def test_a_window_longer_than_a_track_is_one_clear_line(window, message):
    with pytest.raises(UserError, match=message):
        tracks.check_window(Ways(), window)
    tracks.check_window(Ways(), 3)


def test_scenarios_without_tracks_have_no_windows(small_paris):
    with pytest.raises(UserError, match=r"paris_scn1 has no tracks.*window=2"):
        small_paris.batches(4, window=2)
    with pytest.raises(UserError, match=r"paris_scn1 has no tracks.*window=2"):
        small_paris.frozen("test", 4, window=2)
    tracks.check_window(small_paris, 1)


def test_windows_need_silent_trps_and_whole_prepared_sets(ways):
    with pytest.raises(UserError, match="keep what hears nothing"):
        LinkTable(make_links(4), FIELDS, False, np.zeros(4), window=2)
    ways.prepared = type("Set", (), {"num_samples": lambda self, split: 8})()
    message = r"prepared set with all 10 test samples.*num_samples=8"
    with pytest.raises(UserError, match=message):
        frozen.load_chosen(ways, "test", 8, 3)
    ways.prepared = None
    with pytest.raises(UserError, match=r"has 10 UEs.*num_samples=11"):
        frozen.load_chosen(ways, "test", 11, 3)


def test_madrids_tracks_are_those_of_its_sets():
    scenario = get_scenario("madrid")
    for split in frozen.SPLITS:
        lengths = scenario.track_lengths(split)
        ue = scenario.split_positions(split)[1]
        assert lengths.sum() == len(ue)
        starts = tracks.track_starts(scenario, split, 10)
        steps = np.linalg.norm(np.diff(ue, axis=0), axis=1)
        same = starts[1:] == starts[:-1]
        assert steps[same].max() < 1.7 < np.median(steps[~same])  # 60 km/h, 100 ms


def test_batches_are_windows_of_windows_of_trps(ways):
    table = LinkTable(make_links(6), FIELDS, True, np.array([0, 0, 0, 3, 3, 3]), 3)
    batch = table(tf.constant([1, 5]), tf.constant([[1, 2], [0, 2]]))
    assert batch["path_delay"].shape.as_list() == [2, None, None, 1]
    delays = batch["path_delay"].to_list()
    assert delays[0] == [[[1.0], [2.0]], [[101.0], [102.0]]]
    assert delays[1] == [
        [[300.0], [302.0]],
        [[400.0], [402.0]],
        [[500.0], [502.0]],
    ]


def test_windows_of_one_track_look_back_only():
    inputs = {
        "link": np.arange(12.0).reshape(3, 2, 2),
        "trp_mask": np.array([[True, True], [True, False], [True, True]]),
    }
    found = tracks.windows_of_track(inputs, 2)
    link = inputs["link"]
    np.testing.assert_array_equal(found["link"][1:], [link[0:2], link[1:3]])
    mask = [[[0, 0], [1, 1]], [[1, 1], [1, 0]], [[1, 0], [1, 1]]]
    np.testing.assert_array_equal(found["trp_mask"], np.array(mask, bool))
    alone = tracks.windows_of_track({"link": inputs["link"]}, 1)
    np.testing.assert_array_equal(alone["link"][:, 0], inputs["link"])
    assert alone["trp_mask"].all()
    with pytest.raises(UserError, match="window=0"):
        tracks.windows_of_track(inputs, 0)
