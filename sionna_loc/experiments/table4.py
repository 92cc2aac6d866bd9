"""Table 4 of the VIn-Loc paper: ray-traced Paris, Scenarios 1 and 2.

Beside the paper's lines stands multilateration on the same test sets. The model of
Scenario 2 is tested with fewer TRPs, too. With the budget `"full"`, Scenario 2 is also
trained without what the paper says it needs: without a time base that all TRPs share,
with raw antennas instead of AoA-ToF images, with a single antenna, and without the
positions of the TRPs.

References: Balaji et al., "VIn-Loc", Sec. 4, Table 4.
"""

from collections.abc import Sequence
from pathlib import Path

from sionna_loc.checks import check_known
from sionna_loc.experiments import reports
from sionna_loc.experiments.conditions import (
    Condition,
    conditions_table,
    write_conditions,
)
from sionna_loc.experiments.paper_table import Entry, run_table, table_text
from sionna_loc.experiments.trials import Trial

ROWS = ("paris_scn1", "paris_scn2")
"""Names of the rows: the scenarios."""
BUDGETS = {"quick": (0,), "full": (0, 1, 2)}
"""Budget -> seeds of the models that are trained."""
CONDITIONS = tuple(Condition("TRPs", str(n), num_trps=n) for n in (64, 32, 16, 8))
"""What the model of Scenario 2 is tested with."""
_QUICK = {"num_val": 250, "num_test": 1000}
_NUM_CONDITION_TEST = {"quick": 250, "full": 2000}
_ABLATED = {"rows": ("paris_scn2",), "minutes": {"full": 480}}

ENTRIES = (
    Entry(
        "VIn-Loc",
        "vinloc",
        "vinloc",
        minutes={"quick": {"paris_scn1": 4, "paris_scn2": 6.5}, "full": 480},
        paper={"paris_scn1": (0.93, 0.9, 1.5), "paris_scn2": (7.3, 6.1, 11.0)},
        quick={"batch_size": 16},
    ),
    Entry(
        "not synchronised",
        "not-synchronised",
        "vinloc",
        scenario_options={"synchronised": False},
        **_ABLATED,
    ),
    Entry("raw antennas", "raw-antennas", "vinloc", {"aoa_tof": False}, **_ABLATED),
    Entry(
        "one antenna",
        "one-antenna",
        "vinloc",
        scenario_options={"ue_antennas": [1, 1]},
        **_ABLATED,
    ),
    Entry(
        "no TRP positions",
        "no-positions",
        "vinloc",
        {"use_trp_positions": False},
        trp_positions=False,
        **_ABLATED,
    ),
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
    sizes = _QUICK if budget == "quick" and not small else {}
    return [
        entry.trial(row, budget, seeds, small, scenario=row, **sizes)
        for row in ROWS
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
        output: folder for `results.json`, `table4.csv`, `table4.png` and `.pdf`,
            written anew after each trial, for the runs, and for `num_trps.json`,
            `.csv`, `.png` and `.pdf`, Scenario 2 with fewer TRPs.
        seeds: of the models that are trained, instead of the budget's.
        small: bool. Everything small, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the tables.
    Raises: UserError if `output` cannot be written, or holds other runs.
    """
    trials = make_trials(budget, small, seeds)
    reports.prepare(output)
    options = {"device": device, "quiet": quiet}
    results = run_table("table4", trials, output, **options)
    count = 64 if small else _NUM_CONDITION_TEST[budget]
    runs = _runs_with_fewer_trps(trials, output)
    lines = write_conditions(output / "num_trps", runs, CONDITIONS, count, **options)
    heading = f"Scenario 2 with fewer TRPs, {count} test samples: errors [m]"
    return f"{table_text(results)}\n\n{conditions_table(lines, heading)}"


def _runs_with_fewer_trps(trials: Sequence[Trial], output: Path) -> dict[str, Path]:
    """Return label -> run folder of what is tested with fewer TRPs."""
    return {
        trial.label: trial.run_dir(output, trial.seeds[0])
        for trial in trials
        if trial.row == "paris_scn2" and trial.slug in ("vinloc", "multilateration")
    }
