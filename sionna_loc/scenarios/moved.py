"""A scenario in another frame: the same samples, somewhere else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_POSITIONS = ("trp_position", "ue_position")


class Moved:
    """Gives the samples of a scenario with all positions moved by an offset.

    All else is the scenario's: what it draws, caches and says about itself.

    Args:
        scenario: whose samples are moved.
        offset: (x, y, z) [m]. What is added to all positions.
    """

    def __init__(self, scenario: Any, offset: Sequence[float]) -> None:
        self._scenario = scenario
        self._offset = np.asarray(offset, np.float32)
        self.region = np.asarray(scenario.region) + np.asarray(offset, np.float64)

    def __getattr__(self, name: str) -> Any:
        """Return what the scenario has, of all that is not moved."""
        return getattr(self._scenario, name)

    def batches(self, *arguments: Any, **options: Any) -> tf.data.Dataset:
        """Return what models train on, moved; see `SampleSource.batches`."""
        return self._scenario.batches(*arguments, **options).map(self._move)

    def frozen(self, *arguments: Any, **options: Any) -> tf.data.Dataset:
        """Return a fixed set of samples, moved; see `SampleSource.frozen`."""
        return self._scenario.frozen(*arguments, **options).map(self._move)

    def _move(
        self, batch: dict[str, tf.Tensor | tf.RaggedTensor]
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Return a batch with its positions moved."""
        moved = {}
        for name, values in batch.items():
            if name not in _POSITIONS:
                moved[name] = values
            elif isinstance(values, tf.RaggedTensor):
                moved[name] = values.with_flat_values(values.flat_values + self._offset)
            else:
                moved[name] = values + self._offset
        return moved
