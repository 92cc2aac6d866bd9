"""What the densities that localizers give promise, and whether they hold it.

The credible level of a sample is the probability that its density gives to all places
that are more likely than the true position: the smallest region of highest density that
holds the true position has this probability. Where densities are right, levels are
uniform between 0 and 1, so that the region of probability p holds the true position of
a share p of the samples. That share is the coverage:

    coverage_50, coverage_90, coverage_95   shares of samples, 0.5, 0.9, 0.95 if right
    radius_coverage_50, ...                 likewise, of circles around the estimates,
                                            each as wide as its density says that it
                                            has to be (the credible radius)
    expected_error                          mean distance [m] between estimate and true
                                            position that the densities promise; the
                                            `mae` if right
    nll                                     mean negative logarithm of the density
                                            [1/m^2] at the true position

All of it in the horizontal plane. Levels, radii and expected errors are estimated from
draws of each density.

References: Hyndman, "Computing and Graphing Highest Density Regions"; Gneiting et al.,
"Probabilistic forecasts, calibration and sharpness".
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sionna_loc.checks import check
from sionna_loc.layers.mixture import MAP_COLUMNS

COVERAGES = (50, 90, 95)
_NUM_DRAWS = 500
_LEAST_WEIGHT = 1e-6  # of a component of some thousand that draws may come upon
_LEAST_SHARE, _MOST_CLIMBS, _CLIMB_STEPS = 1e-2, 64, 40  # of the search for modes


class Promise(NamedTuple):
    """How far off their estimates densities promise to be.

    Attributes:
        expected_error: [num_samples], float [m]. Distance to the true position.
        credible_radius: [num_samples, 3], float [m]. Of circles around the estimate
            with a probability of 50, 90 and 95 %, see `COVERAGES`.
    """

    expected_error: np.ndarray
    credible_radius: np.ndarray


class Belief(NamedTuple):
    """What densities say about the true positions, [num_samples] each.

    Attributes:
        level: credible level of the true position, in [0, 1].
        circle_level: probability of the circle around the estimate on which the true
            position lies, in [0, 1].
        expected_error: promised distance between estimate and true position [m].
        log_density: logarithm of the density [1/m^2] at the true position.
    """

    level: np.ndarray
    circle_level: np.ndarray
    expected_error: np.ndarray
    log_density: np.ndarray

    @classmethod
    def joined(cls, parts: list["Belief"]) -> "Belief":
        """Return one belief about the samples of all parts."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def metrics(self) -> dict[str, float]:
        """Return `coverage_50`, ..., `expected_error` and `nll`, see the module."""
        levels = {"coverage": self.level, "radius_coverage": self.circle_level}
        return {
            **{
                f"{name}_{p}": float(np.mean(level <= p / 100))
                for name, level in levels.items()
                for p in COVERAGES
            },
            "expected_error": float(np.mean(self.expected_error)),
            "nll": float(-np.mean(self.log_density)),
        }


def promise(
    outputs: Mapping[str, Any],
    generator: np.random.Generator,
    num_draws: int = _NUM_DRAWS,
) -> Promise | None:
    """Return how far off the estimates of a localizer are, by its own densities.

    Args:
        outputs: of the localizer, see `examine`.
        generator: of the draws.
        num_draws: int > 0. Of each density.

    Returns: `None` if the outputs hold no density.
    Raises: UserError (a ValueError) if a position is not a number.
    """
    maps = _maps_of(outputs)
    if maps is None:
        return None
    finite = np.isfinite(np.asarray(outputs["position"])).all(axis=1)
    check(
        bool(finite.all()),
        "The positions that the model gives must be finite; it has diverged, and a "
        "smaller learning rate may help.",
        num_samples=len(finite),
        num_finite=int(finite.sum()),
    )
    drawn = _drawn(maps, outputs["position"], generator, num_draws)
    away = np.array([away for _, _, away in drawn]).reshape(-1, num_draws)
    radii = np.quantile(away, [p / 100 for p in COVERAGES], axis=1)
    return Promise(np.mean(away, axis=1), radii.T)


