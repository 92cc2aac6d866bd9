"""A table of a paper: what its lines train, and ours beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sionna_loc import saving
from sionna_loc.experiments.figures import metric_comparison
from sionna_loc.experiments.trials import Trial, run_trials
from sionna_loc.plotting import save_figure
from sionna_loc.recipes import RunConfig

METRICS = {"rmse": "RMSE", "mae": "MAE", "p90": "90 %"}
_HEADINGS = {
    2: "paper",
    5: "ours, in the plane [95 % interval]",
    8: "ours, per coordinate",
}
"""First column -> what it and the next columns hold."""
_RESULTS = "results.json"


@dataclass(frozen=True)
class Entry:
    """A model of a table.

    Args:
        label: name for people.
        slug: name for folders.
        model: key of `registry.MODELS`.
        options: of the model.
        minutes: budget -> minutes of training, or row -> minutes; the model stands in
            these budgets alone. Empty for what is not trained.
        paper: row -> RMSE, MAE, 90 % error in the paper [m].
        rows: rows in which the model stands, all if empty.
        trp_positions: whether the model looks at where the TRPs are.
        scenario_options: of the scenario.
        quick: further fields of the configuration with the budget `"quick"`: what
            learns more in a minute.
    """

    label: str
    slug: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    minutes: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)
    paper: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rows: Sequence[str] = ()
    trp_positions: bool = True
    scenario_options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)

    def stands_in(self, row: str, budget: str) -> bool:
        """Return whether the row has the model with the budget."""
        is_trained = bool(self.minutes)
        in_row = not self.rows or row in self.rows
        return in_row and (budget in self.minutes or not is_trained)

    def trial(
        self, row: str, budget: str, seeds: Sequence[int], small: bool, **fields: Any
    ) -> Trial:
        """Return the trial of the model in a row.

        Args:
            row: name of the row.
            budget: `"quick"` or `"full"`.
            seeds: of the budget; what is not trained has one.
            small: bool. Everything small, for a smoke run.
            **fields: of the configuration, at least `scenario`.
        """
        if budget == "quick" and not small:
            fields |= self.quick
        minutes = self.minutes.get(budget)
        if isinstance(minutes, Mapping):
            minutes = minutes[row]
        config = RunConfig(
            model=self.model,
            model_options=self.options,
            scenario_options=self.scenario_options,
            max_minutes=None if small else minutes,
            small=small,
            baseline=False,
            **fields,
        )
        return Trial(
            row=row,
            label=self.label,
            slug=self.slug,
            config=config,
            trp_positions=self.trp_positions,
            paper=dict(zip(METRICS, self.paper.get(row, ()), strict=False)),
            seeds=seeds if self.minutes else seeds[:1],
        )


def run_table(
    name: str, trials: Sequence[Trial], output: Path, **options: Any
) -> list[dict[str, Any]]:
    """Run the trials that are not finished and write the results after each.

    Args:
        name: of `<name>.csv`, `<name>.png` and `<name>.pdf`, beside `results.json`.
        trials: the lines.
        output: folder that is there.
        **options: `device` and `quiet`, see `run_trials`.

    Returns: the results, see `trials.to_result`.
    """
    results: list[dict[str, Any]] = []
    for results in run_trials(trials, output, **options):
        saving.write_json(output / _RESULTS, results)
        lines = [_flat(result) for result in results]
        saving.write_history(output / f"{name}.csv", lines)
        save_figure(metric_comparison(results, ("rmse", "p90")), output / name)
    return results


def table_text(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a table in plain text, beside the paper's."""
    names = list(METRICS.values())
    cells = [["row", "model", *names, *names, *names], *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    heading = ""
    for first, text in _HEADINGS.items():
        heading = heading.ljust(sum(widths[:first]) + 2 * first) + text
    lines = [_join(row, widths) for row in cells]
    return "\n".join(["Position errors [m]", heading, *lines])


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as a line of the CSV file."""
    ours, paper = result["ours"], result["paper"]
    line = {name: result[name] for name in ("row", "label", "model", "trp_positions")}
    line |= {f"paper_{name}": paper.get(name, "") for name in METRICS}
    for name in (*METRICS, *(f"{name}_axis" for name in METRICS)):
        lower, upper = ours["intervals"][name]
        line |= {name: ours[name], f"{name}_lower": lower, f"{name}_upper": upper}
    seeds = " ".join(map(str, result["seeds"]))
    return line | {"seeds": seeds, "command": result["command"]}


def _cells(result: Mapping[str, Any]) -> list[str]:
    """Return a result as a line of the printed table."""
    ours, paper = result["ours"], result["paper"]
    cells = [result["row"], result["label"]]
    cells += [f"{paper[name]:.2f}" if name in paper else "-" for name in METRICS]
    for name in METRICS:
        lower, upper = ours["intervals"][name]
        cells.append(f"{ours[name]:.2f} [{lower:.2f}, {upper:.2f}]")
    return cells + [f"{ours[f'{name}_axis']:.2f}" for name in METRICS]


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line with names to the left and numbers to the right."""
    sides = ["<"] * 2 + [">"] * (len(row) - 2)
    columns = zip(row, sides, widths, strict=True)
    return "  ".join(f"{cell:{side}{width}}" for cell, side, width in columns)
