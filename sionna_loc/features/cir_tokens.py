"""CIR tokens: one complex channel impulse response for each TRP that is heard."""

import math
from typing import Any

import keras
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import (
    check_bool,
    check_not_negative,
    check_number,
    check_positive,
    check_positive_int,
)
from sionna_loc.features.cir_form import CirForm
from sionna_loc.position_noise import normals, position_keys
from sionna_loc.signals import (
    array_phase,
    band_limited_noise,
    band_limited_taps,
    num_noise_samples,
)

_NOISE_KEY, _SURVEY_KEY = 0x401, 0x50B
"""Tell the random numbers of the noise from those of the TRPs' survey."""


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
        noise_power_db: float or None [dB]. Mean power of the receiver's noise in each
            tap, relative to what is transmitted; no noise if None. Noise has the
            width of the CIRs and belongs to a link, that is to the places of UE and
            TRP: whoever reads a sample again, in whatever batch, finds the same.
        trp_position_error: float >= 0 [m]. Standard deviation, per coordinate, of
            where TRPs are said to stand, from where they stand. Belongs to the TRP.

    Call arguments:
        batch: dict of the contract's `fields`; those per TRP are
            `tf.RaggedTensor` [batch, (num_trps), ...].

    Returns: `(inputs, targets)` with `inputs["cir"]` ragged
        [batch, (num_trps), num_ant, num_taps, 2], float32, real and imaginary part
        of the amplitude gain; `inputs["trp_position"]` ragged
        [batch, (num_trps), 3] [m]; and `targets["position"]` [batch, 3] [m].
    Raises: UserError (a ValueError) for a value that cannot be.
    """

    keeps_silent = False
    """Whether TRPs of which nothing is heard are needed."""
    window = 1
    """Samples of a track that are needed together."""

    def __init__(
        self,
        num_taps: int,
        sampling_rate: float,
        bandwidth: float,
        array: PlanarArray | None = None,
        synchronised: bool = True,
        noise_power_db: float | None = None,
        trp_position_error: float = 0.0,
    ) -> None:
        check_positive_int("num_taps", num_taps)
        check_positive("sampling_rate", sampling_rate)
        check_positive("bandwidth", bandwidth)
        check_bool("synchronised", synchronised)
        if noise_power_db is not None:
            check_number("noise_power_db", noise_power_db)
        check_not_negative("trp_position_error", trp_position_error)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        self.array = array or PlanarArray()
        self.synchronised = synchronised
        self.noise_power_db = noise_power_db
        self.trp_position_error = trp_position_error

    @property
    def num_ant(self) -> int:
        """Antennas of the UE."""
        return self.array.num_ant

    @property
    def form(self) -> CirForm:
        """What the CIRs are."""
        return CirForm(
            **self._sampling, array=self.array, synchronised=self.synchronised
        )

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
        real, imag = band_limited_taps(gain, delay[:, None], **self._sampling)
        cir = tf.stack([real, imag], axis=2)  # faster than on the last axis
        cir = tf.transpose(cir, [0, 1, 3, 2])  # [tokens, num_ant, num_taps, 2]
        if self.noise_power_db is not None:
            cir += self._noise(batch)
        inputs = {
            "cir": batch["path_gain"].with_flat_values(cir),
            "trp_position": self._surveyed(batch["trp_position"]),
        }
        return inputs, {"position": batch["ue_position"]}

    @property
    def _sampling(self) -> dict[str, Any]:
        """What the taps are: arguments of `signals`."""
        return {
            "num_taps": self.num_taps,
            "sampling_rate": self.sampling_rate,
            "bandwidth": self.bandwidth,
        }

    def _noise(self, batch: dict[str, tf.RaggedTensor | tf.Tensor]) -> tf.Tensor:
        """Return the noise of each link, [tokens, num_ant, num_taps, 2]."""
        trp_position = batch["trp_position"]
        keys = position_keys(batch["ue_position"], _NOISE_KEY)
        keys = tf.gather(keys, trp_position.value_rowids())
        keys = position_keys(trp_position.flat_values, keys)
        size = num_noise_samples(**self._sampling)
        samples = normals(keys, self.num_ant * 2 * size)
        samples = tf.reshape(samples, [-1, self.num_ant, 2, size])
        deviation = math.sqrt(10 ** (self.noise_power_db / 10) / 2)
        noise = deviation * band_limited_noise(samples, **self._sampling)
        return tf.transpose(noise, [0, 1, 3, 2])

    def _surveyed(self, trp_position: tf.RaggedTensor) -> tf.RaggedTensor:
        """Return where the TRPs are said to stand, [batch, (num_trps), 3]."""
        if not self.trp_position_error:
            return trp_position
        place = trp_position.flat_values
        error = normals(position_keys(place, _SURVEY_KEY), 3)
        return trp_position.with_flat_values(place + self.trp_position_error * error)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **self.form.get_config(),
            "noise_power_db": self.noise_power_db,
            "trp_position_error": self.trp_position_error,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CirTokens":
        """Rebuild from `get_config`."""
        return cls(**{**config, "array": PlanarArray(**config["array"])})
