"""The report of a search: the table and the figure of its trials, and the best values.

Beside `localizer_search`, for which it is.
"""

import csv
from pathlib import Path
from typing import Any

import keras_tuner
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sionna_loc.preset_files import write_preset

_METRICS = ("val_rmse", "seconds")
OBJECTIVE = keras_tuner.Objective("val_mae", direction="min")
_FIELDS = (
    "model",
    "preset",
    "recipe",
    "model_options",
    "batch_size",
    "learning_rate",
    "emphasis",
)


def trial_rows(tuner: keras_tuner.Tuner) -> list[dict[str, Any]]:
    """Return what each trial came to, in the order in which they began."""
    rows = []
    for trial_id in tuner.oracle.start_order:
        trial = tuner.oracle.trials[trial_id]
        lines = (trial.message or "").strip().splitlines()
        rows.append(
            {
                "trial": trial_id,
                "status": trial.status,
                OBJECTIVE.name: trial.score,
                **{name: _metric(trial, name) for name in _METRICS},
                **trial.hyperparameters.values,
                "message": lines[-1] if lines else "",
            }
        )
    return rows


def _metric(trial: Any, name: str) -> float | None:
    """Return what a trial reports beside the objective; `None` before it has."""
    metrics = trial.metrics
    return metrics.get_best_value(name) if metrics.exists(name) else None


def write_report(tuner: keras_tuner.Tuner, directory: Path) -> str:
    """Write `trials.csv`, `trials.png` and, if a trial succeeded, `preset.json`.

    Returns: the table of the trials, best first.
    """
    rows = trial_rows(tuner)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(directory / "trials.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
    good = [row for row in rows if row["status"] == "COMPLETED"]
    _plot(rows, directory / "trials.png")
    if good:
        _write_best(tuner, len(good), directory / "preset.json")
    ranked = sorted(good, key=lambda row: row[OBJECTIVE.name])
    ranked += [row for row in rows if row["status"] != "COMPLETED"]
    return _table(ranked, names)


def _write_best(tuner: keras_tuner.Tuner, num_trials: int, path: Path) -> None:
    """Write the values of the best trial as a preset that `train` takes."""
    (best,) = tuner.oracle.get_best_trials(1)
    hypermodel = tuner.hypermodel
    hypermodel = getattr(hypermodel, "hypermodel", hypermodel)
    config = hypermodel.trial_config(best.hyperparameters).to_dict()
    values = {name: config[name] for name in _FIELDS if config[name] is not None}
    found = {
        "objective": OBJECTIVE.name,
        OBJECTIVE.name: best.score,
        "trial": best.trial_id,
        "completed_trials": num_trials,
        "scenario": config["scenario"],
        **{name: config[name] for name in ("steps", "epochs", "max_minutes")},
        "seed": config["seed"],
    }
    write_preset(path, values, found)


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the objective of each trial, and the best so far."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    scores = [row[OBJECTIVE.name] for row in rows]
    done = [(i, score) for i, score in enumerate(scores) if score is not None]
    if done:
        index, values = zip(*done, strict=True)
        best = [min(values[: i + 1]) for i in range(len(values))]
        axes.plot(index, values, "o", label="trial")
        axes.step(index, best, where="post", label="best so far")
        axes.set_yscale("log" if max(values) > 10 * min(values) else "linear")
    for number, i in enumerate(i for i, score in enumerate(scores) if score is None):
        label = "failed" if number == 0 else None
        axes.axvline(i, color="tab:red", linestyle=":", label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="trial", ylabel="lowest mean validation error [m]")
    if rows:
        axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Return the rows as lines of columns."""
    cells = [names] + [[_cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    """Return a value for the table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
