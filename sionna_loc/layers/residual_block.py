"""Residual block of two-dimensional convolutions."""

from typing import Any

import keras
from keras import layers

from sionna_loc.checks import check_positive_int

_MOMENTUM = 0.9  # of the batch statistics: good after few hundred steps, too


@keras.saving.register_keras_serializable(package="sionna_loc")
class ResidualBlock2D(keras.layers.Layer):
    """Two 3 x 3 convolutions with batch normalisation, and a shortcut.

    The shortcut is the input itself, or a 1 x 1 convolution where the block changes
    the size.

    Args:
        filters: int > 0. Channels of the output.
        strides: ints > 0. Of the first convolution, (rows, columns).

    Call arguments:
        inputs: [batch, rows, columns, channels], float.
        training: bool. Whether the statistics are those of the batch.

    Returns: [batch, rows / strides[0], columns / strides[1], filters], rounded up.
    Raises: UserError (a ValueError) if a size is not positive.
    References: He et al., "Deep Residual Learning for Image Recognition", Sec. 3.3
        (building block with projection shortcut).
    """

    def __init__(
        self, filters: int, strides: tuple[int, int] = (1, 1), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("filters", filters)
        for stride in strides:
            check_positive_int("strides", stride)
        self.filters = filters
        self.strides = tuple(strides)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions."""
        inner = (*input_shape[:-1], self.filters)
        self._convolutions = [
            layers.Conv2D(
                self.filters, 3, strides=strides, padding="same", use_bias=False
            )
            for strides in (self.strides, (1, 1))
        ]
        self._norms = [layers.BatchNormalization(momentum=_MOMENTUM) for _ in range(2)]
        self._convolutions[0].build(input_shape)
        self._convolutions[1].build(inner)
        for norm in self._norms:
            norm.build(inner)
        self._shortcut = None
        if self.strides != (1, 1) or input_shape[-1] != self.filters:
            self._shortcut = layers.Conv2D(self.filters, 1, strides=self.strides)
            self._shortcut.build(input_shape)
        self.built = True

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None
    ) -> keras.KerasTensor:
        """Apply the block."""
        x = self._norms[0](self._convolutions[0](inputs), training=training)
        x = self._convolutions[1](keras.ops.relu(x))
        x = self._norms[1](x, training=training)
        shortcut = inputs if self._shortcut is None else self._shortcut(inputs)
        return keras.ops.relu(x + shortcut)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [batch, rows, columns, filters]."""
        batch, *sizes, _ = input_shape
        sizes = [
            None if size is None else -(-size // stride)
            for size, stride in zip(sizes, self.strides, strict=True)
        ]
        return (batch, *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
        }
