"""Search with KerasTuner over models and training of the library; what recipes share.

A trial is a run of the library's own training, `sionna_loc.fit`, in a run folder below
the search's directory, with the same seed and the same frozen validation set for all.
The objective is the lowest mean position error on that set, `val_mae`, to be minimized;
the test set decides nothing.

The search goes on where it stopped, in the middle of a trial too. A trial that fails,
because the loss diverges, the memory does not suffice or a value does not fit, is
written down as failed, and the next one begins. Each trains in a process of its own.

Several processes can share a search, by KerasTuner's own environment variables: the
chief hands out trials and writes the report, workers train. They share the directory.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import trial_process
from search_report import OBJECTIVE, write_report

from sionna_loc import assembly, cli, saving
from sionna_loc.checks import check, check_positive_int
from sionna_loc.recipes import RunConfig
from sionna_loc.scenarios.base import Scenario

TUNERS = ("random", "bayesian", "hyperband")
Space = Callable[[keras_tuner.HyperParameters, Scenario], dict[str, Any]]
_MAX_EPOCHS = 9
"""Epochs of a whole trial, in Hyperband's sense: shares of its steps."""
_STEPS = 2000
_RUN = "run"
_SEARCH = "search.json"
_WORKERS = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
"""Environment variables by which KerasTuner shares a search among processes."""


