"""Links in line of sight on a free field: what tests of models on them locate."""

import numpy as np

from sionna_loc.constants import SPEED_OF_LIGHT

REGION = [[0, 0, 0], [400, 200, 3]]


def measure(ue, trp, is_heard):
    """Inputs of UEs [..., 3] that hear some of their TRPs [..., num_trps, 3]."""
    way = ue[..., None, :] - trp
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    values = [-60 - 20 * np.log10(distance), distance / SPEED_OF_LIGHT, way / distance]
    link = np.concatenate(values, axis=-1) * is_heard[..., None]
    return {
        "link": link.astype("float32"),
        "trp_heard": is_heard,
        "trp_position": trp.astype("float32"),
    }


def make_inputs(num_samples, num_trps, seed=0, heard=0.8):
    """Inputs of random UEs at 1.5 m, which hear their first TRP and a share of the
    others, and where the UEs are."""
    generator = np.random.default_rng(seed)
    ue = generator.uniform([0, 0, 1.5], [400, 200, 1.5], (num_samples, 3))
    trp = generator.uniform([0, 0, 5], [400, 200, 5], (num_samples, num_trps, 3))
    is_heard = generator.random((num_samples, num_trps)) < heard
    is_heard[:, 0] = True
    return measure(ue, trp, is_heard), {"position": ue.astype("float32")}
