"""Refinement of a position estimate by what each CIR says about its distance."""

from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check_positive, check_positive_int
from sionna_loc.layers.transformer import LocTokenEncoder


def delay_window(
    response: keras.KerasTensor, delay: keras.KerasTensor, size: int, spacing: float
) -> keras.KerasTensor:
    """Read a window around a delay out of each response, interpolating linearly.

    Args:
        response: [batch, num_trps, num_taps, channels], float.
        delay: [batch, num_trps], float. Middle of the window [taps].
        size: int > 0. Points in the window.
        spacing: float > 0. Distance of the points [taps].

    Returns: [batch, num_trps, size, channels]; 0 outside of the response.
    """
    num_taps = response.shape[2]
    offset = (ops.arange(size, dtype="float32") - (size - 1) / 2) * spacing
    tap = ops.expand_dims(delay, -1) + offset  # [batch, num_trps, size]
    inside = ops.logical_and(tap >= 0, tap <= num_taps - 1)
    tap = ops.clip(tap, 0, num_taps - 1)
    lower = ops.floor(tap)
    fraction = ops.expand_dims(tap - lower, -1)
    lower = ops.cast(lower, "int32")
    upper = ops.minimum(lower + 1, num_taps - 1)
    value = (1 - fraction) * _gather(response, lower) + fraction * _gather(
        response, upper
    )
    return value * ops.cast(ops.expand_dims(inside, -1), value.dtype)


def _gather(response: keras.KerasTensor, tap: keras.KerasTensor) -> keras.KerasTensor:
    """Return `response` at whole taps `tap` [batch, num_trps, size]."""
    index = ops.expand_dims(tap, -1)
    index = ops.broadcast_to(index, (*ops.shape(tap), response.shape[-1]))
    return ops.take_along_axis(response, index, axis=2)


@keras.saving.register_keras_serializable(package="sionna_loc")
class PositionRefiner(keras.layers.Layer):
    """One step from a position estimate to a better one.

    If the estimate were right and the link in line of sight, its CIR would begin at
    the tap of the distance from estimate to TRP. Each TRP becomes a token of the
    CIR around that tap, the direction to the TRP, and where TRP and estimate are;
    a transformer over these tokens returns the correction. So the network need not
    learn that a delay is a distance, nor how ranges make a position.

    Args:
        units: int > 0. Width of the tokens.
        num_blocks: int > 0. Encoder blocks.
        num_heads: int > 0. Attention heads; divides `units`.
        mlp_units: int > 0. Hidden width of the blocks' MLP.
        window: int > 0. Points of the window.
        spacing: float > 0. Distance of the window's points [taps].
        taps_per_metre: float > 0. Sampling rate divided by the speed of light.
        scale: float > 0. Unit of scaled positions [m].

    Call arguments:
        estimate: [batch, 3], float, scaled. No gradient flows back into it.
        trp_position: [batch, num_trps, 3], float, scaled.
        response: [batch, num_trps, num_taps, channels], float. Scaled CIR.
        state: [batch, state_units], float. What is known besides.
        trp_mask: [batch, num_trps], bool.

    Returns: [batch, 3], float, scaled. The refined estimate.
    """

    def __init__(
        self,
        units: int,
        num_blocks: int,
        num_heads: int,
        mlp_units: int,
        window: int,
        spacing: float,
        taps_per_metre: float,
        scale: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        check_positive_int("window", window)
        check_positive("spacing", spacing)
        check_positive("taps_per_metre", taps_per_metre)
        check_positive("scale", scale)
        self.units = units
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.mlp_units = mlp_units
        self.window = window
        self.spacing = spacing
        self.taps_per_metre = taps_per_metre
        self.scale = scale
        self._encoder = LocTokenEncoder(num_blocks, num_heads, mlp_units)

    def build(
        self,
        estimate_shape: tuple[int | None, ...],
        trp_position_shape: tuple[int | None, ...],
        response_shape: tuple[int | None, ...],
        state_shape: tuple[int | None, ...],
        trp_mask_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the weights."""
        # Window, scaled TRP, scaled estimate, direction, distance, state.
        features = self.window * response_shape[-1] + 3 + 3 + 3 + 1 + state_shape[-1]
        self._embedding = keras.Sequential(
            [layers.Dense(self.units, activation="relu"), layers.Dense(self.units)]
        )
        self._embedding.build((None, None, features))
        self._encoder.build((None, None, self.units))
        self._head = keras.Sequential(
            [
                layers.Dense(self.units, activation="relu"),
                layers.Dense(3, kernel_initializer="zeros"),
            ]
        )
        self._head.build((None, self.units))
        self.built = True

    def call(
        self,
        estimate: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        response: keras.KerasTensor,
        state: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Refine."""
        estimate = ops.stop_gradient(estimate)
        towards = trp_position - estimate[:, None]
        squared = ops.sum(ops.square(towards), axis=-1, keepdims=True)
        distance = ops.sqrt(squared + 1e-9)
        delay = distance[..., 0] * (self.scale * self.taps_per_metre)
        window = delay_window(response, delay, self.window, self.spacing)
        num_trps = ops.shape(trp_position)[1]
        features = [
            ops.reshape(window, (-1, num_trps, self.window * response.shape[-1])),
            trp_position,
            ops.broadcast_to(estimate[:, None], ops.shape(trp_position)),
            towards / distance,
            distance,
            ops.broadcast_to(
                state[:, None], (ops.shape(state)[0], num_trps, state.shape[-1])
            ),
        ]
        tokens = self._embedding(ops.concatenate(features, axis=-1))
        # One output unit is as far as the window reaches, at most the region.
        reach = self.window * self.spacing / (2 * self.taps_per_metre * self.scale)
        return estimate + reach * self._head(self._encoder(tokens, trp_mask))

    def compute_output_shape(
        self, estimate_shape: tuple[int | None, ...], *_: Any
    ) -> tuple[int | None, ...]:
        """Return [batch, 3]."""
        return estimate_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = (
            "units",
            "num_blocks",
            "num_heads",
            "mlp_units",
            "window",
            "spacing",
            "taps_per_metre",
            "scale",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