def examine(
    outputs: Mapping[str, Any],
    true_position: Any,
    generator: np.random.Generator,
    num_draws: int = _NUM_DRAWS,
) -> Belief | None:
    """Compare the densities of a localizer with the true positions.

    Args:
        outputs: of the localizer. `position` [num_samples, 3] [m], and `map`
            [num_samples, num_components, 8], see `layers.mixture.MAP_COLUMNS`, or
            `covariance` [num_samples, 3, 3] [m^2] of a Gaussian around the position.
        true_position: [num_samples, 3], float [m].
        generator: of the draws.
        num_draws: int > 0. Of each density.

    Returns: `None` if the outputs hold no density.
    """
    maps = _maps_of(outputs)
    if maps is None:
        return None
    position = np.asarray(outputs["position"], dtype=float)
    true = np.asarray(true_position, dtype=float)
    rows = []
    drawn = _drawn(maps, position, generator, num_draws)
    for values, estimate, truth, (density, draws, away) in zip(
        maps, position, true, drawn, strict=True
    ):
        # The lightest components are all there is at a place that surprises.
        at_truth = HorizontalDensity(values).log(truth[None, :2])[0]
        error = np.linalg.norm(truth[:2] - estimate[:2])
        rows.append(
            (
                np.mean(density.log(draws) > at_truth),
                np.mean(away < error),
                np.mean(away),
                at_truth,
            )
        )
    return Belief(*np.array(rows).T)


def draw_positions(
    outputs: Mapping[str, Any], generator: np.random.Generator, num_draws: int
) -> np.ndarray | None:
    """Return positions drawn from the densities of a localizer.

    Args:
        outputs: of the localizer, see `examine`.
        generator: of the draws.
        num_draws: int > 0. Of each density.

    Returns: [num_samples, num_draws, 3], float [m]; `None` if the outputs hold no
        density.
    """
    maps = _maps_of(outputs)
    if maps is None:
        return None
    draws = np.empty((len(maps), num_draws, 3))
    for values, places in zip(maps, draws, strict=True):
        values = significant(values)
        density = HorizontalDensity(values)
        chosen = density.choose(generator, num_draws)
        places[:, :2] = density.draw_around(chosen, generator)
        height, deviation = values[chosen, 3], values[chosen, 6]
        places[:, 2] = generator.normal(height, deviation)
    return draws


