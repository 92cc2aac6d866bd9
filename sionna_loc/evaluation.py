"""Evaluation of localizers on frozen sets: metrics, splits, tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from sionna_loc._memory import release_unused_memory
from sionna_loc.calibration import Belief, examine, significant
from sionna_loc.checks import check
from sionna_loc.error_bound import position_error_bound
from sionna_loc.metrics import error_metrics, horizontal_errors, position_metrics

BATCH_SIZE = 125
"""Of evaluations. It divides the usual sizes of sets: one shape to compile."""
_COLUMNS = ("rmse", "mae", "p50", "p90", "p95", "rmse_3d", "squared_share")
_BOUND_COLUMNS = ("bound_rms", "bound_p50")
_LINK_FIELDS = ("los", "trp_position")
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
        los_trp_position: one array [num_los, 3] [m] per sample: where those of its
            TRPs stand that it has in line of sight; `None` where nobody knows, as of
            measured samples.
        maps: one array [num_components, 8] per sample, without components of negligible
            weight, see `layers.mixture.MAP_COLUMNS`; `None` where they were not to be
            kept or the localizer gives none.
    """

    metrics: dict[str, Any]
    true_position: np.ndarray
    estimated_position: np.ndarray
    trp_position: list[np.ndarray]
    num_trps_heard: np.ndarray
    credible_level: np.ndarray | None = None
    los_trp_position: list[np.ndarray] | None = None
    maps: list[np.ndarray] | None = None

    @property
    def errors(self) -> np.ndarray:
        """Horizontal error of each sample, [num_samples] [m]."""
        return horizontal_errors(self.true_position, self.estimated_position)

    @property
    def num_trps_los(self) -> np.ndarray | None:
        """TRPs in line of sight of each sample, [num_samples], if that is known."""
        if self.los_trp_position is None:
            return None
        return np.asarray([len(positions) for positions in self.los_trp_position])

    def by_num_trps_heard(self) -> dict[int, dict[str, float]]:
        """Return the errors for each number of TRPs heard.

        Returns: number -> `error_metrics`, `num_samples` and `squared_share`: what part
            of the sum of all squared errors is these samples'.
        """
        return self._grouped(self.num_trps_heard)

    def by_num_trps_los(
        self, deviation: float | None = None
    ) -> dict[int, dict[str, Any]] | None:
        """Return the same for each number of TRPs in line of sight, if known.

        Args:
            deviation: float > 0 [m]. Of the ranges of these TRPs. With it, each group
                has also `bound_rms` and `bound_p50` [m], root mean square and median
                of its `position_error_bounds`, `None` (as in JSON) where infinite: to
                be held against `rmse`, and, less strictly, against `p50`.
        """
        numbers = self.num_trps_los
        if numbers is None:
            return None
        groups = self._grouped(numbers)
        if deviation is not None:
            bounds = self.position_error_bounds(deviation)
            for number, group in groups.items():
                group |= _bound_metrics(bounds[numbers == number])
        return groups

    def position_error_bounds(self, deviation: float) -> np.ndarray:
        """Return what the lines of sight allow, see `error_bound`, [num_samples] [m].

        Args:
            deviation: float > 0 [m]. Of the ranges of TRPs in line of sight, which must
                be known.
        """
        pairs = zip(self.true_position, self.los_trp_position, strict=True)
        return np.array([position_error_bound(*pair, deviation) for pair in pairs])

    def _grouped(self, numbers: np.ndarray) -> dict[int, dict[str, float]]:
        """Return the errors of the samples that have each of the numbers."""
        errors = self.errors
        total = np.sum(np.square(errors))
        groups = {}
        for number in np.unique(numbers):
            chosen = errors[numbers == number]
            share = np.sum(np.square(chosen)) / total if total else 0.0
            groups[int(number)] = {
                **error_metrics(chosen),
                "num_samples": chosen.size,
                "squared_share": float(share),
            }
        return groups


def fields_with_links(featurizer: Any, scenario: Any) -> tuple[str, ...]:
    """Return what to read of samples for `with_links`.

    Args:
        featurizer: names its `fields`.
        scenario: measured samples, which hold inputs, know no lines of sight.
    """
    if getattr(scenario, "holds_inputs", False):
        return featurizer.fields
    return (*featurizer.fields, "los")


