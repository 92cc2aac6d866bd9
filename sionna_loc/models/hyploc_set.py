"""HypLoc for sets: any number of TRPs, wherever they stand."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
from keras import layers, ops

from sionna_loc.checks import check_positive_int
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.hyper_dense import HyperDense
from sionna_loc.layers.link_vector import TOKEN_SIZE, LinkTokens
from sionna_loc.models.base import Localizer
from sionna_loc.models.link_localizer import dense_links

_NOT_CHOSEN = -1e9


@keras.saving.register_keras_serializable(package="sionna_loc")
class HypLocSet(Localizer):
    """Hypernetwork localization on the link measurements of a set of TRPs.

    What HypLoc does for a vector of seven TRPs is done for a set. Each TRP is a token
    of its measurements, its place, and the point that its ToF and AoA lead to. Of all
    tokens together the hypernetwork makes the weights with which the main network looks
    at each. The position begins at a weighted mean of the points of the TRPs that are
    heard; the trainable network puts it right.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        units: int > 0. Width of the tokens, of the main and of the trainable network.
        hyper_units: int > 0. Width of the hypernetwork.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: see `LinkLocalizer`, of any number of TRPs.

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
    features = "link_measurements"
    default_recipe = "hyploc"
    num_adapt_samples: ClassVar[int] = 8192

    def __init__(
        self, region: Any, units: int = 64, hyper_units: int = 128, **kwargs: Any
    ) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("units", units)
        check_positive_int("hyper_units", hyper_units)
        self.units = units
        self.hyper_units = hyper_units
        self.tokens = LinkTokens(self._center.tolist(), self._scale)
        size = TOKEN_SIZE + 3  # whether it is heard, and the point (x, y)
        self.encoder = _dense_layers(size, [units, units], "encoder")
        self.main = HyperDense(units, "gelu")
        made = self.main.num_parameters(size)
        self.hypernetwork = _dense_layers(
            2 * units, [hyper_units], "hypernetwork", last=made
        )
        self.choice = _dense_layers(units, [], "choice", last=1)
        self.head = _dense_layers(2 * units, [units, units], "head", last=2)
        self.built = True

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        link, heard, position, mask = dense_links(inputs)
        heard = ops.logical_and(heard, mask)
        tokens = self.tokens(link, heard, position)
        point = self._points(link, heard, position)
        flag = ops.expand_dims(ops.cast(heard, tokens.dtype), -1)
        tokens = ops.concatenate([tokens, flag, point], axis=-1)  # [batch, n, 11]
        context = _pool(self.encoder(tokens), mask)
        rows = self.main(tokens, self.hypernetwork(context))  # [batch, n, units]
        score = ops.where(heard, self.choice(rows)[..., 0], _NOT_CHOSEN)
        weight = ops.expand_dims(ops.softmax(score, axis=-1), -1)
        plan = ops.sum(weight * point, axis=1) + self.head(_pool(rows, mask))
        plan = self._center[:2] + self._scale * plan
        height = ops.full_like(plan[:, :1], self._center[2])
        return {"position": ops.concatenate([plan, height], axis=-1)}

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn the scales of the measurements from batches of (inputs, targets)."""
        dense = [dense_links(inputs) for inputs, _ in dataset]
        arrays = [tuple(map(ops.convert_to_numpy, values)) for values in dense]
        self.tokens.adapt(
            [link for link, *_ in arrays],
            [heard & mask for _, heard, _, mask in arrays],
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        return {**config, "units": self.units, "hyper_units": self.hyper_units}

    def _points(
        self,
        link: keras.KerasTensor,
        heard: keras.KerasTensor,
        position: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Return where ToF and AoA lead to, scaled, [batch, n, 2].

        From a TRP that hears nothing, which has neither, they lead to itself.
        """
        way = SPEED_OF_LIGHT * link[..., 1:2] * link[..., 2:4]
        way = ops.where(ops.expand_dims(heard, -1), way, 0.0)
        return (position[..., :2] + way - self._center[:2]) / self._scale


def _dense_layers(
    size: int, units: list[int], name: str, last: int | None = None
) -> keras.Sequential:
    """Return layers with GELU, and a linear one behind them if `last` is given."""
    stack = [layers.Dense(width, "gelu") for width in units]
    stack += [] if last is None else [layers.Dense(last)]
    network = keras.Sequential(stack, name=name)
    network.build((None, None, size) if name in ("encoder", "choice") else (None, size))
    return network


def _pool(values: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
    """Return mean and greatest value over the TRPs, [batch, 2 * units]."""
    there = ops.expand_dims(mask, -1)
    weight = ops.cast(there, values.dtype)
    total = ops.maximum(ops.sum(weight, axis=1), 1.0)
    mean = ops.sum(values * weight, axis=1) / total
    most = ops.max(ops.where(there, values, _NOT_CHOSEN), axis=1)
    return ops.concatenate([mean, most], axis=-1)
