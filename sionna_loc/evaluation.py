"""Evaluation of localizers on frozen sets: metrics, splits, tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from sionna_loc.calibration import Belief, examine
from sionna_loc.checks import check
from sionna_loc.metrics import error_metrics, horizontal_errors, position_metrics

_COLUMNS = ("rmse", "mae", "p50", "p90", "p95", "rmse_3d")
_SEED = 0  # of the draws from densities


@dataclass(frozen=True)
class Evaluation:
    """What a localizer did on a set of samples.

    Attributes:
        metrics: `position_metrics` of the set: name -> metres, `num_samples`, and
            `intervals`: name -> 95 % bootstrap interval; of localizers that give a
            density also `Belief.metrics`. JSON-able.
        true_position: [num_samples, 3] [m].
        estimated_position: [num_samples, 3] [m].
        trp_position: one array [num_trps, 3] [m] per sample: the TRPs it hears.
        num_trps_heard: [num_samples], int.
        credible_level: [num_samples], float, of the true positions, see
            `calibration`; `None` for localizers that give no density.
    """

    metrics: dict[str, Any]
    true_position: np.ndarray
    estimated_position: np.ndarray
    trp_position: list[np.ndarray]
    num_trps_heard: np.ndarray
    credible_level: np.ndarray | None = None

    @property
    def errors(self) -> np.ndarray:
        """Horizontal error of each sample, [num_samples] [m]."""
        return horizontal_errors(self.true_position, self.estimated_position)

    def by_num_trps_heard(self) -> dict[int, dict[str, float]]:
        """Return, for each number of TRPs heard, `error_metrics` and `num_samples`."""
        errors = self.errors
        groups = {}
        for heard in np.unique(self.num_trps_heard):
            chosen = errors[self.num_trps_heard == heard]
            groups[int(heard)] = error_metrics(chosen) | {"num_samples": chosen.size}
        return groups


def evaluate(
    model: keras.Model, batches: Iterable[tuple[dict[str, Any], dict[str, Any]]]
) -> Evaluation:
    """Locate all samples and measure the errors.

    Args:
        model: localizer: inputs -> dict with `position` [batch, 3] [m], and `map` or
            `covariance` if it gives a density, see `calibration.examine`.
        batches: finite; (inputs, targets) as a featurizer gives them, ragged or
            padded with `trp_mask`; `targets["position"]` is [batch, 3] [m].

    Raises: UserError if there are no samples, or if an estimate is not finite.
    """
    true, estimated, trps, beliefs = [], [], [], []
    generator = np.random.default_rng(_SEED)
    for inputs, targets in batches:
        outputs = model.predict_on_batch(inputs)
        true.append(np.asarray(targets["position"]))
        estimated.append(np.asarray(outputs["position"]))
        trps.extend(_heard_trps(inputs))
        if np.isfinite(estimated[-1]).all():  # else the metrics say so
            beliefs.append(examine(outputs, true[-1], generator))
    num_samples = sum(map(len, true))
    check(num_samples > 0, "The set to evaluate is empty.", num_samples=num_samples)
    true_position, estimated_position = np.concatenate(true), np.concatenate(estimated)
    metrics = position_metrics(true_position, estimated_position)
    belief = None
    if None not in beliefs:
        belief = Belief.joined(beliefs)
        metrics |= belief.metrics()
    return Evaluation(
        metrics=metrics,
        true_position=true_position,
        estimated_position=estimated_position,
        trp_position=trps,
        num_trps_heard=np.asarray([len(positions) for positions in trps]),
        credible_level=None if belief is None else belief.level,
    )


def evaluate_over_num_trps(
    model: keras.Model,
    scenario: Any,
    featurizer: Any,
    counts: Sequence[int],
    num_samples: int,
    split: str = "test",
    batch_size: int = 64,
) -> dict[int, Evaluation]:
    """Evaluate on the same UEs with different numbers of TRPs drawn per sample.

    Args:
        model: localizer.
        scenario: gives `frozen(split, num_samples, num_trps, batch_size)`.
        featurizer: batch of samples -> (inputs, targets).
        counts: numbers of TRPs, each 1 to the scenario's `num_sites`.
        num_samples: int > 0. Of the frozen set.
        split: `"validation"` or `"test"`.
        batch_size: int > 0.

    Returns: number of TRPs drawn -> evaluation, in the order of `counts`.
    Raises: UserError if `counts` is empty or a count is not possible.
    """
    check(len(counts) > 0, "`counts` must name numbers of TRPs.", counts=counts)
    options: dict[str, Any] = {}
    if hasattr(featurizer, "fields"):
        options["fields"] = featurizer.fields
    if getattr(featurizer, "keeps_silent", False):
        options["keep_silent"] = True
    if getattr(featurizer, "window", 1) > 1:
        options["window"] = featurizer.window
    results = {}
    for count in counts:
        frozen = scenario.frozen(
            split,
            num_samples,
            num_trps=count,
            batch_size=batch_size,
            **options,
        )
        results[count] = evaluate(model, frozen.map(featurizer))
    return results


def metrics_table(
    lines: Mapping[Any, dict[str, Any]], heading: str = "", intervals: bool = False
) -> str:
    """Return metrics [m] as plain text, one line for each set of samples.

    Args:
        lines: label of the line -> metrics, as of `Evaluation.metrics` or
            `Evaluation.by_num_trps_heard`; the columns are those that all have.
        heading: of the column of labels.
        intervals: bool. Whether each value is followed by its 95 % interval.
    """
    columns = [name for name in _COLUMNS if all(name in m for m in lines.values())]
    rows = [[heading, *columns, "samples"]]
    for label, metrics in lines.items():
        cells = [_cell(metrics, name, intervals) for name in columns]
        rows.append([str(label), *cells, str(metrics["num_samples"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _cell(metrics: dict[str, Any], name: str, with_interval: bool) -> str:
    """Return a metric as text, e.g. `4.21` or `4.21 [3.90, 4.55]`."""
    text = f"{metrics[name]:.2f}"
    if with_interval:
        lower, upper = metrics["intervals"][name]
        text += f" [{lower:.2f}, {upper:.2f}]"
    return text


def _heard_trps(inputs: dict[str, Any]) -> list[np.ndarray]:
    """Return the positions [num_trps, 3] [m] of the TRPs that each sample hears.

    Of a window of samples they are those of the last.
    """
    positions, heard = inputs["trp_position"], inputs.get("trp_heard")
    if hasattr(positions, "row_splits"):  # ragged
        if positions.ragged_rank == 2:
            positions = positions[:, -1:].merge_dims(0, 1)
            heard = None if heard is None else heard[:, -1:].merge_dims(0, 1)
        if heard is not None:
            rows = zip(positions, heard, strict=True)
            return [np.asarray(row)[np.asarray(there)] for row, there in rows]
        splits = np.asarray(positions.row_splits)
        return np.split(np.asarray(positions.flat_values), splits[1:-1])
    positions = np.asarray(positions)
    mask = inputs.get("trp_mask", np.ones(positions.shape[:-1]))
    mask = np.asarray(mask, dtype=bool)
    there = mask if heard is None else mask & np.asarray(heard, dtype=bool)
    if positions.ndim == 4:
        exists = mask.any(axis=2)  # [batch, window]
        last = exists.shape[1] - 1 - np.argmax(exists[:, ::-1], axis=1)
        rows = np.arange(len(last))
        positions, there = positions[rows, last], there[rows, last]
    return [row[heard] for row, heard in zip(positions, there, strict=True)]
