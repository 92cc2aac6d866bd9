import dataclasses
import json
import shutil
from typing import ClassVar

import numpy as np
import pytest
import stored_sets

from sionna_loc.checks import UserError
from sionna_loc.data import shards
from sionna_loc.data.prepared import PreparedSet, use_prepared
from sionna_loc.registry import get_scenario
from sionna_loc.scenarios.inf_dh import IndoorFactoryDH


@pytest.fixture(scope="module")
def paris_set(tmp_path_factory):
    """40 UEs: two drops of 16 and one that is not whole."""
    return stored_sets.write_set(tmp_path_factory.mktemp("sets"), "paris_scn1")


@pytest.fixture(scope="module")
def prepared_paris(paris_set):
    scenario = get_scenario("paris_scn1", small=True)
    use_prepared(scenario, paris_set, all_train=True)
    return scenario


@pytest.fixture(scope="module")
def factory_set(tmp_path_factory):
    return stored_sets.write_set(tmp_path_factory.mktemp("sets"), "inf_dh")


@pytest.fixture
def copied(factory_set, tmp_path):
    """A folder with a set in it that a test may damage."""
    folder = tmp_path / "inf_dh" / factory_set.parent.name / factory_set.name
    shutil.copytree(factory_set, folder)
    return folder


def factory(**options):
    return get_scenario("inf_dh", small=True, **options)


@pytest.mark.parametrize("start", [0, 50])
def test_its_stream_is_the_stream(small_paris, prepared_paris, start):
    """The first block: two drops, 128 samples."""
    options = {"seed": 0, "start": start, "emphasis": 1.5}
    found = prepared_paris.batches(26, **options)
    drawn = small_paris.batches(26, **options)

    assert found.element_spec == drawn.element_spec
    num_batches = (128 - start) // 26
    assert stored_sets.assert_same_batches(found, drawn, num_batches) == num_batches


def test_the_seed_of_the_run_chooses_other_trps_of_the_same_ues(prepared_paris):
    first, other = (
        next(iter(prepared_paris.batches(128, seed=seed))) for seed in (0, 1)
    )
    ues = [
        np.unique(batch["ue_position"].numpy(), axis=0, return_counts=True)
        for batch in (first, other)
    ]
    np.testing.assert_array_equal(ues[0][0], ues[1][0])
    assert not np.array_equal(first["ue_position"], other["ue_position"])


def test_drops_come_again_and_the_last_is_filled_up(prepared_paris):
    fields = ("ue_position", "trp_position", "num_paths")
    drops = list(prepared_paris.prepared.drops(0, fields).take(7))
    late = list(prepared_paris.prepared.drops(4, fields).take(3))

    for index in range(3):
        for name in fields:
            np.testing.assert_array_equal(drops[index][name], drops[index + 3][name])
            np.testing.assert_array_equal(drops[index + 4][name], late[index][name])
    assert drops[0]["trp_position"].shape == (prepared_paris.num_sites, 3)
    whole, last = drops[0]["ue_position"].numpy(), drops[2]["ue_position"].numpy()
    assert len(np.unique(whole, axis=0)) == 16
    np.testing.assert_array_equal(last[:8], last[8:])
    assert len(np.unique(last, axis=0)) == 8


