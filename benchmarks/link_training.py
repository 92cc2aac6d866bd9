"""How fast networks on link measurements train: many steps a call, and one by one.

Run as

    python benchmarks/link_training.py --rounds 5 --json FILE

Both train the same new model with Keras's `fit` on the same samples of `madrid` (the
small set, traced before the clock starts), in turns in one process, so that the ratios
hold on a noisy machine:

* `together`: as the library trains: steps compiled as a whole by XLA, twenty in a call,
  batches made for twenty steps at once and padded.
* `one_by_one`: a call and a ragged batch for each step, nothing compiled by XLA.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from sionna_loc.assembly import (
    compile_model,
    make_features,
    make_model,
    make_recipe,
    make_record,
    make_scenario,
    reading_options,
)
from sionna_loc.callbacks import Pace
from sionna_loc.checkpoints import TrainingState
from sionna_loc.data.steps import batches_of_steps
from sionna_loc.device import use_device
from sionna_loc.recipes import RunConfig

SCENARIO = "madrid"
MODELS = {"hyploc": "paper", "mlp": "mlp", "mlp_plus": "mlp_plus", "hyploc_set": "base"}
"""Label -> preset; `mlp_plus` is of the model `mlp`."""


def main() -> None:
    """Measure, print a line for each model, and write them as JSON if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--steps", type=int, default=400, help="steps a turn")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    print(use_device().description)
    results = []
    for label in arguments.models:
        results.append(measure(label, arguments.rounds, arguments.steps))
        print(json.dumps(results[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(label: str, rounds: int, steps: int) -> dict[str, Any]:
    """Return the medians of both ways with a model, and their ratio."""
    turns = {
        "together": make_turn(label, steps),
        "one_by_one": make_turn(label, steps, is_one_by_one=True),
    }
    for turn in turns.values():
        turn()  # Compile and warm up.
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            begin = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - begin)
    step = {name: statistics.median(x) / steps * 1e3 for name, x in seconds.items()}
    return {
        "model": label,
        **{f"{name}_ms_per_step": round(value, 3) for name, value in step.items()},
        "ratio": round(step["one_by_one"] / step["together"], 2),
    }


def make_turn(
    label: str, steps: int, is_one_by_one: bool = False
) -> Callable[[], float]:
    """Return what trains a model for so many steps and returns the loss."""
    config = RunConfig(
        scenario=SCENARIO,
        model=label.partition("_plus")[0],
        preset=MODELS[label],
        steps=10**9,
        scenario_options={"small": True},
    )
    scenario = make_scenario(config)
    config = RunConfig.from_dict(make_record(config, scenario)["resolved"])
    recipe = make_recipe(config, scenario)
    keras.utils.set_random_seed(config.seed)
    model = make_model(config, scenario)
    num_steps = 1 if is_one_by_one else recipe.steps_of_call(model, config.steps)
    compile_model(model, recipe, num_steps)
    stream = _stream(scenario, model, recipe.batch_size, num_steps)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread sleeps on when `fit` is done
    stream = stream.with_options(options)
    model.adapt(stream.take(8))
    pace = Pace(TrainingState([]), recipe, config, num_steps)

    def turn() -> float:
        history = model.fit(
            stream, steps_per_epoch=steps, callbacks=[pace], shuffle=False, verbose=0
        )
        return history.history["loss"][-1]

    return turn


def _stream(
    scenario: Any, model: Any, batch_size: int, num_steps: int
) -> tf.data.Dataset:
    """Return the training stream as `training.fit` makes it."""
    features = make_features(scenario, model)
    options = reading_options(features)
    samples = scenario.batches(num_steps * batch_size, **options)
    if num_steps == 1:
        return samples.map(features, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    return batches_of_steps(samples, features, model.pad, num_steps)


if __name__ == "__main__":
    main()
