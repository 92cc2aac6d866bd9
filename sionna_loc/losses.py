"""Losses: distances in metres, and likelihoods of maps."""

import keras
from keras import ops

from sionna_loc.layers.mixture import PositionMixture


@keras.saving.register_keras_serializable(package="sionna_loc")
class EuclideanDistance(keras.losses.Loss):
    """Mean Euclidean distance between true and estimated positions [m].

    Call arguments:
        y_true: [batch, 3], float [m].
        y_pred: [batch, 3], float [m].

    References: Balaji et al., "VIn-Loc", Sec. 3 (l2-norm loss).
    """

    def __init__(self, name: str = "euclidean_distance", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def call(
        self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the distance of each sample, [batch] [m]."""
        squared = ops.sum(ops.square(y_pred - ops.cast(y_true, y_pred.dtype)), axis=-1)
        # The gradient of a square root at 0 is infinite; 1 um keeps it finite.
        return ops.sqrt(squared + 1e-12)


@keras.saving.register_keras_serializable(package="sionna_loc")
class PositionLikelihood(keras.losses.Loss):
    """Negative log-likelihood of true positions under maps: log of 1/m^3, negated.

    Call arguments:
        y_true: [batch, 3], float [m].
        y_pred: [batch, num_components, 8], float. See `layers.mixture.MAP_COLUMNS`.

    References: Bishop, "Mixture Density Networks", Eq. 29.
    """

    def __init__(self, name: str = "position_likelihood", **kwargs) -> None:
        super().__init__(name=name, **kwargs)

    def call(
        self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the loss of each sample, [batch]."""
        density = PositionMixture.from_map(y_pred)
        return -density.log_density(ops.cast(y_true, y_pred.dtype))