def gaussian_maps(position: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return Gaussians as maps of one component, [num_samples, 1, 8].

    Args:
        position: [num_samples, 3], float [m].
        covariance: [num_samples, 3, 3], float [m^2].
    """
    deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    correlation = covariance[:, 0, 1] / (deviation[:, 0] * deviation[:, 1])
    columns = [np.zeros(len(position)), *position.T, *deviation.T, correlation]
    return np.stack(columns, axis=-1)[:, None]


def _maps_of(outputs: Mapping[str, Any]) -> np.ndarray | None:
    """Return the density of each sample as a map, None if there is none."""
    if "map" in outputs:
        maps = np.asarray(outputs["map"], dtype=float)
    elif "covariance" in outputs:
        position, covariance = outputs["position"], outputs["covariance"]
        maps = gaussian_maps(*(np.asarray(x, float) for x in (position, covariance)))
    else:
        return None
    check(
        maps.ndim == 3 and maps.shape[-1] == len(MAP_COLUMNS),
        f"A map must have the shape [num_samples, num_components, {len(MAP_COLUMNS)}].",
        shape=maps.shape,
    )
    return maps


def _drawn(
    maps: np.ndarray, position: Any, generator: np.random.Generator, num_draws: int
) -> Iterator[tuple["HorizontalDensity", np.ndarray, np.ndarray]]:
    """Yield of each sample its density without what is too light to be drawn.

    Yields: with it draws [num_draws, 2] [m], and how far they are from the estimate.
    """
    for values, estimate in zip(maps, np.asarray(position, float), strict=True):
        density = HorizontalDensity(significant(values))
        draws = density.draw(generator, num_draws)
        yield density, draws, np.linalg.norm(draws - estimate[:2], axis=1)


def significant(values: np.ndarray) -> np.ndarray:
    """Return those components of a map [num_components, 8] that draws come upon."""
    log_weight = values[:, 0]
    return values[log_weight >= log_weight.max() + np.log(_LEAST_WEIGHT)]


class HorizontalDensity:
    """Horizontal density of one sample.

    Args:
        values: [num_components, 8], float. See `layers.mixture.MAP_COLUMNS`; weights
            need not sum to 1.
        least_deviation: float >= 0 [m]. Narrower components are taken to be as wide,
            so that a picture's pixels do not miss them.
    """

    def __init__(self, values: np.ndarray, least_deviation: float = 0.0) -> None:
        values = np.asarray(values, dtype=float)
        log_weight = values[:, 0] - values[:, 0].max()
        weight = np.exp(log_weight)
        self.weight = weight / weight.sum()
        self.log_weight = log_weight - np.log(weight.sum())
        self.mean = values[:, 1:3]
        self.deviation = np.maximum(values[:, 4:6], least_deviation)
        self.correlation = values[:, 7]

    def draw(self, generator: np.random.Generator, number: int) -> np.ndarray:
        """Return places [number, 2] [m]."""
        return self.draw_around(self.choose(generator, number), generator)

    def choose(self, generator: np.random.Generator, number: int) -> np.ndarray:
        """Return components [number], int, as often as they are likely."""
        return generator.choice(len(self.weight), size=number, p=self.weight)

    def draw_around(
        self, chosen: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """Return places [number, 2] [m], one of each component [number], int."""
        x, y = generator.standard_normal((2, len(chosen)))
        shared = self.correlation[chosen]
        y = shared * x + np.sqrt(1 - shared**2) * y
        away = self.deviation[chosen] * np.stack([x, y], axis=-1)
        return self.mean[chosen] + away

    def log(self, places: np.ndarray) -> np.ndarray:
        """Return the logarithm of the density [1/m^2] at places [number, 2]."""
        exponent = self._logs(places)
        highest = exponent.max(axis=1, keepdims=True)
        return highest[:, 0] + np.log(np.exp(exponent - highest).sum(axis=1))

    def _logs(self, places: np.ndarray) -> np.ndarray:
        """Return the components' logarithms at places, [number, num_components]."""
        away = (places[:, None] - self.mean) / self.deviation
        x, y = away[..., 0], away[..., 1]
        free = 1 - self.correlation**2
        squared = (x * x - 2 * self.correlation * x * y + y * y) / free
        volume = 2 * np.pi * np.sqrt(free) * np.prod(self.deviation, axis=1)
        return self.log_weight - np.log(volume) - squared / 2

    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the maxima [num_modes, 2] [m], and the share of each [num_modes].

        From the mean of each heavy component the way leads uphill, by the fixed-point
        iteration for Gaussian mixtures; where ways meet is a maximum, and its share is
        the weight of the components that lead there. The heaviest comes first.

        References: Carreira-Perpinan, "Mode-finding for mixtures of Gaussian
            distributions", Sec. 3.
        """
        heavy = np.argsort(-self.weight)[:_MOST_CLIMBS]
        heavy = heavy[self.weight[heavy] >= _LEAST_SHARE * self.weight.max()]
        ends = self._climb(self.mean[heavy])
        height = self.log(ends)
        places: list[np.ndarray] = []
        shares: list[float] = []
        for end in np.argsort(-height):
            weight = self.weight[heavy[end]]
            for number, place in enumerate(places):
                if self._no_valley(place, ends[end], height[end]):
                    shares[number] += weight
                    break
            else:
                places.append(ends[end])
                shares.append(weight)
        order = np.argsort(-np.array(shares))
        shares = np.array(shares)[order]
        return np.array(places)[order], shares / shares.sum()

    def _climb(self, places: np.ndarray) -> np.ndarray:
        """Return where the ways uphill from places [number, 2] lead."""
        free = 1 - self.correlation**2
        (dx, dy), (mx, my) = self.deviation.T, self.mean.T
        a, c = 1 / (free * dx**2), 1 / (free * dy**2)
        b = -self.correlation / (free * dx * dy)
        parts = np.stack([a, b, c, a * mx + b * my, b * mx + c * my], axis=1)
        for _ in range(_CLIMB_STEPS):
            logs = self._logs(places)
            share = np.exp(logs - logs.max(axis=1, keepdims=True))
            a, b, c, x, y = (share @ parts).T
            places = np.stack([c * x - b * y, a * y - b * x], axis=1)
            places /= (a * c - b * b)[:, None]
        return places

    def _no_valley(self, a: np.ndarray, b: np.ndarray, height: float) -> bool:
        """Return whether the density between two places never falls below `height`."""
        between = np.linspace(0, 1, 9)[1:-1, None]
        heights = self.log(a + between * (b - a))
        return bool(np.all(heights >= height - 1e-3))
