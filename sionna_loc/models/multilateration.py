"""Multilateration: the classical baseline, on the first path of each TRP."""

import itertools
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive_int
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.layers.first_path import FirstPath
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.models.base import Localizer
from sionna_loc.models.range_calibration import fit_log_odds, log_density
from sionna_loc.models.range_evidence import RangeEvidence, RangeStatistics

_NUM_ADAPT_BATCHES = 16
_NUM_STEPS = 8  # of Gauss-Newton
_SAME_MODE = 2.0  # candidates closer than this are one [m]
_LARGEST_STEP = 5.0  # [m]
_HEIGHT_ABOVE_GROUND = 1.5  # of a UE, before `adapt` has seen any [m]
_SURE = 0.9  # posterior share of a mode that is the estimate by itself
_MIN_LOG = -1e9


@keras.saving.register_keras_serializable(package="sionna_loc")
class Multilateration(Localizer):
    """Finds the position that best explains the first-path ranges; nothing is trained.

    A range is either the true distance, up to a small error (Student's t with 2
    degrees of freedom), or too long by an exponentially distributed excess, because
    the link has no line of sight; which of the two is not known. Candidates are the
    points where the circles of two TRPs meet, so that every pair proposes and all
    TRPs vote; the likeliest are refined by Gauss-Newton steps with robust weights. The
    estimate is the posterior mean over these modes and a grid over the region, which
    takes over where the ranges leave the position open, e.g. with one TRP.

    Single reflections at a house front are consistent with one another: they all
    point to the UE's mirror image behind that front. So it matters where UEs can be.
    This density, the height of the UE, the error statistics and how the level of the
    first path tells line of sight are calibrated by `adapt`; without it, typical
    values hold, UEs can be anywhere in the region, and the level is not used.

    Args:
        region: [2, 3], float [m]. Box of the UEs; estimates stay inside.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        bandwidth: float > 0 [Hz], or None for half of the sampling rate.
        num_modes: int > 0. Candidates that are refined.
        grid_size: int > 0. Points of the grid along each side.
        max_pair_trps: int > 0. TRPs whose pairs propose, the strongest for their
            range; all TRPs vote.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive or does not fit.
    References: Güvenç and Chong, "A Survey on TOA Based Wireless Localization and
        NLOS Mitigation Techniques" (Sec. IV: likelihood with line-of-sight
        hypotheses, residual weighting over subsets, one-sided constraints).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    DEFAULT_PRESET = "default"

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        bandwidth: float | None = None,
        num_modes: int = 6,
        grid_size: int = 48,
        max_pair_trps: int = 24,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        for name, value in (
            ("num_ant", num_ant),
            ("num_modes", num_modes),
            ("grid_size", grid_size),
            ("max_pair_trps", max_pair_trps),
        ):
            check_positive_int(name, value)
        self.num_ant = num_ant
        self.num_modes = num_modes
        self.grid_size = grid_size
        self.max_pair_trps = max_pair_trps
        bandwidth = sampling_rate / 2 if bandwidth is None else bandwidth
        self.first_path = FirstPath(num_taps, sampling_rate, bandwidth)
        self._lower, self._upper = np.asarray(self.region, dtype="float32")
        self._grid, self._cell_area = self._make_grid()
        height = min(self._lower[2] + _HEIGHT_ABOVE_GROUND, self._upper[2])
        self._ue_height = self._constant("ue_height", height)
        self._los_scale = self._constant("los_scale", 0.2)
        self._mean_excess = self._constant("mean_excess", 60.0)
        self._level_reference = self._constant("level_reference", 0.0)
        self._log_density = self._constant("log_density", np.zeros(len(self._grid)))
        self._log_odds = self._constant("log_odds", [math.log(0.3 / 0.7), 0.0, 0.0])
        self.built = True

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Calibrate UE density and height, error statistics, line-of-sight level.

        Args:
            dataset: batches of (inputs, targets); only the first are used.
        """
        positions, residuals, levels = [], [], []
        for inputs, targets in itertools.islice(dataset, _NUM_ADAPT_BATCHES):
            ranges, level, trps, mask = self._measure(inputs)
            position = ops.expand_dims(ops.cast(targets["position"], "float32"), 1)
            distance = _norm(position - trps)
            heard = ops.convert_to_numpy(mask)
            residuals.append(ops.convert_to_numpy(ranges - distance)[heard])
            levels.append(ops.convert_to_numpy(level)[heard])
            positions.append(ops.convert_to_numpy(position[:, 0]))
        check(len(levels) > 0, "Calibration needs at least one batch.", num_batches=0)
        positions = np.concatenate(positions)
        self._ue_height.assign(np.median(positions[:, 2]))
        self._log_density.assign(log_density(self._grid, positions[:, :2]))
        self._calibrate(np.concatenate(residuals), np.concatenate(levels))

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        ranges, level, trps, mask = self._measure(inputs)
        statistics = RangeStatistics(
            ue_height=self._ue_height,
            los_scale=self._los_scale,
            mean_excess=self._mean_excess,
            level_reference=self._level_reference,
            log_odds=self._log_odds,
        )
        evidence = RangeEvidence(statistics, ranges, level, trps, mask)
        candidates = self._meeting_points(evidence)
        modes = self._refine(evidence, self._pick(evidence, candidates))
        mode_weight = self._log_posterior(evidence, modes) + evidence.log_area(modes)
        mode_weight = _without_repeats(modes, mode_weight)
        grid = ops.broadcast_to(
            self._grid[None], (ops.shape(ranges)[0], *self._grid.shape)
        )
        grid_weight = evidence.log_likelihood(grid) + self._log_density
        grid_weight = grid_weight + math.log(self._cell_area)
        # The mass around a mode is the mode's already.
        separation = _norm(grid[:, :, None] - modes[:, None])
        covered = separation < 1.5 * math.sqrt(self._cell_area)
        grid_weight = ops.where(ops.any(covered, axis=2), _MIN_LOG, grid_weight)
        points = ops.concatenate([modes, grid], axis=1)
        weight = ops.concatenate([mode_weight, grid_weight], axis=1)
        weight = ops.softmax(weight, axis=1)
        # Where one mode is as good as sure, the rest would only pull it aside.
        sure = weight > _SURE
        alone = ops.any(sure, axis=1, keepdims=True)
        weight = ops.where(alone, ops.cast(sure, weight.dtype), weight)[..., None]
        position = ops.sum(weight * points, axis=1)  # [batch, 2]
        height = ops.full_like(position[:, :1], 1.0) * self._ue_height
        return {"position": ops.concatenate([position, height], axis=1)}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_taps": self.first_path.num_taps,
            "sampling_rate": self.first_path.sampling_rate,
            "num_ant": self.num_ant,
            "bandwidth": self.first_path.bandwidth,
            "num_modes": self.num_modes,
            "grid_size": self.grid_size,
            "max_pair_trps": self.max_pair_trps,
        }

    def _constant(self, name: str, value: Any) -> Any:
        """Add a non-trainable weight."""
        initial = keras.initializers.Constant(value)
        return self.add_weight(
            shape=np.shape(value), initializer=initial, trainable=False, name=name
        )

    def _make_grid(self) -> tuple[np.ndarray, float]:
        """Return the centres [num_points, 2] and the area [m^2] of the grid's cells."""
        size = np.maximum(self._upper[:2] - self._lower[:2], 1e-3)
        steps = (np.arange(self.grid_size) + 0.5) / self.grid_size
        x, y = np.meshgrid(*(self._lower[:2, None] + size[:, None] * steps))
        grid = np.stack([x.ravel(), y.ravel()], axis=-1).astype("float32")
        return grid, float(np.prod(size)) / len(grid)

    def _measure(self, inputs: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Return ranges [m], levels [dB], TRP positions [m] and mask, each dense."""
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.first_path.num_taps)
        delay, amplitude = self.first_path(tokens.cir)
        ranges = delay * SPEED_OF_LIGHT
        # Free-space loss undone: the same for all links in line of sight.
        level = 20 / math.log(10) * ops.log(amplitude * ranges + 1e-20)
        return tokens.densify(ranges, level, tokens.trp_position)

    def _calibrate(self, residuals: np.ndarray, levels: np.ndarray) -> None:
        """Set the error statistics from residuals [m] and levels [dB] of links."""
        los = np.abs(residuals) < _SAME_MODE
        if los.any():
            # The median of |t| with 2 degrees of freedom is 0.816.
            scale = np.median(np.abs(residuals[los])) / 0.816
            self._los_scale.assign(np.clip(scale, 0.02, _SAME_MODE))
            self._level_reference.assign(np.median(levels[los]))
        excess = residuals[residuals >= _SAME_MODE]
        if excess.size:
            self._mean_excess.assign(excess.mean())
        if los.any() and not los.all():
            x = levels - float(np.asarray(self._level_reference))
            self._log_odds.assign(fit_log_odds(x, los))

    def _log_posterior(self, evidence: RangeEvidence, points: Any) -> Any:
        """Return log-likelihood plus log density of UEs, [batch, num_points]."""
        size = ops.convert_to_tensor(self._upper[:2] - self._lower[:2] + 1e-3)
        cell = (points - self._lower[:2]) / size * self.grid_size
        cell = ops.clip(ops.cast(cell, "int32"), 0, self.grid_size - 1)
        cell = cell[..., 1] * self.grid_size + cell[..., 0]
        return evidence.log_likelihood(points) + ops.take(self._log_density, cell)

    def _meeting_points(self, evidence: RangeEvidence) -> Any:
        """Return where the circles of two TRPs meet, [batch, num_pairs, 2] [m]."""
        order = ops.argsort(-evidence.level, axis=1)[:, : self.max_pair_trps]
        center = ops.take_along_axis(evidence.trps[..., :2], order[..., None], axis=1)
        squared = ops.take_along_axis(evidence.squared_radius, order, axis=1)
        heard = ops.take_along_axis(evidence.heard, order, axis=1)
        between = center[:, None] - center[:, :, None]  # [batch, i, j, 2], i to j
        distance = ops.sqrt(ops.sum(ops.square(between), axis=-1) + 1e-6)
        along = squared[:, :, None] - squared[:, None] + ops.square(distance)
        along = along / (2 * distance)
        across = ops.sqrt(ops.relu(squared[:, :, None] - ops.square(along)))
        x, y = ops.split(between / distance[..., None], 2, axis=-1)
        # One side for (i, j); (j, i) gives the other.
        normal = ops.concatenate([-y, x], axis=-1)
        points = center[:, :, None] + along[..., None] * (between / distance[..., None])
        points = points + across[..., None] * normal
        both = (heard[:, :, None] * heard[:, None])[..., None]
        middle = ops.convert_to_tensor(self._center[:2])
        points = ops.where((both > 0) & (distance[..., None] > 0.1), points, middle)
        points = ops.reshape(points, (ops.shape(points)[0], -1, 2))
        return ops.clip(points, self._lower[:2], self._upper[:2])

    def _pick(self, evidence: RangeEvidence, points: Any) -> Any:
        """Return the likeliest points that are not close, [batch, num_modes, 2]."""
        score = self._log_posterior(evidence, points)
        chosen = []
        for _ in range(self.num_modes):
            best = ops.argmax(score, axis=1)[:, None, None]
            chosen.append(ops.take_along_axis(points, best, axis=1))
            near = _norm(points - chosen[-1]) < _SAME_MODE
            score = ops.where(near, _MIN_LOG, score)
        return ops.concatenate(chosen, axis=1)

    def _refine(self, evidence: RangeEvidence, modes: Any) -> Any:
        """Move modes [batch, num_modes, 2] uphill by Gauss-Newton steps."""
        for _ in range(_NUM_STEPS):
            moved = modes + ops.clip(
                evidence.newton_step(modes), -_LARGEST_STEP, _LARGEST_STEP
            )
            moved = ops.clip(moved, self._lower[:2], self._upper[:2])
            better = evidence.log_likelihood(moved) > evidence.log_likelihood(modes)
            modes = ops.where(better[..., None], moved, modes)
        return modes


def _without_repeats(modes: Any, weight: Any) -> Any:
    """Return weights without those of modes close to one that is heavier."""
    near = _norm(modes[:, :, None] - modes[:, None]) < _SAME_MODE / 2
    index = ops.arange(modes.shape[1])
    first = index[None] < index[:, None]
    heavier = weight[:, None] > weight[:, :, None]
    tied = (weight[:, None] == weight[:, :, None]) & first[None]
    repeated = ops.any(near & (heavier | tied), axis=-1)
    return ops.where(repeated, _MIN_LOG, weight)


def _norm(x: Any) -> Any:
    """Return the length of vectors on the last axis."""
    return ops.sqrt(ops.sum(ops.square(x), axis=-1))
