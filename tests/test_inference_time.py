"""How `benchmarks/inference_time.py` times; what it times are the models themselves."""

import time
import types

import benchmark_scripts
import numpy as np
import pytest


@pytest.fixture(scope="module")
def inference_time():
    return benchmark_scripts.load("inference_time")


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


class Clock:
    """Time that passes only where it is told to, in wall-clock and CPU seconds."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def perf_counter(self):
        return self.wall

    def process_time(self):
        return self.cpu

    def pass_by(self, seconds):
        self.wall += seconds
        self.cpu += seconds / 2


class Stub:
    """A model that takes `fix` seconds, ten times that by Python and a hundred by
    `predict`, and in each way a second more for a number of TRPs that is new to it."""

    def __init__(self, clock, fix):
        self.clock, self.fix, self.calls = clock, fix, []

    def run(self, way, inputs, factor):
        call = way, inputs["cir"].shape[0], len(inputs["cir"].flat_values)
        self.clock.pass_by(self.fix * factor * call[1] + (call not in self.calls))
        self.calls.append(call)

    def predict_on_batch(self, inputs):
        self.run("", inputs, 1)

    def __call__(self, inputs):
        self.run("call", inputs, 10)

    def predict(self, inputs, verbose):
        assert verbose == 0
        self.run("predict", inputs, 100)


def cirs(batch_size, num_trps):
    flat_values = np.zeros((num_trps, 1))
    shape = (batch_size, None)
    return {"cir": types.SimpleNamespace(shape=shape, flat_values=flat_values)}


def test_all_ways_of_all_models_warmed_up_for_what_they_are_timed_with(
    inference_time, monkeypatch
):
    clock = Clock()
    monkeypatch.setattr(inference_time, "time", clock)
    models = {"quick": Stub(clock, 1e-3), "slow": Stub(clock, 2e-3)}
    numbers = [3, 5, 5, 3, 5, 7, *[5] * 34]  # of TRPs; 40 fixes, a tenth in slow ways
    single = [cirs(1, number) for number in numbers]
    found = inference_time.measure(models, single, [cirs(8, 40), cirs(8, 37)])
    for label, fix in (("quick", 1), ("slow", 2)):
        times = found[label]
        # The seconds of new numbers of TRPs are in the warm-up alone.
        assert times["p50"] == times["p90"] == times["p99"] == fix
        assert times["cpu_p50"] == times["call_cpu_p50"] / 10 == fix / 2
        assert times["call_p50"] == 10 * fix
        assert times["predict_p50"] == 100 * fix
        assert times["predict_cpu_p50"] == 50 * fix
        assert times["warm_up"] == pytest.approx(3)
        assert times["fixes_per_second"] == 1000 / fix
        assert times["fixes_per_cpu_second"] == 2000 / fix
        calls = models[label].calls
        assert calls[:3] == [("", 1, 5), ("", 1, 3), ("", 1, 7)]  # most frequent first
        assert calls[3:43] == [("", 1, number) for number in numbers]
        assert calls[43:48] == 5 * [("call", 1, 5)]  # the first to warm up
        assert calls[48:53] == 5 * [("predict", 1, 5)]
        assert calls[53:] == 2 * [("", 8, 40), ("", 8, 37)]


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
