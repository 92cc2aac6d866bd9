"""Search with KerasTuner over models and training of the library; what recipes share.

A trial is a run of the library's own training, `sionna_loc.fit`, in a run folder below
the search's directory, with the same seed and the same frozen validation set for all.
The objective is the lowest mean position error on that set, `val_mae`, to be minimized;
the test set decides nothing.

The search goes on where it stopped, in the middle of a trial too. A trial that fails,
because the loss diverges, the memory does not suffice or a value does not fit, is
written down as failed, and the next one begins.
"""

import argparse
import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sionna_loc import assembly, cli, saving, training
from sionna_loc.checks import check, check_positive_int
from sionna_loc.preset_files import write_preset
from sionna_loc.recipes import RunConfig

OBJECTIVE = keras_tuner.Objective("val_mae", direction="min")
TUNERS = ("random", "bayesian", "hyperband")
Space = Callable[[keras_tuner.HyperParameters], dict[str, Any]]
_MAX_EPOCHS = 9
"""Epochs of a whole trial, in Hyperband's sense: shares of its steps."""
_RUN = "run"
_SEARCH = "search.json"
_FIELDS = ("model", "preset", "recipe", "model_options", "batch_size", "learning_rate")


class LocalizerHyperModel(keras_tuner.HyperModel):
    """A localizer of the library, and its training, with values to be found.

    Args:
        config: of a trial, but for what the space gives. `steps` is its length.
        space: hyperparameters -> fields of `RunConfig`; the `model_options` among
            them are added to those of `config`.
        quiet: bool. Print nothing of the training.
    """

    def __init__(self, config: RunConfig, space: Space, quiet: bool = False) -> None:
        super().__init__()
        self.config = config
        self._space = space
        self._quiet = quiet
        self._scenario = assembly.make_scenario(config)

    def trial_config(
        self, hp: keras_tuner.HyperParameters, epochs: int | None = None
    ) -> RunConfig:
        """Return the run of a trial.

        Args:
            hp: values of the trial.
            epochs: int > 0 or None. Share of the steps, of `_MAX_EPOCHS`; all if None.
        """
        values = dict(self._space(hp))
        options = {**self.config.model_options, **values.pop("model_options", {})}
        steps = self.config.steps
        if epochs is not None:
            steps = max(1, round(steps * epochs / _MAX_EPOCHS))
        return dataclasses.replace(
            self.config, **values, model_options=options, steps=steps
        )

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the library's model, untrained; see `keras_tuner.HyperModel`."""
        keras.backend.clear_session()
        config = self.trial_config(hp)
        record = assembly.make_record(config, self._scenario)
        return assembly.make_model(
            RunConfig.from_dict(record["resolved"]), self._scenario
        )

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *arguments: Any,
        epochs: int | None = None,
        callbacks: Any = (),
        **options: Any,
    ) -> dict[str, float]:
        """Train with the library's own training; see `keras_tuner.HyperModel`.

        Returns: the lowest mean error on the validation set, `val_mae` [m], with the
            RMSE `val_rmse` [m] of the same weights.
        """
        (checkpoint,) = (c for c in callbacks if hasattr(c, "filepath"))
        run_dir = Path(checkpoint.filepath).parent / _RUN
        try:
            training.fit(
                self.trial_config(hp, epochs),
                run_dir,
                resume=(run_dir / saving.CONFIG).exists(),
                quiet=self._quiet,
            )
        except training.TrainingDiverged as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except training.TrainingInterrupted as stop:  # no failure: the search ends
            raise KeyboardInterrupt from stop
        model.set_weights(saving.load_model(run_dir).get_weights())
        model.save_weights(checkpoint.filepath)
        with open(run_dir / saving.HISTORY, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        best = min(rows, key=lambda row: float(row["val_mae"]))
        return {name: float(best[name]) for name in ("val_mae", "val_rmse")}


def make_tuner(
    kind: str, hypermodel: LocalizerHyperModel, max_trials: int, directory: Path
) -> keras_tuner.Tuner:
    """Return a tuner that goes on with what the directory holds.

    Args:
        kind: of `TUNERS`. Hyperband trains many trials for a short while, and better
            ones anew for longer.
        hypermodel: what is searched.
        max_trials: int > 0.
        directory: of the search.
    """
    options = {
        "objective": OBJECTIVE,
        "seed": hypermodel.config.seed,
        "directory": str(directory.parent.resolve()),
        "project_name": directory.name,
        "max_consecutive_failed_trials": max_trials + 1,  # no failure ends the search
    }
    if kind == "hyperband":
        tuner = keras_tuner.Hyperband(
            hypermodel, max_epochs=_MAX_EPOCHS, hyperband_iterations=None, **options
        )
        tuner.oracle.max_trials = max_trials
        return tuner
    classes = {
        "random": keras_tuner.RandomSearch,
        "bayesian": keras_tuner.BayesianOptimization,
    }
    return classes[kind](hypermodel, max_trials=max_trials, **options)


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
                **trial.hyperparameters.values,
                "message": lines[-1] if lines else "",
            }
        )
    return rows


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
        "steps": config["steps"],
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