class LocalizerHyperModel(keras_tuner.HyperModel):
    """A localizer of the library, and its training, with values to be found.

    Args:
        config: of a trial, but for what the space gives. `steps`, `epochs` or
            `max_minutes` is its length.
        space: (hyperparameters, scenario) -> fields of `RunConfig`; the
            `model_options` among them are added to those of `config`.
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
            epochs: int > 0 or None. Share of a trial's length, of `_MAX_EPOCHS`; all
                if None.
        """
        values = dict(self._space(hp, self._scenario))
        options = {**self.config.model_options, **values.pop("model_options", {})}
        if epochs is not None:
            share = epochs / _MAX_EPOCHS
            if self.config.steps is not None:
                values["steps"] = max(1, round(share * self.config.steps))
            for name in ("epochs", "max_minutes"):
                if getattr(self.config, name) is not None:
                    values[name] = share * getattr(self.config, name)
        return dataclasses.replace(self.config, **values, model_options=options)

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
            RMSE `val_rmse` [m] of the same weights, and the `seconds` of training.
        """
        (checkpoint,) = (c for c in callbacks if hasattr(c, "filepath"))
        run_dir = Path(checkpoint.filepath).parent / _RUN
        try:
            trial_process.train(self.trial_config(hp, epochs), run_dir, self._quiet)
        except Exception as error:
            # The chief's table has no reasons: workers' messages do not reach it.
            print(f"A trial failed: {cli.one_line(error)}", file=sys.stderr)
            raise
        model.set_weights(saving.load_model(run_dir).get_weights())
        model.save_weights(checkpoint.filepath)
        rows = saving.read_history(run_dir)
        best = min(rows, key=lambda row: row["val_mae"])
        results = {name: best[name] for name in ("val_mae", "val_rmse")}
        return {**results, "seconds": rows[-1]["seconds"]}


class _PresetFirst:
    """Of an oracle: the first trial has the values that the search starts from.

    So the report tells what the values that were found are worth beside them.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a new trial; see `keras_tuner.Oracle`."""
        if self.start_order:
            return super().populate_space(trial_id)
        values = {hp.name: hp.default for hp in self.hyperparameters.space}
        return {"status": "RUNNING", "values": values}


class _RandomOracle(_PresetFirst, keras_tuner.oracles.RandomSearchOracle):
    pass


class _BayesianOracle(_PresetFirst, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


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
    oracle = {
        "objective": OBJECTIVE,
        "seed": hypermodel.config.seed + 1,  # 0 would be any
        "max_consecutive_failed_trials": max_trials + 1,  # no failure ends the search
    }
    place = {
        "directory": str(directory.parent.resolve()),
        "project_name": directory.name,
    }
    if kind == "hyperband":
        tuner = keras_tuner.Hyperband(
            hypermodel,
            max_epochs=_MAX_EPOCHS,
            hyperband_iterations=None,
            **oracle,
            **place,
        )
        tuner.oracle.max_trials = max_trials
        return tuner
    oracle["max_trials"] = max_trials
    if kind == "random":
        return keras_tuner.Tuner(_RandomOracle(**oracle), hypermodel, **place)
    # KerasTuner's own number is three for each value that is searched: all of them.
    oracle["num_initial_points"] = max(3, max_trials // 3)
    return keras_tuner.Tuner(_BayesianOracle(**oracle), hypermodel, **place)


def main(
    model: str,
    space: Space,
    description: str,
    argv: Sequence[str] | None = None,
    scenario: str = "paris_scn1",
) -> int:
    """Parse the arguments of the recipe of a model and search; return the exit code.

    Args:
        model: its name.
        space: (hyperparameters, scenario) -> fields of `RunConfig`.
        description: of the recipe.
        argv: the arguments; those of the process if None.
        scenario: where nothing else is asked for.
    """
    arguments = build_parser(model, description, scenario).parse_args(argv)
    return search(model, space, arguments)


def build_parser(
    model: str, description: str, scenario: str = "paris_scn1"
) -> cli.Parser:
    """Return the parser of the recipe of a model, see `main`."""
    parser = cli.Parser(
        prog=f"python tuning/{model}_search.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = f"what to train on (default: {scenario})"
    add("--scenario", metavar="NAME", default=scenario, help=text)
    add(
        "--scenario-option",
        dest="scenario_options",
        metavar="KEY=VALUE",
        type=cli.key_value,
        action="append",
        default=[],
        help="further argument of the scenario, VALUE as JSON; may be repeated",
    )
    add("--tuner", choices=TUNERS, default="bayesian", help="(default: bayesian)")
    add("--max-trials", type=int, metavar="N", default=20, help="(default: 20)")
    add("--steps", type=int, metavar="N", help="of a trial (default: 2000)")
    text = "of a trial, instead of steps: as many samples whatever the batch size"
    add("--epochs", type=float, metavar="X", help=text)
    text = "of a trial, instead of steps: a slower model then has fewer of them"
    add("--max-minutes", type=float, metavar="M", help=text)
    add("--directory", type=Path, metavar="DIR", required=True, help="of the search")
    add("--preset", metavar="NAME", help="to start from (default: the model's)")
    add("--data-dir", metavar="DIR", help="take samples from a prepared set")
    add("--num-trps", type=int, metavar="N", help="(default: the scenario's)")
    add("--num-val", type=int, metavar="N", help="(default: the scenario's)")
    add("--seed", type=int, metavar="N", default=0, help="of search and trials")
    add("--small", action="store_true", help="the small form of the scenario")
    add("--quiet", action="store_true", help="print the table only")
    return parser


def search(model: str, space: Space, arguments: argparse.Namespace) -> int:
    """Search, or go on searching, and write the report; return the exit code.

    Raises: UserError if something in the arguments or the environment is wrong.
    """
    check_positive_int("max_trials", arguments.max_trials)
    lengths = ("steps", "epochs", "max_minutes")
    if all(getattr(arguments, name) is None for name in lengths):
        arguments.steps = _STEPS
    is_worker = _is_worker()
    names = ("scenario", "preset", "data_dir", "num_trps", "num_val", "seed", "small")
    given = {name: getattr(arguments, name) for name in (*names, *lengths)}
    given["scenario_options"] = dict(arguments.scenario_options)
    # A small test set: trials are compared on the validation set only.
    config = RunConfig(model=model, num_test=64, baseline=False, **given)
    hypermodel = LocalizerHyperModel(config, space, arguments.quiet)
    # What fails with the first values would fail with all.
    hypermodel.build(keras_tuner.HyperParameters())
    directory = arguments.directory
    _check_same_search(directory, {**config.to_dict(), "tuner": arguments.tuner})
    tuner = make_tuner(arguments.tuner, hypermodel, arguments.max_trials, directory)
    if is_worker:
        tuner.search(verbose=0)
        return 0
    try:
        tuner.search(verbose=0)
    finally:
        if tuner.oracle.trials:
            print(write_report(tuner, directory))
    print(f"Saved in {directory}: trials.csv, trials.png, preset.json")
    return 0


def _is_worker() -> bool:
    """Return whether another process, the chief, hands out the trials.

    Raises: UserError if only some of KerasTuner's variables are set.
    """
    given = {name: os.environ[name] for name in _WORKERS if name in os.environ}
    message = f"A shared search needs all of {', '.join(_WORKERS)}, any other none."
    check(len(given) in (0, len(_WORKERS)), message, environment=given)
    return bool(given) and "chief" not in given["KERASTUNER_TUNER_ID"]


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
