"""HypLoc: a hypernetwork makes the weights with which the network locates a sample."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from sionna_loc.checks import check_list, check_positive_int
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.hyper_dense import HyperDense
from sionna_loc.models.link_vector_localizer import LinkVectorLocalizer


@keras.saving.register_keras_serializable(package="sionna_loc")
class HypLoc(LinkVectorLocalizer):
    """Hypernetwork localization on the link measurements of a fixed number of TRPs.

    The measurements go two ways: the hypernetwork makes the weights of the main network
    of them, other ones for each sample, and the main network and, behind it, the
    trainable network, whose weights are fixed, make the position of them. With the
    preset's sizes and 7 TRPs that is Table I: 249,442 trainable parameters, 247,264 of
    them in the hypernetwork, which makes 1,824.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_trps: int > 0. TRPs of each sample.
        main_units: int > 0. Width of the main network, one layer.
        hyper_units: ints > 0. Widths of the hypernetwork but for its last layer.
        head_units: ints > 0. Widths of the trainable network but for its last layer.
        hyper_activation: of the hypernetwork's last layer, by name; the sigmoid, as in
            the paper, makes positive weights only.
        **kwargs: of `keras.Model`.

    Call arguments: see `LinkLocalizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive.
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. III and Table I.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"main_units": 32, "hyper_units": (64, 128), "head_units": (32, 32)},
    }
    DEFAULT_PRESET = "paper"

    def __init__(
        self,
        region: Any,
        num_trps: int = 7,
        main_units: int = 32,
        hyper_units: Sequence[int] = (64, 128),
        head_units: Sequence[int] = (32, 32),
        hyper_activation: str = "sigmoid",
        **kwargs: Any,
    ) -> None:
        super().__init__(region, num_trps, **kwargs)
        check_positive_int("main_units", main_units)
        for name, units in (("hyper_units", hyper_units), ("head_units", head_units)):
            check_list(name, units)
            for value in units:
                check_positive_int(name, value)
        self.main_units = main_units
        self.hyper_units = tuple(hyper_units)
        self.head_units = tuple(head_units)
        self.hyper_activation = hyper_activation
        self.main = HyperDense(main_units, "gelu")
        made = self.main.num_parameters(self.num_inputs)
        self.hypernetwork = dense_stack(
            (None, self.num_inputs),
            [*self.hyper_units, made],
            "gelu",
            hyper_activation,
            name="hypernetwork",
        )
        self.head = dense_stack(
            (None, main_units), [*self.head_units, 2], "gelu", name="head"
        )
        self.built = True

    @property
    def state_units(self) -> int:
        """Size of the state: of what the main network makes."""
        return self.main_units

    def locate(
        self, vector: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkVectorLocalizer`."""
        state = self.main(vector, self.hypernetwork(vector))
        return state, self.head(state)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "main_units": self.main_units,
            "hyper_units": self.hyper_units,
            "head_units": self.head_units,
            "hyper_activation": self.hyper_activation,
        }
