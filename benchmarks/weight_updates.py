"""How long does AdamW take for the weights of a model: Keras's, and `FusedAdamW`?

    python benchmarks/weight_updates.py --rounds 10

Both update weights of the shapes of `vinloc` (preset `compact`, with the maps of
`inf_dh`) by the same gradients, with weight decay and a limit of their norm, as
trainings do; they take turns in one process, each as one graph, on as many threads as
TensorFlow takes (`TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1` for one).

* `trace_s`: seconds of processor time until the first update is done.
* `update_ms`: median of the processor time of an update; ratios are of these.
* `largest_difference`: between the weights that both lead to.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from sionna_loc.device import use_device
from sionna_loc.models.vinloc import VInLoc
from sionna_loc.optimizers import FusedAdamW

OPTIMIZERS = {"keras": keras.optimizers.AdamW, "fused": FusedAdamW}
_OPTIONS = {"learning_rate": 1e-3, "weight_decay": 1e-2, "global_clipnorm": 1.0}
_TURN = 20  # updates of one before the other's turn


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the weights."""
    model = VInLoc.from_preset(
        region=[[0, 0, 0], [120, 60, 3]],
        num_taps=256,
        sampling_rate=100e6,
        **VInLoc.place_options,
    )
    return [tuple(weight.shape) for weight in model.trainable_weights]


def updater(
    optimizer: keras.optimizers.Optimizer, sizes: list[tuple[int, ...]]
) -> tuple[Callable[[], None], list[keras.Variable]]:
    """Return an update by the same gradients each time, and the weights of it."""
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=s).astype("float32")) for s in sizes]
    gradients = [tf.constant(rng.normal(size=s), tf.float32) for s in sizes]
    optimizer.build(weights)

    @tf.function
    def update() -> None:
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    return update, weights


def measure(rounds: int, sizes: list[tuple[int, ...]]) -> dict[str, object]:
    """Return the times of both.

    Args:
        rounds: int > 0. Turns of each.
        sizes: shapes of the weights.
    """
    found, updates, weights = {}, {}, {}
    for name, optimizer in OPTIMIZERS.items():
        updates[name], weights[name] = updater(optimizer(**_OPTIONS), sizes)
        start = time.process_time()
        updates[name]()
        found[name] = {"trace_s": time.process_time() - start}
    times: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(rounds):
        for name, update in updates.items():
            for _ in range(_TURN):
                start = time.process_time()
                update()
                times[name].append(1e3 * (time.process_time() - start))
    for name, each in times.items():
        found[name]["update_ms"] = statistics.median(each)
    pairs = zip(*weights.values(), strict=True)
    return {
        **found,
        **{
            f"{key}_ratio": found["keras"][key] / found["fused"][key]
            for key in ("trace_s", "update_ms")
        },
        "num_weights": sum(int(np.prod(size)) for size in sizes),
        "largest_difference": max(
            float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    arguments = parser.parse_args()
    use_device("cpu")
    print(json.dumps(measure(arguments.rounds, shapes()), indent=2))


if __name__ == "__main__":
    main()
