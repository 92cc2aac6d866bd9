"""Trained models under other conditions than those of their training.

The same weights locate test sets in which one thing is different, the number of TRPs,
the noise, a clock, the place itself; or they adapt to a few samples of it before.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sionna_loc import saving
from sionna_loc.adaptation import Shots, adapt
from sionna_loc.assembly import (
    make_features,
    make_recipe,
    make_scenario,
    resolved_config,
)
from sionna_loc.device import use_device
from sionna_loc.evaluation import evaluate_over_num_trps
from sionna_loc.experiments.figures import condition_sweeps
from sionna_loc.experiments.reports import text_table
from sionna_loc.models.base import Localizer
from sionna_loc.models.fingerprint import Fingerprint
from sionna_loc.plotting import save_figure

_SURVEY = "trp_position_error"
_ADAPTATION_STEPS = 200
_ADAPTATION_RATE = 0.1
"""Of the learning rate of the training, which unlearns more than few samples teach."""


@dataclass(frozen=True)
class Condition:
    """What is different in a test set.

    Args:
        sweep: what is changed, with its unit, for people.
        setting: how much, for people.
        scenario_options: of the scenario, beside those of the training.
        num_trps: int > 0 or None. TRPs of a sample; as in the training if None.
        shots: int >= 0. Samples under the condition that the model adapts to before.
    """

    sweep: str
    setting: str
    scenario_options: Mapping[str, Any] = field(default_factory=dict)
    num_trps: int | None = None
    shots: int = 0

    @property
    def content(self) -> str:
        """What decides the result, whatever people call it."""
        options = json.dumps(dict(self.scenario_options), sort_keys=True)
        return f"{options} {self.num_trps} {self.shots}"


def sweep(
    name: str, option: str, values: Mapping[str, Any], **others: Any
) -> list[Condition]:
    """Return conditions that differ in one option of the scenario.

    Args:
        name: of the sweep, for people.
        option: of the scenario.
        values: setting, for people -> value of the option.
        **others: further options of the scenario.
    """
    return [
        Condition(name, setting, {**others, option: value})
        for setting, value in values.items()
    ]


def run_conditions(
    runs: Mapping[str, Path],
    conditions: Sequence[Condition],
    num_samples: int,
    known: Sequence[Mapping[str, Any]] = (),
    *,
    device: str = "auto",
    quiet: bool = False,
) -> Iterator[list[dict[str, Any]]]:
    """Evaluate what is not known yet; give all lines so far after each evaluation.

    Args:
        runs: name of the model, for people -> folder of its finished run.
        conditions: in the order of the lines.
        num_samples: int > 0. Of the test sets.
        known: lines of an earlier call that was interrupted.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: iterator over lists of lines: `sweep`, `setting`, `label`, `num_trps`,
        `scenario_options` and the metrics of `Evaluation`, JSON-able. A model that a
        condition does not apply to has no line: one made for a certain number of
        TRPs, one that knows TRPs by where they stand, if that is what is changed, or
        one without weights, if it is to adapt.
    """
    use_device(device)
    found = {_key(line): line for line in known}
    models: dict[str, Localizer] = {}
    cases = [
        (condition, label, (label, condition.content, num_samples))
        for condition in conditions
        for label in runs
    ]
    for condition, label, key in cases:
        if key in found:
            continue
        if label not in models:
            models[label] = saving.load_model(runs[label])
        if _applies(condition, models[label]):
            if not quiet:
                print(f"{condition.sweep} {condition.setting}: {label}", flush=True)
            found[key] = _evaluate(models[label], runs[label], condition, num_samples)
            yield [_line(found[case[2]], *case) for case in cases if case[2] in found]
    yield [_line(found[case[2]], *case) for case in cases if case[2] in found]


def write_conditions(
    path: Path,
    runs: Mapping[str, Path],
    conditions: Sequence[Condition],
    num_samples: int,
    **options: Any,
) -> list[dict[str, Any]]:
    """Evaluate what is not in the file yet, and write it.

    Args:
        path: of `.json`, written anew after each evaluation, `.csv`, `.png` and `.pdf`.
        runs: see `run_conditions`.
        conditions: see `run_conditions`.
        num_samples: see `run_conditions`.
        **options: `device` and `quiet`, see `run_conditions`.

    Returns: all lines.
    Raises: UserError if the file is damaged.
    """
    lines: list[dict[str, Any]] = []
    kept = path.with_suffix(".json")
    known = saving.read_list(kept) if kept.exists() else []
    for lines in run_conditions(runs, conditions, num_samples, known, **options):
        saving.write_json(kept, lines)
    saving.write_history(path.with_suffix(".csv"), [_flat(line) for line in lines])
    save_figure(condition_sweeps(lines, "rmse"), path)
    return lines


def conditions_table(lines: Sequence[Mapping[str, Any]], heading: str) -> str:
    """Return the lines as plain text, with RMSE, mean and 90 % error [m]."""
    rows = [["sweep", "setting", "model", "RMSE", "mean", "90 %"]]
    for line in lines:
        names = [line["sweep"], line["setting"], line["label"]]
        rows.append([*names, *(f"{line[m]:.2f}" for m in ("rmse", "mae", "p90"))])
    return text_table(heading, rows, num_names=3)


def _key(line: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return what tells a line from those of other models and test sets."""
    return line["label"], line["content"], line["num_samples"]


def _line(
    metrics: Mapping[str, Any], condition: Condition, label: str, key: tuple
) -> dict[str, Any]:
    """Return a line, under the names that it has now."""
    names = {"sweep": condition.sweep, "setting": condition.setting}
    return {**metrics, **names, "label": label, "content": key[1]}


def _applies(condition: Condition, model: Localizer) -> bool:
    """Return whether the model can be asked under the condition."""
    count = condition.num_trps
    if count is not None and model.fixed_num_trps not in (None, count):
        return False
    if condition.shots and not model.is_trainable:
        return False
    is_surveyed_anew = bool(condition.scenario_options.get(_SURVEY))
    return not (is_surveyed_anew and isinstance(model, Fingerprint))


def _evaluate(
    model: Localizer, run_dir: Path, condition: Condition, num_samples: int
) -> dict[str, Any]:
    """Return the metrics of a model under a condition."""
    config = resolved_config(saving.read_run(run_dir))
    options = {**config.scenario_options, **condition.scenario_options}
    scenario = make_scenario(dataclasses.replace(config, scenario_options=options))
    count = condition.num_trps or config.num_trps
    if condition.shots:
        model = saving.load_model(run_dir)  # whose weights may change
        shots = Shots(scenario, condition.shots, count, num_samples)
        recipe = make_recipe(config, scenario)
        rate = _ADAPTATION_RATE * recipe.learning_rate
        recipe = dataclasses.replace(recipe, learning_rate=rate)
        steps_per_epoch = -(-condition.shots // recipe.batch_size)
        epochs = -(-_ADAPTATION_STEPS // steps_per_epoch)
        *_, metrics = adapt(model, shots, recipe, epochs=epochs, measure_at=())
    else:
        features = make_features(scenario, model)
        (evaluation,) = evaluate_over_num_trps(
            model, scenario, features, [count], num_samples
        ).values()
        metrics = evaluation.metrics
    return {"num_trps": count, "scenario_options": options, **metrics}


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line as one of the CSV file."""
    names = ("sweep", "setting", "label", "num_trps", "rmse", "mae", "p90")
    return {name: line[name] for name in (*names, "num_samples")}
