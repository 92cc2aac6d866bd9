"""A position from the samples of a memory that are most like a new one."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import check_positive, check_positive_int
from sionna_loc.layers.fingerprint_memory import FAR, Neighbours
from sionna_loc.layers.transformer import EncoderBlock

_SMALLEST = 1e-6  # dissimilarity, that of rounding
_SHARPNESS = 6.0  # of the weights before any training, see `NearestNeighbours`
_TRUST = -8.0  # logit of the estimate's weight then; that of the nearest is 0


@keras.saving.register_keras_serializable(package="sionna_loc")
class NeighbourVote(keras.layers.Layer):
    """Weighs where similar samples were heard, and learns from how they differ.

    Begins as a weighted mean of their places, weights falling with the dissimilarity
    to a high power. A transformer over the neighbours, which sees where each lies
    among the others and how far it differs, in all and for each TRP, corrects the
    weights and moves each neighbour's vote: of how far samples differ from a new one
    and lie from each other follows more than which of them is the nearest. The
    estimate that there is already is one more vote, which counts for next to nothing
    before any training.

    Args:
        num_slots: int > 0. TRPs that the memory knows.
        units: int > 0. Width of the tokens.
        spacing: float > 0, scaled. About the distance of remembered places.
        num_blocks: int > 0. Encoder blocks.
        num_heads: int > 0. Attention heads; divides `units`.

    Call arguments:
        neighbours: `Neighbours`, their positions scaled.
        estimate: [batch, 3], float, scaled. The answer where no TRP is known. No
            gradient flows back into it.

    Returns: [batch, 3], float, scaled.
    Raises: UserError (a ValueError) if an argument is not positive.
    """

    def __init__(
        self,
        num_slots: int,
        units: int,
        spacing: float,
        num_blocks: int = 2,
        num_heads: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_slots", num_slots)
        check_positive_int("units", units)
        check_positive("spacing", spacing)
        check_positive_int("num_blocks", num_blocks)
        self.num_slots = num_slots
        self.units = units
        self.spacing = spacing
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self._blocks = [EncoderBlock(num_heads, 4 * units) for _ in range(num_blocks)]
        # Place, coarsely and finely, how far it differs, also from the nearest; of
        # each TRP how far, and whether it is shared; whether it is the estimate.
        known = 2 + 2 * num_slots + 1
        self._is_estimate = np.eye(known, dtype="float32")[-1]
        self._num_features = 2 * 3 + known

    def build(self, neighbours_shape: Any, estimate_shape: Any) -> None:
        """Create the weights."""
        self._in, self._hidden = layers.Dense(self.units), layers.Dense(self.units)
        self._norm = layers.LayerNormalization(epsilon=1e-6)
        # A small kernel: untrained it is hardly more than the weighted mean.
        small = keras.initializers.RandomNormal(stddev=1e-3)
        self._out = layers.Dense(4, kernel_initializer=small)
        self._in.build((None, None, self._num_features))
        for layer in (self._hidden, *self._blocks, self._norm, self._out):
            layer.build((None, None, self.units))
        self.built = True

    def call(
        self, neighbours: Neighbours, estimate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Vote."""
        exists = neighbours.difference < FAR / 2
        level = ops.log(ops.where(exists, neighbours.difference, 1.0) + _SMALLEST)
        nearer = level[:, :1] - level
        trust = ops.where(exists, _SHARPNESS * nearer, -1e9)
        share = ops.softmax(trust, axis=1)
        middle = ops.sum(share[..., None] * neighbours.position, axis=1)
        shared = ops.cast(neighbours.shared, level.dtype)
        by_slot = (ops.log(neighbours.by_slot + 1e-5) + 5) * shared
        known = [level[..., None], nearer[..., None], by_slot, shared]
        known = ops.concatenate([*known, ops.zeros_like(known[0])], axis=-1)
        estimate = ops.stop_gradient(estimate)
        places = [estimate[:, None], neighbours.position]
        place = ops.concatenate(places, axis=1) - middle[:, None]
        place = place / self.spacing
        # Of the estimate nothing is known but that it is one.
        is_estimate = ops.zeros_like(known[:, :1]) + self._is_estimate
        known = ops.concatenate([is_estimate, known], axis=1)
        exists = ops.pad(exists, ((0, 0), (1, 0)), constant_values=True)
        trust = ops.pad(trust, ((0, 0), (1, 0)), constant_values=_TRUST)
        features = [ops.tanh(place / 3), ops.tanh(place), known]
        tokens = self._in(ops.concatenate(features, axis=-1))
        tokens = ops.relu(self._hidden(ops.relu(tokens)))
        for block in self._blocks:
            tokens = block(tokens, exists)
        more, move = ops.split(self._out(self._norm(tokens)), [1], axis=-1)
        share = ops.softmax(trust[..., None] + more, axis=1)
        vote = middle + self.spacing * ops.sum(share * (place + move), axis=1)
        return ops.where(exists[:, 1:2], vote, estimate)

    def compute_output_shape(
        self, neighbours_shape: Any, estimate_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [batch, 3]."""
        return estimate_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = "num_slots units spacing num_blocks num_heads".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
