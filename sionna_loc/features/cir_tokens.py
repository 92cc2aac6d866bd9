"""CIR tokens: one complex channel impulse response for each TRP that is heard."""

from typing import Any

import keras
import tensorflow as tf

from sionna_loc.checks import check_positive, check_positive_int
from sionna_loc.signals import band_limited_taps


@keras.saving.register_keras_serializable(package="sionna_loc")
class CirTokens:
    """Turns a ragged batch of samples into the inputs and targets of a localizer.

    Args:
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz].

    Call arguments:
        batch: dict of the contract's `fields`; those per TRP are
            `tf.RaggedTensor` [batch, (num_trps), ...].

    Returns: `(inputs, targets)` with `inputs["cir"]` ragged
        [batch, (num_trps), num_ant, num_taps, 2], float32, real and imaginary part
        of the amplitude gain; `inputs["trp_position"]` ragged
        [batch, (num_trps), 3] [m]; and `targets["position"]` [batch, 3] [m].
    """

    fields = ("trp_position", "path_gain", "path_delay", "ue_position")

    def __init__(self, num_taps: int, sampling_rate: float, bandwidth: float) -> None:
        check_positive_int("num_taps", num_taps)
        check_positive("sampling_rate", sampling_rate)
        check_positive("bandwidth", bandwidth)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        self.num_ant = 1

    def __call__(
        self, batch: dict[str, tf.RaggedTensor | tf.Tensor]
    ) -> tuple[dict[str, tf.RaggedTensor], dict[str, tf.Tensor]]:
        """See the class."""
        gain = batch["path_gain"]
        real, imag = band_limited_taps(
            gain.flat_values,
            batch["path_delay"].flat_values,
            num_taps=self.num_taps,
            sampling_rate=self.sampling_rate,
            bandwidth=self.bandwidth,
        )
        cir = tf.stack([real, imag], axis=-1)[:, None]  # [tokens, 1, num_taps, 2]
        inputs = {
            "cir": gain.with_flat_values(cir),
            "trp_position": batch["trp_position"],
        }
        return inputs, {"position": batch["ue_position"]}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "num_taps": self.num_taps,
            "sampling_rate": self.sampling_rate,
            "bandwidth": self.bandwidth,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CirTokens":
        """Rebuild from `get_config`."""
        return cls(**config)
