"""From link measurements to normalised numbers, for each TRP or in one vector."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_list, check_positive
from sionna_loc.layers.trp_slots import TrpSlots

TOKEN_SIZE = 8
"""Received power, ToF, the direction (x, y, z), and the place (x, y, z)."""
MEASUREMENTS, PLACE = slice(0, 5), slice(5, 8)
"""Parts of a token."""


@keras.saving.register_keras_serializable(package="sionna_loc")
class LinkTokens(keras.layers.Layer):
    """Normalised measurements of each TRP, and its place.

    Received power and ToF have mean 0 and standard deviation 1 over the links that
    `adapt` has seen. A link of which nothing is heard is taken for a weak and long one:
    it has the least power and the greatest ToF seen, and no direction, (0, 0, 0).

    Args:
        center: (x, y, z) [m], from which the places of TRPs are counted.
        scale: float > 0 [m], the unit in which they are.

    Call arguments:
        link: [batch, n, 5], float, as `LinkMeasurements` gives it.
        trp_heard: [batch, n], bool. Links that exist.
        trp_position: [batch, n, 3], float [m].

    Returns: [batch, n, 8], float.
    Raises: UserError (a ValueError) if `scale` is not positive.
    """

    def __init__(self, center: Sequence[float], scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_list("center", center)
        check_positive("scale", scale)
        self.center = tuple(float(value) for value in center)
        self.scale = float(scale)
        # Rows: mean, standard deviation, value of a missing link; of power and ToF.
        self.statistics = self.add_weight(
            shape=(3, 2),
            initializer=keras.initializers.Constant([[0, 0], [1, 1], [0, 0]]),
            trainable=False,
            name="statistics",
        )
        self.built = True

    def adapt(self, links: Sequence[np.ndarray], heard: Sequence[np.ndarray]) -> None:
        """Learn the normalisation.

        Args:
            links: arrays [..., 5], of `LinkMeasurements`.
            heard: arrays [...], bool. Links that exist.

        Raises: UserError if no link exists.
        """
        chosen = [link[exists] for link, exists in zip(links, heard, strict=True)]
        values = np.concatenate(chosen)[:, :2].astype(np.float64)
        check(len(values) > 0, "Scaling needs at least one link.", num_links=0)
        spread = values.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        worst = [values[:, 0].min(), values[:, 1].max()]
        self.statistics.assign([values.mean(axis=0), spread, worst])

    def call(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Normalise."""
        exists = ops.expand_dims(trp_heard, -1)
        mean, spread, missing = (self.statistics[row] for row in range(3))
        values = ops.where(exists, link[..., :2], missing)
        values = (values - mean) / spread
        direction = ops.where(exists, link[..., 2:], 0.0)
        place = (trp_position - ops.array(self.center, link.dtype)) / self.scale
        return ops.concatenate([values, direction, place], axis=-1)

    def compute_output_shape(
        self, link_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, n, 8]."""
        return (*link_shape[:-1], TOKEN_SIZE)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        return {**config, "center": self.center, "scale": self.scale}


@keras.saving.register_keras_serializable(package="sionna_loc")
class LinkVector(LinkTokens):
    """The tokens of a fixed number of TRPs, one after the other.

    They come in the order of the TRPs' coordinates, whatever the order in the input, so
    that a TRP of one set of TRPs is always at the same place of the vector.

    Args:
        num_trps: int > 0.
        center, scale: see `LinkTokens`.

    Call arguments:
        link, trp_heard, trp_position: see `LinkTokens`.
        trp_mask: [batch, n], bool. Entries that are TRPs, not padding: `num_trps` each.

    Returns: [batch, num_trps * 8], float.
    Raises: UserError (a ValueError) for a number that is not positive.
    """

    def __init__(
        self, num_trps: int, center: Sequence[float], scale: float, **kwargs: Any
    ) -> None:
        super().__init__(center, scale, **kwargs)
        self.slots = TrpSlots(num_trps, order="sorted")
        self.num_trps = num_trps

    def call(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Normalise and put in order."""
        tokens = super().call(link, trp_heard, trp_position)
        rows, _ = self.slots(tokens, trp_position, trp_mask)
        return ops.reshape(rows, (-1, self.num_trps * TOKEN_SIZE))

    def compute_output_shape(
        self, link_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, num_trps * 8]."""
        return (link_shape[0], self.num_trps * TOKEN_SIZE)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_trps": self.num_trps}
