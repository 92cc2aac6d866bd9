"""What `benchmarks/training_throughput.py` times: that its models take its inputs."""

import benchmark_scripts
import numpy as np


def test_the_compact_model_adapts_to_the_benchmarks_inputs():
    benchmark = benchmark_scripts.load("training_throughput")
    model = benchmark.make_model("compact")
    turn = benchmark.ours(model, size=4, steps=1)  # adapts; no step is made yet
    assert callable(turn)
    assert model.optimizer is not None


def test_random_inputs_are_heard_as_often_as_stated():
    benchmark = benchmark_scripts.load("training_throughput")
    cir, trp, num_heard, target = benchmark.random_batch(64)
    assert cir.shape == (64, benchmark.NUM_TRPS, 1, benchmark.NUM_TAPS, 2)
    assert trp.shape == (64, benchmark.NUM_TRPS, 3)
    assert target.shape == (64, 3)
    share = np.mean(num_heard) / benchmark.NUM_TRPS
    assert abs(share - benchmark.HEARD_SHARE) < 0.01
