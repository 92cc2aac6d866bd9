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
    for index in range(span.start // step, -(-span.stop // step)):
        rows = _draw_drop(scenario, split, seed, index)
        first = index * step
        for row in range(max(span.start - first, 0), min(span.stop - first, step)):
            yield {name: rows[name][row] for name in FIELDS}


def _draw_drop(
    scenario: Any, split: str, seed: int, index: int
) -> dict[str, np.ndarray]:
    """Return the samples of a drop, fields [num_ues, num_sites, ...]."""
    if kind(scenario, split) == FROZEN:
        return frozen.draw_rows(scenario, split, index, seed)
    return frozen.as_rows(scenario.drop(streaming.drop_seed(seed, index)))
