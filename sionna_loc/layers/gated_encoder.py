"""Transformer encoder block with root-mean-square norms and a gated MLP."""

from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class SwiGLU(keras.layers.Layer):
    """MLP whose hidden units are gated: `(swish(x W) * x V) U`, without biases.

    Args:
        hidden_units: int > 0.

    Call arguments:
        inputs: [..., units], float.

    Returns: [..., units], float.
    Raises: UserError (a ValueError) if the size is not positive.
    References: Shazeer, "GLU Variants Improve Transformer", eq. (6).
    """

    def __init__(self, hidden_units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive_int("hidden_units", hidden_units)
        self.hidden_units = hidden_units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the three matrices."""
        self._gate = layers.Dense(self.hidden_units, use_bias=False)
        self._linear = layers.Dense(self.hidden_units, use_bias=False)
        self._contract = layers.Dense(input_shape[-1], use_bias=False)
        self._gate.build(input_shape)
        self._linear.build(input_shape)
        self._contract.build((*input_shape[:-1], self.hidden_units))
        self.built = True

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Apply the MLP."""
        return self._contract(ops.silu(self._gate(inputs)) * self._linear(inputs))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "hidden_units": self.hidden_units}


@keras.saving.register_keras_serializable(package="sionna_loc")
class GatedEncoderBlock(keras.layers.Layer):
    """Self-attention and `SwiGLU`, each behind an RMS norm, with residual connections.

    Args:
        num_heads: int > 0. Attention heads; divides the width of the tokens.
        hidden_units: int > 0. Of the MLP.
        dropout: float in [0, 1). Of the attention weights and of both branches.

    Call arguments:
        tokens: [batch, num_tokens, width], float.
        token_mask: [batch, num_tokens], bool. Tokens that exist.
        training: bool. Whether there is dropout.

    Returns: [batch, num_tokens, width], float.
    Raises: UserError (a ValueError) if a number does not fit.
    References: Zhang and Sennrich, "Root Mean Square Layer Normalization", eq. (4);
        Masrur et al., arXiv 2501.07774 (both put together for localization).
    """

    def __init__(
        self, num_heads: int, hidden_units: int, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_heads", num_heads)
        check_positive_int("hidden_units", hidden_units)
        in_range = isinstance(dropout, int | float) and 0 <= dropout < 1
        check(in_range, "`dropout` must be a number in [0, 1).", dropout=dropout)
        self.num_heads = num_heads
        self.hidden_units = hidden_units
        self.dropout = dropout

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for tokens of `input_shape`."""
        width = input_shape[-1]
        check(
            width % self.num_heads == 0,
            "The width of the tokens must be a multiple of `num_heads`.",
            width=width,
            num_heads=self.num_heads,
        )
        self._norms = [layers.RMSNormalization() for _ in range(2)]
        self._attention = layers.MultiHeadAttention(
            self.num_heads, width // self.num_heads, dropout=self.dropout
        )
        self._mlp = SwiGLU(self.hidden_units)
        self._drop = layers.Dropout(self.dropout)
        shape = (None, None, width)
        for layer in (*self._norms, self._mlp):
            layer.build(shape)
        self._attention.build(shape, shape)
        self.built = True

    def call(
        self,
        tokens: keras.KerasTensor,
        token_mask: keras.KerasTensor,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        """Process the tokens."""
        x = self._norms[0](tokens)
        mask = ops.expand_dims(token_mask, 1)  # [batch, 1, num_tokens]: of the keys
        x = self._attention(x, x, attention_mask=mask, training=training)
        tokens = tokens + self._drop(x, training=training)
        x = self._mlp(self._norms[1](tokens))
        return tokens + self._drop(x, training=training)

    def compute_output_shape(
        self,
        tokens_shape: tuple[int | None, ...],
        token_mask_shape: tuple[int | None, ...] | None = None,
    ) -> tuple[int | None, ...]:
        """Return the shape of the tokens."""
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
        }
