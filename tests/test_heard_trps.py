"""How `benchmarks/heard_trps.py` counts, against all choices of TRPs."""

import itertools

import benchmark_scripts
import numpy as np
import pytest


@pytest.fixture(scope="module")
def heard_trps():
    return benchmark_scripts.load("heard_trps")


def test_counts_are_those_of_all_choices(heard_trps):
    generator = np.random.default_rng(0)
    heard = generator.random((5, 7)) < 0.8
    los = heard & (generator.random((5, 7)) < [[0.0], [0.2], [0.5], [0.5], [1.0]])
    choices = [list(one) for one in itertools.combinations(range(7), 4)]
    each = [(heard[:, one].sum(axis=1), los[:, one].sum(axis=1)) for one in choices]
    hears, sees = np.array(each).transpose(1, 0, 2)
    found = heard_trps.count(heard, los, 4, min_trps=3)
    assert found == pytest.approx(
        {
            "num_ues": 5,
            "heard_trps": hears.mean(),
            "share_of_heard_in_line_of_sight": sees.sum() / hears.sum(),
            "share_of_samples_without_line_of_sight": (sees == 0).mean(),
            "share_of_samples_with_fewer_than_three": (sees < 3).mean(),
            "share_of_samples_drawn_anew": (hears < 3).mean(),
        }
    )
    assert 0 < (sees == 0).mean() < (sees < 3).mean() < 1
    assert 0 < (hears < 3).mean() < 1
