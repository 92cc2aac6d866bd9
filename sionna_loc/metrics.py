"""How far estimated positions are from true ones, in metres.

The error of a sample is the Euclidean distance between its true and its estimated
position: in the horizontal plane, or in space (`_3d`). Per coordinate (`_axis`) it has
two errors instead, the distances along x and along y. From the N errors of a set:

    rmse              sqrt(mean(error^2))
    mae               mean(error), the mean Euclidean distance
    p50, p90, p95     percentiles: so many of 100 samples are at most this far off

Each comes with its 95 % bootstrap interval: the 2.5th and the 97.5th percentile of
the same metric over sets of N errors drawn with replacement. The interval tells how
far the metric depends on which samples the test set happens to hold.

References: Efron and Tibshirani, "An Introduction to the Bootstrap", ch. 13.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive_int

PERCENTILES = (50, 90, 95)
_MAX_CHUNK = 4_000_000  # errors resampled at a time: 32 MB


def horizontal_errors(true_position: Any, estimated_position: Any) -> np.ndarray:
    """Return the horizontal distances [num_samples] [m] of positions [.., 2 or 3]."""
    return _distances(true_position, estimated_position, 2)


def spatial_errors(true_position: Any, estimated_position: Any) -> np.ndarray:
    """Return the distances in space [num_samples] [m] of positions [num_samples, 3]."""
    return _distances(true_position, estimated_position, 3)


def axis_errors(true_position: Any, estimated_position: Any) -> np.ndarray:
    """Return the distances [num_samples, 2] [m] along x and along y."""
    true, estimated = _checked(true_position, estimated_position, 2)
    return np.abs(estimated[:, :2] - true[:, :2])


def error_metrics(errors: np.ndarray) -> dict[str, float]:
    """Return `rmse`, `mae`, `p50`, `p90`, `p95` [m] of errors.

    Args:
        errors: [num_samples] or, all of them counted alike, [num_samples, num_axes],
            float [m].
    """
    _check_errors(errors)
    return {name: float(value[0]) for name, value in _metrics_of_rows(errors[None])}


def bootstrap_intervals(
    errors: np.ndarray, num_resamples: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """Return the 95 % interval `[lower, upper]` [m] of each of `error_metrics`.

    Args:
        errors: [num_samples] or [num_samples, num_axes], float [m].
        num_resamples: int > 0. Sets of samples drawn with replacement.
        seed: int. Same seed, same intervals.
    """
    _check_errors(errors)
    check_positive_int("num_resamples", num_resamples)
    generator = np.random.default_rng(seed)
    chunk = max(1, min(num_resamples, _MAX_CHUNK // errors.size))
    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, num_resamples, chunk):
        size = (min(chunk, num_resamples - start), len(errors))
        picks = generator.integers(len(errors), size=size)
        for name, values in _metrics_of_rows(errors[picks]):
            rows.setdefault(name, []).append(values)
    return {
        name: np.percentile(np.concatenate(values), [2.5, 97.5]).tolist()
        for name, values in rows.items()
    }


def position_metrics(
    true_position: Any,
    estimated_position: Any,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of a set, with their intervals.

    Args:
        true_position: [num_samples, 3], float [m].
        estimated_position: [num_samples, 3], float [m].
        num_resamples: int > 0. Bootstrap sets.
        seed: int. Of the bootstrap.

    Returns: dict with `rmse`, `mae`, `p50`, `p90`, `p95` (horizontal), the same names
        with `_3d` (in space) and `_axis` (per coordinate), `num_samples`, and
        `intervals`: metric name -> `[lower, upper]`, 95 %. All in metres but
        `num_samples`; JSON-able.

    Raises: UserError if there are no samples, the shapes disagree, or a value is not
        finite.
    """
    metrics: dict[str, Any] = {}
    intervals: dict[str, list[float]] = {}
    kinds: tuple[tuple[str, Callable], ...] = (
        ("", horizontal_errors),
        ("_3d", spatial_errors),
        ("_axis", axis_errors),
    )
    for suffix, distances in kinds:
        errors = distances(true_position, estimated_position)
        named = error_metrics(errors).items()
        metrics |= {name + suffix: value for name, value in named}
        bounds = bootstrap_intervals(errors, num_resamples, seed).items()
        intervals |= {name + suffix: value for name, value in bounds}
    return metrics | {"num_samples": len(errors), "intervals": intervals}


@keras.saving.register_keras_serializable(package="sionna_loc")
class HorizontalRMSE(keras.metrics.Metric):
    """Root mean square of the horizontal distance [m], over all batches seen.

    Call arguments:
        y_true: [batch, 2 or 3], float [m]. Only x and y count.
        y_pred: [batch, 2 or 3], float [m].
        sample_weight: [batch], float, or None.
    """

    def __init__(self, name: str = "rmse", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._sum = self.add_weight(name="sum", initializer="zeros")
        self._count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        squared = ops.sum(ops.square(y_pred[..., :2] - y_true[..., :2]), axis=-1)
        weight = ops.ones_like(squared)
        if sample_weight is not None:
            weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype) * weight
        self._sum.assign_add(ops.sum(weight * squared))
        self._count.assign_add(ops.sum(weight))

    def result(self) -> Any:
        """Return the root mean square so far [m], 0 before the first batch."""
        return ops.sqrt(ops.divide_no_nan(self._sum.value, self._count.value))


def _metrics_of_rows(errors: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (name, [num_rows]) of each metric of errors [num_rows, ...]."""
    errors = errors.reshape(len(errors), -1)
    percentiles = np.percentile(errors, PERCENTILES, axis=1)
    return [
        ("rmse", np.sqrt(np.mean(np.square(errors), axis=1))),
        ("mae", np.mean(errors, axis=1)),
        *zip((f"p{p}" for p in PERCENTILES), percentiles, strict=True),
    ]


def _distances(true_position: Any, estimated_position: Any, size: int) -> np.ndarray:
    """Return the distances over the first `size` coordinates."""
    true, estimated = _checked(true_position, estimated_position, size)
    return np.linalg.norm(estimated[:, :size] - true[:, :size], axis=1)


def _checked(
    true_position: Any, estimated_position: Any, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return both positions as arrays, or raise `UserError`."""
    true = np.asarray(true_position, dtype=np.float64)
    estimated = np.asarray(estimated_position, dtype=np.float64)
    check(
        true.ndim == 2 and true.shape[1] >= size and true.shape == estimated.shape,
        f"Positions must have the same shape [num_samples, {size} or more].",
        true_position=true.shape,
        estimated_position=estimated.shape,
    )
    check(len(true) > 0, "There must be samples to measure.", num_samples=len(true))
    for name, values in (("true", true), ("estimated", estimated)):
        bad = int(np.sum(~np.isfinite(values).all(axis=1)))
        message = f"Every {name} position must be finite."
        check(bad == 0, message, not_finite=bad, num_samples=len(values))
    return true, estimated


def _check_errors(errors: np.ndarray) -> None:
    """Raise `UserError` unless errors are a filled vector or table."""
    check(
        errors.ndim in (1, 2) and errors.size > 0,
        "`errors` must be a vector or a table of 1 or more errors.",
        shape=errors.shape,
    )
