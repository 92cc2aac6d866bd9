"""What `benchmarks/weight_updates.py` compares leads to the same weights."""

import benchmark_scripts
import numpy as np
import pytest


@pytest.fixture(scope="module")
def weight_updates():
    return benchmark_scripts.load("weight_updates")


def test_both_lead_to_the_same_weights(weight_updates):
    found = weight_updates.measure(2, [(3, 5), (4,)])
    assert found["num_weights"] == 19 and found["largest_difference"] < 1e-5
    assert all(found[f"{key}_ratio"] > 0 for key in ("trace_s", "update_ms"))


def test_an_update_moves_every_weight(weight_updates):
    optimizer = weight_updates.OPTIMIZERS["fused"](learning_rate=0.01)
    update, weights = weight_updates.updater(optimizer, [(6, 2)])
    before = np.array(weights[0])
    update()
    assert np.abs(before - np.asarray(weights[0])).min() > 1e-3
