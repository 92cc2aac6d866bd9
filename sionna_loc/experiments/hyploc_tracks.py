"""Beyond the HypLoc paper: windows of tracks, and models for any number of gNBs.

Each model of single samples is compared with the recurrent model that reads what the
same network finds along the last ten samples, one second, of the vehicle's track: its
last sentence leaves a sequence-processing network to future work. Both are trained
alike on the same tracks and tested on the same samples. Windows look back only, and
those of the first nine samples of a track are shorter; these are tested too.

Training and test are once with one constellation, and once, for the models that take
any number of gNBs, with others for each sample, none of which has a number.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
Networks", Sec. IV-D.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sionna_loc.experiments import reports
from sionna_loc.experiments.hyploc import (
    evaluate_run,
    get_budget,
    make_trial,
    run_all,
)
from sionna_loc.plotting import error_cdf, save_figure

_NAME = "tracks"
NETWORKS = {
    "HypLoc": ("hyploc", "paper"),
    "Single+": ("mlp", "mlp_plus"),
    "HypLoc set": ("hyploc_set", "base"),
    "Transformer": ("vinloc_links", "base"),
}
"""Label -> model of single samples and its preset."""
ANY_NUMBER = ("HypLoc set", "Transformer")
"""Labels of those that take any number of gNBs."""
_SHOWN = ("HypLoc", "Transformer")
"""Labels of the networks in the figure, which has room for four curves."""
_GRU = " GRU"
_ROWS = {"0": "one constellation", "any": "ever new constellations"}


def _models() -> dict[str, tuple[str, str]]:
    """Return label -> model and preset, of single samples and of windows."""
    presets = {"HypLoc": "hyploc", "Single+": "mlp_plus"}
    windows = {
        label + _GRU: ("recurrent", presets.get(label, model))
        for label, (model, _) in NETWORKS.items()
    }
    return {**NETWORKS, **windows}


def run(
    budget: str,
    output: Path,
    *,
    seeds: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Train all models; write `tracks.json`, `.csv`, `.png` and `.pdf`.

    Args and Raises: see `hyploc.run_fig4`.

    Returns: the table as text.
    """
    reports.prepare(output)
    models = _models()
    chosen = get_budget(budget, seeds=seeds)
    labels = {
        "0": [*models],
        "any": [x for label in ANY_NUMBER for x in (label, label + _GRU)],
    }
    trials = [
        make_trial(label, [0] if row == "0" else row, chosen, small, models)
        for row, names in labels.items()
        for label in names
    ]
    results = run_all(trials, output, device, quiet)
    records = [
        _record(results[trial.label, trial.row], trial.row, trial.label)
        for trial in trials
    ]
    reports.write(output, _NAME, records)
    reports.write_results(
        output,
        _NAME,
        [
            {**results[t.label, t.row], "row": f"{_NAME}:{t.row}", "paper": {}}
            for t in trials
        ],
    )
    evaluations = {
        trial.label: evaluate_run(trial.run_dir(output, trial.seeds[0]))
        for trial in trials
        if trial.row == "0" and trial.label.removesuffix(_GRU) in _SHOWN
    }
    save_figure(error_cdf(evaluations), output / _NAME)
    return _table(records)


def _record(result: Mapping[str, Any], row: str, label: str) -> dict[str, Any]:
    """Return what is reported of one model on one row."""
    ours = result["ours"]
    lower, upper = ours["intervals"]["mae"]
    return {
        "constellations": row,
        "network": label.removesuffix(_GRU),
        "window": label.endswith(_GRU),
        **{name: ours[name] for name in ("mean", "rmse", "p50", "p90")},
        "mean_lower": lower,
        "mean_upper": upper,
        "num_samples": ours["num_samples"],
        "per_seed": [seed["mae"] for seed in ours["per_seed"]],
        "command": result["command"],
    }


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean errors, a line for each network and row."""
    by_place = {(r["constellations"], r["network"], r["window"]): r for r in records}
    rows = [["", "", "one sample", "window", "ratio"]]
    for (row, network, is_window), alone in by_place.items():
        if is_window:
            continue
        along = by_place[row, network, True]
        ratio = f"{along['mean'] / alone['mean']:.2f}"
        rows.append([_ROWS[row], network, _cell(alone), _cell(along), ratio])
    title = "Mean horizontal error by a single sample and by a window of the track [m]"
    return reports.text_table(title, rows, num_names=2)


def _cell(record: Mapping[str, Any]) -> str:
    """Return a mean with its interval."""
    interval = f"[{record['mean_lower']:.2f}, {record['mean_upper']:.2f}]"
    return f"{record['mean']:.2f} {interval}"
