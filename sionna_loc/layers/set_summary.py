"""What a transformer makes of the set of TRPs as a whole."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive_int
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.position_embedding import PositionEmbedding
from sionna_loc.layers.transformer import LocTokenEncoder

_NUM_HEADS = 4
_POSITION_SHARE = 4  # one part in so many of a token is of the TRP's position
UNITS_MULTIPLE = _NUM_HEADS * _POSITION_SHARE
"""What `units` must be a multiple of."""


@keras.saving.register_keras_serializable(package="sionna_loc")
class SetSummary(keras.layers.Layer):
    """Evidence and positions of all TRPs -> the [LOC] token of a transformer.

    As in `models.vinloc` each TRP is a token: an embedding of what its CIR says, here
    of the evidence that has been judged already, beside one of its position. Where
    back-projection sees links meet in a cell, this sees them side by side, wherever
    they point to.

    Args:
        units: int > 0, a multiple of 16. Width of the tokens.
        num_blocks: int > 0. Encoder blocks.
        region: [2, 3], float [m], or None. Box of the UEs, to which the positions are
            scaled; with None tokens hold no positions, and nothing depends on where
            the region is.

    Call arguments:
        evidence: [batch, num_trps, num_taps, channels], float; at least 2 channels, the
            first one of `TapEvidence`.
        trp_position: [batch, num_trps, 3], float [m].
        trp_mask: [batch, num_trps], bool. TRPs that are heard.

    Returns: [batch, units], float.
    Raises: UserError (a ValueError) if a size does not fit.
    References: Balaji et al., "VIn-Loc", Sec. 3.
    """

    def __init__(
        self,
        units: int,
        num_blocks: int,
        region: Sequence[Sequence[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        check(
            units % UNITS_MULTIPLE == 0,
            f"`units` must be a multiple of {UNITS_MULTIPLE}.",
            units=units,
        )
        self.units = units
        self.num_blocks = num_blocks
        self.region = region
        self._encoder = LocTokenEncoder(num_blocks, _NUM_HEADS, 4 * units)
        self._summarise = compiled(self._summarise_dense)

    def build(
        self,
        evidence_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...] | None = None,
        trp_mask_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the weights."""
        *_, num_taps, channels = evidence_shape
        width = self.units
        if self.region is not None:
            self._place = PositionEmbedding(self.units // _POSITION_SHARE)
            self._place.build((None, None, 3))
            width -= self._place.units
        seen = num_taps * (channels - 1) + 1
        self._link = dense_stack((None, None, seen), [width, width])
        self._encoder.build((None, None, self.units))
        self.built = True

    def call(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Summarise."""
        return self._summarise(evidence, trp_position, trp_mask)

    def compute_output_shape(
        self, evidence_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, units]."""
        return (evidence_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("units", "num_blocks", "region")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _summarise_dense(
        self,
        evidence: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Summarise, see the class."""
        batch, num_trps, num_taps, channels = ops.shape(evidence)
        shape = (batch, num_trps, num_taps * (channels - 1))
        # The first channel runs linearly over the taps: its first value is all of it.
        delay = evidence[:, :, 0, :1] / num_taps
        seen = [ops.reshape(evidence[..., 1:], shape), delay]
        tokens = self._link(ops.concatenate(seen, axis=-1))
        if self.region is not None:
            place = self._place(self._scaled(trp_position))
            tokens = ops.concatenate([tokens, place], axis=-1)
        return self._encoder(tokens, trp_mask)

    def _scaled(self, trp_position: keras.KerasTensor) -> keras.KerasTensor:
        """Return positions from the region's middle, in halves of its longest side."""
        lower, upper = np.asarray(self.region, dtype="float32")
        middle = ops.convert_to_tensor((lower + upper) / 2)
        return (trp_position - middle) / (float(max(upper - lower)) / 2)
