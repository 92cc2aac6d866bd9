"""Files of measurements in free space: ranges and CIRs that are what they must be."""

import numpy as np

from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.array_files import write_fields

TRPS = np.array([[0, 0, 5], [40, 0, 6], [0, 40, 7], [40, 40, 8]], np.float32)
NUM_TAPS, RATE, BANDWIDTH = 32, 100e6, 50e6


def make_fields(num_places=20, per_place=3, seed=0, with_cir=True, with_links=True):
    """Return fields: at each place some samples, which differ by a little noise."""
    generator = np.random.default_rng(seed)
    places = np.concatenate(
        [generator.uniform(5, 35, (num_places, 2)), np.full((num_places, 1), 1.5)], 1
    ).astype(np.float32)
    ue = np.repeat(places, per_place, axis=0)
    way = ue[:, None] - TRPS
    distance = np.linalg.norm(way, axis=-1)
    fields = {"ue_position": ue, "trp_position": np.tile(TRPS, (len(ue), 1, 1))}
    noise = generator.normal(size=distance.shape)
    if with_links:
        fields |= {
            "range": distance + 0.1 * noise,
            "power": -40 - 20 * np.log10(distance),
            "aoa": np.stack(
                [
                    np.arccos(way[..., 2] / distance),
                    np.arctan2(way[..., 1], way[..., 0]),
                ],
                axis=-1,
            ),
        }
    if with_cir:
        taps = np.arange(NUM_TAPS) / RATE - distance[..., None] / SPEED_OF_LIGHT
        cir = np.sinc(BANDWIDTH * taps) / distance[..., None]
        fields |= {
            "cir": (cir[:, :, None] + 0j).astype("complex64"),
            "sampling_rate": np.float64(RATE),
            "bandwidth": np.float64(BANDWIDTH),
        }
    return fields


def inputs_of(fields):
    """Return what a model is given of fields with CIRs."""
    cir = np.stack([fields["cir"].real, fields["cir"].imag], axis=-1)
    return {"cir": cir, "trp_position": fields["trp_position"]}


def write(path, **options):
    """Write such a file; return its path."""
    write_fields(path, make_fields(**options))
    return path
