import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.data import epochs, frozen

NUM_SAMPLES = 12


def read(dataset, num_samples):
    """Return fields of the first samples, a list of arrays for each."""
    found = {"ue_position": [], "trp_position": []}
    for batch in dataset:
        for name, rows in found.items():
            rows.extend(row.numpy() for row in batch[name])
        if len(found["ue_position"]) >= num_samples:
            return {name: rows[:num_samples] for name, rows in found.items()}


@pytest.fixture(scope="module")
def sequence(small_paris):
    return read(epochs.batches(small_paris, NUM_SAMPLES, 5), 3 * NUM_SAMPLES)


def as_set(positions):
    return {tuple(position) for position in positions}


def test_every_pass_has_all_samples_in_another_order(small_paris, sequence):
    known = frozen.load(small_paris, "train", NUM_SAMPLES)["ue_position"]
    assert len(as_set(known)) == NUM_SAMPLES
    passes = np.split(np.array(sequence["ue_position"]), 3)
    for one in passes:
        # A sample that hears too few of its TRPs is replaced; few are.
        assert as_set(one) <= as_set(known)
        assert len(as_set(one)) >= NUM_SAMPLES - 3
    assert not np.array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[1], passes[2])


def test_a_sample_has_other_trps_in_each_pass(sequence):
    seen = {}
    for ue, trps in zip(*sequence.values(), strict=True):
        seen.setdefault(tuple(ue), []).append(as_set(trps))
    again = [trps for trps in seen.values() if len(trps) > 1]
    assert again and all(trps[0] != trps[1] for trps in again)


def test_it_can_be_entered_anywhere_with_any_batch_size(small_paris, sequence):
    start = NUM_SAMPLES + 7
    late = read(epochs.batches(small_paris, NUM_SAMPLES, 4, start=start), 8)
    for name, rows in late.items():
        for row, expected in zip(rows, sequence[name][start:], strict=False):
            np.testing.assert_array_equal(row, expected)


def test_the_seed_changes_the_order_and_not_the_set(small_paris, sequence):
    other = read(epochs.batches(small_paris, NUM_SAMPLES, 4, seed=1), NUM_SAMPLES)
    first = sequence["ue_position"][:NUM_SAMPLES]
    assert not np.array_equal(other["ue_position"], first)
    known = frozen.load(small_paris, "train", NUM_SAMPLES)["ue_position"]
    assert as_set(other["ue_position"]) <= as_set(known)


def test_all_sites_come_in_their_own_order(small_paris):
    number = small_paris.num_sites
    batch = next(iter(epochs.batches(small_paris, NUM_SAMPLES, 6, num_trps=number)))
    links = frozen.load(small_paris, "train", NUM_SAMPLES)
    for ue, trps in zip(batch["ue_position"], batch["trp_position"], strict=True):
        (row,) = np.flatnonzero((links["ue_position"] == ue.numpy()).all(axis=1))
        heard = links["num_paths"][row] > 0
        np.testing.assert_array_equal(trps, links["trp_position"][row][heard])
    test = next(iter(small_paris.frozen("train", NUM_SAMPLES, number, NUM_SAMPLES)))
    heard = links["num_paths"] > 0
    np.testing.assert_array_equal(
        test["trp_position"].flat_values, links["trp_position"][heard]
    )


def test_the_training_set_is_none_of_the_others(small_paris):
    sets = [frozen.load(small_paris, split, 8) for split in frozen.SPLITS]
    positions = np.concatenate([links["ue_position"] for links in sets])
    assert len(as_set(positions)) == len(positions) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"start": -1}, "start=-1"),
        ({"num_trps": 10**6}, "TRPs that there are"),
        ({"fields": ("ue",)}, "Unknown field 'ue'"),
    ],
)
def test_wrong_arguments_are_refused(small_paris, options, message):
    with pytest.raises(UserError, match=message):
        epochs.batches(
            small_paris, **{"num_samples": NUM_SAMPLES, "batch_size": 4, **options}
        )
