"""CIR tokens: one complex channel impulse response for each TRP that is heard."""

from typing import Any

import keras
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import check_bool, check_positive, check_positive_int
from sionna_loc.signals import array_phase, band_limited_taps


@keras.saving.register_keras_serializable(package="sionna_loc")
class CirTokens:
    """Turns a ragged batch of samples into the inputs and targets of a localizer.

    Args:
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz].
        array: of the UE; a single antenna by default.
        synchronised: bool. Whether TRPs and UE share a time base, so that tap 0 is the
            time of sending. Without, each CIR begins with its first path.

    Call arguments:
        batch: dict of the contract's `fields`; those per TRP are
            `tf.RaggedTensor` [batch, (num_trps), ...].

    Returns: `(inputs, targets)` with `inputs["cir"]` ragged
        [batch, (num_trps), num_ant, num_taps, 2], float32, real and imaginary part
        of the amplitude gain; `inputs["trp_position"]` ragged
        [batch, (num_trps), 3] [m]; and `targets["position"]` [batch, 3] [m].
    """

    keeps_silent = False
    """Whether TRPs of which nothing is heard are needed."""

    def __init__(
        self,
        num_taps: int,
        sampling_rate: float,
        bandwidth: float,
        array: PlanarArray | None = None,
        synchronised: bool = True,
    ) -> None:
        check_positive_int("num_taps", num_taps)
        check_positive("sampling_rate", sampling_rate)
        check_positive("bandwidth", bandwidth)
        check_bool("synchronised", synchronised)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        self.array = array or PlanarArray()
        self.synchronised = synchronised

    @property
    def num_ant(self) -> int:
        """Antennas of the UE."""
        return self.array.num_ant

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the contract that are needed."""
        angles = ("path_aoa",) if self.num_ant > 1 else ()
        return ("trp_position", "path_gain", "path_delay", *angles, "ue_position")

    def __call__(
        self, batch: dict[str, tf.RaggedTensor | tf.Tensor]
    ) -> tuple[dict[str, tf.RaggedTensor], dict[str, tf.Tensor]]:
        """See the class."""
        gain = batch["path_gain"].flat_values  # [tokens, num_paths]
        delay = batch["path_delay"].flat_values
        if not self.synchronised:
            arrival = tf.where(gain == 0, tf.float32.max, delay)
            delay = delay - tf.reduce_min(arrival, axis=-1, keepdims=True)
        if self.num_ant > 1:
            places = self.array.element_position
            phase = array_phase(batch["path_aoa"].flat_values, places)
            gain = gain[:, None] * tf.complex(tf.cos(phase), tf.sin(phase))
        else:
            gain = gain[:, None]  # [tokens, num_ant, num_paths]
        real, imag = band_limited_taps(
            gain,
            delay[:, None],
            num_taps=self.num_taps,
            sampling_rate=self.sampling_rate,
            bandwidth=self.bandwidth,
        )
        cir = tf.stack([real, imag], axis=-1)  # [tokens, num_ant, num_taps, 2]
        inputs = {
            "cir": batch["path_gain"].with_flat_values(cir),
            "trp_position": batch["trp_position"],
        }
        return inputs, {"position": batch["ue_position"]}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "num_taps": self.num_taps,
            "sampling_rate": self.sampling_rate,
            "bandwidth": self.bandwidth,
            "array": self.array.to_dict(),
            "synchronised": self.synchronised,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CirTokens":
        """Rebuild from `get_config`."""
        return cls(**{**config, "array": PlanarArray(**config["array"])})
