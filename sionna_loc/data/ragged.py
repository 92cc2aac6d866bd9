"""From dense rows of TRPs, some of them silent, to ragged batches."""

import tensorflow as tf

from sionna_loc.checks import check_known
from sionna_loc.sample import FIELDS

ROW_FIELDS = tuple(FIELDS)
"""Fields that samples carry, in the contract's order."""


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
