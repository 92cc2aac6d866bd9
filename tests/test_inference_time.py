"""How `benchmarks/inference_time.py` times; what it times are the models themselves."""

import importlib.util
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def inference_time():
    path = BENCHMARKS / "inference_time.py"
    spec = importlib.util.spec_from_file_location("inference_time", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_functions_take_turns_over_the_same_inputs(inference_time):
    order = []
    calls = {
        "idle": lambda x: (order.append(("idle", x)), time.sleep(0.02)),
        "quick": lambda x: order.append(("quick", x)),
    }
    found = inference_time.time_in_turns(calls, range(5), turn=2)
    names = [name for name, _ in order]
    assert names == 2 * ["idle"] + 2 * ["quick"] + (2 * ["idle"] + 2 * ["quick"]) + [
        "idle",
        "quick",
    ]
    for name, (wall, cpu) in found.items():
        assert [x for other, x in order if other == name] == list(range(5))
        assert len(wall) == len(cpu) == 5
        assert (min(wall) > 0.019) == (name == "idle")
    assert max(found["idle"][1]) < 0.01  # who sleeps uses no CPU


def test_inputs_by_size_and_warm_up(inference_time):
    words = ["four", "a", "nine", "two", "nine", "b"]
    groups = inference_time.by_size(words, len)
    assert groups == [["four", "nine", "nine"], ["a", "b"], ["two"]]
    seen = []
    assert inference_time.warm_up(seen.append, words) >= 0
    assert seen == words


def test_percentiles_and_table(inference_time):
    seconds = [k / 1000 for k in range(1, 102)]
    assert inference_time.milliseconds(seconds, 50) == pytest.approx(51)
    assert inference_time.milliseconds(seconds, 99) == pytest.approx(100)
    results = {
        "a": {"p50": 1.25, "warm_up": 3.0},
        "longer": {"p50": 10.0, "warm_up": 4},
    }
    head, first, second = inference_time.table(results).splitlines()
    assert head.split() == ["p50", "warm_up"]
    assert first.split() == ["a", "1.25", "3"] and second.split()[1:] == ["10", "4"]
