"""Small VIn-Locs, and samples in all forms of input."""

import keras
import numpy as np
import tensorflow as tf
import tiny_vinloc

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.models.vinloc import VInLoc

REGION = [[0, -100, 0], [200, 100, 30]]
NUMBERS = {"region": REGION, "num_taps": 32, "sampling_rate": 200e6}
SMALL = {
    **NUMBERS,
    **tiny_vinloc.SIZES,
    **tiny_vinloc.REFINER,
    "refiner_window": 5,
}
WALLS = [[[-1, 0, 90], [0, 1, 0]], [[1, 0, 0], [0, -1, 110]]]
"""x = 45 and y = 55, among the TRPs of `samples`: most images are within the taps."""


def make(seed=0, model_class=VInLoc, **options):
    keras.utils.set_random_seed(seed)
    model = model_class(**{**SMALL, **options})
    for weight in model.trainable_weights:  # Zero-initialised heads would hide errors.
        noise = keras.random.normal(weight.shape, stddev=0.1)
        weight.assign_add(noise)
    model.scaling.reference_db.assign(-90.0)
    if model.images is not None:
        model.images.isometry.assign(WALLS)
    return model


def samples(lengths=(3, 1, 4), num_ant=1, seed=0):
    rng = np.random.default_rng(seed)
    cir = rng.normal(size=(sum(lengths), num_ant, 32, 2)).astype("f") * 1e-5
    position = rng.uniform(0, 100, (sum(lengths), 3)).astype("f")
    return cir, position, list(lengths)


def ragged(cir, position, lengths):
    return {
        "cir": tf.RaggedTensor.from_row_lengths(cir, lengths),
        "trp_position": tf.RaggedTensor.from_row_lengths(position, lengths),
    }


def pulses(sources, ue):
    """Taps [links, 32] of one path from each link's source, [..., 3] both."""
    distance = np.linalg.norm(sources - ue, axis=-1)
    taps = np.arange(32) - distance.reshape(-1, 1) * 200e6 / SPEED_OF_LIGHT
    return 1e-5 * np.sinc(taps)


def padded(cir, position, lengths, extra=0, fill=7.0):
    width = max(lengths) + extra
    inputs = {
        "cir": np.full((len(lengths), width, *cir.shape[1:]), fill, "f"),
        "trp_position": np.full((len(lengths), width, 3), fill, "f"),
        "trp_mask": np.zeros((len(lengths), width), bool),
    }
    start = 0
    for row, length in enumerate(lengths):
        inputs["cir"][row, :length] = cir[start : start + length]
        inputs["trp_position"][row, :length] = position[start : start + length]
        inputs["trp_mask"][row, :length] = True
        start += length
    return inputs
