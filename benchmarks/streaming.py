"""How fast is the stream of ray-traced samples, and how much memory does it take?

    python benchmarks/streaming.py --drops 200 --json streaming.json

Reads the training stream as training does, but trains nothing: what comes out is the
most that a model can be fed. Reported are

* links/s and samples/s, after the first block of drops (which compiles the kernels),
* the time to the first batch, compilation included,
* the share of the time that the tracer is busy, and that drawing positions takes,
* the resident memory after the first block and at the end: a stream whose memory is
  bounded ends where it began.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FIELDS = ("trp_position", "path_gain", "path_delay", "ue_position")


class Stopwatch:
    """Sums the time spent in a function, by wrapping it where it is kept."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds = 0.0
        self._function: Callable[..., Any] = getattr(owner, name)
        setattr(owner, name, self._measure)

    def _measure(self, *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._function(*args)
        finally:
            self.seconds += time.perf_counter() - start


def resident_megabytes() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def read_block(batches: Iterator[Any], num_batches: int) -> None:
    """Read one block's worth of batches."""
    for _ in range(num_batches):
        next(batches)


def measure(scenario: Any, num_drops: int, batch_size: int, seed: int) -> dict:
    """Read `num_drops` drops, after one block to warm up; return the figures."""
    sizes = scenario.sizes
    num_blocks = max(1, round(num_drops / sizes.drops_per_block))
    num_batches = sizes.samples_per_block // batch_size
    # On the tracer thread, so that waiting for the other parallel call is left out.
    tracing = Stopwatch(scenario.channel, "_trace")
    placing = Stopwatch(scenario.place, "_trace_heights")
    start = time.perf_counter()
    batches = iter(scenario.batches(batch_size, seed=seed, fields=FIELDS))
    next(batches)
    first_batch = time.perf_counter() - start
    read_block(batches, num_batches - 1)
    memory = [resident_megabytes()]
    tracing.seconds = placing.seconds = 0.0
    start = time.perf_counter()
    for block in range(num_blocks):
        read_block(batches, num_batches)
        memory.append(resident_megabytes())
        drops = (block + 1) * sizes.drops_per_block
        elapsed = time.perf_counter() - start
        print(f"{drops} drops in {elapsed:.0f} s, {memory[-1]:.0f} MB", flush=True)
    seconds = time.perf_counter() - start
    num_drops = num_blocks * sizes.drops_per_block
    num_links = num_drops * sizes.num_sites * sizes.num_ues
    return {
        "scenario": scenario.name,
        "num_drops": num_drops,
        "links_per_drop": sizes.num_sites * sizes.num_ues,
        "samples_per_drop": sizes.num_ues * sizes.subsets_per_ue,
        "seconds": seconds,
        "seconds_to_first_batch": first_batch,
        "links_per_second": num_links / seconds,
        "samples_per_second": num_blocks * num_batches * batch_size / seconds,
        "share_tracing": tracing.seconds / seconds,
        "share_placing": placing.seconds / seconds,
        "resident_mb_after_first_block": memory[0],
        "resident_mb_half_way": memory[len(memory) // 2],
        "resident_mb_at_end": memory[-1],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    """Parse the arguments, measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="paris_scn1")
    parser.add_argument("--small", action="store_true", help="few sites and UEs")
    parser.add_argument("--drops", type=int, default=40, help="drops to read")
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
    figures = measure(scenario, arguments.drops, arguments.batch_size, arguments.seed)
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
