"""The dense network that HypLoc is compared with."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from sionna_loc.checks import check_list, check_positive_int
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.models.link_vector_localizer import LinkVectorLocalizer


@keras.saving.register_keras_serializable(package="sionna_loc")
class Mlp(LinkVectorLocalizer):
    """Dense network on the link measurements of a fixed number of TRPs.

    With 7 TRPs, `mlp` is HypLoc without its hypernetwork, 4,002 trainable parameters,
    and `mlp_plus` has about as many as HypLoc with it, 251,942.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_trps: int > 0. TRPs of each sample.
        units: ints > 0. Widths of the layers, GELU each; an output layer follows.
        **kwargs: of `keras.Model`.

    Call arguments: see `LinkLocalizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a width is not positive.
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. IV-B.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "mlp": {"units": (32, 32, 32)},
        "mlp_plus": {"units": (340, 340, 340)},
    }
    DEFAULT_PRESET = "mlp"

    def __init__(
        self,
        region: Any,
        num_trps: int = 7,
        units: Sequence[int] = (32, 32, 32),
        **kwargs: Any,
    ) -> None:
        super().__init__(region, num_trps, **kwargs)
        check_list("units", units)
        for value in units:
            check_positive_int("units", value)
        self.units = tuple(units)
        self.network = dense_stack(
            (None, self.num_inputs), [*self.units, 2], "gelu", name="network"
        )
        self.built = True

    @property
    def state_units(self) -> int:
        """Size of the state: of what the last hidden layer makes."""
        return self.units[-1]

    def locate(
        self, vector: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkVectorLocalizer`."""
        *hidden, last = self.network.layers
        state = vector
        for layer in hidden:
            state = layer(state)
        return state, last(state)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units}
