"""Channels of several scenes, one of which is chosen for each drop."""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from sionna_loc.channels.base import Channel
from sionna_loc.checks import check


class SceneChoice(Channel):
    """Hands each drop to the channel of its scene.

    All ray tracers of a process run on one thread, whatever their scenes, and each
    loads its scene when it is first asked for paths there.

    Args:
        channels: one of each scene, with the same number of paths.

    Call arguments:
        trp_position, ue_position, seed: see `Channel`.
        scene: [], int. Index of the channel.

    Raises: UserError if the channels keep different numbers of paths.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        counts = [channel.num_paths for channel in channels]
        check(
            len(set(counts)) == 1,
            "The channels of all scenes must keep the same number of paths.",
            num_paths=counts,
        )
        super().__init__(counts[0])
        self.channels = tuple(channels)

    def __call__(
        self,
        trp_position: tf.Tensor,
        ue_position: tf.Tensor,
        seed: tf.Tensor,
        scene: tf.Tensor | int = 0,
    ) -> dict[str, tf.Tensor]:
        """See the class; only the channel that is chosen runs."""
        branches = [
            functools.partial(channel, trp_position, ue_position, seed)
            for channel in self.channels
        ]
        return tf.switch_case(tf.cast(scene, tf.int32), branches)

    def config(self) -> dict[str, Any]:
        """Return everything that changes the paths, as JSON can hold it."""
        return {
            "channel": "SceneChoice",
            "channels": [channel.config() for channel in self.channels],
        }
