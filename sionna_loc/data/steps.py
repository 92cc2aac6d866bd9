"""Batches for many training steps at once, cut up for each of them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def batches_of_steps(
    samples: tf.data.Dataset,
    features: Callable[[Any], tuple[dict[str, Any], dict[str, tf.Tensor]]],
    pad: Callable[[dict[str, Any]], dict[str, tf.Tensor]],
    num_steps: int,
) -> tf.data.Dataset:
    """Return the batches of single steps, each a part of one made for many.

    With small networks making a batch takes as long as training on it, and making one
    of twenty times as many samples hardly longer.

    Args:
        samples: batches, each of so many samples that they can be shared out.
        features: batch of samples -> (inputs, targets).
        pad: inputs, ragged or not -> dense ones, as `Localizer.pad`.
        num_steps: int > 0. Steps for which a batch of `samples` is.

    Returns: batches (inputs, targets), in the order of the samples.
    """

    def share_out(batch: Any) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        inputs, targets = features(batch)
        return tf.nest.map_structure(reshape, (pad(inputs), targets))

    def reshape(values: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[num_steps, -1], tf.shape(values)[1:]], axis=0)
        shares = tf.reshape(values, shape)
        shares.set_shape([num_steps, None, *values.shape[1:]])
        return shares

    shares = samples.map(share_out, num_parallel_calls=tf.data.AUTOTUNE)
    return shares.prefetch(1).unbatch()