def with_links(
    featurizer: Callable[[dict[str, Any]], tuple[Any, Any]],
) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return a featurizer that says besides which links are in line of sight.

    That is for `evaluate`, which hands a model the inputs only.

    Args:
        featurizer: batch of samples -> (inputs, targets).

    Returns: batch of samples -> (inputs, targets, links), `links` being the `los` and
        `trp_position` of the batch; the pair of `featurizer` if it has no `los`.
    """

    def part(batch: dict[str, Any]) -> tuple[Any, ...]:
        pair = featurizer(batch)
        if "los" not in batch:
            return pair
        return *pair, {name: batch[name] for name in _LINK_FIELDS}

    return part


def evaluate(
    model: keras.Model,
    batches: Iterable[tuple[dict[str, Any], ...]],
    keep_maps: bool = False,
) -> Evaluation:
    """Locate all samples and measure the errors.

    Args:
        model: localizer: inputs -> dict with `position` [batch, 3] [m], and `map` or
            `covariance` if it gives a density, see `calibration.examine`.
        batches: finite; (inputs, targets) as a featurizer gives them, ragged or
            padded with `trp_mask`; `targets["position"]` is [batch, 3] [m]. Or all of
            them (inputs, targets, links), see `with_links`.
        keep_maps: bool. Whether the evaluation holds the densities of localizers that
            give a `map`.

    Raises: UserError if there are no samples, or if an estimate is not finite.
    """
    true, estimated, trps, beliefs, seen, maps = [], [], [], [], [], []
    generator = np.random.default_rng(_SEED)
    for inputs, targets, *links in batches:
        outputs = model.predict_on_batch(inputs)
        true.append(np.asarray(targets["position"]))
        estimated.append(np.asarray(outputs["position"]))
        trps.extend(_heard_trps(inputs))
        for known in links:
            seen.extend(_rows_where(known["trp_position"], known["los"]))
        if keep_maps and "map" in outputs:
            maps.extend(significant(values) for values in np.asarray(outputs["map"]))
        if np.isfinite(estimated[-1]).all():  # else the metrics say so
            beliefs.append(examine(outputs, true[-1], generator))
    release_unused_memory()
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
        los_trp_position=seen or None,
        maps=maps or None,
    )


def evaluate_over_num_trps(
    model: keras.Model,
    scenario: Any,
    featurizer: Any,
    counts: Sequence[int],
    num_samples: int,
    split: str = "test",
    batch_size: int = BATCH_SIZE,
) -> dict[int, Evaluation]:
    """Evaluate on the same UEs with different numbers of TRPs drawn per sample.

    Args:
        model: localizer.
        scenario: gives `frozen(split, num_samples, num_trps, batch_size)`.
        featurizer: batch of samples -> (inputs, targets). If it names its `fields` and
            the samples are not measured, the evaluations know the lines of sight.
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
        options["fields"] = fields_with_links(featurizer, scenario)
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
        results[count] = evaluate(model, frozen.map(with_links(featurizer)))
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
    known = (*_COLUMNS, *_BOUND_COLUMNS)
    columns = [name for name in known if all(name in m for m in lines.values())]
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
    if metrics[name] is None:
        return "inf"
    text = f"{metrics[name]:.2f}"
    if with_interval:
        lower, upper = metrics["intervals"][name]
        text += f" [{lower:.2f}, {upper:.2f}]"
    return text


def _bound_metrics(bounds: np.ndarray) -> dict[str, float | None]:
    """Return root mean square and median of bounds [m], `None` for infinity."""
    found = np.sqrt(np.mean(np.square(bounds))), np.median(bounds)
    found = (float(value) if np.isfinite(value) else None for value in found)
    return dict(zip(_BOUND_COLUMNS, found, strict=True))


def _heard_trps(inputs: dict[str, Any]) -> list[np.ndarray]:
    """Return the positions [num_trps, 3] [m] of the TRPs that each sample hears.

    Of a window of samples they are those of the last.
    """
    positions = inputs["trp_position"]
    conditions = [inputs[n] for n in ("trp_mask", "trp_heard") if n in inputs]
    if not hasattr(positions, "row_splits") and np.ndim(positions) == 4:
        mask = inputs.get("trp_mask", np.ones(np.shape(positions)[:-1]))
        exists = np.asarray(mask, dtype=bool).any(axis=2)  # [batch, window]
        last = exists.shape[1] - 1 - np.argmax(exists[:, ::-1], axis=1)
        rows = np.arange(len(last))
        positions, *conditions = (
            np.asarray(values)[rows, last] for values in (positions, *conditions)
        )
    return _rows_where(positions, *conditions)


def _rows(values: Any) -> list[np.ndarray]:
    """Return what a ragged or dense batch holds of each sample, [num_trps, ...].

    Of a ragged window of samples it is what the last one holds.
    """
    if not hasattr(values, "row_splits"):
        return list(np.asarray(values))
    if values.ragged_rank == 2:
        values = values[:, -1:].merge_dims(0, 1)
    splits = np.asarray(values.row_splits)
    return np.split(np.asarray(values.flat_values), splits[1:-1])


def _rows_where(values: Any, *conditions: Any) -> list[np.ndarray]:
    """Return those rows of each sample for which all conditions are true."""
    columns = zip(_rows(values), *map(_rows, conditions), strict=True)
    return [
        rows[np.logical_and.reduce([np.ones(len(rows), bool), *there])]
        for rows, *there in columns
    ]
