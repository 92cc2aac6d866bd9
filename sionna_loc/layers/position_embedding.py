"""Embedding of TRP positions."""

from typing import Any

import keras
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class PositionEmbedding(keras.layers.Layer):
    """Two-layer ReLU MLP whose output is concatenated with the coordinates.

    Args:
        units: int > 3. Size of the embedding, the 3 coordinates included.
        hidden_units: int > 0. Width of the first layer; default `units`.

    Call arguments:
        position: [..., 3], float, scaled to the order of 1.

    Returns: [..., units], float.
    Raises: UserError (a ValueError) if `units` leaves no room for the coordinates.
    References: Balaji et al., "VIn-Loc", Sec. 3, "TRP Position Embedding".
    """

    def __init__(
        self, units: int, hidden_units: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        if hidden_units is not None:
            check_positive_int("hidden_units", hidden_units)
        check(units > 3, "`units` must exceed the 3 coordinates.", units=units)
        self.units = units
        self.hidden_units = hidden_units or units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the two dense layers."""
        self._hidden = layers.Dense(self.hidden_units, activation="relu")
        self._hidden.build(input_shape)
        self._out = layers.Dense(self.units - input_shape[-1], activation="relu")
        self._out.build((*input_shape[:-1], self.hidden_units))
        self.built = True

    def call(self, position: keras.KerasTensor) -> keras.KerasTensor:
        """Embed positions."""
        return ops.concatenate([position, self._out(self._hidden(position))], axis=-1)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [..., units]."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
        }
