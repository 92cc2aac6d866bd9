"""Transformer over power-delay profiles that does not know where the TRPs are."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
from keras import layers, ops

from sionna_loc.checks import check_positive, check_positive_int
from sionna_loc.layers.cir_scaling import CirScaling
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.gated_encoder import GatedEncoderBlock
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.models.base import Localizer


@keras.saving.register_keras_serializable(package="sionna_loc")
class PdpTransformer(Localizer):
    """One token per TRP, its power-delay profile in dB; encoder; mean over the tokens.

    There is neither an embedding of the TRPs' places nor one of their order: what
    tells a TRP from the others is the profile itself. Instead of a special token the
    mean of all tokens goes to the output layers.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas; their profiles are put one behind the other.
        width: int > 0. Size of the tokens.
        num_blocks: int > 0. Encoder blocks.
        num_heads, hidden_units, dropout: of the blocks, see `GatedEncoderBlock`.
        head_units: int > 0. Width of the hidden output layer.
        input_scaling: `"log"` or `"linear"`, see `CirScaling`.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive or does not fit.
    References: Masrur et al., "Transforming Indoor Localization: Advanced Transformer
        Architecture for NLOS Dominated Wireless Environments with Distributed
        Sensors", arXiv 2501.07774 (a token per sensor, RMSNorm, SwiGLU, pooling; the
        sizes here are ours).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"width": 96, "num_blocks": 2, "num_heads": 4, "hidden_units": 192},
        "base": {"width": 192, "num_blocks": 4, "num_heads": 8, "hidden_units": 512},
    }
    DEFAULT_PRESET = "base"
    use_trp_positions = False

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        width: int = 192,
        num_blocks: int = 4,
        num_heads: int = 8,
        hidden_units: int = 512,
        dropout: float = 0.0,
        head_units: int = 256,
        input_scaling: str = "log",
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        for name, value in (
            ("num_taps", num_taps),
            ("num_ant", num_ant),
            ("width", width),
            ("num_blocks", num_blocks),
            ("head_units", head_units),
        ):
            check_positive_int(name, value)
        check_positive("sampling_rate", sampling_rate)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.width = width
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.head_units = head_units
        self.input_scaling = input_scaling
        self._create_layers()
        self._locate = compiled(self._locate_dense)
        self.built = True

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the reference level of the CIR scaling from the first batches.

        Args:
            dataset: batches of (inputs, targets).
        """
        self.scaling.adapt_to_inputs(dataset)

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.num_taps)
        profile = self.scaling(tokens.cir)[..., 2]  # [num_tokens, num_ant, num_taps]
        profile = ops.reshape(profile, (-1, self.num_ant * self.num_taps))
        position = self._locate(*tokens.densify(profile), training=bool(training))
        return {"position": ops.array(self._center) + self._scale * position}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "num_taps sampling_rate num_ant width num_blocks num_heads hidden_units "
            "dropout head_units input_scaling"
        ).split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _create_layers(self) -> None:
        """Create and build all layers; their shapes follow from the arguments."""
        self.scaling = CirScaling(self.input_scaling)
        self.embedding = layers.Dense(self.width)
        self.embedding.build((None, None, self.num_ant * self.num_taps))
        self.blocks = [
            GatedEncoderBlock(self.num_heads, self.hidden_units, self.dropout)
            for _ in range(self.num_blocks)
        ]
        self.norm = layers.RMSNormalization()
        for layer in (*self.blocks, self.norm):
            layer.build((None, None, self.width))
        hidden = layers.Dense(self.head_units, activation="silu")
        self.head = keras.Sequential([hidden, layers.Dense(3)])
        self.head.build((None, self.width))

    def _locate_dense(
        self,
        profile: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
        training: bool = False,
    ) -> keras.KerasTensor:
        """Return the scaled position, [batch, 3]."""
        tokens = self.embedding(profile)
        for block in self.blocks:
            tokens = block(tokens, trp_mask, training=training)
        heard = ops.expand_dims(ops.cast(trp_mask, tokens.dtype), 2)
        count = ops.maximum(ops.sum(heard, axis=1), 1)
        return self.head(ops.sum(heard * self.norm(tokens), axis=1) / count)
