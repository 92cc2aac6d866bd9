"""Vehicles on straight tracks in a free field: what tests of training on windows of
tracks need where the channels do not matter."""

import contextlib
import types
from unittest import mock

import numpy as np
import tensorflow as tf

from sionna_loc import registry, training
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.sample import SPLITS
from sionna_loc.scenarios.base import DropSizes, Scenario

SITES = np.array(
    [[0, 0, 5], [100, 0, 5], [0, 100, 5], [100, 100, 5], [50, 50, 5]], np.float32
)
NUM_TRPS, LENGTH = 3, 8
TRACKS = {"train": 6, "validation": 2, "test": 3}


class FreeField:
    """Line of sight to sites within 90 m."""

    num_paths = 1

    def config(self):
        return {}

    def __call__(self, trp_position, ue_position, seed):
        way = ue_position[:, None] - trp_position
        distance = tf.norm(way, axis=-1, keepdims=True)  # [ues, sites, 1]
        heard = distance[..., 0] < 90
        zenith = tf.acos(way[..., 2:] / distance)
        azimuth = tf.atan2(way[..., 1:2], way[..., :1])
        angles = tf.stack([zenith, azimuth], axis=-1)  # [ues, sites, 1, 2]
        return {
            "path_gain": tf.cast(1 / distance, tf.complex64),
            "path_delay": distance / SPEED_OF_LIGHT,
            "path_aoa": angles,
            "path_aod": angles,
            "num_paths": tf.cast(heard, tf.int32),
            "los": heard,
        }


class Drives(Scenario):
    """Tracks of 8 samples, 5 m apart, of vehicles that hear 3 of 5 sites."""

    name = "drives"
    carrier_frequency, bandwidth, sampling_rate, num_taps = 1e9, 1e8, 1e8, 64
    num_trps, min_trps = NUM_TRPS, 1
    region = np.array([[0, 0, 0], [100, 100, 3]])

    def __init__(self, *, small=False, num_train=None):
        sizes = DropSizes(len(SITES), 8, 1, 1, num_frozen_ues=8)
        super().__init__(sizes, FreeField())
        self.num_train = num_train or TRACKS["train"] * LENGTH
        self.num_val = TRACKS["validation"] * LENGTH
        self.num_test = TRACKS["test"] * LENGTH
        self.place = self

    def top_view(self):
        extent = (0.0, 100.0, 0.0, 100.0)
        return types.SimpleNamespace(height=np.zeros((100, 100), "f"), extent=extent)

    def positions(self, seed, num_ues):
        raise NotImplementedError

    def split_positions(self, split):
        generator = np.random.default_rng(SPLITS.index(split))
        start = generator.uniform(30, 70, (TRACKS[split], 1, 2))
        angle = generator.uniform(0, 2 * np.pi, (TRACKS[split], 1))
        step = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        plan = (start + np.arange(LENGTH)[:, None] * step).reshape(-1, 2)
        height = np.full((len(plan), 1), 1.5)
        return SITES, np.concatenate([plan, height], axis=1).astype(np.float32)

    def track_lengths(self, split):
        return np.full(TRACKS[split], LENGTH)

    def site_sets(self, num_trps):
        return np.array([range(num_trps)], np.int32)


@contextlib.contextmanager
def registered(folder):
    """Make the scenario known for a while under the name `drives`; draw no figures.

    Its sets are kept in the folder.
    """
    cache = str(folder / "ways")
    with (
        mock.patch.dict(registry.SCENARIOS, drives=f"{__name__}:Drives"),
        mock.patch.dict("os.environ", SIONNA_LOC_CACHE=cache),
        mock.patch.object(training, "save_figures"),
    ):
        yield
