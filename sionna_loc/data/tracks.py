"""Tracks: UEs of a set that are one vehicle's or person's way, one after another.

A window is a sample together with those just before it on the same track, at most so
many in all: none is of another track, and the first samples of a track, which have
fewer before them, have shorter windows. So every sample has one, whatever its length.
"""

from typing import Any

import numpy as np

from sionna_loc.checks import check, check_positive_int
from sionna_loc.sample import SPLITS


def check_window(scenario: Any, window: int) -> None:
    """Raise `UserError` unless samples of a scenario can have windows of that size.

    Args:
        scenario: whose samples they are.
        window: int > 0. Most samples of a window; 1 is possible everywhere.
    """
    check_positive_int("window", window)
    if window > 1:
        for split in SPLITS:
            track_starts(scenario, split, window)


def track_starts(scenario: Any, split: str, window: int) -> np.ndarray:
    """Return for each UE of a split the index of the first one of its track.

    Args:
        scenario: whose samples they are.
        split: `"train"`, `"validation"` or `"test"`.
        window: int > 0. Most samples of a window.

    Returns: [num_ues], int.
    Raises: UserError if there are no tracks, or a track is shorter than the window.
    """
    lengths = scenario.track_lengths(split)
    name = scenario.name
    check(
        lengths is not None,
        f"{name} has no tracks, so that each sample is a window of its own.",
        window=window,
    )
    shortest = int(np.min(lengths))
    check(
        window <= shortest,
        f"The {split} tracks of {name} have {shortest} samples or more: a window must "
        "not be longer.",
        window=window,
    )
    return np.repeat(np.cumsum(lengths) - lengths, lengths)
