"""What every channel does: from positions to the propagation paths of all links."""

import abc
from typing import Any

import tensorflow as tf

LINK_FIELDS = (
    "path_gain",
    "path_delay",
    "path_aoa",
    "path_aod",
    "num_paths",
    "los",
)
"""Fields of the sample contract that a channel fills, for each link."""


class Channel(abc.ABC):
    """Paths between every TRP and every UE of a drop.

    Args:
        num_paths: int > 0. Most paths kept per link, the strongest ones.

    Call arguments:
        trp_position: [num_trps, 3], float32 [m].
        ue_position: [num_ues, 3], float32 [m].
        seed: [2], integer. Drives whatever in the channel is random.

    Returns: dict of `LINK_FIELDS`: `path_gain` [num_ues, num_trps, num_paths]
        complex64 and `path_delay` (float32 [s], absolute time of flight) with it,
        `path_aoa` (at the UE) and `path_aod` (at the TRP)
        [num_ues, num_trps, num_paths, 2] float32 [rad] as (zenith, azimuth),
        `num_paths` [num_ues, num_trps] int32 and `los` [num_ues, num_trps] bool.
        Strongest path first; entries of paths that do not exist are 0.
    """

    def __init__(self, num_paths: int) -> None:
        self.num_paths = num_paths

    @abc.abstractmethod
    def __call__(
        self, trp_position: tf.Tensor, ue_position: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """See the class."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Return everything that changes the paths, as JSON can hold it."""
