"""Which samples a stored set holds, and in which order.

Sample `k` of a split is UE `k % num_ues` of drop `k // num_ues`, with the links to all
sites of the drop. The drops are those that runs without a stored set draw: of the
stream for training on ever new samples, and of the frozen sets for all else.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sionna_loc.data import frozen, streaming
from sionna_loc.sample import FIELDS

STREAM, FROZEN = "stream", "frozen"


def kind(scenario: Any, split: str) -> str:
    """Return whose drops a split has, `"stream"` or `"frozen"`."""
    is_stream = split == "train" and not scenario.num_train
    return STREAM if is_stream else FROZEN


def num_ues(scenario: Any, split: str) -> int:
    """Return the number of samples that a drop of a split gives."""
    sizes = scenario.sizes
    is_stream = kind(scenario, split) == STREAM
    return sizes.num_ues if is_stream else sizes.num_frozen_ues


def draw_samples(
    scenario: Any, split: str, seed: int, span: range
) -> Iterator[dict[str, np.ndarray]]:
    """Draw the samples of a split with the indices of `span`, one after the other.

    Returns: iterator over samples, with the fields of the sample contract; T counts
        all sites of the drop, those that are not heard included.
    """
    step = num_ues(scenario, split)
    first = span.start // step
    drops = _draw_drops(scenario, split, seed, range(first, -(-span.stop // step)))
    for index, rows in enumerate(drops, start=first):
        begin = index * step
        for row in range(max(span.start - begin, 0), min(span.stop - begin, step)):
            yield {name: rows[name][row] for name in FIELDS}


def _draw_drops(
    scenario: Any, split: str, seed: int, indices: range
) -> Iterator[dict[str, np.ndarray]]:
    """Give the samples of each drop, fields [num_ues, num_sites, ...].

    They are drawn in the way that those without a stored set are, to the last bit:
    the stream's in a `tf.data` graph, those of frozen sets operation by operation.
    """
    if kind(scenario, split) == FROZEN:
        for index in indices:
            yield frozen.draw_rows(scenario, split, index, seed)
    else:
        drops = streaming.drops(scenario, seed, indices.start, tuple(FIELDS))
        yield from map(frozen.as_rows, drops.take(len(indices)))
