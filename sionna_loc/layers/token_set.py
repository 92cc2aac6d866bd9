"""Sets of TRPs: from ragged or padded inputs to flat tokens and to dense arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_WIDTH_STEPS = ((16, 4), (32, 8))  # up to so many TRPs, multiples of that
_WIDEST_STEP = 16


class TokenSet(NamedTuple):
    """The TRPs of a batch as a flat list of tokens.

    Attributes:
        cir: [num_tokens, num_ant, num_taps, 2], float.
        trp_position: [num_tokens, 3], float [m].
        trp_mask: [batch, num_trps] bool, or None: which entries of the padded form
            the tokens are. None if the tokens are those that exist, row by row.
        num_heard: [batch] int, or None: tokens of each sample, with `trp_mask` None.
    """

    cir: Any
    trp_position: Any
    trp_mask: Any
    num_heard: Any

    @classmethod
    def of_cirs(cls, inputs: dict[str, Any], num_ant: int, num_taps: int) -> "TokenSet":
        """Build from the inputs of a model that was built for certain CIRs.

        Args:
            inputs: see `from_inputs`.
            num_ant: int > 0. Antennas that the model was built for.
            num_taps: int > 0. Taps that the model was built for.

        Raises: UserError (a ValueError) if an entry is missing, or CIRs have another
            number of antennas or taps.
        """
        tokens = cls.from_inputs(inputs)
        check(
            tuple(tokens.cir.shape[1:]) == (num_ant, num_taps, 2),
            "The model was built for CIRs of "
            f"{num_ant} antennas x {num_taps} taps x 2 (real, imaginary).",
            cir_shape=tuple(tokens.cir.shape),
        )
        return tokens

    @classmethod
    def from_inputs(cls, inputs: dict[str, Any]) -> "TokenSet":
        """Build from ragged inputs, or from padded ones with `trp_mask`.

        Args:
            inputs: `cir` [batch, num_trps, num_ant, num_taps, 2], `trp_position`
                [batch, num_trps, 3], both ragged on the second axis or both padded;
                if padded, optionally `trp_mask` [batch, num_trps], bool.

        With TensorFlow only the tokens that exist are kept, so that encoders do no
        work on padding; other back ends need fixed shapes and keep all of them.

        Raises: UserError (a ValueError) if an entry is missing.
        """
        missing = {"cir", "trp_position"} - set(inputs)
        check(
            not missing,
            "The inputs need the entries 'cir' and 'trp_position'.",
            inputs=sorted(inputs),
        )
        cir, position = inputs["cir"], inputs["trp_position"]
        if _is_ragged(cir):
            lengths = cir.row_lengths()
            return cls(cir.flat_values, position.flat_values, None, lengths)
        mask = inputs.get("trp_mask")
        if mask is None:
            mask = ops.ones(ops.shape(cir)[:2], dtype="bool")
        mask = ops.cast(mask, "bool")
        if keras.backend.backend() == "tensorflow":
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
            return cls(
                tf.ensure_shape(tf.boolean_mask(cir, mask), (None, *cir.shape[2:])),
                tf.ensure_shape(tf.boolean_mask(position, mask), (None, 3)),
                None,
                lengths,
            )
        return cls(
            ops.reshape(cir, (-1, *cir.shape[2:])),
            ops.reshape(position, (-1, 3)),
            mask,
            None,
        )

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sample that each token is of, and whether it exists.

        Returns: [num_tokens], int, and [num_tokens], bool.
        """
        if self.trp_mask is not None:
            exists = ops.convert_to_numpy(self.trp_mask)
            sample = np.broadcast_to(np.arange(len(exists))[:, None], exists.shape)
            return sample.ravel(), exists.ravel()
        num_heard = ops.convert_to_numpy(self.num_heard)
        sample = np.repeat(np.arange(len(num_heard)), num_heard)
        return sample, np.ones(len(sample), bool)

    def densify(self, *values: Any) -> tuple[Any, ...]:
        """Return values per token as dense arrays, and the mask of those that exist.

        Args:
            values: each [num_tokens, ...].

        Returns: each of `values` as [batch, num_trps, ...], then `trp_mask`
            [batch, num_trps], bool. `num_trps` is rounded up, the more the wider, so
            that few different shapes occur, each of which is compiled.
        """
        if self.trp_mask is not None:
            return _padded(values, self.trp_mask)
        return _densified(values, self.num_heard)

    def densify_strongest(
        self, strength: Any, count: int, *values: Any
    ) -> tuple[Any, ...]:
        """Return values of the strongest TRPs as dense arrays, and their mask.

        Args:
            strength: [num_tokens], float. The more, the stronger.
            count: int > 0. How many TRPs of a sample stay at most, in their order.
            values: each [num_tokens, ...].

        Returns: as `densify`, of the TRPs that stay.
        """
        if self.trp_mask is not None:
            index, mask = self._strongest_padded(strength, count)
            return _padded([ops.take(x, index, axis=0) for x in values], mask)
        dense, mask = self.densify(strength)
        order = tf.argsort(tf.where(mask, -dense, dense.dtype.max), stable=True)
        rank = tf.argsort(order, stable=True)
        index = tf.where(tf.boolean_mask(rank < count, mask))[:, 0]
        num_heard = tf.minimum(self.num_heard, tf.cast(count, self.num_heard.dtype))
        return _densified([tf.gather(x, index) for x in values], num_heard)

    def _strongest_padded(self, strength: Any, count: int) -> tuple[Any, Any]:
        """Return indices [num_tokens] of padded tokens, and their `trp_mask`."""
        batch, num_trps = ops.shape(self.trp_mask)
        strength = ops.reshape(strength, (batch, num_trps))
        order = ops.argsort(ops.where(self.trp_mask, -strength, np.inf), axis=1)
        chosen = ops.sort(order[:, :count], axis=1)
        index = ops.arange(batch)[:, None] * num_trps + chosen
        mask = ops.take_along_axis(self.trp_mask, chosen, axis=1)
        return ops.reshape(index, (-1,)), mask


def _padded(values: Sequence[Any], mask: Any) -> tuple[Any, ...]:
    """Return tokens of the padded form `mask` [batch, num_trps] as dense arrays."""
    shape = tuple(ops.shape(mask))
    dense = [ops.reshape(x, (*shape, *x.shape[1:])) for x in values]
    return (*dense, mask)


def _densified(values: Sequence[Any], num_heard: Any) -> tuple[Any, ...]:
    """Return tokens, `num_heard` [batch] of each sample, as dense arrays and mask."""
    lengths = tf.cast(num_heard, "int32")
    longest = tf.reduce_max(lengths)
    step = tf.constant(_WIDEST_STEP)
    for largest, size in reversed(_WIDTH_STEPS):
        step = tf.where(longest <= largest, size, step)
    width = -(-longest // step) * step
    mask = tf.sequence_mask(lengths, width)  # [batch, num_trps]
    place = tf.cast(tf.where(mask), "int32")  # [num_tokens, 2]
    dense = []
    for x in values:
        shape = tf.concat([tf.shape(mask), x.shape[1:]], axis=0)
        padded = tf.scatter_nd(place, x, shape)
        dense.append(tf.ensure_shape(padded, (None, None, *x.shape[1:])))
    return (*dense, mask)


def _is_ragged(x: Any) -> bool:
    """Whether `x` is a ragged tensor of TensorFlow."""
    return keras.backend.backend() == "tensorflow" and isinstance(x, tf.RaggedTensor)
