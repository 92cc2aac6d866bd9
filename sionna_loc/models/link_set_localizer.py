"""What localizers have in common that take the links of a set of TRPs."""

from typing import Any

import keras
from keras import ops

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.link_vector import TOKEN_SIZE, LinkTokens
from sionna_loc.models.link_localizer import LinkLocalizer

SET_TOKEN_SIZE = TOKEN_SIZE + 3
"""A token of `LinkTokens`, whether it is heard, and the point (x, y)."""


class LinkSetLocalizer(LinkLocalizer):
    """Localizer on link measurements of any number of TRPs, wherever they stand.

    Each TRP is a token of its measurements, its place, and the point that its ToF and
    AoA lead to. A subclass owes `locate`.

    Args:
        region: see `LinkLocalizer`.
        **kwargs: of `keras.Model`.

    Call arguments: see `LinkLocalizer`, of any number of TRPs.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if an entry is missing.
    """

    def __init__(self, region: Any, **kwargs: Any) -> None:
        super().__init__(region, **kwargs)
        self.tokens = LinkTokens(self._center.tolist(), self._scale)

    @property
    def scales(self) -> LinkTokens:
        """The layer that scales the measurements."""
        return self.tokens

    def locate(
        self,
        tokens: keras.KerasTensor,
        point: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place of sets of tokens, see `describe`.

        Args:
            tokens: [batch, num_trps, 11], float.
            point: [batch, num_trps, 2], float. Where ToF and AoA lead to.
            trp_heard: [batch, num_trps], bool. TRPs with a point to go by: those that
                are heard, or all of a sample that hears none.
            trp_mask: [batch, num_trps], bool. Entries that are TRPs, not padding.
        """
        raise NotImplementedError

    def describe(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkLocalizer`."""
        heard = ops.logical_and(trp_heard, trp_mask)
        tokens = self.tokens(link, heard, trp_position)
        point = self._points(link, heard, trp_position)
        flag = ops.expand_dims(ops.cast(heard, tokens.dtype), -1)
        tokens = ops.concatenate([tokens, flag, point], axis=-1)
        hears_any = ops.any(heard, axis=1, keepdims=True)
        heard = ops.where(hears_any, heard, trp_mask)
        return self.locate(tokens, point, heard, trp_mask)

    def _points(
        self,
        link: keras.KerasTensor,
        heard: keras.KerasTensor,
        position: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Return where ToF and AoA lead to, scaled, [batch, n, 2].

        From a TRP that hears nothing, which has neither, they lead to itself.
        """
        way = SPEED_OF_LIGHT * link[..., 1:2] * link[..., 2:4]
        way = ops.where(ops.expand_dims(heard, -1), way, 0.0)
        center = ops.array(self._center[:2])
        return (position[..., :2] + way - center) / self._scale
