import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.data import streaming
from sionna_loc.data.streaming import draw_samples
from sionna_loc.registry import get_scenario
from sionna_loc.sample import FIELDS


def read(dataset, num_samples):
    """Return the first samples of ragged batches as a list of dicts."""
    samples = []
    for batch in dataset:
        names = list(batch)
        for i in range(batch["ue_position"].shape[0]):
            samples.append({name: batch[name][i].numpy() for name in names})
        if len(samples) >= num_samples:
            return samples[:num_samples]
    return samples


def assert_same(samples, others):
    assert len(samples) == len(others)
    for sample, other in zip(samples, others, strict=True):
        assert sample.keys() == other.keys()
        for name in sample:
            np.testing.assert_array_equal(sample[name], other[name])


@pytest.fixture(scope="module", autouse=True)
def each_drop_is_traced_once(small_paris):
    """Many tests read the same drops; what tracing gives depends on positions only."""
    trace, known = small_paris.channel.trace, {}

    def trace_once(*positions):
        key = tuple(position.tobytes() for position in positions)
        if key not in known:
            known[key] = trace(*positions)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_paris.channel, "trace", trace_once)
        yield


@pytest.fixture(scope="module")
def first_samples(small_paris):
    """More than one block, so that two blocks are compared."""
    return read(small_paris.batches(50, seed=3), 200)


def test_batches_are_ragged_and_carry_the_contract(small_paris):
    batch = next(iter(small_paris.batches(8)))

    assert list(batch) == list(FIELDS)
    for name, spec in FIELDS.items():
        shape = spec.element_shape(small_paris.num_paths)
        assert batch[name].dtype == spec.dtype
        assert batch[name].shape.as_list() == [8, *shape]
        if spec.is_per_trp:
            assert batch[name].ragged_rank == 1


def test_only_the_fields_asked_for_are_carried(small_paris):
    fields = ("path_delay", "ue_position")
    batch = next(iter(small_paris.batches(8, fields=fields)))
    whole = next(iter(small_paris.batches(8)))

    assert tuple(batch) == fields
    np.testing.assert_array_equal(
        batch["path_delay"].flat_values, whole["path_delay"].flat_values
    )


def test_single_samples_are_those_of_the_batches(small_paris, first_samples):
    stream = small_paris.stream(seed=3)
    singles = [
        {name: value.numpy() for name, value in sample.items()}
        for sample in stream.take(5)
    ]

    assert_same(singles, first_samples[:5])
    for name, spec in FIELDS.items():
        shape = spec.element_shape(small_paris.num_paths)
        assert stream.element_spec[name] == tf.TensorSpec(shape, spec.dtype)


@pytest.mark.parametrize(("batch_size", "start"), [(7, 0), (16, 13), (64, 130)])
def test_same_samples_whatever_the_batch_size_and_start(
    small_paris, first_samples, batch_size, start
):
    batches = small_paris.batches(batch_size, seed=3, start=start)

    assert_same(read(batches, 200 - start), first_samples[start:])


def test_same_seed_gives_the_same_first_thousand_samples():
    """Two scenarios of their own, drops traced two at a time."""
    fields = ("ue_position", "trp_position", "path_gain")
    runs = []
    for _ in range(2):
        scenario = get_scenario("paris_scn1", small=True)
        scenario.sizes = dataclasses.replace(scenario.sizes, subsets_per_ue=16)
        runs.append(read(scenario.batches(100, seed=11, fields=fields), 1000))

    assert len(runs[0]) == 1000
    assert_same(*runs)


def test_the_stream_is_endless(small_paris):
    assert small_paris.batches(8).cardinality() == tf.data.INFINITE_CARDINALITY
    assert small_paris.stream().cardinality() == tf.data.INFINITE_CARDINALITY


def test_another_seed_gives_other_samples(small_paris, first_samples):
    other = read(small_paris.batches(50, seed=4), 100)
    seen = {sample["ue_position"].tobytes() for sample in first_samples}

    assert not seen & {sample["ue_position"].tobytes() for sample in other}


def test_every_ue_gives_equally_many_samples_with_trps_of_their_own(
    small_paris, first_samples
):
    size = small_paris.sizes.samples_per_block
    block = first_samples[:size]
    by_ue = {}
    for sample in block:
        by_ue.setdefault(sample["ue_position"].tobytes(), []).append(sample)

    counts = [len(samples) for samples in by_ue.values()]
    assert len(by_ue) == small_paris.num_ues * small_paris.sizes.drops_per_block
    assert max(counts) - min(counts) <= 2
    differing = [
        set(map(bytes, a["trp_position"])) != set(map(bytes, b["trp_position"]))
        for samples in by_ue.values()
        for a, b in itertools.combinations(samples, 2)
    ]
    assert np.mean(differing) > 0.9
    # Shuffled over drops: neighbours rarely share their UE.
    same = [
        (a["ue_position"] == b["ue_position"]).all()
        for a, b in itertools.pairwise(block)
    ]
    assert np.mean(same) < 0.1


def test_all_trps_of_a_sample_have_a_path_and_there_are_enough(
    small_paris, first_samples
):
    for sample in first_samples:
        assert (sample["num_paths"] > 0).all()
        assert (np.abs(sample["path_gain"][:, 0]) > 0).all()
        assert small_paris.min_trps <= len(sample["num_paths"]) <= 12


