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


def make_windows(num_windows, window, num_trps, seed=0, noise=0.0):
    """Windows of vehicles that drive straight on at 10 m a sample, past TRPs of which
    they hear most, with `noise` [m] in what they measure of each; where they end."""
    generator = np.random.default_rng(seed)
    end = generator.uniform([100, 50, 1.5], [300, 150, 1.5], (num_windows, 1, 3))
    angle = generator.uniform(0, 2 * np.pi, (num_windows, 1))
    step = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    ue = end + 10 * np.arange(1 - window, 1)[:, None] * step  # [windows, window, 3]
    trp = generator.uniform([0, 0, 5], [400, 200, 5], (num_windows, 1, num_trps, 3))
    trp = np.repeat(trp, window, axis=1)
    is_heard = generator.random((num_windows, window, num_trps)) < 0.8
    is_heard[..., 0] = True
    where = ue + noise * generator.normal(size=ue.shape) * [1, 1, 0]
    return measure(where, trp, is_heard), {"position": ue[:, -1].astype("float32")}
