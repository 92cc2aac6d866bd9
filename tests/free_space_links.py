"""Links in free space at known places: what tests of fingerprints locate."""

import numpy as np
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.signals import array_phase

REGION = [[0.0, 0.0, 0.0], [40.0, 20.0, 3.0]]
SAMPLING_RATE, NUM_TAPS = 100e6, 32
TRP = np.array([[5, 5, 8], [35, 5, 8], [5, 15, 8], [35, 15, 8]], "float32")
NUMBERS = {
    "region": REGION,
    "num_taps": NUM_TAPS,
    "sampling_rate": SAMPLING_RATE,
    "num_ant": 1,
}


def grid(spacing):
    """UE positions [num_ues, 3] all over the region [m]."""
    x, y = np.meshgrid(np.arange(1, 40, spacing), np.arange(1, 20, spacing))
    flat = np.stack([x.ravel(), y.ravel(), np.full(x.size, 1.5)], axis=-1)
    return flat.astype("float32")


def links(ue, trps=None, array=None):
    """Inputs of UEs [num_ues, 3], each of which hears the TRPs whose indices it has."""
    array = array or PlanarArray()
    trps = [range(len(TRP))] * len(ue) if trps is None else trps
    position = [TRP[list(chosen)] for chosen in trps]
    cirs = [_cir(one, near, array) for one, near in zip(ue, position, strict=True)]
    lengths = [len(near) for near in position]
    flat = {"cir": np.concatenate(cirs), "trp_position": np.concatenate(position)}
    return {
        name: tf.RaggedTensor.from_row_lengths(values, lengths)
        for name, values in flat.items()
    }


def _cir(ue, trp, array):
    """[num_trps, num_ant, NUM_TAPS, 2] of one UE."""
    way = trp - ue
    angles = [
        np.arccos(way[:, 2] / np.linalg.norm(way, axis=-1)),
        np.arctan2(way[:, 1], way[:, 0]),
    ]
    angles = np.stack(angles, axis=-1)[:, None].astype("float32")
    steering = np.exp(1j * np.asarray(array_phase(angles, array.element_position)))
    distance = np.linalg.norm(ue - trp, axis=-1)[:, None]
    taps = np.arange(NUM_TAPS) - distance / SPEED_OF_LIGHT * SAMPLING_RATE
    cir = np.sinc(taps) / distance * np.exp(1j * distance)
    cir = steering * cir[:, None]  # [num_trps, num_ant, NUM_TAPS]
    return np.stack([cir.real, cir.imag], axis=-1).astype("float32")


def batches(ue, batch_size, trps=None, array=None):
    """A data set as training gives it: (inputs, targets), in batches."""
    found = []
    for start in range(0, len(ue), batch_size):
        rows = slice(start, start + batch_size)
        chosen = None if trps is None else trps[rows]
        found.append((links(ue[rows], chosen, array), {"position": ue[rows]}))
    return found
