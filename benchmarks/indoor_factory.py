"""How fast does the indoor factory give channels, and how much memory does it take?

    python benchmarks/indoor_factory.py --ues 20000 --json indoor_factory.json

One factory, 18 TRPs, UEs all over the floor, drawn in one call of the channel inside
`tf.function`, so that nothing but the channel's own chunks bounds the memory. Printed
are

* the seconds that setting up takes: weights of the fields, and tracing the graph,
* the seconds for all links, and links/s; with `--taps` also the seconds in which their
  256 taps are made, a batch at a time, and thrown away as a training step would,
* the peak resident memory before and after, and what the result itself holds.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

_TAPS = {"num_taps": 256, "sampling_rate": 100e6, "bandwidth": 100e6}
_BATCH = 64


def peak_megabytes() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(num_ues: int, num_sinusoids: int, shape: str, taps: bool) -> dict[str, Any]:
    """Draw one drop of `num_ues` UEs and return what it took."""
    import numpy as np
    import tensorflow as tf

    from sionna_loc.channels.indoor_factory import IndoorFactory
    from sionna_loc.channels.indoor_factory_fields import SpatialConsistency
    from sionna_loc.signals import band_limited_taps

    consistency = SpatialConsistency(shape=shape, num_sinusoids=num_sinusoids)
    channel = IndoorFactory(consistency=consistency)
    generator = np.random.default_rng(0)
    size = num_ues, 3
    ue_position = generator.uniform(*channel.hall.ue_region, size).astype(np.float32)
    trp_position = tf.constant(channel.hall.trp_position)
    trace = tf.function(lambda ues: channel(trp_position, ues, (0, 0)))

    begin = time.perf_counter()
    first = trace(tf.constant(ue_position[: 2 * _BATCH]))
    trace.get_concrete_function(tf.constant(ue_position))
    seconds = {"set_up": time.perf_counter() - begin}
    before = peak_megabytes()

    begin = time.perf_counter()
    paths = trace(tf.constant(ue_position))
    total = float(tf.reduce_sum(tf.abs(paths["path_gain"])))
    seconds["paths"] = time.perf_counter() - begin
    num_links = num_ues * len(trp_position)
    result = {
        "num_ues": num_ues,
        "num_links": num_links,
        "num_sinusoids": num_sinusoids,
        "shape": shape,
        "links_per_second": num_links / seconds["paths"],
        "peak_megabytes": {"before": before, "after": peak_megabytes()},
        "result_megabytes": sum(value.numpy().nbytes for value in paths.values()) / 1e6,
        "checksum": total,
    }
    if taps:
        make = tf.function(lambda gain, delay: band_limited_taps(gain, delay, **_TAPS))
        make(first["path_gain"][:_BATCH], first["path_delay"][:_BATCH])
        begin = time.perf_counter()
        for start in range(0, num_ues - _BATCH + 1, _BATCH):
            part = slice(start, start + _BATCH)
            make(paths["path_gain"][part], paths["path_delay"][part])[0].numpy()
        seconds["taps"] = time.perf_counter() - begin
    return {**result, "seconds": seconds}


def main() -> None:
    """Measure as the command line says, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ues", type=int, default=20_000)
    parser.add_argument("--sinusoids", type=int, default=512)
    parser.add_argument("--shape", default="exponential")
    parser.add_argument("--taps", action="store_true", help="time the taps, too")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    result = measure(
        arguments.ues, arguments.sinusoids, arguments.shape, arguments.taps
    )
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
