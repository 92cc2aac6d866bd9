"""How long training waits for its data."""

import tensorflow as tf


class WaitMeter:
    """Sums up, in the graph, the time spent waiting for the next batch.

    No Python runs per batch: a clock that the pipeline reads before it asks for the
    next element, and again when it has it.
    """

    def __init__(self) -> None:
        with tf.device("CPU"):
            self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    @property
    def seconds(self) -> float:
        """Time spent waiting so far [s]."""
        return float(self._seconds.numpy())

    def attach(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return `dataset`, measured; what it prefetches itself is no waiting.

        Nothing may be prefetched behind the clock: the time would then be counted
        while nobody waits. TensorFlow's habit of adding a prefetch at the end is
        therefore switched off.
        """
        clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())

        def add(started: tf.Tensor, element: object) -> object:
            waited = tf.timestamp() - started
            with tf.control_dependencies([self._seconds.assign_add(waited)]):
                return tf.nest.map_structure(_pass_on, element, expand_composites=True)

        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        measured = tf.data.Dataset.zip((clock, dataset)).map(add)
        return measured.with_options(options)


def _pass_on(tensor: tf.Tensor) -> tf.Tensor:
    """Return `tensor`, tied to what the graph must have done before."""
    return tf.identity(tensor)
