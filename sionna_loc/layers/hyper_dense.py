"""A dense layer whose kernel and bias are inputs, other ones for each sample."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class HyperDense(keras.layers.Layer):
    """Dense layer that applies a different kernel to each sample.

    It has no weights of its own: another network, the hypernetwork, makes them.

    Args:
        units: int > 0. Size of the output.
        activation: of `keras.activations`, by name or as a function; none by default.

    Call arguments:
        inputs: [batch, in_features] or, the rows of a sample sharing its kernel,
            [batch, num_rows, in_features], float.
        parameters: [batch, (in_features + 1) * units], float. The kernel
            [in_features, units], row by row, then the bias [units].

    Returns: [batch, units] or [batch, num_rows, units], float.
    Raises: UserError (a ValueError) if `units` is not positive or the sizes disagree.
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. III; Ha et al., "HyperNetworks".
    """

    def __init__(
        self, units: int, activation: str | Callable | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.built = True

    def num_parameters(self, in_features: int) -> int:
        """Return the number of parameters of a sample."""
        return (in_features + 1) * self.units

    def call(
        self, inputs: keras.KerasTensor, parameters: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Multiply, add, activate."""
        in_features = inputs.shape[-1]
        needed = self.num_parameters(in_features)
        check(
            parameters.shape[-1] == needed,
            f"{in_features} inputs and {self.units} units need {needed} parameters.",
            parameters=parameters.shape[-1],
        )
        split = in_features * self.units
        kernel = ops.reshape(parameters[:, :split], (-1, in_features, self.units))
        rows = inputs if len(inputs.shape) == 3 else inputs[:, None]
        outputs = ops.matmul(rows, kernel) + parameters[:, None, split:]
        return self.activation(outputs if len(inputs.shape) == 3 else outputs[:, 0])

    def compute_output_shape(
        self,
        inputs_shape: tuple[int | None, ...],
        parameters_shape: tuple[int | None, ...] | None = None,
    ) -> tuple[int | None, ...]:
        """Return [batch, units] or [batch, num_rows, units]."""
        return (*inputs_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }
