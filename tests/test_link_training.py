"""What `benchmarks/link_training.py` compares learns the same."""

import benchmark_scripts
import pytest
import tracks_training


@pytest.fixture
def link_training(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path_factory.getbasetemp() / "ways"))
    script = benchmark_scripts.load("link_training")
    monkeypatch.setattr(script, "SCENARIO", "drives")
    with tracks_training.registered():
        yield script


def test_both_ways_learn_the_same(link_training):
    losses = [
        link_training.make_turn("mlp", 60, is_one_by_one=is_one_by_one)()
        for is_one_by_one in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_both_ways_are_measured(link_training):
    found = link_training.measure("mlp", 1, 20)
    together, alone = (
        found[f"{name}_ms_per_step"] for name in ("together", "one_by_one")
    )
    assert found["ratio"] == pytest.approx(alone / together, rel=0.05)
