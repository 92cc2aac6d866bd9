"""How well the cells of a map agree with the paths of all links."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from sionna_loc.checks import check_list, check_positive
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.map_grid import child_offsets
from sionna_loc.layers.path_agreement import PathAgreement

_LOOKS = 2  # along each side of a cell


@keras.saving.register_keras_serializable(package="sionna_loc")
class CellAgreement(keras.layers.Layer):
    """Share of the peaks of the CIRs that a UE in a cell would have.

    That of the place in the cell, of a few, which agrees best: see `PathAgreement`.
    Nothing is trained.

    Args:
        taps_per_metre: float > 0. Sampling rate divided by the speed of light.
        height: float [m]. At which the UE is thought to be.
        tolerances: floats > 0 [taps]. From a peak to a delay that agrees with it; no
            less than what the place can be beside the nearest that is looked at.

    Call arguments:
        center: [batch or 1, num_cells, 2], float [m].
        magnitude, trp_position, image_position, trp_mask: see `PathAgreement`, in
            metres.
        side: float > 0 [m]. Of the cells.

    Returns: [batch, num_cells, len(tolerances)], float, from -1 to 1.
    Raises: UserError (a ValueError) if an argument is not positive.
    """

    def __init__(
        self,
        taps_per_metre: float,
        height: float,
        tolerances: Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_list("tolerances", tolerances)
        for tolerance in tolerances:
            check_positive("tolerances", tolerance)
        self.taps_per_metre = taps_per_metre
        self.height = height
        self.tolerances = tuple(tolerances)
        self._paths = PathAgreement(taps_per_metre)
        self._judge = compiled(self._judge_dense)
        self.built = True

    def call(
        self,
        center: keras.KerasTensor,
        magnitude: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        image_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        side: float,
    ) -> keras.KerasTensor:
        """Compare."""
        # A loop that XLA compiles has no gradient, and centres have none to give.
        center = ops.stop_gradient(center)
        links = magnitude, trp_position, image_position, trp_mask
        return self._judge(center, side, *links)

    def compute_output_shape(
        self,
        center_shape: tuple[int | None, ...],
        magnitude_shape: tuple[int | None, ...],
        *_: Any,
    ) -> tuple[int | None, ...]:
        """Return [batch, num_cells, len(tolerances)]."""
        return (magnitude_shape[0], center_shape[1], len(self.tolerances))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "taps_per_metre": self.taps_per_metre,
            "height": self.height,
            "tolerances": list(self.tolerances),
        }

    def _judge_dense(
        self, center: keras.KerasTensor, side: float, *links: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Compare, see the class."""
        looks = center[:, :, None] + ops.convert_to_tensor(side * child_offsets(_LOOKS))
        looks = ops.reshape(looks, (-1, looks.shape[1] * _LOOKS**2, 2))
        height = ops.full_like(looks[..., :1], self.height)
        points = ops.concatenate([looks, height], axis=-1)
        points = ops.broadcast_to(points, (ops.shape(links[0])[0], *points.shape[1:]))
        beside = side / _LOOKS * self.taps_per_metre * 0.5**0.5
        tolerances = [max(beside, tolerance) for tolerance in self.tolerances]
        values = self._paths(points, *links, tolerance=tolerances)
        values = ops.reshape(values, (-1, center.shape[1], _LOOKS**2, len(tolerances)))
        return ops.max(values, axis=2)
