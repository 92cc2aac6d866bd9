"""A scenario without a channel and a model without depth: what tests of the training
path need where the channels do not matter. As a program: `train` with both known."""

import contextlib
import hashlib
import json
import sys
import time
import types
from typing import ClassVar
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from sionna_loc import cli, registry, train
from sionna_loc.antennas import PlanarArray
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.ragged import to_ragged
from sionna_loc.models.base import Localizer

SIDE = 100.0


class FreeSpace:
    """Line of sight only, on a square of 100 m.

    Args:
        sleep: seconds that each batch takes.
        nan_from: index of the first sample whose gains are not a number.
        trp_position_error: as of `Scenario` [m].
    """

    name = "free_space"
    num_trps, num_sites, min_trps = 4, 8, 1
    num_taps, sampling_rate, bandwidth = 32, 50e6, 25e6
    region = np.array([[0, 0, 0], [SIDE, SIDE, 10]])
    ue_array, synchronised, noise_power_db = PlanarArray(), True, None
    holds_inputs, has_walls, is_one_place = False, False, False

    def __init__(
        self, *, small: bool = False, sleep=0.0, nan_from=None, trp_position_error=0.0
    ):
        self.options = {"small": small, "sleep": sleep, "nan_from": nan_from}
        self.trp_position_error = trp_position_error
        self.place = self

    def top_view(self):
        extent = (0.0, SIDE, 0.0, SIDE)
        return types.SimpleNamespace(height=np.zeros((100, 100), "f"), extent=extent)

    def config(self):
        return {"name": self.name, **self.options}

    def site_sets(self, num_trps):
        return None

    def fingerprint(self):
        return hashlib.sha256(json.dumps(self.config()).encode()).hexdigest()

    def batches(
        self,
        batch_size,
        seed=0,
        num_trps=None,
        start=0,
        fields=None,
        emphasis=0.0,
        augment=None,
    ):
        assert augment is None  # nothing here turns samples
        num_trps = num_trps or self.num_trps

        def sample(index):
            return self._sample(tf.stack([tf.cast(seed, tf.int64), index]), num_trps)

        def wait(batch):
            if self.options["sleep"]:
                ue = tf.numpy_function(self._wait, [batch["ue_position"]], tf.float32)
                batch["ue_position"] = tf.ensure_shape(ue, [None, 3])
            return batch

        rows = tf.data.Dataset.counter(start).map(sample).batch(batch_size)
        return rows.map(wait).map(lambda batch: to_ragged(batch, fields))

    def frozen(self, split, num_samples, num_trps=None, batch_size=64, fields=None):
        from sionna_loc.sample import FIELDS

        seed = {"validation": -1, "test": -2, "train": -3}[split]
        fields = tuple(fields or FIELDS)
        batches = self.batches(num_samples, seed, num_trps, fields=fields)
        return batches.take(1)

    def _wait(self, values):
        time.sleep(self.options["sleep"])
        return values

    def _sample(self, seed, num_trps):
        trp_seed, ue_seed, heard_seed = tf.unstack(
            tf.random.experimental.stateless_split(seed, 3)
        )
        trps = SIDE * tf.random.stateless_uniform([num_trps, 3], trp_seed)
        ue = SIDE * tf.random.stateless_uniform([3], ue_seed) * [1.0, 1.0, 0.0]
        distance = tf.norm(trps - ue, axis=-1, keepdims=True)  # [num_trps, 1]
        gain = 1 / distance
        if self.options["nan_from"] is not None:
            is_bad = (seed[1] >= self.options["nan_from"]) & (seed[0] >= 0)
            gain = tf.where(is_bad, np.nan, gain)
        heard = tf.random.stateless_uniform([num_trps], heard_seed) < 0.8
        num_paths = tf.where(heard | (tf.range(num_trps) == 0), 1, 0)
        angles = tf.zeros([num_trps, 1, 2])
        return {
            "trp_position": trps,
            "path_gain": tf.complex(gain, tf.zeros_like(gain)),
            "path_delay": distance / SPEED_OF_LIGHT,
            "path_aoa": angles,
            "path_aod": angles,
            "num_paths": num_paths,
            "los": num_paths > 0,
            "ue_position": ue,
        }


@keras.saving.register_keras_serializable(package="sionna_loc")
class TinyLocalizer(Localizer):
    """A dense layer with dropout, so that a resumed run needs the random state."""

    PRESETS: ClassVar[dict] = {"tiny": {"units": 16}}
    DEFAULT_PRESET = "tiny"

    def __init__(self, region, num_taps, units=16, **numbers):
        names = ("num_ant", "sampling_rate")
        self.numbers = {name: numbers.pop(name) for name in names if name in numbers}
        super().__init__(region, **numbers)
        self.num_taps, self.units = num_taps, units
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.hidden.build((None, 2 * num_taps + 3))
        self.dropout = keras.layers.Dropout(0.2, seed=3)
        self.head = keras.layers.Dense(3)
        self.head.build((None, units))
        self.built = True

    def call(self, inputs, training=None):
        cir = tf.reshape(inputs["cir"].flat_values, [-1, 2 * self.num_taps])
        position = inputs["trp_position"].flat_values / SIDE
        tokens = self.hidden(tf.concat([100 * cir, position], axis=-1))
        tokens = inputs["cir"].with_flat_values(tokens)
        pooled = tf.reduce_mean(tokens, axis=1)
        offset = self.head(self.dropout(pooled, training=training))
        return {"position": self._center + self._scale * offset}

    def get_config(self):
        own = {"num_taps": self.num_taps, "units": self.units}
        return {**super().get_config(), **own, **self.numbers}


def register():
    """Make both known under the names `free_space` and `tiny`."""
    registry.SCENARIOS["free_space"] = f"{__name__}:FreeSpace"
    registry.MODELS["tiny"] = f"{__name__}:TinyLocalizer"


@contextlib.contextmanager
def registered():
    """Make both known for a while."""
    with mock.patch.dict(registry.SCENARIOS), mock.patch.dict(registry.MODELS):
        register()
        yield


if __name__ == "__main__":
    register()
    sys.argv[0] = "train.py"
    cli.run(lambda: train.main([*sys.argv[1:], "--no-baseline"]))
