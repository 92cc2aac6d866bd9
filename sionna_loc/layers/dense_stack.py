"""Dense layers one after another."""

from collections.abc import Sequence

import keras
from keras import layers


def dense_stack(
    input_shape: Sequence[int | None],
    units: Sequence[int],
    activation: str = "relu",
    last_activation: str | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """Return built dense layers.

    Args:
        input_shape: e.g. `(None, in_units)`, with the batch.
        units: ints > 0. Width of each layer.
        activation: of all but the last, by name.
        last_activation: of the last; none by default.
        name: of the network.
    """
    stack = [layers.Dense(size, activation) for size in units[:-1]]
    stack.append(layers.Dense(units[-1], last_activation))
    network = keras.Sequential(stack, name=name)
    network.build(tuple(input_shape))
    return network
