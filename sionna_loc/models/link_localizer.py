"""What localizers have in common that take link measurements."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check
from sionna_loc.layers.compiled import compiled
from sionna_loc.layers.link_vector import LinkTokens
from sionna_loc.models.base import Localizer

_ENTRIES = ("link", "trp_heard", "trp_position")


class LinkLocalizer(Localizer):
    """Localizer on link measurements.

    A subclass owes `scales`, `describe` and `state_units`; it finds its place on the
    map scaled to the order of 1.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict with `link` [batch, num_trps, 5], `trp_heard` [batch, num_trps] and
            `trp_position` [batch, num_trps, 3] as `LinkMeasurements` gives them, ragged
            on the second axis, or padded with `trp_mask` [batch, num_trps].

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if an entry is missing, or, in `adapt` and
        `predict_on_batch`, if the model cannot take the TRPs of a sample.
    """

    features = "link_measurements"
    default_recipe = "hyploc"
    # Enough for the statistics of links, whose extremes stand for missing ones.
    num_adapt_samples: ClassVar[int] = 8192
    # Other back ends compile steps by themselves.
    compiles_steps = keras.backend.backend() == "tensorflow"

    def __init__(self, region: Any, **kwargs: Any) -> None:
        super().__init__(region, **kwargs)
        # Where nothing is ragged, Keras can compile all of a step.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    @property
    def scales(self) -> LinkTokens:
        """The layer that scales the measurements."""
        raise NotImplementedError

    @property
    def state_units(self) -> int:
        """Size of the state that `describe` returns."""
        raise NotImplementedError

    def describe(
        self,
        link: keras.KerasTensor,
        trp_heard: keras.KerasTensor,
        trp_position: keras.KerasTensor,
        trp_mask: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return what the model knows of each sample, and where that puts it.

        Args:
            link: [batch, num_trps, 5], float.
            trp_heard: [batch, num_trps], bool.
            trp_position: [batch, num_trps, 3], float [m].
            trp_mask: [batch, num_trps], bool. Entries that are TRPs, not padding.

        Returns: state [batch, state_units], of which the last layers make the place,
            and (x, y) in units of the region, [batch, 2].
        """
        raise NotImplementedError

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        _, plan = self.describe(*dense_links(inputs))
        plan = self._scale * plan + ops.array(self._center[:2])
        height = ops.full_like(plan[:, :1], self._center[2])
        return {"position": ops.concatenate([plan, height], axis=-1)}

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn the scales of the measurements.

        Args:
            dataset: batches of (inputs, targets).

        Raises: UserError if the model cannot take the TRPs of a sample.
        """
        links, heard = [], []
        for inputs, _ in dataset:
            link, exists, _, mask = map(ops.convert_to_numpy, dense_links(inputs))
            self.check_trps(mask)
            links.append(link)
            heard.append(exists & mask)
        self.scales.adapt(links, heard)

    def pad(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return inputs as padded ones, see `Localizer`."""
        values = dense_links(inputs)
        return dict(zip((*_ENTRIES, "trp_mask"), values, strict=True))

    def make_train_function(self, force: bool = False) -> Any:
        """Prepare for training, see `keras.Model`."""
        if self.train_function is None or force:
            # Anew: what is compiled has the optimizer in it.
            self._compiled_step = compiled(super().train_step)
        return super().make_train_function(force)

    def train_step(self, *arguments: Any) -> Any:
        """Train on a batch, see `keras.Model`; what is ragged is padded before."""
        many = self.compiles_steps and self.steps_per_execution > 1
        if not many or self.run_eagerly:
            return super().train_step(*arguments)
        inputs, *rest = keras.utils.unpack_x_y_sample_weight(*arguments)
        batch = keras.utils.pack_x_y_sample_weight(self.pad(inputs), *rest)
        return self._compiled_step(batch)

    def check_trps(self, trp_mask: np.ndarray) -> None:
        """Raise `UserError` unless the model can take the TRPs of each sample.

        Args:
            trp_mask: [batch, num_trps], bool. TRPs of each sample, heard or not.
        """

    def predict_on_batch(self, x: dict[str, Any]) -> dict[str, Any]:
        """Locate a batch; see `keras.Model`."""
        self.check_trps(ops.convert_to_numpy(dense_links(x)[-1]))
        return super().predict_on_batch(x)


def dense_links(inputs: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return measurements, which are heard, places, and the mask, as dense arrays.

    Args:
        inputs: see `LinkLocalizer`, ragged or padded.

    Returns: [batch, n, 5], [batch, n] bool, [batch, n, 3] and [batch, n] bool.
    Raises: UserError (a ValueError) if an entry is missing.
    """
    missing = [name for name in _ENTRIES if name not in inputs]
    check(
        not missing,
        f"The inputs need the entries {', '.join(map(repr, _ENTRIES))}.",
        inputs=sorted(inputs),
    )
    values = [inputs[name] for name in _ENTRIES]
    if hasattr(values[0], "to_tensor"):  # ragged
        there = ops.ones_like(values[1].flat_values)
        mask = values[1].with_flat_values(there).to_tensor()
        return (*(value.to_tensor() for value in values), mask)
    mask = inputs.get("trp_mask")
    values = [ops.convert_to_tensor(value) for value in values]
    if mask is None:
        mask = ops.ones_like(values[1])
    return (*values, ops.cast(mask, "bool"))
