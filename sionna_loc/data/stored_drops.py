"""Which samples a stored set holds, and in which order.

Sample `k` of a split is UE `k % num_ues` of drop `k // num_ues`, with the links to all
sites of the drop. The drops are those that runs without a stored set draw: of the
stream for training on ever new samples, and of the frozen sets for all else. Where the
scenario names the UEs of a set, the samples are those UEs or random ones of them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sionna_loc.checks import check
from sionna_loc.data import frozen, position_sets, streaming
from sionna_loc.sample import FIELDS

STREAM, FROZEN, NAMED = "stream", "frozen", "named"


def kind(scenario: Any, split: str) -> str:
    """Return whose UEs a split has.

    Returns: `"stream"`: those of the stream; `"named"`: those that the scenario itself
        names, e.g. along tracks; `"frozen"`: those of a frozen set that is drawn.
    """
    if split == "train" and not scenario.num_train:
        return STREAM
    return FROZEN if scenario.split_positions(split) is None else NAMED


def num_ues(scenario: Any, split: str) -> int:
    """Return the number of samples that a drop of a split gives."""
    sizes = scenario.sizes
    is_stream = kind(scenario, split) == STREAM
    return sizes.num_ues if is_stream else sizes.num_frozen_ues


def check_size(scenario: Any, split: str, size: int) -> None:
    """Raise `UserError` if a split cannot have so many samples."""
    if kind(scenario, split) == NAMED:
        most = len(scenario.split_positions(split)[1])
        message = f"The {split} set of {scenario.name} has {most} UEs."
        check(size <= most, message, num_samples=size)


def draw_samples(
    scenario: Any, split: str, seed: int, span: range, size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Draw the samples of a split with the indices of `span`, one after the other.

    Args:
        scenario: whose channels they are.
        split: `"train"`, `"validation"` or `"test"`.
        seed: int >= 0. Of the set; 0 where the scenario names the UEs.
        span: indices of the samples.
        size: int > 0. Samples of the whole split.

    Returns: iterator over samples, with the fields of the sample contract; T counts
        all sites of the drop, those that are not heard included.
    """
    step = num_ues(scenario, split)
    index = np.asarray(span)
    if kind(scenario, split) == NAMED:
        _, ue_position = scenario.split_positions(split)
        index = position_sets.chosen(len(ue_position), size)[index]
    numbers = range(int(index[0]) // step, int(index[-1]) // step + 1)
    drops = _draw_drops(scenario, split, seed, numbers)
    for number, rows in zip(numbers, drops, strict=True):
        for row in index[index // step == number] - number * step:
            yield {name: rows[name][row] for name in FIELDS}


def _draw_drops(
    scenario: Any, split: str, seed: int, numbers: range
) -> Iterator[dict[str, np.ndarray]]:
    """Give the samples of each drop, fields [num_ues, num_sites, ...].

    They are drawn in the way that those without a stored set are, to the last bit:
    the stream's in a `tf.data` graph, the others operation by operation.
    """
    if kind(scenario, split) != STREAM:
        for number in numbers:
            yield frozen.draw_rows(scenario, split, number, seed)
    else:
        drops = streaming.drops(scenario, seed, numbers.start, tuple(FIELDS))
        yield from map(frozen.as_rows, drops.take(len(numbers)))