def test_direct_delays_fit_the_positions_of_the_sample(first_samples):
    """Fails if the rows of a batch are mixed up."""
    for sample in first_samples[:50]:
        away = sample["trp_position"] - sample["ue_position"]
        distance = np.linalg.norm(away, axis=-1)
        los = sample["los"]
        delay = np.where(np.abs(sample["path_gain"]) > 0, sample["path_delay"], 1)
        np.testing.assert_allclose(
            delay.min(axis=-1)[los] * 299_792_458, distance[los], rtol=1e-5
        )


@pytest.mark.parametrize("num_trps", [1, 5, 16])
def test_any_number_of_trps(small_paris, num_trps):
    samples = read(small_paris.batches(32, num_trps=num_trps), 128)
    heard = [len(sample["num_paths"]) for sample in samples]

    assert min(heard) >= min(num_trps, small_paris.min_trps)
    assert max(heard) == num_trps


def test_chance_is_drawn_only_where_samples_are_turned(small_paris, monkeypatch):
    drawn, plain = [], streaming.draw_chance

    def draw_chance(seed, num_samples):
        drawn.append(num_samples)
        return plain(seed, num_samples)

    monkeypatch.setattr(streaming, "draw_chance", draw_chance)
    small_paris.batches(8, emphasis=1.5)
    small_paris.stream()
    assert not drawn
    small_paris.batches(8, augment="rotate")
    assert drawn == [small_paris.sizes.samples_per_block]


@pytest.mark.parametrize("num_trps", [0, 17, -1, 2.5])
def test_impossible_numbers_of_trps_are_refused(small_paris, num_trps):
    with pytest.raises(UserError, match="num_trps"):
        small_paris.batches(8, num_trps=num_trps)


@pytest.mark.parametrize(
    "options", [{"start": -1}, {"batch_size": 0}, {"fields": ("path_gian",)}]
)
def test_wrong_options_are_refused(small_paris, options):
    with pytest.raises(UserError, match=next(iter(options))[:5]):
        small_paris.batches(**{"batch_size": 8, **options})


def pool_where_ues_hear(num_heard):
    """Return a pool of one drop whose UE `i` hears its first `num_heard[i]` sites."""
    heard = np.arange(6) < np.array(num_heard)[:, None]
    return {
        "num_paths": tf.constant(heard[None].astype(np.int32)),
        "ue_position": tf.constant(
            np.arange(len(num_heard) * 3).reshape(1, -1, 3), tf.float32
        ),
        "trp_position": tf.constant(np.arange(18).reshape(1, 6, 3), tf.float32),
    }


def test_samples_that_hear_too_few_are_replaced():
    pool = pool_where_ues_hear([0, 1, 6, 6])
    rows = draw_samples(
        pool, tf.constant([1, 2]), num_samples=40, num_trps=3, min_trps=2
    )
    heard = (rows["num_paths"].numpy() > 0).sum(axis=1)

    assert rows["num_paths"].shape == (40, 3)
    assert heard.min() >= 2
    assert set(rows["ue_position"].numpy()[:, 0]) == {6.0, 9.0}


def test_a_pool_that_hears_nothing_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="hears enough"):
        draw_samples(
            pool_where_ues_hear([0, 0]),
            tf.constant([1, 2]),
            num_samples=4,
            num_trps=3,
            min_trps=1,
        )


def test_emphasis_shows_samples_with_few_trps_in_sight_more_often():
    """Waiting times of rates 1 and 4^-1.5 among 3 candidates a sample: 85 : 15; of
    1 and 1/2 among 2: 62 : 38."""
    pool = pool_where_ues_hear([6, 6])
    in_sight = np.zeros(pool["num_paths"].shape, bool)
    in_sight[:, 1] = True
    pool["los"] = tf.constant(in_sight)

    def share(emphasis, seed=(1, 2)):
        rows = draw_samples(
            pool,
            tf.constant(seed),
            num_samples=2000,
            num_trps=3,
            min_trps=2,
            emphasis=emphasis,
        )
        assert rows["num_paths"].shape == (2000, 3)
        assert (
            rows["los"].numpy().any(axis=1) == rows["los"].numpy().all(axis=1)
        ).all()
        return 1 - rows["los"].numpy()[:, 0].mean()

    assert share(0.0) == 0.5
    assert share(1.5) == pytest.approx(0.85, abs=0.03)
    assert share(0.5) == pytest.approx(0.62, abs=0.03)
    assert share(1.5) == share(1.5)
    assert share(1.5) != share(1.5, (3, 4))


def test_emphasised_samples_do_not_depend_on_where_reading_starts(small_paris):
    whole = read(small_paris.batches(10, seed=3, emphasis=1.5), 60)
    rest = read(small_paris.batches(10, seed=3, start=40, emphasis=1.5), 20)
    assert_same(rest, whole[40:])
    others = read(small_paris.batches(10, seed=3), 60)
    assert any(
        (a["ue_position"] != b["ue_position"]).any()
        for a, b in zip(whole, others, strict=True)
    )


@pytest.mark.parametrize("emphasis", [-1, "much", float("nan")])
def test_an_emphasis_that_cannot_be_is_refused(small_paris, emphasis):
    with pytest.raises(UserError, match="`emphasis` must be a number of 0 or more"):
        small_paris.batches(4, emphasis=emphasis)
