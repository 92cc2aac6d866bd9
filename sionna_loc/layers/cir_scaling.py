"""Scaling of channel impulse responses to what a network learns from."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive
from sionna_loc.layers.token_set import TokenSet

NUM_ADAPT_BATCHES = 8
"""Batches that a reference level is learnt from."""
_SMALLEST = 1e-20


@keras.saving.register_keras_serializable(package="sionna_loc")
class CirScaling(keras.layers.Layer):
    """Complex taps -> {real, imaginary, magnitude}, scaled to the order of 1.

    `"log"` compresses: the magnitude runs linearly in dB from 0 at the floor to 1 at
    the reference level, and real and imaginary part are the phasor of that length.
    Received powers span many tens of dB, so that with `"linear"`, a division by the
    reference amplitude, all but the strongest links are invisible.

    The reference level is learnt from data by `adapt` and kept as a weight.

    Args:
        mode: `"log"` or `"linear"`.
        dynamic_range_db: float > 0. Distance from reference level to floor [dB].

    Call arguments:
        cir: [..., num_ant, num_taps, 2], float. Real and imaginary part.

    Returns: [..., num_ant, num_taps, 3], float.
    Raises: UserError (a ValueError) for an unknown mode or a range not above 0.
    References: Balaji et al., "VIn-Loc", Sec. 3 (the three feature channels).
    """

    def __init__(
        self, mode: str = "log", dynamic_range_db: float = 60.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check(mode in ("log", "linear"), "`mode` must be 'log' or 'linear'.", mode=mode)
        check_positive("dynamic_range_db", dynamic_range_db)
        self.mode = mode
        self.dynamic_range_db = dynamic_range_db
        self.reference_db = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="reference_db"
        )
        self.built = True

    def adapt(self, cirs: Iterable[np.ndarray]) -> None:
        """Set the reference level to that of the strongest links.

        Args:
            cirs: arrays [..., num_ant, num_taps, 2]; the level is the 99th percentile
                of the links' strongest taps [dB].
        """
        power = [np.sum(np.square(cir), axis=-1).max(axis=(-1, -2)) for cir in cirs]
        self.adapt_to_peaks(np.concatenate([p.ravel() for p in power]))

    def adapt_to_peaks(self, peak: np.ndarray) -> None:
        """Set the reference level as `adapt` does.

        Args:
            peak: [num_links], float. Powers of the links' strongest taps.
        """
        check(peak.size > 0, "Scaling needs at least one link.", num_links=peak.size)
        level = np.percentile(10 * np.log10(peak + _SMALLEST), 99)
        self.reference_db.assign(level)

    def adapt_to_inputs(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the reference level from the first batches of a model's data.

        Args:
            dataset: batches of (inputs, targets).
        """
        batches = itertools.islice(dataset, NUM_ADAPT_BATCHES)
        cirs = (TokenSet.from_inputs(inputs).cir for inputs, _ in batches)
        self.adapt(ops.convert_to_numpy(cir) for cir in cirs)

    def call(self, cir: keras.KerasTensor) -> keras.KerasTensor:
        """Scale."""
        # Parts by themselves: pairs on the last axis take a CPU much longer.
        real, imag = cir[..., 0], cir[..., 1]
        power = ops.square(real) + ops.square(imag) + _SMALLEST
        if self.mode == "linear":
            factor = ops.exp(self.reference_db * (-math.log(10) / 20))
            magnitude = ops.sqrt(power) * factor
        else:
            level = ops.log(power) * (10 / math.log(10)) - self.reference_db
            magnitude = ops.relu(1.0 + level / self.dynamic_range_db)
            factor = ops.rsqrt(power) * magnitude
        parts = ops.stack([real * factor, imag * factor, magnitude], axis=-2)
        return ops.swapaxes(parts, -1, -2)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [..., num_ant, num_taps, 3]."""
        return (*input_shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "mode": self.mode,
            "dynamic_range_db": self.dynamic_range_db,
        }
