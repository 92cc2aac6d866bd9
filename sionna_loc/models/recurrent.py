"""Recurrent localization: what a model of single samples finds, along a track."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import check, check_positive_int
from sionna_loc.layers.dense_stack import dense_stack
from sionna_loc.layers.link_vector import LinkTokens
from sionna_loc.models.link_localizer import LinkLocalizer
from sionna_loc.models.link_vector_localizer import LinkVectorLocalizer
from sionna_loc.registry import get_model_class

_WINDOW = 10
_STEP = 10.0
"""Unit of ways along a track and of the correction [m]."""


@keras.saving.register_keras_serializable(package="sionna_loc")
class Recurrent(LinkLocalizer):
    """Locates the last of the samples of a track that it looks at.

    A model of single samples looks at each sample of the window by itself and gives a
    state and a place. A gated recurrent unit (GRU) reads the states and where the
    places lie from the last one's, in the order of time; the estimate is the last place
    and a correction made of the memory. With HypLoc the hypernetwork thus makes other
    weights of the main network in each moment, as the paper imagines.

    The model looks back only. Early in a track the window is shorter, down to a single
    sample, so that every sample has an estimate.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        num_trps: int > 0. TRPs of each sample, for models that take a fixed number.
        sample_model: name of the model of single samples, one of those on link
            measurements.
        sample_preset: str or None. Its preset; its default one if None.
        sample_options: dict or None. Further arguments of it.
        window: int > 0. Most samples of a track that the model looks at.
        units: int > 0. Size of the memory.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict with `link` [batch, window, num_trps, 5], `trp_heard`
            [batch, window, num_trps] and `trp_position` [batch, window, num_trps, 3],
            ragged on the second and third axis, or padded with `trp_mask`
            [batch, window, num_trps]; moments without any TRP are padding. Or, as for
            models of single samples, without the axis of the window.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive, there is no such model,
        or an entry is missing.
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. IV-D (what it leaves to future work); Cho et
        al., "Learning Phrase Representations using RNN Encoder-Decoder" (the GRU).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "hyploc": {"sample_model": "hyploc"},
        "hyploc_set": {"sample_model": "hyploc_set"},
        "mlp_plus": {"sample_model": "mlp", "sample_preset": "mlp_plus"},
        "vinloc_links": {"sample_model": "vinloc_links"},
    }
    DEFAULT_PRESET = "hyploc"
    window = _WINDOW

    def __init__(
        self,
        region: Any,
        num_trps: int = 7,
        sample_model: str = "hyploc",
        sample_preset: str | None = None,
        sample_options: dict[str, Any] | None = None,
        window: int = _WINDOW,
        units: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("window", window)
        check_positive_int("units", units)
        sample_class = get_model_class(sample_model)
        check(
            issubclass(sample_class, LinkLocalizer) and sample_class is not Recurrent,
            "`sample_model` must be a model of single samples of link measurements.",
            sample_model=sample_model,
        )
        given: dict[str, Any] = {"region": self.region}
        if issubclass(sample_class, LinkVectorLocalizer):
            given["num_trps"] = num_trps
        self.num_trps = num_trps
        self.sample_preset = sample_preset
        self.sample_options = dict(sample_options or {})
        self.window = window
        self.units = units
        self.sample_model = sample_class.from_preset(
            sample_preset, **given, **self.sample_options
        )
        self.compiles_steps = self.sample_model.compiles_steps
        self._sample_name = sample_model
        size = self.sample_model.state_units
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.norm.build((None, None, size))
        # Not by cuDNN, which has padding at the end only; windows are short.
        self.memory = layers.GRU(units, use_cudnn=False)
        self.memory.build((None, None, size + 2))
        self.head = dense_stack((None, units), [units, 2], "gelu", name="head")
        self.built = True

    @property
    def fixed_num_trps(self) -> int | None:
        """TRPs that every sample must have, `None` if any number will do."""
        return self.sample_model.fixed_num_trps

    @property
    def scales(self) -> LinkTokens:
        """The layer that scales the measurements."""
        return self.sample_model.scales

    @property
    def state_units(self) -> int:
        """Size of the state: the memory."""
        return self.units

    def describe(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return state and place of the last samples, see `LinkLocalizer`."""
        values = (link, trp_heard, trp_position, trp_mask)
        if len(trp_mask.shape) == 2:
            values = tuple(ops.expand_dims(x, 1) for x in values)
        exists = ops.any(values[-1], axis=2)  # [batch, window]
        rows = [ops.reshape(x, (-1, *ops.shape(x)[2:])) for x in values]
        found = self.sample_model.describe(*rows)
        shape = ops.shape(exists)
        state, place = (ops.reshape(x, (*shape, x.shape[-1])) for x in found)
        return self._follow(state, place, exists)

    def check_trps(self, trp_mask: np.ndarray) -> None:
        """Raise `UserError` unless the model can take the TRPs of each sample."""
        if trp_mask.ndim == 3:
            trp_mask = trp_mask[trp_mask.any(axis=2)]  # [num_samples, num_trps]
        self.sample_model.check_trps(trp_mask)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_trps": self.num_trps,
            "sample_model": self._sample_name,
            "sample_preset": self.sample_preset,
            "sample_options": dict(self.sample_options),
            "window": self.window,
            "units": self.units,
        }

    def _follow(
        self,
        state: keras.KerasTensor,
        place: keras.KerasTensor,
        exists: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return memory and place at the end of windows.

        Args:
            state: [batch, window, sample units], float.
            place: [batch, window, 2], float.
            exists: [batch, window], bool.
        """
        unit = _STEP / self._scale
        number = ops.cumsum(ops.cast(exists, "int32"), axis=1)  # of those that exist
        is_last = ops.logical_and(exists, number == number[:, -1:])
        last = ops.where(ops.expand_dims(is_last, -1), place, 0.0)
        last = ops.sum(last, axis=1)  # [batch, 2]
        way = (place - ops.expand_dims(last, 1)) / unit
        seen = ops.concatenate([self.norm(state), way], axis=-1)
        seen = ops.where(ops.expand_dims(exists, -1), seen, 0.0)
        memory = self.memory(seen, mask=exists)
        return memory, last + unit * self.head(memory)
