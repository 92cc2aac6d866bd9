"""A scenario in another frame: the same samples, somewhere else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_POSITIONS = ("trp_position", "ue_position")
_SAME = frozenset(
    (
        *("name", "config", "fingerprint", "prepared", "holds_inputs", "min_trps"),
        *("num_trps", "num_sites", "num_train", "num_val", "num_test", "num_ues"),
        *("subsets_per_ue", "site_sets", "track_lengths", "sizes", "data_version"),
        *("carrier_frequency", "bandwidth", "sampling_rate", "num_taps", "num_paths"),
        *("ue_array", "synchronised", "noise_power_db", "trp_position_error"),
        "is_one_place",
    )
)
"""What a scenario says of itself that holds in any frame."""


class Moved:
    """Gives the samples of a scenario with all positions moved by an offset.

    What the scenario draws, caches and says of itself is the same, in any frame; what
    else it has, such as its `place`, is of its own frame and not to be had here.

    Random numbers that belong to a place, of noise and of the survey of TRPs (see
    `position_noise`), are those of the place that it is moved to: as likely as those of
    the scenario, but other ones.

    Args:
        scenario: whose samples are moved.
        offset: (x, y, z) [m]. What is added to all positions.
    """

    def __init__(self, scenario: Any, offset: Sequence[float]) -> None:
        self._scenario = scenario
        self._offset = np.asarray(offset, np.float32)
        self.region = np.asarray(scenario.region) + np.asarray(offset, np.float64)

    def __getattr__(self, name: str) -> Any:
        """Return what the scenario has, of all that is the same in any frame."""
        if name not in _SAME:
            raise AttributeError(f"A moved scenario has no {name!r}.")
        return getattr(self._scenario, name)

    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the positions of a drop, moved; see `Scenario.positions`."""
        trp_position, ue_position = self._scenario.positions(seed, num_ues)
        return trp_position + self._offset, ue_position + self._offset

    def drop(self, *arguments: Any, **options: Any) -> dict[str, tf.Tensor]:
        """Draw a drop, moved; see `Scenario.drop`."""
        return self._move(self._scenario.drop(*arguments, **options))

    def stream(self, *arguments: Any, **options: Any) -> tf.data.Dataset:
        """Return the stream of single samples, moved; see `Scenario.stream`."""
        return self._scenario.stream(*arguments, **options).map(self._move)

    def batches(self, *arguments: Any, **options: Any) -> tf.data.Dataset:
        """Return what models train on, moved; see `SampleSource.batches`."""
        return self._scenario.batches(*arguments, **options).map(self._move)

    def frozen(self, *arguments: Any, **options: Any) -> tf.data.Dataset:
        """Return a fixed set of samples, moved; see `SampleSource.frozen`."""
        return self._scenario.frozen(*arguments, **options).map(self._move)

    def _move(
        self, batch: dict[str, tf.Tensor | tf.RaggedTensor]
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Return a sample, a drop or a batch of samples with its positions moved."""
        moved = {}
        for name, values in batch.items():
            if name not in _POSITIONS:
                moved[name] = values
            elif isinstance(values, tf.RaggedTensor):
                moved[name] = values.with_flat_values(values.flat_values + self._offset)
            else:
                moved[name] = values + self._offset
        return moved
