"""Compilation of the dense part of a model."""

import os
from collections.abc import Callable

import keras

_VARIABLE = "SIONNA_LOC_COMPILE"


def compiled(function: Callable) -> Callable:
    """Return `function` compiled by XLA on Keras's TensorFlow back end.

    XLA refuses ragged tensors, so a model whose front is ragged cannot be compiled
    as a whole; what lies behind the front can. Small transformers train several
    times faster compiled, on CPUs too. Other back ends compile whole training
    steps by themselves; there the function is returned as it is.

    With `SIONNA_LOC_COMPILE=0` in the environment it is so on TensorFlow, too: all
    results are the same but for rounding, and what takes a few steps only is sooner
    done, as compiling takes most of its time.
    """
    if keras.backend.backend() != "tensorflow" or os.environ.get(_VARIABLE) == "0":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, reduce_retracing=True)
