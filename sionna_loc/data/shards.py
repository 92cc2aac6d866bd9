"""One shard of a stored set: what draws it, wherever that happens to be."""

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from sionna_loc.data import stored_drops
from sionna_loc.registry import get_scenario

_scenarios: dict[tuple[str, str], Any] = {}
_scenarios_lock = threading.Lock()


@dataclass(frozen=True)
class Shard:
    """Draws the samples of one shard: all of it that a worker must be sent.

    Args:
        scenario: key of the registry.
        options: arguments of the scenario, JSON.
        split: `"train"`, `"validation"` or `"test"`.
        seed: int >= 0.
        first: int >= 0. Index of the first sample in the split.
        stop: int > first. Index behind the last one.
        size: int >= stop. Samples of the split.
        path: where the shard is to lie.
        kept: where it lies if it is finished already.
        report: called for each sample, with the split and whether it was kept.
    """

    scenario: str
    options: str
    split: str
    seed: int
    first: int
    stop: int
    size: int
    path: str
    kept: str
    report: Callable[[str, bool], None] | None

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return self.stop - self.first

    def __call__(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Give (index, sample), with `None` for samples if the shard is kept."""
        is_kept = tf.io.gfile.exists(self.kept)
        span = range(self.first, self.stop)
        if is_kept:
            samples = itertools.repeat(None)
        else:
            scenario = scenario_of_worker(self.scenario, self.options)
            samples = stored_drops.draw_samples(
                scenario, self.split, self.seed, span, self.size
            )
        for index, sample in zip(span, samples, strict=False):
            yield index, sample
            if self.report is not None:
                self.report(self.split, is_kept)


def scenario_of_worker(name: str, options: str) -> Any:
    """Return a scenario, made once per process: each has a ray tracer of its own.

    Args:
        name: key of the registry.
        options: arguments of the scenario, JSON.
    """
    with _scenarios_lock:
        if (name, options) not in _scenarios:
            _scenarios[name, options] = get_scenario(name, **json.loads(options))
        return _scenarios[name, options]


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        tf.io.gfile.copy(source, target, overwrite=True)
