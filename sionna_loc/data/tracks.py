"""Tracks: UEs of a set that are one vehicle's or person's way, one after another.

A window is a sample together with those just before it on the same track, at most so
many in all: none is of another track, and the first samples of a track, which have
fewer before them, have shorter windows. So every sample has one, whatever its length.
"""

from collections.abc import Mapping
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


def windows_of_track(
    inputs: Mapping[str, np.ndarray], window: int
) -> dict[str, np.ndarray]:
    """Return the windows of all samples of one track, as a model takes them.

    Args:
        inputs: entries per TRP of the samples in the order of time,
            [num_samples, num_trps, ...], optionally with `trp_mask`
            [num_samples, num_trps], bool.
        window: int > 0. Most samples of a window.

    Returns: the same entries, [num_samples, window, num_trps, ...], and `trp_mask`
        [num_samples, window, num_trps], which is False before the track begins.
    """
    check_positive_int("window", window)
    values = {name: np.asarray(value) for name, value in inputs.items()}
    shape = next(iter(values.values())).shape[:2]
    mask = values.pop("trp_mask", np.ones(shape, bool))
    index = np.arange(shape[0])[:, None] + np.arange(1 - window, 1)
    exists, index = index >= 0, np.maximum(index, 0)  # [num_samples, window]
    windows = {name: value[index] for name, value in values.items()}
    return {**windows, "trp_mask": mask[index] & exists[..., None]}
