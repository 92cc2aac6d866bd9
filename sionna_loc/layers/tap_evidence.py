"""What a CIR says about each delay."""

from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive, check_positive_int

_LATENESS_SCALES = (1.5, 6.0, 24.0)  # [taps]


@keras.saving.register_keras_serializable(package="sionna_loc")
class TapEvidence(keras.layers.Layer):
    """CIR -> evidence at taps: would the direct path arrive here?

    A small network, the same for all taps of all links, sees a window of the response
    around the tap, how early or late the tap is against the first arrival, on three
    scales, and the level of the link. Of `stride` taps it judges the first; the windows
    overlap, so nothing of the response is left out. The first arrival is the first tap
    that is not weaker than the strongest by more than `threshold`; an early sidelobe of
    a band-limited pulse is weaker than that.

    The first output channel is how many taps the direct path arrives after this one:
    the first arrival minus the tap, plus what the network adds. It runs linearly over
    the taps, so that interpolation between them is exact.

    Args:
        units: int > 0. Width of the network's two hidden layers.
        channels: int > 1. Of the evidence.
        window: int > 0, odd. Taps that are seen.
        stride: int > 0. Taps from one judgement to the next.
        threshold: float > 0. In scaled magnitudes: 0.2 are 12 dB of `CirScaling`'s 60.

    Call arguments:
        response: [num_links, num_taps, 3 * num_ant], float. Scaled CIRs, every third
            channel a magnitude.

    Returns: [num_links, ceil(num_taps / stride), channels], float.
    Raises: UserError (a ValueError) if a size is not positive, or the window even.
    """

    def __init__(
        self,
        units: int,
        channels: int,
        window: int = 15,
        stride: int = 1,
        threshold: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        check_positive_int("channels", channels)
        check_positive_int("window", window)
        check(window % 2 == 1, "`window` must be odd.", window=window)
        check_positive_int("stride", stride)
        check_positive("threshold", threshold)
        self.units = units
        self.channels = channels
        self.window = window
        self.stride = stride
        self.threshold = threshold

    def build(self, response_shape: tuple[int | None, ...]) -> None:
        """Create the network."""
        self._around = layers.Conv1D(self.units, self.window, self.stride)
        self._around.build((None, None, response_shape[-1]))  # with taps around
        self._known = layers.Dense(self.units, use_bias=False)
        self._known.build((None, None, len(_LATENESS_SCALES) + 1))
        self._hidden = layers.Dense(self.units, activation="relu")
        self._hidden.build((None, None, self.units))
        self._out = layers.Dense(self.channels)
        self._out.build((None, None, self.units))
        self.built = True

    def call(self, response: keras.KerasTensor) -> keras.KerasTensor:
        """Judge each tap."""
        magnitude = ops.max(response[..., 2::3], axis=-1)  # [num_links, num_taps]
        level = ops.max(magnitude, axis=-1, keepdims=True)
        heard = magnitude >= level - self.threshold
        first = ops.argmax(ops.cast(heard, "int32"), axis=-1)
        taps = ops.arange(0, response.shape[1], self.stride, dtype=response.dtype)
        late = taps - ops.expand_dims(ops.cast(first, response.dtype), -1)
        known = [ops.tanh(late / scale) for scale in _LATENESS_SCALES]
        known.append(ops.broadcast_to(level, ops.shape(late)))
        # Padded here, so that windows lie around their taps whatever the stride.
        half = self.window // 2
        around = self._around(ops.pad(response, [[0, 0], [half, half], [0, 0]]))
        hidden = around + self._known(ops.stack(known, axis=-1))
        evidence = self._out(self._hidden(ops.relu(hidden)))
        until = evidence[..., :1] - ops.expand_dims(late, -1)
        return ops.concatenate([until, evidence[..., 1:]], axis=-1)

    def compute_output_shape(
        self, response_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [num_links, ceil(num_taps / stride), channels]."""
        num_links, num_taps, _ = response_shape
        return (num_links, -(-num_taps // self.stride), self.channels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("units", "channels", "window", "stride", "threshold")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
