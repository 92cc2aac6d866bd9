import measured_files
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.data.array_files import write_fields
from sionna_loc.scenarios.measured import Measured

LINK = ("link", "trp_heard", "trp_position", "ue_position")
CIR = ("cir", "trp_position", "ue_position")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return measured_files.write(tmp_path_factory.mktemp("measured") / "a.npz")


def read(dataset, number=None):
    """Return fields as dense arrays, of all batches or the first ones."""
    batches = list(dataset.take(number) if number else dataset)
    return {
        name: np.concatenate(
            [
                (b[name].to_tensor() if hasattr(b[name], "to_tensor") else b[name])
                for b in batches
            ]
        )
        for name in batches[0]
    }


@pytest.mark.parametrize(("fields", "shape"), [(LINK, (4, 5)), (CIR, (4, 1, 32, 2))])
def test_frozen_sets_are_the_samples_of_the_splits(path, fields, shape):
    scenario = Measured([path])
    truth = measured_files.make_fields()["ue_position"]
    for split, size in (
        ("train", scenario.num_train),
        ("validation", scenario.num_val),
        ("test", scenario.num_test),
    ):
        found = read(scenario.frozen(split, size, batch_size=7, fields=fields))
        assert set(found) == set(fields)
        assert found[fields[0]].shape == (size, *shape)
        expected = truth[scenario.set.splits[split]]
        np.testing.assert_array_equal(found["ue_position"], expected)
    assert scenario.num_train + scenario.num_val + scenario.num_test == 60


def test_fewer_samples_are_among_more(path):
    scenario = Measured([path])
    few, more = (
        read(scenario.frozen("train", size, fields=LINK))["ue_position"].tolist()
        for size in (5, 12)
    )
    assert few == more[:5]
    assert len(set(map(tuple, more))) > 5  # at several places, not the file's first


def test_every_pass_shows_every_sample_once(path):
    scenario = Measured([path])
    size = scenario.num_train
    found = read(scenario.batches(size, seed=3, fields=LINK), 2)["link"]
    first, second = found[:size], found[size:]
    assert not np.array_equal(first, second)
    for part in (first, second):
        whole = read(scenario.frozen("train", size, fields=LINK))["link"]
        assert sorted(part.tolist()) == sorted(whole.tolist())


def test_reading_starts_anywhere_and_batches_have_any_size(path):
    scenario = Measured([path], mute=0.3, range_jitter=0.5, augment=True)
    whole = read(scenario.batches(10, seed=1, num_trps=3, fields=LINK), 12)
    rest = read(scenario.batches(20, seed=1, num_trps=3, start=60, fields=LINK), 3)
    for name, values in rest.items():
        np.testing.assert_array_equal(whole[name][60:], values)
    other = read(scenario.batches(20, seed=2, num_trps=3, start=60, fields=LINK), 3)
    assert not np.array_equal(other["link"], rest["link"])


def test_fewer_trps_are_others_in_each_pass_and_always_the_same_when_frozen(path):
    scenario = Measured([path])
    frozen = [
        read(scenario.frozen("test", scenario.num_test, num_trps=2, fields=LINK))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*(found["trp_position"] for found in frozen))
    assert frozen[0]["link"].shape[1] == 2
    whole = read(scenario.frozen("test", scenario.num_test, fields=LINK))["link"]
    for two, four in zip(frozen[0]["link"], whole, strict=True):
        assert {tuple(x) for x in two.tolist()} <= {tuple(x) for x in four.tolist()}
    size = scenario.num_train
    passes = read(scenario.batches(size, num_trps=1, fields=LINK), 4)["trp_position"]
    seen = {tuple(place) for place in passes[:, 0].tolist()}
    assert len(seen) == 4


def test_turned_samples_still_fit_their_ranges(path):
    scenario = Measured([path], augment=True)
    found = read(scenario.batches(32, fields=LINK), 1)
    way = found["ue_position"][:, None] - found["trp_position"]
    distance = np.linalg.norm(way, axis=-1)
    measured = found["link"][..., 1] * 299_792_458.0
    assert np.abs(distance - measured).max() < 0.6  # the file's noise has 0.1 m
    direction = way / distance[..., None]
    np.testing.assert_allclose(found["link"][..., 2:], direction, atol=1e-4)
    assert np.ptp(found["trp_position"][:, 0, 0]) > 20


def test_the_region_is_that_of_the_training_set_with_a_margin(path):
    scenario = Measured([path])
    places = scenario.set.ue_position[scenario.set.splits["train"]]
    lower, upper = scenario.region
    assert (lower[:2] < places[:, :2].min(0)).all()
    assert (upper[:2] > places[:, :2].max(0)).all()
    np.testing.assert_allclose([lower[2], upper[2]], 1.5)
    box = [[0, 0, 0], [50, 50, 3]]
    np.testing.assert_array_equal(Measured([path], region=box).region, box)


def test_small_is_few_samples_of_everywhere(tmp_path):
    big = measured_files.write(tmp_path / "big.npz", num_places=100, per_place=5)
    scenario = Measured([big], small=True)
    assert scenario.num_train <= 64
    found = read(scenario.frozen("train", scenario.num_train, fields=LINK))
    assert len(np.unique(found["ue_position"], axis=0)) > 40


MISTAKES = {
    "jitter of CIRs": (
        lambda s: Measured(s.paths, range_jitter=1.0).batches(4, fields=CIR),
        "are for link measurements, not CIRs",
    ),
    "too many samples": (
        lambda s: s.frozen("test", 1000),
        "The test set has .* samples. Received: num_samples=1000",
    ),
    "split": (lambda s: s.frozen("tset", 1), "Did you mean 'test'"),
    "too many TRPs": (
        lambda s: s.frozen("test", 1, num_trps=5),
        "at most the 4 TRPs that there are. Received: num_trps=5",
    ),
    "start": (lambda s: s.batches(4, start=-1), "`start` must be"),
    "batch": (lambda s: s.batches(0), "`batch_size` must be"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_asked_for(path, name):
    ask, message = MISTAKES[name]
    with pytest.raises(UserError, match=message):
        scenario = Measured([path])
        scenario.paths = [path]
        ask(scenario)


def test_antennas_are_not_turned(tmp_path):
    fields = measured_files.make_fields()
    fields["cir"] = np.repeat(fields["cir"], 2, axis=2)
    write_fields(tmp_path / "two.npz", fields)
    scenario = Measured([tmp_path / "two.npz"], augment=True)
    scenario.batches(4, fields=LINK)
    with pytest.raises(UserError, match="does not turn the antennas"):
        scenario.batches(4, fields=CIR)


def test_an_empty_split_is_said_when_it_is_needed(path):
    scenario = Measured([], test_files=[path])
    assert scenario.num_test == 60
    with pytest.raises(UserError, match="No measured sample is for the train set"):
        scenario.batches(4)


def test_datasets_know_their_shapes(path):
    spec = Measured([path]).batches(4, fields=CIR).element_spec
    assert spec["cir"].shape.as_list() == [None, None, 1, 32, 2]
    assert isinstance(spec["trp_position"], tf.RaggedTensorSpec)
    assert spec["ue_position"].shape.as_list() == [None, 3]
