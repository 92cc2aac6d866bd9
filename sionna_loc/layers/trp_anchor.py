"""A position near the TRPs that matter."""

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="sionna_loc")
class TrpAnchor(keras.layers.Layer):
    """Mean of the TRP positions, weighted by attention of a state to the TRPs' tokens.

    Call arguments:
        state: [batch, state_units], float. Gives the query.
        tokens: [batch, num_trps, token_units], float. Give the keys.
        trp_position: [batch, num_trps, 3], float.
        trp_mask: [batch, num_trps], bool. TRPs that are heard.

    Returns: [batch, 3], float, inside the convex hull of the TRPs that are heard.
    """

    def build(
        self,
        state_shape: tuple[int | None, ...],
        tokens_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...] | None = None,
        trp_mask_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the query and key projections."""
        self._query = layers.Dense(tokens_shape[-1])
        self._query.build(state_shape)
        self._key = layers.Dense(tokens_shape[-1], use_bias=False)
        self._key.build(tokens_shape)
        self.built = True

    def call(
        self,
        state: keras.KerasTensor,
        tokens: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Weigh the positions."""
        key = self._key(tokens) * tokens.shape[-1] ** -0.5
        score = ops.sum(self._query(state)[:, None] * key, axis=-1)
        score = ops.where(trp_mask, score, ops.cast(-1e9, score.dtype))
        weight = ops.softmax(score, axis=-1)[..., None]  # [batch, num_trps, 1]
        return ops.sum(weight * trp_position, axis=1)

    def compute_output_shape(
        self, state_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, 3]."""
        return (state_shape[0], 3)
