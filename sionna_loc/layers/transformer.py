"""Transformer encoder over a small set of tokens."""

import math
from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class EncoderBlock(keras.layers.Layer):
    """Self-attention and MLP, each with a residual connection.

    Queries, keys and values are one matrix product. The block can be asked for its
    first tokens only: then queries and the MLP are computed for these alone, which
    saves most of the last block where only one token is read out, and gives the same
    values.

    Args:
        num_heads: int > 0. Attention heads; divides the width of the tokens.
        mlp_units: int > 0. Hidden width of the MLP.
        norm: `"pre"` normalises the input of attention and MLP, `"post"` the sum of
            input and output.
        activation: name of the MLP's activation.

    Call arguments:
        tokens: [batch, num_tokens, width], float.
        token_mask: [batch, num_tokens], bool. Tokens that exist.
        num_outputs: int or None. Number of leading tokens to return; all if None.

    Returns: [batch, num_outputs, width], float.
    Raises: UserError (a ValueError) if `num_heads` does not divide the width.
    References: Vaswani et al., "Attention is all you need", Sec. 3.1 (post-norm);
        Dosovitskiy et al., "An image is worth 16x16 words", Sec. 3.1 (pre-norm).
    """

    def __init__(
        self,
        num_heads: int,
        mlp_units: int,
        norm: str = "pre",
        activation: str = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_heads", num_heads)
        check_positive_int("mlp_units", mlp_units)
        check(norm in ("pre", "post"), "`norm` must be 'pre' or 'post'.", norm=norm)
        self.num_heads = num_heads
        self.mlp_units = mlp_units
        self.norm = norm
        self.activation = activation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for tokens of `input_shape`."""
        width = input_shape[-1]
        check(
            width % self.num_heads == 0,
            "The width of the tokens must be a multiple of `num_heads`.",
            width=width,
            num_heads=self.num_heads,
        )
        self._norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        # Glorot's fan-out of each of the three parts, not of their concatenation.
        limit = math.sqrt(6 / (2 * width))
        self._qkv = layers.Dense(
            3 * width,
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self._projection = layers.Dense(width)
        self._expand = layers.Dense(self.mlp_units, activation=self.activation)
        self._contract = layers.Dense(width)
        for layer in (*self._norms, self._qkv, self._projection, self._expand):
            layer.build((None, None, width))
        self._contract.build((None, None, self.mlp_units))
        self.built = True

    def call(
        self,
        tokens: keras.KerasTensor,
        token_mask: keras.KerasTensor,
        num_outputs: int | None = None,
    ) -> keras.KerasTensor:
        """Process the tokens."""
        kept = tokens if num_outputs is None else tokens[:, :num_outputs]
        if self.norm == "pre":
            kept = kept + self._attend(self._norms[0](tokens), token_mask, num_outputs)
            return kept + self._contract(self._expand(self._norms[1](kept)))
        kept = self._norms[0](kept + self._attend(tokens, token_mask, num_outputs))
        return self._norms[1](kept + self._contract(self._expand(kept)))

    def compute_output_shape(
        self,
        tokens_shape: tuple[int | None, ...],
        token_mask_shape: tuple[int | None, ...] | None = None,
        num_outputs: int | None = None,
    ) -> tuple[int | None, ...]:
        """Return [batch, num_outputs, width]."""
        batch, num_tokens, width = tokens_shape
        return (batch, num_tokens if num_outputs is None else num_outputs, width)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_units": self.mlp_units,
            "norm": self.norm,
            "activation": self.activation,
        }

    def _attend(
        self,
        tokens: keras.KerasTensor,
        token_mask: keras.KerasTensor,
        num_outputs: int | None,
    ) -> keras.KerasTensor:
        """Return the attention's output for the leading `num_outputs` tokens."""
        width = tokens.shape[-1]
        query, key, value = ops.split(self._qkv(tokens), 3, axis=-1)
        if num_outputs is not None:
            query = query[:, :num_outputs]
        query, key, value = (self._split_heads(x) for x in (query, key, value))
        scale = (width // self.num_heads) ** -0.5
        score = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
        absent = ops.logical_not(token_mask)[:, None, None, :]
        score = ops.where(absent, ops.cast(-1e9, score.dtype), score)
        mixed = ops.matmul(ops.softmax(score, axis=-1), value)
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        shape = (-1, ops.shape(mixed)[1], width)
        return self._projection(ops.reshape(mixed, shape))

    def _split_heads(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """[batch, tokens, width] -> [batch, heads, tokens, width / heads]."""
        size = x.shape[-1] // self.num_heads
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, size))
        return ops.transpose(x, (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="sionna_loc")
class LocTokenEncoder(keras.layers.Layer):
    """Prepends a learnable [LOC] token, encodes the set, returns the [LOC] token.

    Args:
        num_blocks: int > 0. Encoder blocks.
        num_heads: int > 0. Attention heads of each block.
        mlp_units: int > 0. Hidden width of each block's MLP.
        norm: `"pre"` or `"post"`, see `EncoderBlock`.

    Call arguments:
        tokens: [batch, num_trps, width], float.
        trp_mask: [batch, num_trps], bool. TRPs that are heard.

    Returns: [batch, width], float.
    References: Balaji et al., "VIn-Loc", Sec. 3, "Location token".
    """

    def __init__(
        self,
        num_blocks: int,
        num_heads: int,
        mlp_units: int,
        norm: str = "pre",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_blocks", num_blocks)
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.mlp_units = mlp_units
        self.norm = norm
        self._blocks = [
            EncoderBlock(num_heads, mlp_units, norm) for _ in range(num_blocks)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the [LOC] token and the blocks."""
        width = input_shape[-1]
        self._loc = self.add_weight(
            shape=(1, 1, width), initializer="random_normal", name="loc_token"
        )
        for block in self._blocks:
            block.build((None, None, width))
        if self.norm == "pre":
            self._final_norm = layers.LayerNormalization(epsilon=1e-6)
            self._final_norm.build((None, width))
        self.built = True

    def call(
        self, tokens: keras.KerasTensor, trp_mask: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Encode the set."""
        batch = ops.shape(tokens)[0]
        loc = ops.broadcast_to(
            ops.cast(self._loc, tokens.dtype), (batch, 1, tokens.shape[-1])
        )
        tokens = ops.concatenate([loc, tokens], axis=1)
        mask = ops.concatenate([ops.ones_like(trp_mask[:, :1]), trp_mask], axis=1)
        for block in self._blocks[:-1]:
            tokens = block(tokens, mask)
        loc = self._blocks[-1](tokens, mask, num_outputs=1)[:, 0]
        return self._final_norm(loc) if self.norm == "pre" else loc

    def compute_output_shape(
        self,
        tokens_shape: tuple[int | None, ...],
        trp_mask_shape: tuple[int | None, ...] | None = None,
    ) -> tuple[int | None, ...]:
        """Return [batch, width]."""
        return (tokens_shape[0], tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_blocks": self.num_blocks,
            "num_heads": self.num_heads,
            "mlp_units": self.mlp_units,
            "norm": self.norm,
        }
