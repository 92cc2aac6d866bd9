"""Convolutions over a map."""

from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class GridEncoder(keras.layers.Layer):
    """Residual convolutions over the cells of a map, with a look at the whole of it.

    Blocks of `fold` x `fold` cells enter as the channels of one position, and leave as
    cells again: convolutions over fewer, wider positions use a CPU better. Mean and
    maximum over the map are added everywhere, so that a cell is judged beside its
    rivals, however far away they are.

    Args:
        units: int > 0. Channels of the convolutions.
        num_blocks: int > 0. Convolutions of 3 x 3.
        channels: int > 0. Of the output.
        fold: int > 0. Divides rows and columns.

    Call arguments:
        inputs: [batch, num_rows, num_columns, in_channels], float.

    Returns: [batch, num_rows, num_columns, channels], float.
    Raises: UserError (a ValueError) if a size is not positive or does not divide.
    References: He et al., "Identity Mappings in Deep Residual Networks".
    """

    def __init__(
        self, units: int, num_blocks: int, channels: int, fold: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (
            ("units", units),
            ("num_blocks", num_blocks),
            ("channels", channels),
            ("fold", fold),
        ):
            check_positive_int(name, value)
        self.units = units
        self.num_blocks = num_blocks
        self.channels = channels
        self.fold = fold

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions."""
        check(
            input_shape[1] % self.fold == 0 and input_shape[2] % self.fold == 0,
            "Rows and columns must be multiples of `fold`.",
            input_shape=input_shape,
            fold=self.fold,
        )
        rows, columns = (size // self.fold for size in input_shape[1:3])
        folded = self.fold**2
        self._enter = layers.Dense(self.units)
        self._enter.build((None, rows, columns, folded * input_shape[-1]))
        wide = (None, rows, columns, self.units)
        self._blocks = [
            layers.Conv2D(self.units, 3, padding="same") for _ in range(self.num_blocks)
        ]
        for block in self._blocks:
            block.build(wide)
        self._overview = layers.Dense(self.units)
        self._overview.build((None, 2 * self.units))
        self._leave = layers.Dense(folded * self.channels)
        self._leave.build(wide)
        self.built = True

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Encode."""
        fold, (rows, columns, channels) = self.fold, inputs.shape[1:]
        shape = (-1, rows // fold, fold, columns // fold, fold, channels)
        x = ops.transpose(ops.reshape(inputs, shape), (0, 1, 3, 2, 4, 5))
        shape = (-1, rows // fold, columns // fold, fold * fold * channels)
        x = self._enter(ops.reshape(x, shape))
        for index, block in enumerate(self._blocks):
            x = x + block(ops.relu(x))
            if index == 0:
                whole = [ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2))]
                overview = self._overview(ops.concatenate(whole, axis=-1))
                x = x + overview[:, None, None]
        x = self._leave(ops.relu(x))
        shape = (-1, rows // fold, columns // fold, fold, fold, self.channels)
        x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, rows, columns, self.channels))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [batch, num_rows, num_columns, channels]."""
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("units", "num_blocks", "channels", "fold")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
