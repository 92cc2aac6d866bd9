"""What localizers have in common that take the link measurements of so many TRPs."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
from keras import ops

from sionna_loc.checks import check, check_positive_int
from sionna_loc.layers.link_vector import TOKEN_SIZE, LinkVector
from sionna_loc.models.base import Localizer

_ENTRIES = ("link", "trp_heard", "trp_position")


class LinkLocalizer(Localizer):
    """Localizer on link measurements of a fixed number of TRPs.

    A subclass owes `locate`; it has `num_inputs`, and finds its place on the map scaled
    to the order of 1.

    Args:
        region: [2, 3], float [m]. Box of the UEs; their height is its middle.
        num_trps: int > 0. TRPs of each sample.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict with `link` [batch, num_trps, 5], `trp_heard` [batch, num_trps] and
            `trp_position` [batch, num_trps, 3] as `LinkMeasurements` gives them, ragged
            on the second axis, or padded with `trp_mask` [batch, num_trps].

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if an entry is missing, or, in `adapt` and
        `predict_on_batch`, if a sample has another number of TRPs.
    """

    features = "link_measurements"
    default_recipe = "hyploc"
    # Enough for the statistics of links, whose extremes stand for missing ones.
    num_adapt_samples: ClassVar[int] = 8192

    def __init__(self, region: Any, num_trps: int = 7, **kwargs: Any) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("num_trps", num_trps)
        self.num_trps = num_trps
        self.vector = LinkVector(num_trps, self._center.tolist(), self._scale)
        self.num_inputs = num_trps * TOKEN_SIZE

    @property
    def fixed_num_trps(self) -> int:
        """TRPs that every sample must have."""
        return self.num_trps

    def locate(self, vector: keras.KerasTensor) -> keras.KerasTensor:
        """Return (x, y) in units of the region, [batch, 2], of [batch, num_inputs]."""
        raise NotImplementedError

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        plan = self.locate(self.vector(*dense_links(inputs)))
        plan = self._center[:2] + self._scale * plan
        height = ops.full_like(plan[:, :1], self._center[2])
        return {"position": ops.concatenate([plan, height], axis=-1)}

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn the scales of the measurements.

        Args:
            dataset: batches of (inputs, targets).

        Raises: UserError if a sample has another number of TRPs than the model.
        """
        links, heard = [], []
        for inputs, _ in dataset:
            self.check_trps(inputs)
            link, exists, _, mask = map(ops.convert_to_numpy, dense_links(inputs))
            links.append(link)
            heard.append(exists & mask)
        self.vector.adapt(links, heard)

    def check_trps(self, inputs: dict[str, Any]) -> None:
        """Raise `UserError` unless each sample has the model's number of TRPs."""
        mask = ops.convert_to_numpy(dense_links(inputs)[-1])
        counts = mask.sum(axis=1)
        other = counts[counts != self.num_trps]
        check(
            not len(other),
            f"The model takes {self.num_trps} TRPs, heard or not, in each sample.",
            num_trps=int(other[0]) if len(other) else self.num_trps,
        )

    def predict_on_batch(self, x: dict[str, Any]) -> dict[str, Any]:
        """Locate a batch; see `keras.Model`."""
        self.check_trps(x)
        return super().predict_on_batch(x)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_trps": self.num_trps}


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
