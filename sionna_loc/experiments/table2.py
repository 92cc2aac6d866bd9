"""Table 2 of the VIn-Loc paper: indoor factory, 18 of 18 TRPs and 15 of 18.

The paper's RMSE, MAE and 90 % error are not all of one kind: as distances in the plane
the RMSE could not be below the mean (VIn-Loc with 18 TRPs: 0.99, 0.72 and 1.71 m are
possible, ResNet's 0.81, 0.76 and 1.99 m are not). Ours are given both as distances in
the plane and per coordinate.

Of the residual network there are two forms. In the variable case the slots of the first
hold whichever TRPs were drawn, in random order, as the paper describes it; those of the
second belong to one TRP each. With all 18 TRPs both are the same.

The rows that no paper gives are those of `table2_beyond`.

References: Balaji et al., "VIn-Loc", Sec. 4, Table 2.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sionna_loc import saving
from sionna_loc.checks import check_known, check_writable
from sionna_loc.experiments import table2_beyond
from sionna_loc.experiments.figures import metric_comparison
from sionna_loc.experiments.trials import Trial, run_trials
from sionna_loc.plotting import save_figure
from sionna_loc.recipes import RunConfig

ROWS = {"fixed": 18, "variable": 15}
"""Row -> TRPs of a sample, of 18."""
BUDGETS = {"quick": (0,), "full": (0, 1, 2)}
"""Budget -> seeds of the models that are trained."""

_QUICK_NUM_VAL = 250
_METRICS = {"rmse": "RMSE", "mae": "MAE", "p90": "90 %"}
_HEADINGS = {
    2: "paper",
    5: "ours, in the plane [95 % interval]",
    8: "ours, per coordinate",
}
"""First column -> what it and the next columns hold."""
_RESULTS, _TABLE, _FIGURE = "results.json", "table2.csv", "table2"


@dataclass(frozen=True)
class _Entry:
    """A model of the table.

    Args:
        label: name for people.
        slug: name for folders.
        model: key of `registry.MODELS`.
        options: of the model.
        minutes: budget -> minutes of training, empty for what is not trained.
        paper: row -> RMSE, MAE, 90 % error in the paper [m].
        rows: rows in which the model stands.
        trp_positions: whether the model looks at where the TRPs are.
        quick: further fields of the configuration with the budget `"quick"`: what
            learns more in a minute.
    """

    label: str
    slug: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    minutes: Mapping[str, float] = field(default_factory=dict)
    paper: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rows: Sequence[str] = tuple(ROWS)
    trp_positions: bool = True
    quick: Mapping[str, Any] = field(default_factory=dict)


_ENTRIES = (
    _Entry(
        "ResNet",
        "resnet",
        "resnet_fingerprint",
        {"slots": "drawn"},
        {"quick": 0.75, "full": 60},
        {"fixed": (0.81, 0.76, 1.99), "variable": (26.76, 23.4, 66.84)},
        trp_positions=False,
        quick={"batch_size": 32},
    ),
    _Entry(
        "ResNet, own slots",
        "resnet-own",
        "resnet_fingerprint",
        {"slots": "own"},
        {"quick": 0.75, "full": 60},
        rows=("variable",),
        quick={"batch_size": 32},
    ),
    _Entry(
        "VIn-Loc",
        "vinloc",
        "vinloc",
        {},
        {"quick": 2.25, "full": 240},
        {"fixed": (0.99, 0.72, 1.71), "variable": (0.95, 0.82, 1.68)},
        quick={"batch_size": 32},
    ),
    _Entry(
        "VIn-Loc, no TRP positions",
        "vinloc-no-positions",
        "vinloc",
        {"use_trp_positions": False},
        {"quick": 1.0, "full": 240},
        {"fixed": (0.98, 0.73, 1.62), "variable": (1.45, 1.13, 2.11)},
        trp_positions=False,
        quick={"batch_size": 32},
    ),
    _Entry(
        "PDP transformer",
        "pdp-transformer",
        "pdp_transformer",
        {},
        {"quick": 1.0, "full": 60},
        trp_positions=False,
        quick={"batch_size": 32, "preset": "small"},
    ),
    _Entry("nearest neighbours", "nearest-neighbours", "nearest_neighbours"),
    _Entry("multilateration", "multilateration", "multilateration"),
)


def make_trials(budget: str, small: bool = False) -> list[Trial]:
    """Return all trials of the table, those of a row together.

    Args:
        budget: key of `BUDGETS`.
        small: bool. Everything small, for a smoke run.
    """
    check_known("budget", budget, BUDGETS)
    return [
        _make_trial(entry, row, budget, small)
        for row in ROWS
        for entry in _ENTRIES
        if row in entry.rows
    ]


def run(
    budget: str,
    output: Path,
    *,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Run the trials that are not finished and write the results.

    Args:
        budget: key of `BUDGETS`.
        output: folder for `results.json`, `table2.csv`, `table2.png` and `.pdf`,
            written anew after each trial, for the runs, and for `beyond.json`, `.csv`,
            `.png` and `.pdf`, the changed conditions.
        small: bool. Everything small, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the tables: `table_text` of the results, and the models under changed
        conditions.
    Raises: UserError if `output` cannot be written, or holds other runs.
    """
    trials = make_trials(budget, small)
    with contextlib.suppress(OSError):  # what is wrong, the check says
        output.mkdir(parents=True, exist_ok=True)
    check_writable("The results", output)
    results: list[dict[str, Any]] = []
    options = {"device": device, "quiet": quiet}
    for results in run_trials(trials, output, **options):
        saving.write_json(output / _RESULTS, results)
        saving.write_history(output / _TABLE, [_flat(result) for result in results])
        save_figure(metric_comparison(results, ("rmse", "p90")), output / _FIGURE)
    variable = [trial for trial in trials if trial.row == "variable"]
    beyond = table2_beyond.run(variable, budget, output, small=small, **options)
    return f"{table_text(results)}\n\n{beyond}"


