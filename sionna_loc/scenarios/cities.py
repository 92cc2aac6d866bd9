"""Streets of several cities: training here, test where the model has never been.

For models that shall know geometry and not a place. The cities are those that come
with Sionna RT: `etoile` (Paris), `munich` and `florence` to train in, `san_francisco`,
on its hills, to test in. Radio numbers, heights of the devices and numbers of paths are
those of `paris_scn1`, so that a model fits both. Each drop has its own

* **City and block.** A square of 280 m x 280 m, like that of Paris, anywhere in the
  city where a tenth of each of its quarters or more is roofs (`places.city_blocks`).
  Positions are relative to the block: the middle of its ground plan is (0, 0), and
  height 0 is the ground at the point of view. So all places share one region. Blocks
  lie along the axes of their city; streets run in all directions, and training may turn
  samples (`augment`).
* **Street.** What is seen in the block from a point of view on open ground (not in a
  closed courtyard), at most 70 m from the middle along each axis: that generalises the
  one main street of `paris_scn1`. With UEs on all streets of a block and TRPs on all of
  its roofs, a UE would hear few of them: what is around the corner is silent. UEs are
  where the ground is within 3 m of that at the point of view; that leaves out no place
  but in San Francisco, where streets climb. Models that have learned in flat cities
  cannot know how high a UE stands, unless their training was tilted (`augment`).
* **Roofs.** 2 m above roofs of 8 m or more, as in `paris_scn1`, at most so far from the
  street's edge: a number drawn for each drop, its logarithm uniform, between 2 m, which
  is antennas at the front with most UEs in line of sight, and the 25 m of `paris_scn1`.

Of 12 TRPs a UE hears 8.5 in the training and 9.7 in the test in San Francisco, half of
them in line of sight; 8 and 5 % of the samples have no line of sight, 36 and 22 % fewer
than three (64 UEs in each of 80 and 40 drops, seed 0: `python benchmarks/heard_trps.py
--scenario cities --drops 80`, and `--split test --drops 40`). The 8 strongest paths of
a link are kept, as in `paris_scn1`.

Where training is not, nor any block that overlaps it (what is seen from these blocks
and paths go on beyond them, places do not):

* **Validation** is in a block held out for it of each city that is trained in, as the
  model that is kept must be one that works where it has not been, and the city of the
  test must not choose it. `etoile` has none: its 854 m x 676 m hold no second block
  and enough to train in besides. Who trains there alone validates in `munich`.
* **Test** is by default in `san_francisco`, which no training knows: the streets of
  another continent, not the other end of the same city. `test_place` may also be a city
  to train in, for its block held out for tests, or `"held_out"`, for those of all
  cities that are trained in. In `etoile` that is the block of `paris_scn1` and
  `paris_scn2`. Nothing in a training, validation included, has been there.

The blocks for validation are typical of their city in the area of their streets and of
the roofs along them.

To test in the very samples of `paris_scn1`: `evaluate --run DIR --scenario paris_scn1`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.raytraced import RayTracer
from sionna_loc.channels.scene_choice import SceneChoice
from sionna_loc.checks import check, check_known, check_list
from sionna_loc.places.city import City
from sionna_loc.places.city_blocks import (
    BLOCK_SIDE,
    MAX_GROUND_OFFSET,
    CityBlocks,
    Street,
)
from sionna_loc.places.measured_site import MeasuredSite
from sionna_loc.places.sionna_scene import draw_points
from sionna_loc.scenarios.base import DropSizes, Scenario
from sionna_loc.scenarios.paris import TRP_ABOVE_ROOF, UE_HEIGHT, ParisScenario

SIZES = DropSizes(
    num_sites=64, num_ues=128, subsets_per_ue=5, drops_per_block=16, num_frozen_ues=16
)
SMALL_SIZES = DropSizes(
    num_sites=16, num_ues=16, subsets_per_ue=4, drops_per_block=2, num_frozen_ues=8
)
HELD_OUT = {
    "etoile": {"test": tuple(ParisScenario.region[0, :2].astype(int).tolist())},
    "munich": {"validation": (-720, -100), "test": (230, -120)},
    "florence": {"validation": (70, -510), "test": (-330, -430)},
}
"""Cities to train in, and for each split the south-western corner of its block [m]."""
UNSEEN = "san_francisco"
"""The city in which nothing is ever trained."""
TEST_PLACES = (UNSEEN, "held_out", *HELD_OUT)
_VALIDATED = tuple(name for name, blocks in HELD_OUT.items() if "validation" in blocks)
_NUM_PATHS = 8
_NUM_TRIES = 8
_HALF = BLOCK_SIDE / 2
_HEADROOM = 0.5
"""Of the region above and below where UEs can be [m]."""


class Cities(Scenario):
    """See the module.

    Args:
        small: few sites and UEs, for smoke runs and tests; still ray traced, in all
            cities.
        train_cities: keys of `HELD_OUT`. Where to train, and to validate as far as they
            have a block for that.
        test_place: one of `TEST_PLACES`.
        max_depth: int > 0. Most reflections of a path.

    Raises: UserError if an argument cannot be.
    """

    name = "cities"
    carrier_frequency = ParisScenario.carrier_frequency
    bandwidth = ParisScenario.bandwidth
    sampling_rate = ParisScenario.sampling_rate
    num_taps = ParisScenario.num_taps
    num_trps = 12
    min_trps = ParisScenario.min_trps
    is_one_place = False  # another one for each drop
    region = np.array(
        [
            [-_HALF, -_HALF, UE_HEIGHT - MAX_GROUND_OFFSET - _HEADROOM],
            [_HALF, _HALF, UE_HEIGHT + MAX_GROUND_OFFSET + _HEADROOM],
        ]
    )

    def __init__(
        self,
        *,
        small: bool = False,
        train_cities: Sequence[str] = tuple(HELD_OUT),
        test_place: str = UNSEEN,
        max_depth: int = 3,
    ) -> None:
        check_list("train_cities", train_cities)
        for name in train_cities:
            check_known("city to train in", name, HELD_OUT)
        check(
            0 < len(train_cities) == len(set(train_cities)),
            "`train_cities` must be one city or more, each once.",
            train_cities=train_cities,
        )
        check_known("test place", test_place, TEST_PLACES)
        self.train_cities = tuple(name for name in HELD_OUT if name in train_cities)
        self.test_place = test_place
        splits = ("train", "validation", "test")
        names = dict.fromkeys(name for s in splits for name in self._cities_of(s))
        cities = {name: City(name, self.carrier_frequency) for name in names}
        self.blocks = {
            name: CityBlocks(place, HELD_OUT.get(name))
            for name, place in cities.items()
        }
        self.cities = cities
        self.place = MeasuredSite(self.region)  # No map is that of all places.
        tracers = [
            RayTracer(
                place,
                num_paths=_NUM_PATHS,
                max_depth=max_depth,
                max_delay=self.num_taps / self.sampling_rate,
            )
            for place in cities.values()
        ]
        super().__init__(SMALL_SIZES if small else SIZES, SceneChoice(tracers))

    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the positions of a drop of the training; see `Scenario`."""
        _, origin, trp_position, ue_position = self._draw(seed, num_ues, "train")
        return trp_position - origin, ue_position - origin

    def drop(
        self,
        seed: tf.Tensor | tuple[int, int],
        num_ues: int | None = None,
        split: str = "train",
    ) -> dict[str, tf.Tensor]:
        """Draw a place, positions there, and trace all links; see `Scenario`."""
        seed = tf.convert_to_tensor(seed)
        scene, origin, trp_position, ue_position = self._draw(
            seed, num_ues or self.num_ues, split
        )
        paths = self.channel(trp_position, ue_position, seed, scene)
        return {
            "trp_position": trp_position - origin,
            "ue_position": ue_position - origin,
            **paths,
        }

    def draw_street(
        self, generator: np.random.Generator, split: str
    ) -> tuple[str, Street]:
        """Draw where a drop of a split is.

        Args:
            generator: what is drawn from.
            split: `"train"`, `"validation"` or `"test"`.

        Returns: name of the city, and the street.
        """
        names = self._cities_of(split)
        name = names[generator.integers(len(names))]
        is_held_out = split != "train" and name != UNSEEN
        return name, self.blocks[name].draw(generator, split if is_held_out else None)

    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""
        return {
            **super().config(),
            "train_cities": list(self.train_cities),
            "test_place": self.test_place,
            "blocks": {name: blocks.config() for name, blocks in self.blocks.items()},
            "trp_above_roof": TRP_ABOVE_ROOF,
            "ue_height": UE_HEIGHT,
            "num_tries": _NUM_TRIES,
        }

    def _cities_of(self, split: str) -> tuple[str, ...]:
        """Return the cities in which the drops of a split are."""
        if split == "validation":
            own = tuple(name for name in self.train_cities if name in _VALIDATED)
            return own or _VALIDATED[:1]
        if split == "test" and self.test_place != "held_out":
            return (self.test_place,)
        return self.train_cities

    def _draw(
        self, seed: tf.Tensor, num_ues: int, split: str
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draw a drop's positions in coordinates of its city.

        Returns: index of the city's scene [], int32; the zero of the drop's
            coordinates [3]; positions of the TRPs [num_sites, 3] and of the UEs
            [num_ues, 3]; float32 [m].
        """

        def place(seed: np.ndarray) -> tuple[np.ndarray, ...]:
            return self._place_devices(seed, num_ues, split)

        types = [tf.int32, tf.float32, tf.float32, tf.float32]
        shapes = [[], [3], [self.num_sites, 3], [num_ues, 3]]
        values = tf.numpy_function(place, [tf.cast(seed, tf.int64)], types)
        return tuple(map(tf.ensure_shape, values, shapes))

    def _place_devices(
        self, seed: np.ndarray, num_ues: int, split: str
    ) -> tuple[np.ndarray, ...]:
        """See `_draw`."""
        generator = np.random.default_rng(seed.view(np.uint64).tolist())
        name, street = self.draw_street(generator, split)
        here = self.cities[name]

        def draw(contains: Any, cells: np.ndarray, count: int) -> np.ndarray:
            uniform = generator.random((count, _NUM_TRIES, 3))
            uniform[:, -1, 1:] = 0.5  # The middle of a cell never misses.
            return draw_points(here, contains, cells, 1.0, uniform)

        trp_position = draw(here.is_roof, street.trp_cells, self.num_sites)
        trp_position[:, 2] += TRP_ABOVE_ROOF
        ue_position = draw(here.is_street, street.ue_cells, num_ues)
        ue_position[:, 2] += UE_HEIGHT
        scene = np.int32(list(self.cities).index(name))
        return scene, street.origin.astype(np.float32), trp_position, ue_position
