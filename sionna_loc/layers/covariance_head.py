"""How sure a localizer is of a position: the covariance of a Gaussian."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import check, check_list, check_positive, check_positive_int
from sionna_loc.layers.mixture import PositionMixture

_LARGEST_CORRELATION = 0.99


@keras.saving.register_keras_serializable(package="sionna_loc")
class CovarianceHead(keras.layers.Layer):
    """Gives a covariance of what is known of a sample.

    Three deviations and the correlation of x and y, as `layers.mixture` has them: the
    height is independent. The logarithms of deviations run between two bounds, so that
    neither the likelihood nor its gradient can become infinite. Without training, they
    are a quarter of the region's sides.

    Args:
        units: int > 0. Width of the hidden layer.
        extent: 3 floats >= 0 [m]. Sides of the region.
        smallest: float > 0 [m]. Least deviation; the greatest is the longest side.

    Call arguments:
        inputs: [batch, features], float.

    Returns: [batch, 3, 3], float [m^2].
    Raises: UserError (a ValueError) if a size is not positive, or the region is as
        small as the least deviation.
    References: Bishop, "Mixture Density Networks", for one component.
    """

    def __init__(
        self, units: int, extent: Sequence[float], smallest: float = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("units", units)
        check_list("extent", extent)
        check_positive("smallest", smallest)
        check(
            len(extent) == 3 and max(extent) > smallest,
            f"`extent` must be 3 sides, the longest above {smallest} m.",
            extent=extent,
        )
        self.units = units
        self.extent = [float(side) for side in extent]
        self.smallest = smallest
        lower, upper = math.log(smallest), math.log(max(extent))
        self._middle, self._span = (lower + upper) / 2, (upper - lower) / 2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        self._hidden = layers.Dense(self.units, activation="relu")
        self._hidden.build(input_shape)
        self._out = layers.Dense(4, kernel_initializer="zeros")
        self._out.build((None, self.units))
        start = np.log(np.maximum(np.array(self.extent) / 4, 2 * self.smallest))
        start = self._span * np.arctanh((start - self._middle) / self._span)
        self._out.bias.assign([*start, 0.0])
        self.built = True

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """See the class."""
        values = self._out(self._hidden(inputs))
        log_deviation = self._middle + self._span * ops.tanh(values / self._span)
        zero = ops.zeros_like(values[:, :1])
        gaussian = PositionMixture(
            log_weight=zero,
            mean=(zero, zero, zero),
            deviation=tuple(ops.exp(log_deviation[:, k : k + 1]) for k in range(3)),
            correlation=_LARGEST_CORRELATION * ops.tanh(values[:, 3:]),
        )
        return gaussian.covariance()

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [batch, 3, 3]."""
        return input_shape[0], 3, 3

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = "units", "extent", "smallest"
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
