"""How long does a localizer take for a fix, on one core?

    python benchmarks/inference_time.py --json inference.json
    python benchmarks/inference_time.py --models vinloc:compact --num-trps 12
    python benchmarks/inference_time.py --models --runs runs/both

All models are built for a scenario and locate the same samples of its frozen test set
(drawn and cached if that has not been done yet), in turns in one process that is bound
to one core and one thread. Weights are random, but for the level that is learned from
the first batch: how long a fix takes does not depend on them. `--runs` times trained
models as they are, e.g. combinations, besides.

For each model and number of TRPs per sample:

* `p50`, `p90`, `p99`: milliseconds of `model.predict_on_batch` for a single sample,
  NumPy arrays out. This is what `sionna_loc.predict` and `evaluate` call: a graph that
  is kept, its dense part compiled by XLA.
* `cpu_p50`: the same in CPU time, which other programs on the core do not prolong.
* `call_p50`, `predict_p50`: of `model(inputs)`, where each operation is dispatched from
  Python, and of `model.predict(inputs)`, which makes a data pipeline for each call and
  is meant for whole sets; with a tenth of the samples, of the same number of TRPs.
* `warm_up`: seconds that the first fixes took, one for each number of TRPs heard. A
  model is traced once, and compiled anew for each multiple of four TRPs.
* `fixes_per_second` of `predict_on_batch` with samples in batches.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_TURN = 20  # fixes of one model before the next one's turn
_SLOW_SHARE = 10  # fixes for each one that is timed in the slow ways, too
_NUM_BATCHES = 4

Call = Callable[[Any], Any]


def use_one_core(core: int | None) -> int:
    """Bind this process to one core and one thread; before TensorFlow is imported.

    Args:
        core: its number; the last that the process may use if None.
    """
    core = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return core


def time_in_turns(
    calls: Mapping[str, Call], inputs: Sequence[Any], turn: int = _TURN
) -> dict[str, tuple[list[float], list[float]]]:
    """Let functions take turns over the same inputs.

    Args:
        calls: name -> function.
        inputs: what each function is called with, one after the other.
        turn: int > 0. Calls of one function before the next one's turn.

    Returns: name -> wall-clock and CPU time of each call [s].
    """
    found: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in calls}
    for first in range(0, len(inputs), turn):
        for name, call in calls.items():
            wall, cpu = found[name]
            for one in inputs[first : first + turn]:
                cpu_start, start = time.process_time(), time.perf_counter()
                call(one)
                wall.append(time.perf_counter() - start)
                cpu.append(time.process_time() - cpu_start)
    return found


def by_size(inputs: Iterable[Any], size_of: Callable[[Any], int]) -> list[list[Any]]:
    """Return the inputs of each size, the most frequent size first."""
    groups: dict[int, list[Any]] = {}
    for one in inputs:
        groups.setdefault(size_of(one), []).append(one)
    return sorted(groups.values(), key=len, reverse=True)


def warm_up(call: Call, inputs: Iterable[Any]) -> float:
    """Call with all inputs; return how long that took [s]."""
    start = time.perf_counter()
    for one in inputs:
        call(one)
    return time.perf_counter() - start


def milliseconds(seconds: Sequence[float], percentile: float) -> float:
    """Return a percentile of times."""
    import numpy as np

    return round(1e3 * float(np.percentile(seconds, percentile)), 2)


def measure(
    models: Mapping[str, Any], single: Sequence[Any], batched: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Time all models.

    Args:
        models: label -> localizer.
        single: inputs of one sample each.
        batched: the same in batches.

    Returns: label -> what the module says.
    """
    ways: dict[str, Callable[[Any], Call]] = {
        "": lambda model: model.predict_on_batch,
        "call": lambda model: model,
        "predict": lambda model: lambda inputs: model.predict(inputs, verbose=0),
    }
    groups = by_size(single, lambda inputs: inputs["cir"].flat_values.shape[0])
    # Each size is compiled by itself: in the slow ways, one of them will do.
    usual = groups[0][: max(1, len(single) // _SLOW_SHARE)]
    results: dict[str, dict[str, float]] = {label: {} for label in models}
    for way, of_model in ways.items():
        calls = {label: of_model(model) for label, model in models.items()}
        first = usual[:1] if way else [group[0] for group in groups]
        started = {label: warm_up(call, first) for label, call in calls.items()}
        chosen = usual if way else single
        for label, (wall, cpu) in time_in_turns(calls, chosen).items():
            if way:
                results[label][f"{way}_p50"] = milliseconds(wall, 50)
                results[label][f"{way}_cpu_p50"] = milliseconds(cpu, 50)
                continue
            for percentile in (50, 90, 99):
                results[label][f"p{percentile}"] = milliseconds(wall, percentile)
            results[label]["cpu_p50"] = milliseconds(cpu, 50)
            results[label]["warm_up"] = round(started[label], 1)
    calls = {label: model.predict_on_batch for label, model in models.items()}
    for call in calls.values():
        warm_up(call, batched)
    for label, (wall, cpu) in time_in_turns(calls, batched, turn=1).items():
        count = sum(inputs["cir"].shape[0] for inputs in batched)
        results[label]["fixes_per_second"] = round(count / sum(wall), 1)
        results[label]["fixes_per_cpu_second"] = round(count / sum(cpu), 1)
    return results


def make_models(scenario: Any, names: Sequence[str], batches: Any) -> dict[str, Any]:
    """Return the models that `NAME` or `NAME:PRESET` name."""
    from sionna_loc.assembly import make_model
    from sionna_loc.recipes import RunConfig

    models = {}
    for label in names:
        name, _, preset = label.partition(":")
        models[label] = make_model(
            RunConfig(model=name, preset=preset or None), scenario
        )
        models[label].adapt(batches)
    return models


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return results as lines of text."""
    columns = {name: max(6, len(name)) for name in next(iter(results.values()))}
    width = max(map(len, results))
    heads = (f"{name:>{size}}" for name, size in columns.items())
    lines = [" ".join([" " * width, *heads])]
    for label, values in results.items():
        cells = (f"{values[name]:{size}g}" for name, size in columns.items())
        lines.append(" ".join([f"{label:{width}}", *cells]))
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print tables, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = ["vinloc:compact", "backprojection:compact", "backprojection:agnostic"]
    parser.add_argument(
        "--models", nargs="*", metavar="NAME[:PRESET]", default=models, help="to time"
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of runs on the scenario, whose models are timed besides",
    )
    parser.add_argument("--scenario", default="paris_scn1")
    parser.add_argument("--num-trps", type=int, nargs="+", default=[12, 64])
    parser.add_argument("--fixes", type=int, default=300, help="single samples")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--num-test", type=int, default=2000, help="size of the set")
    parser.add_argument("--core", type=int, help="to run on (default: the last)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    core = use_one_core(arguments.core)
    from sionna_loc.assembly import make_features
    from sionna_loc.registry import get_scenario
    from sionna_loc.saving import load_model

    trained = {str(run): load_model(run) for run in arguments.runs}
    scenario = get_scenario(arguments.scenario)
    features = make_features(scenario)
    report: dict[str, Any] = {"core": core, "processor": _processor(), "num_trps": {}}
    for num_trps in arguments.num_trps:

        def inputs(batch_size: int, count: int, num_trps: int = num_trps) -> list[Any]:
            batches = scenario.frozen(
                "test",
                arguments.num_test,
                num_trps=num_trps,
                batch_size=batch_size,
                fields=features.fields,
            )
            return [features(batch) for batch in batches.take(count)]

        batched = inputs(arguments.batch_size, _NUM_BATCHES)
        single = [one for one, _ in inputs(1, arguments.fixes)]
        found = measure(
            make_models(scenario, arguments.models, batched[:1]) | trained,
            single,
            [batch for batch, _ in batched],
        )
        report["num_trps"][num_trps] = found
        print(f"{num_trps} TRPs, {len(single)} fixes [ms]\n{table(found)}", flush=True)
    report["load_average"] = os.getloadavg()[0]
    print(f"core {core} of {report['processor']}, load {report['load_average']:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def _processor() -> str:
    """Return the processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


if __name__ == "__main__":
    main()
