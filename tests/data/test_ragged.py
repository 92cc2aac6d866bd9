"""Ragged batches: TRPs that are taken away."""

import numpy as np
import tensorflow as tf

from sionna_loc.data.ragged import FEWEST_TRPS, with_fewer_trps


def make_batch(lengths):
    number = tf.ragged.range(lengths)
    return {
        "cir": tf.expand_dims(tf.cast(number, tf.float32), -1),
        "trp_position": number,
        "rows": tf.range(len(lengths)),
    }


def test_between_three_and_all_stay():
    found = []
    for seed in range(400):
        batch = with_fewer_trps(make_batch([2, 3, 5, 8]), [seed, 0])
        np.testing.assert_array_equal(batch["rows"], range(4))
        kept = batch["trp_position"].to_list()
        assert kept == tf.squeeze(batch["cir"], -1).to_list()
        assert all(row == sorted(set(row)) for row in kept)
        found.append(kept)
    counts = [np.bincount([len(row[k]) for row in found]) for k in range(4)]
    assert [np.flatnonzero(count).tolist() for count in counts] == [
        [2],
        [FEWEST_TRPS],
        [3, 4, 5],
        [3, 4, 5, 6, 7, 8],
    ]
    # Each number, and each TRP, as often as the others.
    assert counts[3][3:].min() > 400 / 6 * 0.6
    stays = np.bincount(np.concatenate([row[3] for row in found]), minlength=8)
    assert stays.min() > 0.8 * stays.max()


def test_the_seed_decides():
    one, same, other = (
        with_fewer_trps(make_batch([8] * 16), [seed, 1])["trp_position"].to_list()
        for seed in (0, 0, 1)
    )
    assert one == same != other
