"""The Madrid grid of the HypLoc paper: vehicles between eighteen gNBs at 28 GHz.

The paper (Sec. IV-A) gives: ray tracing in the Madrid grid of METIS, 28 GHz, 18 gNBs at
5 m, of which 7 are active, a constellation; 36 tracks of vehicles, a sample each 100
ms, 32 tracks with 22,775 samples to train and 4 with 2,406 to test; links that lose
more than 160 dB do not count. What it leaves open is assumed here:

* **gNBs.** Places of our own (`places.madrid_grid`): the paper has a figure only.
* **Streets.** The six streets within the map, from edge to edge. The broad one beside
  the park and the pedestrian street, x = 282 m, has the limit of 60 km/h and three
  lanes a direction, the pedestrian street to its right, x = 337.5 m, 20 km/h, all
  others 40 km/h and one lane. No gNB stands in the half streets at the map's edges.
* **Tracks.** 712 samples each, which makes 22,784 to train. Four further tracks are the
  validation set, so that nothing is chosen by the test tracks.
* **Propagation.** Line of sight, up to three reflections, and one diffraction: without
  diffraction a quarter of the positions hear nothing of some constellations.
* **Loss of a link.** That of all of its paths together.
* **Constellations.** `NUM_CONSTELLATIONS` seeded choices of 7 of 18 have numbers. A
  sample that hears none of its seven gNBs is left out, in training and test.
* **Bandwidth and taps.** 100 MHz, 512 taps at 200 MHz (2.56 us or 768 m), for models
  that look at channel impulse responses; link measurements have no use for them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.raytraced import RayTracer
from sionna_loc.checks import check, check_positive_int
from sionna_loc.places.madrid_grid import GNB_POSITION, SIZE, MadridGrid
from sionna_loc.places.streets import KMH, Driving, Street
from sionna_loc.places.vehicles import StreetGrid
from sionna_loc.scenarios.base import DropSizes, Scenario

NUM_CONSTELLATIONS = 20
"""Constellations with a number, 0 to 19; no other choice of seven is one of them."""
GNBS_PER_CONSTELLATION = 7
STREETS = (
    Street(is_vertical=True, axis=138.0, speed_limit=40 * KMH),
    Street(is_vertical=True, axis=282.0, speed_limit=60 * KMH, num_lanes=3),
    Street(is_vertical=True, axis=337.5, speed_limit=20 * KMH),
    Street(is_vertical=False, axis=138.0, speed_limit=40 * KMH),
    Street(is_vertical=False, axis=276.0, speed_limit=40 * KMH),
    Street(is_vertical=False, axis=414.0, speed_limit=40 * KMH),
)
STREET_ENDS = (9.0, 9.0), (378.0, 543.0)
"""South-western and north-eastern end of the streets, (x, y) [m]."""
UE_HEIGHT = 1.5  # [m]; TR 38.901, Table 7.2-1, UEs outdoors
MAX_PATH_LOSS_DB = 160.0
_NUM_PATHS = 8
_CONSTELLATION_SEED = 7
_TRACK_SEEDS = {"train": 1, "validation": 2, "test": 3, "stream": 4}


@dataclass(frozen=True)
class _TrackSizes:
    """Tracks of each split, samples of a track, seconds between them."""

    train: int
    validation: int
    test: int
    num_samples: int
    interval: float


_TRACKS = _TrackSizes(train=32, validation=4, test=4, num_samples=712, interval=0.1)
_SMALL_TRACKS = _TrackSizes(train=4, validation=1, test=2, num_samples=32, interval=1.0)
_UES = {"num_ues": 256, "drops_per_block": 4, "num_frozen_ues": 128}
_SMALL_UES = {"num_ues": 32, "drops_per_block": 2, "num_frozen_ues": 32}


class Madrid(Scenario):
    """See the module.

    Args:
        small: few and short tracks, for smoke runs and tests; still ray traced.
        constellations: numbers of constellations; every UE gives a sample with each.
            Or one number; or `"any"`: every sample has seven gNBs of its own, any but
            those of a numbered constellation.
        num_train: int > 0 or None. UEs of the training set, random ones of the tracks;
            all of them by default.

    Raises: UserError for a constellation that does not exist, or more UEs than there
        are.
    """

    name = "madrid"
    carrier_frequency = 28e9
    bandwidth = 100e6
    sampling_rate = 200e6
    num_taps = 512
    num_trps = GNBS_PER_CONSTELLATION
    min_trps = 1
    region = np.array([[0.0, 0.0, 0.0], [*SIZE, 2 * UE_HEIGHT]])

    def __init__(
        self,
        *,
        small: bool = False,
        constellations: Sequence[int] | int | str = 0,
        num_train: int | None = None,
    ) -> None:
        self.tracks = _SMALL_TRACKS if small else _TRACKS
        self.streets = StreetGrid(STREETS, *STREET_ENDS, Driving())
        self.trp_position = GNB_POSITION
        self.constellations = _check_constellations(constellations)
        self.num_train = _check_num_train(num_train, self._num_ues("train"))
        per_ue = 1 if self.constellations is None else len(self.constellations)
        self.num_val = per_ue * self._num_ues("validation")
        self.num_test = per_ue * self._num_ues("test")
        self.place = MadridGrid(self.carrier_frequency)
        channel = RayTracer(
            self.place,
            num_paths=_NUM_PATHS,
            max_depth=3,
            max_delay=self.num_taps / self.sampling_rate,
            solver="stock",
            diffraction=True,
            max_path_loss_db=MAX_PATH_LOSS_DB,
        )
        ues = _SMALL_UES if small else _UES
        num_sites = len(self.trp_position)
        super().__init__(
            DropSizes(num_sites=num_sites, subsets_per_ue=per_ue, **ues), channel
        )

    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gNBs, always the same, and UEs along one new track."""

        def drive(seed: np.ndarray) -> np.ndarray:
            return self._drive(
                [_TRACK_SEEDS["stream"], *seed.astype(np.uint64)], num_ues
            )

        ue_position = tf.numpy_function(drive, [seed], tf.float32)
        ue_position = tf.ensure_shape(ue_position, [num_ues, 3])
        return tf.constant(self.trp_position), ue_position

    def split_positions(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the gNBs, and the UEs of the tracks of a split, one after another."""
        tracks = [
            self._drive([_TRACK_SEEDS[split], number], self.tracks.num_samples)
            for number in range(getattr(self.tracks, split))
        ]
        return self.trp_position, np.concatenate(tracks)

    def track_lengths(self, split: str) -> np.ndarray:
        """Return the samples of each track of a split, [num_tracks]."""
        return np.full(getattr(self.tracks, split), self.tracks.num_samples)

    def site_sets(self, num_trps: int) -> np.ndarray:
        """Return the constellations that samples may have, [num_sets, num_trps]."""
        numbered = numbered_constellations()
        if self.constellations is not None:
            check(
                num_trps == GNBS_PER_CONSTELLATION,
                f"A constellation has {GNBS_PER_CONSTELLATION} gNBs; other numbers "
                "take constellations='any'.",
                num_trps=num_trps,
            )
            return numbered[list(self.constellations)]
        return _unnumbered_sets(num_trps, numbered)

    def config(self) -> dict[str, Any]:
        """Return what changes the traced links, as JSON can hold it.

        Not the constellations nor `num_train`, which only choose from them.
        """
        config = super().config()
        config["sizes"] = {**config["sizes"], "subsets_per_ue": None}
        return {
            **config,
            "place": self.place.config(),
            "gnb_position": self.trp_position.tolist(),
            "streets": [vars(street) for street in STREETS],
            "street_ends": STREET_ENDS,
            "driving": vars(self.streets.driving),
            "tracks": vars(self.tracks),
            "track_seeds": _TRACK_SEEDS,
            "ue_height": UE_HEIGHT,
        }

    def _num_ues(self, split: str) -> int:
        """Return the number of UEs of a split."""
        return getattr(self.tracks, split) * self.tracks.num_samples

    def _drive(self, seed: Sequence[int], num_samples: int) -> np.ndarray:
        """Return the UEs along a track, [num_samples, 3], float32 [m]."""
        generator = np.random.default_rng([int(part) for part in seed])
        track = self.streets.drive(num_samples, generator, self.tracks.interval)
        height = np.full((num_samples, 1), UE_HEIGHT)
        return np.concatenate([track.position, height], axis=1).astype(np.float32)


def numbered_constellations() -> np.ndarray:
    """Return the gNBs of each numbered constellation, rising, [20, 7], int.

    They are different choices, drawn one after the other from a fixed seed.
    """
    generator = np.random.default_rng(_CONSTELLATION_SEED)
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < NUM_CONSTELLATIONS:
        draw = generator.choice(
            len(GNB_POSITION), GNBS_PER_CONSTELLATION, replace=False
        )
        chosen[tuple(sorted(draw.tolist()))] = None
    return np.array(list(chosen), np.int32)


def _unnumbered_sets(num_trps: int, numbered: np.ndarray) -> np.ndarray:
    """Return all choices of gNBs that have no number, [num_sets, num_trps]."""
    taken = set(map(tuple, numbered.tolist()))
    every = itertools.combinations(range(len(GNB_POSITION)), num_trps)
    return np.array([choice for choice in every if choice not in taken], np.int32)


def _check_constellations(value: Any) -> tuple[int, ...] | None:
    """Return the numbers, `None` for any constellation, or raise `UserError`."""
    if value == "any":
        return None
    numbers = [value] if isinstance(value, int) else value
    ok = (
        isinstance(numbers, list | tuple | range)
        and len(numbers) > 0
        and all(type(number) is int for number in numbers)
        and all(0 <= number < NUM_CONSTELLATIONS for number in numbers)
        and len(set(numbers)) == len(numbers)
    )
    check(
        ok,
        "`constellations` must be 'any', or different numbers from 0 to "
        f"{NUM_CONSTELLATIONS - 1}.",
        constellations=value,
    )
    return tuple(numbers)


def _check_num_train(value: int | None, most: int) -> int:
    """Return the number of UEs to train with, or raise `UserError`."""
    if value is None:
        return most
    check_positive_int("num_train", value)
    check(
        value <= most,
        f"The tracks of the training set have {most} UEs.",
        num_train=value,
    )
    return value
