"""Measured samples, which are inputs of models already."""

from typing import Any

import tensorflow as tf

from sionna_loc.data.measured_form import CIRS
from sionna_loc.features.cir_form import CirForm
from sionna_loc.features.link_form import LinkForm


class MeasuredInputs:
    """Parts a batch of `scenarios.measured.Measured` into inputs and targets.

    Args:
        kind: what the model takes: `"cir_tokens"` or `"link_measurements"`.
        form: what the samples are.

    Call arguments:
        batch: dict with the inputs, ragged [batch, (num_trps), ...], and `ue_position`
            [batch, 3] [m].

    Returns: `(inputs, targets)` as of `CirTokens` or `LinkMeasurements`.
    """

    window = 1
    """Samples of a track that are needed together."""

    def __init__(self, kind: str, form: CirForm | LinkForm) -> None:
        self.form = form
        self.keeps_silent = kind != CIRS
        values = ("link", "trp_heard") if self.keeps_silent else ("cir",)
        self.fields = (*values, "trp_position", "ue_position")

    def __call__(
        self, batch: dict[str, tf.RaggedTensor | tf.Tensor]
    ) -> tuple[dict[str, tf.RaggedTensor], dict[str, tf.Tensor]]:
        """See the class."""
        inputs = dict(batch)
        return inputs, {"position": inputs.pop("ue_position")}

    def get_config(self) -> dict[str, Any]:
        """Return what a run's `features` say of measured samples."""
        return {"measured": True, **self.form.get_config()}
