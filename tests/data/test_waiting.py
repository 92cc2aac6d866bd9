import time

import numpy as np
import tensorflow as tf

from sionna_loc.data.waiting import WaitMeter

PAUSE = 0.04
NUM_BATCHES = 15


def slow_dataset(num_prefetched=0):
    def wait(index):
        time.sleep(PAUSE)
        return index

    def batch(index):
        index = tf.ensure_shape(tf.numpy_function(wait, [index], tf.int64), [])
        ragged = tf.RaggedTensor.from_row_lengths(tf.range(3), [1, 2])
        return {"cir": ragged}, {"position": tf.fill([2, 3], index)}

    dataset = tf.data.Dataset.range(1000)
    dataset = dataset.map(batch, num_parallel_calls=1)
    return dataset.prefetch(num_prefetched) if num_prefetched else dataset


def measure(dataset, work):
    """Return (share of time measured as waiting, batches)."""
    meter = WaitMeter()
    iterator = iter(meter.attach(dataset))
    next(iterator)
    waited, started = meter.seconds, time.monotonic()
    for _ in range(NUM_BATCHES):
        next(iterator)
        time.sleep(work)
    return (meter.seconds - waited) / (time.monotonic() - started)


def test_slow_data_is_waiting():
    assert measure(slow_dataset(), work=0.0) > 0.8


def test_data_made_in_time_is_no_waiting():
    assert measure(slow_dataset(2), work=2 * PAUSE) < 0.2


def test_nothing_is_fetched_behind_the_clock():
    # Data half as fast as the work: it waits for the other half. A prefetch behind
    # the clock would wait all the time, meanwhile as well.
    share = measure(slow_dataset(2), work=PAUSE / 2)
    assert 0.25 < share < 0.75


def test_elements_pass_unchanged():
    meter = WaitMeter()
    measured = meter.attach(slow_dataset().take(3))
    assert measured.element_spec == slow_dataset().element_spec
    for index, (inputs, targets) in enumerate(measured):
        assert inputs["cir"].to_list() == [[0], [1, 2]]
        np.testing.assert_array_equal(targets["position"], np.full((2, 3), index))
    assert index == 2
