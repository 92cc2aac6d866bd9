"""UNet encoders of channel impulse responses."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int


class _UNet(keras.layers.Layer):
    """UNet over the last one or two axes before the channels.

    Each level is two convolutions with ReLU; a level is reached by maximum pooling
    by 2 and left by repetition and concatenation with the level above. Axes too
    short to be halved keep their length.
    """

    _rank = 1
    _conv: type = layers.Conv1D
    _pool: type = layers.MaxPooling1D
    _repeat: type = layers.UpSampling1D

    def __init__(
        self,
        filters: Sequence[int] = (16, 32, 64, 64, 64),
        out_channels: int = 6,
        kernel_size: int = 3,
        fold: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check(len(filters) >= 1, "`filters` needs one entry a level.", filters=filters)
        for width in filters:
            check_positive_int("filters", width)
        check_positive_int("out_channels", out_channels)
        check_positive_int("kernel_size", kernel_size)
        check_positive_int("fold", fold)
        self.filters = tuple(filters)
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.fold = fold

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions for inputs of `input_shape`."""
        sizes = list(input_shape[1:-1])
        check(
            len(sizes) == self._rank and None not in sizes,
            f"{type(self).__name__} needs inputs with {self._rank} fixed axes between "
            "batch and channels.",
            input_shape=input_shape,
        )
        check(
            sizes[-1] % self.fold == 0,
            "The number of taps must be a multiple of `fold`.",
            num_taps=sizes[-1],
            fold=self.fold,
        )
        sizes[-1] //= self.fold
        channels = input_shape[-1] * self.fold
        self._down, self._steps, self._sizes = [], [], []
        for level, width in enumerate(self.filters):
            self._down.append(self._double_convolution(width, sizes, channels))
            self._sizes.append(tuple(sizes))
            channels = width
            if level < len(self.filters) - 1:
                step = tuple(2 if size > 1 else 1 for size in sizes)
                self._steps.append(step)
                sizes = [-(-size // s) for size, s in zip(sizes, step, strict=True)]
        self._pools = [self._pool(step, padding="same") for step in self._steps]
        self._repeats = [self._repeat(self._argument(s)) for s in self._steps]
        self._up = []
        for level in reversed(range(len(self._steps))):
            width = self.filters[level]
            shape = self._sizes[level]
            self._up.append(self._double_convolution(width, shape, channels + width))
            channels = width
        self._out = self._conv(self.out_channels * self.fold, 1)
        self._out.build((None, *self._sizes[0], channels))
        self.built = True

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Encode; the output has the inputs' shape but for the channels."""
        x = self._fold(inputs)
        skips = []
        for level, convolutions in enumerate(self._down):
            for convolution in convolutions:
                x = convolution(x)
            if level < len(self._pools):
                skips.append(x)
                x = self._pools[level](x)
        for convolutions, level in zip(
            self._up, reversed(range(len(self._steps))), strict=True
        ):
            x = self._crop(self._repeats[level](x), self._sizes[level])
            x = ops.concatenate([skips[level], x], axis=-1)
            for convolution in convolutions:
                x = convolution(x)
        x = self._out(x)
        return ops.reshape(x, (-1, *inputs.shape[1:-1], self.out_channels))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the inputs' shape with `out_channels` channels."""
        return (*input_shape[:-1], self.out_channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "fold": self.fold,
        }

    def _fold(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Move `fold` neighbouring taps into the channels."""
        *sizes, num_taps, channels = x.shape[1:]
        return ops.reshape(x, (-1, *sizes, num_taps // self.fold, channels * self.fold))

    def _double_convolution(
        self, width: int, sizes: Sequence[int], channels: int
    ) -> list[keras.layers.Layer]:
        """Return two built convolutions with ReLU."""
        result = []
        for in_channels in (channels, width):
            convolution = self._conv(
                width, self.kernel_size, padding="same", activation="relu"
            )
            convolution.build((None, *sizes, in_channels))
            result.append(convolution)
        return result

    def _argument(self, step: tuple[int, ...]) -> int | tuple[int, ...]:
        """Return a step as the repetition layer takes it."""
        return step[0] if self._rank == 1 else step

    def _crop(self, x: keras.KerasTensor, sizes: tuple[int, ...]) -> keras.KerasTensor:
        """Cut off what pooling with padding has added."""
        if tuple(x.shape[1:-1]) == sizes:
            return x
        return x[(slice(None), *(slice(size) for size in sizes))]


@keras.saving.register_keras_serializable(package="sionna_loc")
class UNet1D(_UNet):
    """UNet over the taps of single-antenna channel impulse responses.

    Args:
        filters: ints > 0. Channels of each level; one pooling between two levels.
        out_channels: int > 0. Channels of the output.
        kernel_size: int > 0. Width of the convolutions.
        fold: int > 0. This many neighbouring taps enter as channels of one position
            (space to depth), and leave as taps again. Convolutions over fewer, wider
            positions use a CPU several times better than the reverse.

    Call arguments:
        inputs: [batch, num_taps, channels], float.

    Returns: [batch, num_taps, out_channels], float.
    Raises: UserError (a ValueError) if a size is not positive or does not divide.
    References: Balaji et al., "VIn-Loc", Table 1; Ronneberger et al., "U-Net".
    """


@keras.saving.register_keras_serializable(package="sionna_loc")
class UNet2D(_UNet):
    """UNet over antennas (or angles) and taps.

    Args:
        filters: ints > 0. Channels of each level; one pooling between two levels.
        out_channels: int > 0. Channels of the output.
        kernel_size: int > 0. Width of the convolutions on both axes.
        fold: int > 0. Neighbouring taps that enter as channels, see `UNet1D`.

    Call arguments:
        inputs: [batch, num_ant, num_taps, channels], float.

    Returns: [batch, num_ant, num_taps, out_channels], float.
    Raises: UserError (a ValueError) if a size is not positive or does not divide.
    References: Balaji et al., "VIn-Loc", Table 1; Ronneberger et al., "U-Net".
    """

    _rank = 2
    _conv = layers.Conv2D
    _pool = layers.MaxPooling2D
    _repeat = layers.UpSampling2D
