"""Table 2 of the VIn-Loc paper: indoor factory, 18 of 18 TRPs and 15 of 18.

The paper's RMSE, MAE and 90 % error are not all of one kind: as distances in the plane
the RMSE could not be below the mean (VIn-Loc with 18 TRPs: 0.99, 0.72 and 1.71 m are
possible, ResNet's 0.81, 0.76 and 1.99 m are not). Ours are given both as distances in
the plane and per coordinate.

Of the residual network there are two forms. In the variable case the slots of the first
hold whichever TRPs were drawn, in random order, as the paper describes it; those of the
second belong to one TRP each. With all 18 TRPs both are the same.

VIn-Loc here remembers its training set (`layers.fingerprint_memory`), which the paper's
does not; without that it has a line of its own. `table2_beyond` has the rows that no
paper gives.

References: Balaji et al., "VIn-Loc", Sec. 4, Table 2.
"""

from collections.abc import Sequence
from pathlib import Path

from sionna_loc.checks import check_known
from sionna_loc.experiments import reports, table2_beyond
from sionna_loc.experiments.paper_table import Entry, run_table, table_text
from sionna_loc.experiments.trials import Trial

ROWS = {"fixed": 18, "variable": 15}
"""Row -> TRPs of a sample, of 18."""
BUDGETS = {"quick": (0,), "full": (0, 1, 2)}
"""Budget -> seeds of the models that are trained."""

_QUICK_NUM_VAL = 250

ENTRIES = (
    Entry(
        "ResNet",
        "resnet",
        "resnet_fingerprint",
        {"slots": "drawn"},
        {"quick": 0.75, "full": 60},
        {"fixed": (0.81, 0.76, 1.99), "variable": (26.76, 23.4, 66.84)},
        trp_positions=False,
        quick={"batch_size": 32},
    ),
    Entry(
        "ResNet, own slots",
        "resnet-own",
        "resnet_fingerprint",
        {"slots": "own"},
        {"quick": 0.75, "full": 60},
        rows=("variable",),
        quick={"batch_size": 32},
    ),
    Entry(
        "VIn-Loc",
        "vinloc",
        "vinloc",
        {},
        {"quick": 1.75, "full": 60},
        {"fixed": (0.99, 0.72, 1.71), "variable": (0.95, 0.82, 1.68)},
        quick={"batch_size": 16},
    ),
    Entry(
        "VIn-Loc, no memory",
        "vinloc-no-memory",
        "vinloc",
        {"num_neighbours": 0},
        {"quick": 1.25, "full": 240},
        quick={"batch_size": 16},
    ),
    Entry(
        "VIn-Loc, no TRP positions",
        "vinloc-no-positions",
        "vinloc",
        {"use_trp_positions": False},
        {"quick": 0.75, "full": 240},
        {"fixed": (0.98, 0.73, 1.62), "variable": (1.45, 1.13, 2.11)},
        trp_positions=False,
        quick={"batch_size": 32},
    ),
    Entry(
        "PDP transformer",
        "pdp-transformer",
        "pdp_transformer",
        {},
        {"quick": 0.75, "full": 60},
        trp_positions=False,
        quick={"batch_size": 32, "preset": "small"},
    ),
    Entry("nearest neighbours", "nearest-neighbours", "nearest_neighbours"),
    Entry("multilateration", "multilateration", "multilateration"),
)


def make_trials(
    budget: str, small: bool = False, seeds: Sequence[int] | None = None
) -> list[Trial]:
    """Return all trials of the table, those of a row together.

    Args:
        budget: key of `BUDGETS`.
        small: bool. Everything small, for a smoke run.
        seeds: of the models that are trained, instead of the budget's.
    """
    check_known("budget", budget, BUDGETS)
    seeds = seeds or BUDGETS[budget]
    fields = {"scenario": "inf_dh"}
    if budget == "quick" and not small:
        fields["num_val"] = _QUICK_NUM_VAL
    return [
        entry.trial(row, budget, seeds, small, num_trps=num_trps, **fields)
        for row, num_trps in ROWS.items()
        for entry in ENTRIES
        if entry.stands_in(row, budget)
    ]


def run(
    budget: str,
    output: Path,
    *,
    seeds: Sequence[int] | None = None,
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
        seeds: of the models that are trained, instead of the budget's.
        small: bool. Everything small, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the tables: `table_text` of the results, and the models under changed
        conditions.
    Raises: UserError if `output` cannot be written, or holds other runs.
    """
    trials = make_trials(budget, small, seeds)
    reports.prepare(output)
    options = {"device": device, "quiet": quiet}
    results = run_table("table2", trials, output, **options)
    variable = [trial for trial in trials if trial.row == "variable"]
    beyond = table2_beyond.run(variable, budget, output, small=small, **options)
    return f"{table_text(results)}\n\n{beyond}"
