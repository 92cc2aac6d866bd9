"""What `benchmarks/link_training.py` compares learns the same."""

import benchmark_scripts
import pytest
import tracks_training


@pytest.fixture
def link_training(tmp_path_factory, monkeypatch):
    script = benchmark_scripts.load("link_training")
    monkeypatch.setattr(script, "SCENARIO", "drives")
    with tracks_training.registered(tmp_path_factory.getbasetemp()):
        yield script


def test_both_ways_learn_the_same(link_training):
    losses = [
        link_training.make_turn("mlp", 60, is_one_by_one=is_one_by_one)()
        for is_one_by_one in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_one_way_takes_twenty_steps_in_a_call_and_the_other_one(
    link_training, monkeypatch
):
    calls = []
    count = link_training.Pace.on_train_batch_end

    def note(pace, batch, logs=None):
        calls.append(batch)
        count(pace, batch, logs)

    monkeypatch.setattr(link_training.Pace, "on_train_batch_end", note)
    for is_one_by_one, expected in ((False, 2), (True, 40)):
        calls.clear()
        link_training.make_turn("mlp", 40, is_one_by_one=is_one_by_one)()
        assert len(calls) == expected


def test_both_ways_are_measured(link_training):
    found = link_training.measure("mlp", 1, 20)
    together, alone = (
        found[f"{name}_ms_per_step"] for name in ("together", "one_by_one")
    )
    assert found["ratio"] == pytest.approx(alone / together, rel=0.05)
