"""How fast is the stream of ray-traced samples, and how much memory does it take?

    python benchmarks/streaming.py --drops 200 --json streaming.json
    python benchmarks/streaming.py --drops 200 --train --json training.json

Reads the training stream as training does. Without `--train` nothing is done with the
batches: what comes out is the most that a model can be fed. With it, VIn-Loc's default
preset is trained on them. Reported are

* links/s and samples/s, after the first block of drops (which compiles the kernels),
* the time to the first batch, compilation included; with `--train` that of the model
  and the batches that set its scales count, too,
* the share of the time that the tracer is busy, and that drawing positions takes,
* with `--train`, the share of the time that training waits for batches, by the meter
  that runs report it with,
* the resident memory after the first block and at the end: a stream whose memory is
  bounded ends where it began.
"""

import argparse
import functools
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NUM_ADAPT_BATCHES = 16


class Stopwatch:
    """Sums the time spent in a function of some objects, by wrapping it in each."""

    def __init__(self, owners: Sequence[Any], name: str) -> None:
        self._seconds = 0.0
        for owner in owners:
            setattr(owner, name, functools.partial(self._measure, getattr(owner, name)))

    def read(self) -> float:
        """Seconds spent so far."""
        return self._seconds

    def _measure(self, function: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args)
        finally:
            self._seconds += time.perf_counter() - start


def resident_megabytes() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Ledger:
    """Notes when the first batch came, and time and memory after each block.

    The first block warms up: what is timed begins after it.
    """

    def __init__(self, scenario: Any) -> None:
        self._drops_per_block = scenario.sizes.drops_per_block
        self._begin = time.perf_counter()
        self.first_batch: float | None = None
        self.memory: list[float] = []
        tracers = getattr(scenario.channel, "channels", [scenario.channel])
        places = [tracer.scene for tracer in tracers]
        # On the tracer thread, so that waiting for the other parallel call is left out.
        self._clocks: dict[str, Callable[[], float]] = {
            "tracing": Stopwatch(tracers, "_trace").read,
            "placing": Stopwatch(places, "_cast_down").read,
            "total": time.perf_counter,
        }
        self._warm: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def add_clock(self, name: str, read: Callable[[], float]) -> None:
        """Time something else, too, by a clock of its own."""
        self._clocks[name] = read

    def end_batch(self) -> None:
        """Note the time of the first batch."""
        if self.first_batch is None:
            self.first_batch = time.perf_counter() - self._begin

    def end_block(self) -> None:
        """Note time and memory."""
        now = {name: read() for name, read in self._clocks.items()}
        self._warm = self._warm or now
        self.seconds = {name: now[name] - self._warm[name] for name in now}
        self.memory.append(resident_megabytes())
        if drops := (len(self.memory) - 1) * self._drops_per_block:
            seconds, memory = self.seconds["total"], self.memory[-1]
            print(f"{drops} drops in {seconds:.0f} s, {memory:.0f} MB", flush=True)


def read(batches: Any, num_batches: int, num_blocks: int, ledger: Ledger) -> None:
    """Read blocks of batches."""
    iterator = iter(batches)
    for _ in range(num_blocks):
        for _ in range(num_batches):
            next(iterator)
            ledger.end_batch()
        ledger.end_block()


def train(
    model: Any, batches: Any, num_batches: int, num_blocks: int, ledger: Ledger
) -> None:
    """Train the model on blocks of batches."""
    import keras

    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ledger.end_batch(),
        on_epoch_end=lambda epoch, logs: ledger.end_block(),
    )
    model.fit(
        batches,
        steps_per_epoch=num_batches,
        epochs=num_blocks,
        callbacks=[callback],
        shuffle=False,
        verbose=0,
    )


def compiled_model(scenario: Any, batches: Any) -> Any:
    """Return a model of the default preset, ready for training on the batches."""
    from sionna_loc.assembly import compile_model, make_model
    from sionna_loc.recipes import RECIPES, RunConfig

    model = make_model(RunConfig(), scenario)
    compile_model(model, RECIPES["default"])
    model.adapt(list(batches.take(NUM_ADAPT_BATCHES)))
    return model


def measure(
    scenario: Any, num_drops: int, batch_size: int, seed: int, is_training: bool
) -> dict[str, Any]:
    """Use `num_drops` drops, after one block to warm up; return the figures."""
    import tensorflow as tf

    from sionna_loc.assembly import make_features
    from sionna_loc.data.waiting import WaitMeter

    sizes = scenario.sizes
    num_blocks = max(1, round(num_drops / sizes.drops_per_block))
    num_batches = sizes.samples_per_block // batch_size
    features = make_features(scenario)
    ledger = Ledger(scenario)
    batches = scenario.batches(batch_size, seed=seed, fields=features.fields)
    if is_training:  # As `sionna_loc.training` feeds its models.
        batches = batches.map(features, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        model = compiled_model(scenario, batches)
        waiting = WaitMeter()
        ledger.add_clock("waiting", lambda: waiting.seconds)
        train(model, waiting.attach(batches), num_batches, 1 + num_blocks, ledger)
    else:
        read(batches, num_batches, 1 + num_blocks, ledger)
    parts = dict(ledger.seconds)
    seconds = parts.pop("total")
    num_drops = num_blocks * sizes.drops_per_block
    num_links = num_drops * sizes.num_sites * sizes.num_ues
    return {
        "scenario": scenario.name,
        "training": is_training,
        "batch_size": batch_size,
        "num_drops": num_drops,
        "links_per_drop": sizes.num_sites * sizes.num_ues,
        "samples_per_drop": sizes.num_ues * sizes.subsets_per_ue,
        "seconds": seconds,
        "seconds_to_first_batch": ledger.first_batch,
        "links_per_second": num_links / seconds,
        "samples_per_second": num_blocks * num_batches * batch_size / seconds,
        **{f"share_{name}": value / seconds for name, value in parts.items()},
        "resident_mb_after_first_block": ledger.memory[0],
        "resident_mb_half_way": ledger.memory[len(ledger.memory) // 2],
        "resident_mb_at_end": ledger.memory[-1],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    """Parse the arguments, measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="paris_scn1")
    parser.add_argument("--small", action="store_true", help="few sites and UEs")
    parser.add_argument("--drops", type=int, default=40, help="drops to read")
    parser.add_argument(
        "--train", action="store_true", help="train a model on the stream"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    from sionna_loc.device import use_device
    from sionna_loc.registry import get_scenario

    device = use_device(arguments.device)
    print(device.description)
    scenario = get_scenario(arguments.scenario, small=arguments.small)
    figures = measure(
        scenario,
        arguments.drops,
        arguments.batch_size,
        arguments.seed,
        arguments.train,
    )
    figures["device"] = device.description
    figures["load_average"] = os.getloadavg()[0]
    for name, value in figures.items():
        print(
            f"{name:32} {value:.4g}"
            if isinstance(value, float)
            else f"{name:32} {value}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
