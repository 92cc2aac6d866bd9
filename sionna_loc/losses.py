"""Losses in metres."""

import keras
from keras import ops


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
