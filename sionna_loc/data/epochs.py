"""A training set of fixed size, read again and again.

Every pass shuffles the samples anew and gives each of them TRPs of its own. All of it
is a stateless function of the seed and of the index of the pass, so that the sequence
depends neither on the batch size nor on where reading starts.
"""

from typing import Any

import tensorflow as tf

from sionna_loc.checks import check_not_negative_int, check_positive_int
from sionna_loc.data import frozen
from sionna_loc.data.augmentation import NEEDED, Turning, draw_chance
from sionna_loc.data.link_table import LinkTable
from sionna_loc.data.ragged import chosen_fields
from sionna_loc.data.streaming import (
    check_num_trps,
    choose_samples,
    endless_batches,
    fold_seed,
)

_EPOCH_SALT = 0xE90C45
"""Tells the seeds of passes from those of the stream and of the frozen sets."""


def batches(
    scenario: Any,
    num_samples: int,
    batch_size: int,
    *,
    seed: int = 0,
    num_trps: int | None = None,
    start: int = 0,
    fields: tuple[str, ...] | None = None,
    samples_per_ue: int = 1,
    keep_silent: bool = False,
    window: int = 1,
    augment: str | None = None,
) -> tf.data.Dataset:
    """Return endless passes over a scenario's training set, in ragged batches.

    The training set is a frozen set, drawn once and cached. Each of its UEs gives as
    many samples in a pass, but for those that hear too few of the TRPs drawn for them,
    which others replace. Batches run across the ends of passes.

    Args:
        scenario: whose set it is.
        num_samples: int > 0. Size of the set, in UEs.
        batch_size: int > 0.
        seed: int. Of order and TRPs; the set is the same for all.
        num_trps: int > 0. TRPs of a sample, the scenario's number by default.
        start: int >= 0. Index of the first sample in the sequence.
        fields: names of the fields to carry, all by default.
        samples_per_ue: int > 0. In a pass, each with TRPs of its own.
        keep_silent: bool. See `Scenario.batches`.
        window: int > 0. See `Scenario.batches`.
        augment: See `Scenario.batches`. Each pass turns the samples anew; those of a
            window alike.
    """
    check_positive_int("batch_size", batch_size)
    check_not_negative_int("start", start)
    num_trps = check_num_trps(scenario, num_trps)
    fields = chosen_fields(fields)
    turning = Turning.asked_for(augment, scenario.region)
    carried = fields if turning is None else tuple(dict.fromkeys((*fields, *NEEDED)))
    links, ues, starts = frozen.load_chosen(scenario, "train", num_samples, window)
    table = LinkTable(links, carried, keep_silent, starts, window)
    with tf.device("CPU"):
        # Each UE is a drop of its own.
        pool = {"num_paths": tf.constant(links["num_paths"][ues][:, None])}
        ues = tf.constant(ues)
    pass_size = num_samples * samples_per_ue
    first_pass, skipped = divmod(start, pass_size)
    site_sets = scenario.site_sets(num_trps)

    def one_pass(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        pass_seed = fold_seed(seed, _EPOCH_SALT, index)
        ue, site = choose_samples(
            pool,
            pass_seed,
            num_samples=pass_size,
            num_trps=num_trps,
            min_trps=min(scenario.min_trps, num_trps),
            site_sets=site_sets,
        )
        begin = tf.where(index == first_pass, skipped, 0)
        rows = [tf.gather(ues, ue), site]
        if turning is not None:
            rows.append(draw_chance(pass_seed, pass_size))
        return tuple(row[begin:] for row in rows)

    def to_batch(ue: tf.Tensor, site: tf.Tensor, *chance: tf.Tensor) -> dict[str, Any]:
        batch = table(ue, site)
        if turning is not None:
            batch = turning(batch, *chance)
        return {name: batch[name] for name in fields}

    rows = tf.data.Dataset.counter(first_pass).map(one_pass).prefetch(1)
    return endless_batches(rows, batch_size, to_batch)
