"""What localizers have in common that take the links of so many TRPs as a vector."""

from typing import Any

import keras
import numpy as np

from sionna_loc.checks import check, check_positive_int
from sionna_loc.layers.link_vector import TOKEN_SIZE, LinkVector
from sionna_loc.models.link_localizer import LinkLocalizer


class LinkVectorLocalizer(LinkLocalizer):
    """Localizer on link measurements of a fixed number of TRPs.

    A subclass owes `locate`; it has `num_inputs`.

    Args:
        region: see `LinkLocalizer`.
        num_trps: int > 0. TRPs of each sample.
        **kwargs: of `keras.Model`.

    Call arguments: see `LinkLocalizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if an entry is missing, or, in `adapt` and
        `predict_on_batch`, if a sample has another number of TRPs.
    """

    def __init__(self, region: Any, num_trps: int = 7, **kwargs: Any) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("num_trps", num_trps)
        self.num_trps = num_trps
        self.vector = LinkVector(num_trps, self._center.tolist(), self._scale)
        self.num_inputs = num_trps * TOKEN_SIZE

    @property
    def fixed_num_trps(self) -> int:
        """TRPs that every sample must have."""
        return self.num_trps

    @property
    def scales(self) -> LinkVector:
        """The layer that scales the measurements."""
        return self.vector

    def locate(
        self, vector: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place of [batch, num_inputs], see `describe`."""
        raise NotImplementedError

    def describe(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkLocalizer`."""
        return self.locate(self.vector(link, trp_heard, trp_position, trp_mask))

    def check_trps(self, trp_mask: np.ndarray) -> None:
        """Raise `UserError` unless each sample has the model's number of TRPs."""
        counts = trp_mask.sum(axis=1)
        other = counts[counts != self.num_trps]
        check(
            not len(other),
            f"The model takes {self.num_trps} TRPs, heard or not, in each sample.",
            num_trps=int(other[0]) if len(other) else self.num_trps,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_trps": self.num_trps}
