"""From dense rows of TRPs, some of them silent, to ragged batches."""

import tensorflow as tf

from sionna_loc.checks import check_known
from sionna_loc.sample import FIELDS

ROW_FIELDS = tuple(FIELDS)
"""Fields that samples carry, in the contract's order."""
FEWEST_TRPS = 3
"""TRPs that `with_fewer_trps` leaves at least; ranges to fewer leave the UE's place in
the plane open."""


def chosen_fields(fields: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the fields asked for, all by default, or raise `UserError`."""
    for name in fields or ():
        check_known("field", name, ROW_FIELDS)
    return tuple(fields) if fields else ROW_FIELDS


def to_ragged(
    rows: dict[str, tf.Tensor], fields: tuple[str, ...], keep_silent: bool = False
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Remove the TRPs without a path from a batch.

    Args:
        rows: fields, per TRP ones [batch, num_trps, ...]; `num_paths` is needed.
        fields: names of the fields to keep.
        keep_silent: bool. Whether TRPs without a path stay after all.

    Returns: dict of `fields`; those per TRP are `tf.RaggedTensor`
        [batch, (num_trps), ...].
    """
    heard = tf.logical_or(rows["num_paths"] > 0, keep_silent)
    lengths = tf.reduce_sum(tf.cast(heard, tf.int64), axis=1)
    batch = {}
    for name in fields:
        if FIELDS[name].is_per_trp:
            values = tf.boolean_mask(rows[name], heard)
            batch[name] = tf.RaggedTensor.from_row_lengths(
                values, lengths, validate=False
            )
        else:
            batch[name] = rows[name]
    return batch


def to_sample(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Remove the TRPs without a path from one sample, fields [num_trps, ...]."""
    heard = rows["num_paths"] > 0
    return {
        name: tf.boolean_mask(rows[name], heard) if spec.is_per_trp else rows[name]
        for name, spec in FIELDS.items()
    }


def with_fewer_trps(
    values: dict[str, tf.Tensor | tf.RaggedTensor], seed: tf.Tensor
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Take TRPs away at random, from each sample another number of them.

    The number that stays is uniform between `FEWEST_TRPS` and all; of fewer none goes.

    Args:
        values: fields of a batch, or inputs of a model. Ragged ones have the TRPs on
            their second axis, all of them the same.
        seed: [2], integer. The same seed takes the same TRPs.

    Returns: the same entries, in the same order of TRPs.
    """
    ragged = {k: v for k, v in values.items() if isinstance(v, tf.RaggedTensor)}
    lengths = next(iter(ragged.values())).row_lengths()
    number_seed, order_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    share = tf.random.stateless_uniform(tf.shape(lengths), number_seed)
    spare = tf.maximum(lengths - FEWEST_TRPS + 1, 1)
    number = FEWEST_TRPS + tf.cast(share * tf.cast(spare, share.dtype), lengths.dtype)
    exists = tf.sequence_mask(lengths)  # [batch, num_trps]
    chance = tf.random.stateless_uniform(tf.shape(exists), order_seed)
    order = tf.argsort(tf.where(exists, chance, 2.0), axis=1)
    stays = tf.argsort(order, axis=1) < tf.cast(number, order.dtype)[:, None]
    stays = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(stays, exists), lengths)
    fewer = {k: tf.ragged.boolean_mask(v, stays) for k, v in ragged.items()}
    return {**values, **fewer}