def build_parser(model: str, description: str) -> cli.Parser:
    """Return the parser of the recipe of a model."""
    parser = cli.Parser(
        prog=f"python tuning/{model}_search.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--scenario", metavar="NAME", default="paris_scn1", help="what to train on")
    add("--tuner", choices=TUNERS, default="bayesian", help="(default: bayesian)")
    add("--max-trials", type=int, metavar="N", default=20, help="(default: 20)")
    add("--steps", type=int, metavar="N", default=2000, help="of a trial")
    add("--directory", type=Path, metavar="DIR", required=True, help="of the search")
    add("--preset", metavar="NAME", help="to start from (default: the model's)")
    add("--data-dir", metavar="DIR", help="take samples from a prepared set")
    add("--num-trps", type=int, metavar="N", help="(default: the scenario's)")
    add("--num-val", type=int, metavar="N", help="(default: 1000)")
    add("--seed", type=int, metavar="N", default=0, help="of search and trials")
    add("--small", action="store_true", help="the small form of the scenario")
    add("--quiet", action="store_true", help="print the table only")
    return parser


def search(model: str, space: Space, arguments: argparse.Namespace) -> int:
    """Search, or go on searching, and write the report; return the exit code.

    Raises: UserError if something in the arguments is wrong.
    """
    for name in ("max_trials", "steps"):
        check_positive_int(name, getattr(arguments, name))
    names = ("scenario", "preset", "steps", "data_dir", "num_trps", "num_val")
    given = {name: getattr(arguments, name) for name in (*names, "seed", "small")}
    # A small test set: trials are compared on the validation set only.
    config = RunConfig(model=model, num_test=64, baseline=False, **given)
    hypermodel = LocalizerHyperModel(config, space, arguments.quiet)
    # What fails with the first values would fail with all.
    hypermodel.build(keras_tuner.HyperParameters())
    directory = arguments.directory
    _check_same_search(directory, {**config.to_dict(), "tuner": arguments.tuner})
    tuner = make_tuner(arguments.tuner, hypermodel, arguments.max_trials, directory)
    try:
        tuner.search(verbose=0)
    finally:
        if tuner.oracle.trials:
            print(write_report(tuner, directory))
    print(f"Saved in {directory}: trials.csv, trials.png, preset.json")
    return 0


def _check_same_search(directory: Path, values: dict[str, Any]) -> None:
    """Write what the search is, or check that it is the one in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _SEARCH
    if not path.exists():
        saving.write_json(path, values)
        return
    old = saving.read_run(directory, _SEARCH)
    for name, value in values.items():
        check(
            old.get(name) == value,
            f"The directory holds another search: its `{name}` is {old.get(name)!r}.",
            **{name: value},
        )
