"""Rows beside VIn-Loc's Table 2 that no paper gives: changed conditions.

What was trained on 15 of 18 TRPs is tested with other numbers of them, and so on
subsets that it never saw, in another factory without and with some samples of it to
adapt to, with noise, with clocks that are not
synchronised, and with TRPs that are not quite where they are said to stand.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sionna_loc.experiments.conditions import (
    Condition,
    conditions_table,
    sweep,
    write_conditions,
)
from sionna_loc.experiments.trials import Trial

_NANOSECONDS = {"0": 0.0, "1": 1e-9, "3": 3e-9, "10": 1e-8, "30": 3e-8}
_SHOTS = {"quick": (100,), "full": (20, 100, 1000)}
"""Budget -> samples that models adapt to."""
CONDITIONS = (
    *(Condition("TRPs", str(n), num_trps=n) for n in (18, 15, 12, 9, 6, 4)),
    *sweep("factory", "factory", {"own": 0, "another": 1}),
    *(
        Condition("factory", f"{shots}-shot", {"factory": 1}, shots=shots)
        for shots in _SHOTS["full"]
    ),
    *sweep(
        "SNR [dB]", "snr_db", {"none": None, "40": 40, "30": 30, "20": 20, "10": 10}
    ),
    *sweep("clock of the UE [ns]", "ue_clock_offset", _NANOSECONDS),
    *sweep("clocks of the TRPs [ns]", "trp_sync_error", _NANOSECONDS),
    *sweep(
        "TRP survey [m]",
        "trp_position_error",
        {"0": 0.0, "0.1": 0.1, "0.3": 0.3, "1": 1.0, "3": 3.0},
    ),
)
"""What is changed for models trained on 15 of 18 TRPs; values of clocks and survey are
standard deviations."""
_MODELS = {
    "quick": ("vinloc",),
    "full": ("vinloc", "resnet-own", "nearest-neighbours", "multilateration"),
}
_NUM_TEST = {"quick": 500, "full": 2000}
_SMALL_NUM_TEST = 64


def run(
    trials: Sequence[Trial], budget: str, output: Path, *, small: bool, **options: Any
) -> str:
    """Test models of finished trials under changed conditions.

    Args:
        trials: of the variable row.
        budget: `"quick"` or `"full"`.
        output: folder of the runs, for `beyond.json`, `.csv`, `.png` and `.pdf`. What
            `beyond.json` holds is not evaluated again.
        small: bool. Few samples, for a smoke run.
        **options: `device` and `quiet`, see `run_conditions`.

    Returns: the table.
    Raises: UserError if `beyond.json` is damaged.
    """
    runs = {
        trial.label: trial.run_dir(output, trial.seeds[0])
        for trial in trials
        if trial.slug in _MODELS[budget]
    }
    count = _SMALL_NUM_TEST if small else _NUM_TEST[budget]
    shots = (0, *_SHOTS[budget])
    chosen = [condition for condition in CONDITIONS if condition.shots in shots]
    lines = write_conditions(output / "beyond", runs, chosen, count, **options)
    heading = f"Trained on 15 of 18 TRPs, {count} test samples: errors in the plane [m]"
    return conditions_table(lines, heading)