def table_text(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a table in plain text, beside the paper's."""
    names = list(_METRICS.values())
    cells = [["row", "model", *names, *names, *names], *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    heading = ""
    for first, text in _HEADINGS.items():
        heading = heading.ljust(sum(widths[:first]) + 2 * first) + text
    lines = [_join(row, widths) for row in cells]
    return "\n".join(["Position errors [m]", heading, *lines])


def _make_trial(entry: _Entry, row: str, budget: str, small: bool) -> Trial:
    """Return the trial of a model in a row."""
    values = {"model_options": entry.options}
    if budget == "quick" and not small:
        values |= {"num_val": _QUICK_NUM_VAL, **entry.quick}
    config = RunConfig(
        scenario="inf_dh",
        model=entry.model,
        num_trps=ROWS[row],
        max_minutes=None if small else entry.minutes.get(budget),
        small=small,
        baseline=False,
        **values,
    )
    return Trial(
        row=row,
        label=entry.label,
        slug=entry.slug,
        config=config,
        trp_positions=entry.trp_positions,
        paper=dict(zip(_METRICS, entry.paper.get(row, ()), strict=False)),
        seeds=BUDGETS[budget] if entry.minutes else (0,),
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as a line of the CSV file."""
    ours, paper = result["ours"], result["paper"]
    line = {name: result[name] for name in ("row", "label", "model", "trp_positions")}
    line |= {f"paper_{name}": paper.get(name, "") for name in _METRICS}
    for name in (*_METRICS, *(f"{name}_axis" for name in _METRICS)):
        lower, upper = ours["intervals"][name]
        line |= {name: ours[name], f"{name}_lower": lower, f"{name}_upper": upper}
    seeds = " ".join(map(str, result["seeds"]))
    return line | {"seeds": seeds, "command": result["command"]}


def _cells(result: Mapping[str, Any]) -> list[str]:
    """Return a result as a line of the printed table."""
    ours, paper = result["ours"], result["paper"]
    cells = [result["row"], result["label"]]
    cells += [f"{paper[name]:.2f}" if name in paper else "-" for name in _METRICS]
    for name in _METRICS:
        lower, upper = ours["intervals"][name]
        cells.append(f"{ours[name]:.2f} [{lower:.2f}, {upper:.2f}]")
    return cells + [f"{ours[f'{name}_axis']:.2f}" for name in _METRICS]


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line with names to the left and numbers to the right."""
    sides = ["<"] * 2 + [">"] * (len(row) - 2)
    columns = zip(row, sides, widths, strict=True)
    return "  ".join(f"{cell:{side}{width}}" for cell, side, width in columns)
