import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.channels.base import Channel
from sionna_loc.channels.scene_choice import SceneChoice
from sionna_loc.checks import UserError


class Constant(Channel):
    """Says who it is in every delay, and counts how often it is asked."""

    def __init__(self, delay, num_paths=2):
        super().__init__(num_paths)
        self.delay, self.num_calls = delay, 0

    def __call__(self, trp_position, ue_position, seed):
        def call(trps, ues):
            self.num_calls += 1
            return np.full((len(ues), len(trps), self.num_paths), self.delay, "f")

        delay = tf.numpy_function(call, [trp_position, ue_position], tf.float32)
        return {"path_delay": tf.ensure_shape(delay, [None, None, self.num_paths])}

    def config(self):
        return {"delay": self.delay}


def test_only_the_channel_of_the_scene_runs_eagerly_and_in_a_graph():
    channels = [Constant(1.0), Constant(2.0), Constant(3.0)]
    choice = SceneChoice(channels)
    trp, ue, seed = tf.zeros([4, 3]), tf.zeros([5, 3]), tf.zeros([2], tf.int64)
    eager = choice(trp, ue, seed, 1)["path_delay"]
    assert eager.shape == (5, 4, 2) and set(np.ravel(eager)) == {2.0}
    scenes = tf.data.Dataset.from_tensor_slices([2, 0, 2])
    found = scenes.map(lambda scene: choice(trp, ue, seed, scene)["path_delay"])
    assert [float(x[0, 0, 0]) for x in found] == [3.0, 1.0, 3.0]
    assert [channel.num_calls for channel in channels] == [1, 1, 2]
    assert [x["delay"] for x in choice.config()["channels"]] == [1.0, 2.0, 3.0]


def test_channels_keep_equally_many_paths():
    with pytest.raises(UserError, match=r"num_paths=\[2, 3\]"):
        SceneChoice([Constant(1.0), Constant(2.0, num_paths=3)])
