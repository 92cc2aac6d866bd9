"""VIn-Loc's transformer on link measurements instead of channel impulse responses."""

from typing import Any, ClassVar

import keras
from keras import ops

from sionna_loc.checks import check_positive_int
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.link_vector import MEASUREMENTS, PLACE, TOKEN_SIZE
from sionna_loc.layers.position_embedding import PositionEmbedding
from sionna_loc.layers.transformer import LocTokenEncoder
from sionna_loc.layers.trp_anchor import TrpAnchor
from sionna_loc.models.link_set_localizer import SET_TOKEN_SIZE, LinkSetLocalizer


@keras.saving.register_keras_serializable(package="sionna_loc")
class VInLocLinks(LinkSetLocalizer):
    """Transformer with a [LOC] token over the link measurements of a set of TRPs.

    As in VIn-Loc, the token of a TRP is the embedding of what is heard of it beside
    that of its place, and the output MLP reads the position from a learnable [LOC]
    token behind the encoder. What is heard is the link's measurements, whose embedding
    is an MLP in place of VIn-Loc's UNet. As in VIn-Loc's preset `compact` the output
    MLP gives the offset from a weighted mean that an attention learns; here it is that
    of the points to which the ToF and AoA of the TRPs lead.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        measurement_units: int > 0. Size of the embedding of the measurements.
        position_units: int > 3. Size of the TRP position embedding.
        num_blocks, num_heads, mlp_units, norm: of the transformer, see
            `LocTokenEncoder`; its width is that of both embeddings together.
        head_units: int > 0. Width of the output MLP of 4 layers.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: see `LinkSetLocalizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive or does not fit, or an
        entry is missing.
    References: Balaji et al., "VIn-Loc: Towards Deep Learning-Based Environment
        Agnostic Localization", Sec. 3; Klus et al., "Deep Hypernetwork-based Robust
        Localization in Millimeter-Wave Networks", Sec. IV-A (the measurements).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {
            "measurement_units": 40,
            "position_units": 24,
            "num_blocks": 3,
            "num_heads": 4,
            "mlp_units": 128,
            "head_units": 64,
        },
    }
    DEFAULT_PRESET = "base"
    # It takes minutes to compile; the transformer compiles itself in seconds.
    compiles_steps = False

    def __init__(
        self,
        region: Any,
        measurement_units: int = 40,
        position_units: int = 24,
        num_blocks: int = 3,
        num_heads: int = 4,
        mlp_units: int = 128,
        norm: str = "pre",
        head_units: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("measurement_units", measurement_units)
        check_positive_int("head_units", head_units)
        self.measurement_units = measurement_units
        self.position_units = position_units
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.mlp_units = mlp_units
        self.norm = norm
        self.head_units = head_units
        self.position_embedding = PositionEmbedding(position_units)
        self.position_embedding.build((None, None, 3))
        self.measurement_mlp = dense_stack(
            (None, None, SET_TOKEN_SIZE - 3), [measurement_units] * 2
        )
        width = self.state_units
        self.encoder = LocTokenEncoder(num_blocks, num_heads, mlp_units, norm)
        self.encoder.build((None, None, width))
        self.anchor = TrpAnchor()
        self.anchor.build((None, width), (None, None, width))
        self.head = dense_stack((None, width), [head_units] * 3 + [2])
        self._locate = compiled(self._locate_dense)
        self.built = True

    @property
    def state_units(self) -> int:
        """Size of the state: the [LOC] token."""
        return self.measurement_units + self.position_units

    def locate(
        self,
        tokens: keras.KerasTensor,
        point: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkSetLocalizer`."""
        return self._locate(tokens, point, trp_heard, trp_mask)

    def _locate_dense(
        self,
        tokens: keras.KerasTensor,
        point: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Do what `locate` says; compiled."""
        measured = [tokens[..., MEASUREMENTS], tokens[..., TOKEN_SIZE:]]
        measured = ops.concatenate(measured, axis=-1)  # all but the place
        embeddings = [
            self.measurement_mlp(measured),
            self.position_embedding(tokens[..., PLACE]),
        ]
        tokens = ops.concatenate(embeddings, axis=-1)  # [batch, num_trps, state_units]
        loc = self.encoder(tokens, trp_mask)
        return loc, self.anchor(loc, tokens, point, trp_heard) + self.head(loc)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "measurement_units position_units num_blocks num_heads mlp_units norm "
            "head_units"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
