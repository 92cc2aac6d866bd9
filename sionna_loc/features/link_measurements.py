"""Link measurements: what a network measures of the strongest path of each link."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sionna_loc.checks import check, check_positive, check_positive_int
from sionna_loc.features.link_form import LinkForm

_SMALLEST = 1e-30


@keras.saving.register_keras_serializable(package="sionna_loc")
class LinkMeasurements:
    """Turns a ragged batch of samples into link measurements and targets.

    The link is an uplink: the TRP measures from where the UE's signal arrives. Paths
    are reciprocal, so that is the way which the strongest path takes from the TRP to
    the UE.

    TRPs of which a sample hears nothing stay in it: that nothing arrives at a TRP, and
    where that TRP stands, says something about where the UE is. Such a link is 0 in all
    measurements and `False` in `trp_heard`.

    Args:
        angle_resolution: float > 0 [degrees]. Zenith and azimuth are measured as
            multiples of it; divides 180.
        tx_power_dbm: float [dBm]. Of the UE.
        window: int > 0. Samples of a track that are needed together, see `data.tracks`.

    Call arguments:
        batch: dict of the contract's `fields`; those per TRP are
            `tf.RaggedTensor` [batch, (num_trps), ...], with windows
            [batch, (window), (num_trps), ...].

    Returns: `(inputs, targets)` with `inputs["link"]` ragged [batch, (num_trps), 5],
        float32: received power over all paths [dBm], ToF of the strongest path [s], and
        the unit vector (x, y, z) from the TRP to where that path comes from;
        `inputs["trp_heard"]` ragged [batch, (num_trps)], bool; `inputs["trp_position"]`
        ragged [batch, (num_trps), 3] [m]; with windows they have their axis too; and
        `targets["position"]` [batch, 3] [m].
    References: Klus et al., "Deep Hypernetwork-based Robust Localization in
        Millimeter-Wave Networks", Sec. II-B and IV-A.
    """

    fields = (
        *("trp_position", "path_gain", "path_delay", "path_aod", "num_paths"),
        "ue_position",
    )
    """Fields of the contract that are needed."""
    form = LinkForm()
    """What is measured."""
    keeps_silent = True
    """Whether TRPs of which nothing is heard are needed."""

    def __init__(
        self,
        angle_resolution: float = 20.0,
        tx_power_dbm: float = 23.0,
        window: int = 1,
    ) -> None:
        check_positive("angle_resolution", angle_resolution)
        check(
            180 % angle_resolution == 0,
            "`angle_resolution` must divide 180 degrees.",
            angle_resolution=angle_resolution,
        )
        self.angle_resolution = float(angle_resolution)
        check_positive_int("window", window)
        self.tx_power_dbm = float(tx_power_dbm)
        self.window = window

    def __call__(
        self, batch: dict[str, tf.RaggedTensor | tf.Tensor]
    ) -> tuple[dict[str, tf.RaggedTensor], dict[str, tf.Tensor]]:
        """See the class."""
        gain = batch["path_gain"].flat_values  # [tokens, num_paths], strongest first
        heard = batch["num_paths"].flat_values > 0
        power = tf.reduce_sum(tf.abs(gain) ** 2, axis=-1)
        power_db = 10 / np.log(10) * tf.math.log(power + _SMALLEST)
        link = tf.concat(
            [
                self.tx_power_dbm + power_db[:, None],
                batch["path_delay"].flat_values[:, :1],
                self._direction(batch["path_aod"].flat_values[:, 0]),
            ],
            axis=-1,
        )  # [tokens, 5]
        link = tf.where(heard[:, None], link, 0.0)
        inputs = {
            "link": batch["path_gain"].with_flat_values(link),
            "trp_heard": batch["num_paths"].with_flat_values(heard),
            "trp_position": batch["trp_position"],
        }
        return inputs, {"position": batch["ue_position"]}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "angle_resolution": self.angle_resolution,
            "tx_power_dbm": self.tx_power_dbm,
            "window": self.window,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LinkMeasurements":
        """Rebuild from `get_config`."""
        return cls(**config)

    def _direction(self, angles: tf.Tensor) -> tf.Tensor:
        """Round (zenith, azimuth) [tokens, 2] [rad]; return vectors [tokens, 3]."""
        step = np.deg2rad(self.angle_resolution).astype(np.float32)
        zenith, azimuth = tf.unstack(step * tf.round(angles / step), axis=-1)
        across = tf.sin(zenith)
        return tf.stack(
            [across * tf.cos(azimuth), across * tf.sin(azimuth), tf.cos(zenith)],
            axis=-1,
        )