@pytest.mark.parametrize(("split", "number"), [("validation", 12), ("test", 5)])
def test_its_frozen_sets_are_the_frozen_sets(
    small_paris, prepared_paris, split, number
):
    found = prepared_paris.frozen(split, number, num_trps=6, batch_size=4)
    drawn = small_paris.frozen(split, number, num_trps=6, batch_size=4)
    assert found.element_spec == drawn.element_spec
    assert stored_sets.assert_same_batches(found, drawn, -1) == -(-number // 4)


def test_passes_over_it_are_those_over_a_training_set_of_its_size(factory_set):
    scenario, drawn = factory(), factory(num_train=40)
    use_prepared(scenario, factory_set, all_train=True)

    assert scenario.num_train == 40
    found = scenario.batches(16, seed=3, start=24, num_trps=5)
    expected = drawn.batches(16, seed=3, start=24, num_trps=5)
    assert stored_sets.assert_same_batches(found, expected, 5) == 5


def test_a_training_set_may_be_a_part_of_it(factory_set):
    scenario = factory(num_train=24)
    use_prepared(scenario, factory_set, all_train=False)
    drawn = factory(num_train=24)
    found = scenario.batches(24)
    assert stored_sets.assert_same_batches(found, drawn.batches(24), 1) == 1


def test_more_samples_than_there_are_is_one_line(prepared_paris):
    with pytest.raises(UserError, match=r"has 8 test samples.*num_samples=9"):
        prepared_paris.frozen("test", 9)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_it_is_found_from_any_folder_above(copied, depth):
    folder = copied if depth == 0 else copied.parents[depth - 1]
    assert PreparedSet(folder, factory()).folder == copied


def test_no_set_says_how_to_make_one(tmp_path, paris_set):
    for folder in (tmp_path, tmp_path / "nowhere", paris_set):
        with pytest.raises(UserError, match=r"no prepared set of inf_dh.*prepare --s"):
            PreparedSet(folder, factory())


def test_several_sets_are_named(copied):
    shutil.copytree(copied, copied.parents[1] / "other" / copied.name)
    with pytest.raises(UserError, match=r"several.*other"):
        PreparedSet(copied.parents[1], factory())


def test_a_set_of_another_configuration_is_not_in_the_way(copied, factory_set):
    other = copied.parents[1] / "other" / copied.name
    shutil.copytree(copied, other)
    path = other / "metadata.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert PreparedSet(copied.parents[1], factory()).folder == copied


def test_another_configuration_names_what_differs(factory_set):
    other = factory(line_of_sight="always")
    message = r"`channel\.line_of_sight` is 'never' instead of 'always'"
    with pytest.raises(UserError, match=message):
        PreparedSet(factory_set, other)


def test_another_version_is_named(factory_set, monkeypatch):
    scenario = factory()
    monkeypatch.setattr(type(scenario), "data_version", "1.1.0")
    with pytest.raises(UserError, match=r"version 1\.0\.0.*version 1\.1\.0 now"):
        PreparedSet(factory_set, scenario)


def test_another_kind_of_training_set_is_named(factory_set):
    with pytest.raises(UserError, match=r"needs one of fixed size.*num_train"):
        PreparedSet(factory_set, factory(num_train=0))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "pattern", "message"),
    [
        (truncate, "*-train.*-00001-*", "truncated or altered.*train.*-00001-"),
        (alter, "*-test.*", "truncated or altered.*inf_dh-test"),
        (remove, "*-validation.*", "missing.*inf_dh-validation"),
        (remove, "SHA256SUMS", "SHA256SUMS is missing"),
        (truncate, "metadata.json", "metadata.json of the prepared set is damaged"),
    ],
)
def test_a_damaged_set_is_one_line(copied, damage, pattern, message):
    (path,) = copied.glob(pattern)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        PreparedSet(copied, factory())
    assert "\n" not in str(error.value)


def test_a_damaged_description_is_one_line(copied):
    truncate(copied / "dataset_info.json")
    prepared = PreparedSet(copied, factory())
    with pytest.raises(UserError, match="cannot be read"):
        prepared.links("test", 4)


def test_metadata_of_something_else_is_refused(copied):
    (copied / "metadata.json").write_text(json.dumps({"name": "mnist"}))
    with pytest.raises(UserError, match="no set of this library"):
        PreparedSet(copied, factory())


class Tracks(IndoorFactoryDH):
    """The factory with UEs that it names itself, two samples of each."""

    num_ues_of: ClassVar = {"train": 50, "validation": 40, "test": 10}

    def __init__(self, **options):
        super().__init__(**options)
        self.sizes = dataclasses.replace(self.sizes, subsets_per_ue=2)

    def split_positions(self, split):
        generator = np.random.default_rng(len(split))
        low, high = self.ue_area
        plan = generator.uniform(low, high, size=(self.num_ues_of[split], 2))
        height = np.full((len(plan), 1), self.place.ue_height)
        return self.trp_position, np.hstack([plan, height]).astype(np.float32)

    def site_sets(self, num_trps):
        return np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.int32)


@pytest.fixture(scope="module")
def tracks_set(tmp_path_factory):
    """40 of 50 UEs to train, 30 of 40 to validate, all 10 to test."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "get_scenario", lambda name, **o: Tracks(**o))
        patch.setattr(shards, "_scenarios", {})
        return stored_sets.write_set(folder, "inf_dh", num_val=30, num_test=10)


@pytest.mark.parametrize("num_train", [40, 17])
def test_ues_that_the_scenario_names_are_those_of_runs_without_it(
    tracks_set, num_train
):
    scenario, drawn = (Tracks(small=True, num_train=num_train) for _ in range(2))
    use_prepared(scenario, tracks_set, all_train=False)

    found, expected = (s.batches(20, seed=1, num_trps=3) for s in (scenario, drawn))
    assert stored_sets.assert_same_batches(found, expected, 5) == 5
    for split, number in (("validation", 60), ("validation", 21), ("test", 20)):
        found, expected = (s.frozen(split, number, 3) for s in (scenario, drawn))
        assert stored_sets.assert_same_batches(found, expected, -1) == 1
    assert scenario.prepared.num_frozen("test") == 20


def test_a_scenario_that_names_its_ues_has_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "get_scenario", lambda name, **o: Tracks(**o))
    monkeypatch.setattr(shards, "_scenarios", {})
    with pytest.raises(UserError, match="test set of inf_dh has 10 UEs"):
        stored_sets.write_set(tmp_path, "inf_dh", num_test=11)
