"""From a set of TRPs to a table with one row, its slot, for each of them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive, check_positive_int

_SAME = 0.1  # between the places of one and the same TRP, per coordinate [m]
_NOWHERE = 1e9  # place of a slot that no TRP has [m]


@keras.saving.register_keras_serializable(package="sionna_loc")
class TrpSlots(keras.layers.Layer):
    """Puts the TRPs of each sample into a fixed number of slots.

    With `order="own"` every TRP that `adapt` has seen has a slot of its own, told by
    its place, whatever the order of the TRPs; slots whose TRP is missing are zero.
    With `order="drawn"` the first slot holds whichever TRP comes first, and so on, so
    that each sample needs as many TRPs as there are slots. With `order="sorted"` it
    needs as many, too, but the first slot holds the TRP that comes first in the order
    of the coordinates, x before y before z, whatever the order in the sample.

    Args:
        num_slots: int > 0.
        order: `"own"`, `"drawn"` or `"sorted"`.
        tolerance: float > 0 [m]. Per coordinate, how far a TRP may stand from where it
            stood for `adapt`, with `order="own"`. The nearest counts.

    Call arguments:
        values: [batch, num_trps, units], float.
        trp_position: [batch, num_trps, 3], float [m].
        trp_mask: [batch, num_trps], bool. TRPs that are heard.

    Returns: `values` by slot [batch, num_slots, units], float, and which slots are
        filled [batch, num_slots], bool.
    Raises: UserError (a ValueError) for an unknown order or a number not positive.
    """

    def __init__(
        self,
        num_slots: int,
        order: str = "own",
        tolerance: float = _SAME,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_slots", num_slots)
        known = order in ("own", "drawn", "sorted")
        check(known, "`order` must be 'own', 'drawn' or 'sorted'.", order=order)
        check_positive("tolerance", tolerance)
        self.num_slots = num_slots
        self.order = order
        self.tolerance = tolerance
        self.site_position = self.add_weight(
            shape=(num_slots, 3),
            initializer=keras.initializers.Constant(_NOWHERE),
            trainable=False,
            name="site_position",
        )
        self.built = True

    def adapt(self, trp_positions: Sequence[np.ndarray]) -> None:
        """Give each TRP that occurs a slot, in the order of its coordinates.

        Args:
            trp_positions: arrays [num_trps, 3] [m].

        Raises: UserError if there are more TRPs than slots.
        """
        if self.order != "own":
            return
        grid = np.round(np.concatenate(trp_positions) / _SAME)
        _, first = np.unique(grid, axis=0, return_index=True)  # sorted
        sites = np.concatenate(trp_positions)[first]
        check(
            len(sites) <= self.num_slots,
            "A fingerprint needs TRPs at fixed places, and a slot for each: "
            f"there are {self.num_slots} slots.",
            num_places=len(sites),
        )
        padding = ((0, self.num_slots - len(sites)), (0, 0))
        self.site_position.assign(np.pad(sites, padding, constant_values=_NOWHERE))

    def check_trps(self, trp_positions: Sequence[np.ndarray]) -> None:
        """Raise `UserError` if the slots cannot hold the TRPs of some sample.

        Args:
            trp_positions: one array [num_trps, 3] [m] for each sample.
        """
        if self.order != "own":
            for position in trp_positions:
                check(
                    len(position) == self.num_slots,
                    f"The fingerprint needs {self.num_slots} TRPs in each sample.",
                    num_trps=len(position),
                )
            return
        position = np.concatenate(trp_positions)
        known = self._is_site(position[:, None])
        unknown = ~ops.convert_to_numpy(known).any(axis=1)
        check(
            not unknown.any(),
            "The fingerprint knows only the TRPs that it was made of: there is one "
            "at another place.",
            trp_position=position[unknown][:1].round(2).tolist(),
        )

    def call(
        self,
        values: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Fill the slots."""
        if self.order == "own":
            is_site = self._is_site(ops.expand_dims(trp_position, 2))  # [.., slots]
        elif self.order == "sorted":
            rank = ops.expand_dims(_ranks(trp_position, trp_mask), 2)
            is_site = rank == ops.arange(self.num_slots, dtype=rank.dtype)
        if self.order != "drawn":
            is_site = ops.logical_and(is_site, ops.expand_dims(trp_mask, 2))
            chosen = ops.cast(ops.swapaxes(is_site, 1, 2), values.dtype)
            return ops.matmul(chosen, values), ops.any(is_site, axis=1)
        mask = ops.cast(trp_mask, values.dtype)
        values = _with_length(values * ops.expand_dims(mask, 2), self.num_slots)
        return values, _with_length(mask, self.num_slots) > 0

    def compute_output_shape(
        self,
        values_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...] | None = None,
        trp_mask_shape: tuple[int | None, ...] | None = None,
    ) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Return [batch, num_slots, units] and [batch, num_slots]."""
        batch, _, units = values_shape
        return (batch, self.num_slots, units), (batch, self.num_slots)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_slots": self.num_slots,
            "order": self.order,
            "tolerance": self.tolerance,
        }

    def _is_site(self, position: Any) -> Any:
        """Return whose TRP stands at places [..., 1, 3], [..., num_slots], bool."""
        apart = ops.max(ops.abs(position - self.site_position), axis=-1)
        nearest = ops.min(apart, axis=-1, keepdims=True)
        return ops.logical_and(apart < self.tolerance, apart <= nearest)


def _ranks(position: Any, mask: Any) -> Any:
    """Return each TRP's place in the order of the coordinates, [batch, num_trps], int.

    TRPs at one place keep their order; those masked out do not count.
    """
    own, other = ops.expand_dims(position, 2), ops.expand_dims(position, 1)
    index = ops.arange(ops.shape(position)[1])
    is_before = ops.expand_dims(index, 0) < ops.expand_dims(index, 1)
    for axis in (2, 1, 0):  # the last one compared decides
        mine, theirs = own[..., axis], other[..., axis]
        is_equal = ops.logical_and(theirs == mine, is_before)
        is_before = ops.logical_or(theirs < mine, is_equal)
    is_before = ops.logical_and(is_before, ops.expand_dims(mask, 1))
    return ops.sum(ops.cast(is_before, "int32"), axis=2)


def _with_length(values: Any, length: int) -> Any:
    """Cut the second axis, or extend it with zeros, to `length`."""
    padding = [(0, 0), (0, length), *[(0, 0)] * (len(values.shape) - 2)]
    return ops.pad(values, padding)[:, :length]
