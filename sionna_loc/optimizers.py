"""AdamW whose update of a weight is one operation instead of a dozen."""

from collections.abc import Sequence
from typing import Any

import keras

from sionna_loc.checks import check


@keras.saving.register_keras_serializable(package="sionna_loc")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW, updated by TensorFlow's own kernel; for that back end alone.

    The numbers are those of Keras up to rounding, in two thirds of the time, and in
    less than two thirds of the time to trace (`benchmarks/weight_updates.py`). That
    counts with small batches, where the update takes a good part of a step.

    Args:
        **kwargs: of `keras.optimizers.AdamW`, without `amsgrad`.

    Raises: UserError (a ValueError) for `amsgrad`, which the kernel has not.
    References: Loshchilov and Hutter, "Decoupled Weight Decay Regularization".
    """

    def __init__(self, **kwargs: Any) -> None:
        amsgrad = kwargs.get("amsgrad", False)
        check(not amsgrad, "`amsgrad` is not available.", amsgrad=amsgrad)
        super().__init__(**kwargs)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None
    ) -> None:
        """Update all weights, those of tables by the sum of their rows' gradients."""
        import tensorflow as tf

        # Summed before the norm is taken: a row that is read twice has one gradient.
        dense = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
        super().apply(dense, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a weight and its two moments."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1 = tf.constant(self.beta_1, dtype)
        beta_2 = tf.constant(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=gradient,
        )
