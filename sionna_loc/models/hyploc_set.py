"""HypLoc for sets: any number of TRPs, wherever they stand."""

from typing import Any, ClassVar

import keras
from keras import ops

from sionna_loc.checks import check_positive_int
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.hyper_dense import HyperDense
from sionna_loc.models.link_set_localizer import SET_TOKEN_SIZE, LinkSetLocalizer

_NOT_CHOSEN = -1e9


@keras.saving.register_keras_serializable(package="sionna_loc")
class HypLocSet(LinkSetLocalizer):
    """Hypernetwork localization on the link measurements of a set of TRPs.

    What HypLoc does for a vector of seven TRPs is done for a set. Of the tokens of all
    TRPs together the hypernetwork makes the weights with which the main network looks
    at each. The position begins at a weighted mean of the points that the ToF and AoA
    of the TRPs lead to; the trainable network puts it right.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        units: int > 0. Width of the tokens, of the main and of the trainable network.
        hyper_units: int > 0. Width of the hypernetwork.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: see `LinkSetLocalizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive, or an entry is missing.
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. IV-D (what it leaves to future work); Zaheer et
        al., "Deep Sets".
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {"units": 64, "hyper_units": 128},
    }
    DEFAULT_PRESET = "base"

    def __init__(
        self, region: Any, units: int = 64, hyper_units: int = 128, **kwargs: Any
    ) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("units", units)
        check_positive_int("hyper_units", hyper_units)
        self.units = units
        self.hyper_units = hyper_units
        each, together = (None, None, SET_TOKEN_SIZE), (None, 2 * units)
        self.encoder = dense_stack(
            each, [units, units], "gelu", last_activation="gelu", name="encoder"
        )
        self.main = HyperDense(units, "gelu")
        made = self.main.num_parameters(SET_TOKEN_SIZE)
        self.hypernetwork = dense_stack(
            together, [hyper_units, made], "gelu", name="hypernetwork"
        )
        self.choice = dense_stack((None, None, units), [1], name="choice")
        self.head = dense_stack(together, [units, units, 2], "gelu", name="head")
        self.built = True

    @property
    def state_units(self) -> int:
        """Size of the state: of what the main network makes of all TRPs together."""
        return 2 * self.units

    def locate(
        self,
        tokens: keras.KerasTensor,
        point: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place, see `LinkSetLocalizer`."""
        context = _pool(self.encoder(tokens), trp_mask)
        rows = self.main(tokens, self.hypernetwork(context))  # [batch, n, units]
        score = ops.where(trp_heard, self.choice(rows)[..., 0], _NOT_CHOSEN)
        weight = ops.expand_dims(ops.softmax(score, axis=-1), -1)
        state = _pool(rows, trp_mask)
        return state, ops.sum(weight * point, axis=1) + self.head(state)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        return {**config, "units": self.units, "hyper_units": self.hyper_units}


def _pool(values: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
    """Return mean and greatest value over the TRPs, [batch, 2 * units]; 0 of none."""
    there = ops.expand_dims(mask, -1)
    weight = ops.cast(there, values.dtype)
    total = ops.maximum(ops.sum(weight, axis=1), 1.0)
    mean = ops.sum(values * weight, axis=1) / total
    most = ops.max(ops.where(there, values, _NOT_CHOSEN), axis=1)
    most = ops.where(ops.any(there, axis=1), most, 0.0)
    return ops.concatenate([mean, most], axis=-1)
