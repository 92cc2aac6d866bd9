"""Figures 7 and 8 of the HypLoc paper: a constellation that no model has seen.

Models trained on all known constellations, and of Individual and Individual+ the one
that is best on its own, are trained on with samples of an unseen one. Fig. 7 shows the
error against the epochs with all samples, Fig. 8 against the share of the samples. The
optimizer and its schedule begin anew.

The paper chose a constellation with good coverage by hand. Here it is number 16: of
those with a number that no model is trained on, 10 to 19, the one that leaves the
fewest training positions without line of sight, 5.2 %, and none without coverage.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
Networks", Sec. IV-C.
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc import assembly, saving
from sionna_loc.adaptation import Shots, adapt
from sionna_loc.device import use_device
from sionna_loc.experiments import reports
from sionna_loc.experiments.hyploc import (
    INDIVIDUAL,
    MODELS,
    Budget,
    get_budget,
    make_trial,
)
from sionna_loc.experiments.hyploc import run_all as run_trials
from sionna_loc.experiments.trials import Trial
from sionna_loc.plotting import learning_curves, save_figure
from sionna_loc.registry import get_scenario

UNSEEN = 16
"""Number of the unseen constellation."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_PAPER_ZERO_SHOT = {
    "HypLoc": 140.4,
    "Single": 187.5,
    "Single+": 193.5,
    "Individual": 167.4,
    "Individual+": 218.5,
}
"""Label -> mean error without re-training [m]."""
_CURVES = "curves"


def run_fig7(
    budget: str,
    output: Path,
    *,
    seeds: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Adapt with all samples; write `fig7.json`, `.csv`, `.png` and `.pdf`.

    Args and Raises: see `hyploc.run_fig4`.

    Returns: the table as text.
    """
    chosen = get_budget(budget, seeds=seeds)
    records = _run("fig7", [1.0], chosen, output, small, device, quiet)
    curves = _curves(records, "epoch")
    shown = {label: points[1:] for label, points in curves.items()}
    save_figure(learning_curves(shown, "Epochs of re-training"), output / "fig7")
    epochs = [epoch for epoch, _ in next(iter(curves.values()))]
    chosen = [e for e in (1, 2, 3, 5, 10, 20, 30) if e in epochs]
    rows = [["", "paper, 0 epochs", "0 epochs", *(f"{epoch}" for epoch in chosen)]]
    for label, points in curves.items():
        by_epoch = dict(points)
        paper = f"{_PAPER_ZERO_SHOT[label]:.1f}"
        values = [f"{by_epoch[epoch]:.2f}" for epoch in (0, *chosen)]
        rows.append([label, paper, *values])
    return reports.text_table(
        "Mean horizontal error by epochs of re-training [m]", rows
    )


def run_fig8(
    budget: str,
    output: Path,
    *,
    seeds: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Adapt with shares of the samples; write `fig8.json`, `.csv`, `.png` and `.pdf`.

    Args and Raises: see `hyploc.run_fig4`.

    Returns: the table as text.
    """
    chosen = get_budget(budget, seeds=seeds)
    records = _run("fig8", SHARES, chosen, output, small, device, quiet)
    last = max(record["epoch"] for record in records)
    ends = [record for record in records if record["epoch"] == last]
    curves = _curves(ends, "share")
    shown = {k: [(100 * x, y) for x, y in points] for k, points in curves.items()}
    figure = learning_curves(shown, "Share of the training samples [%]", log_x=True)
    save_figure(figure, output / "fig8")
    rows = [["", *(f"{100 * share:g} %" for share in SHARES)]]
    rows += [
        [label, *(f"{error:.2f}" for _, error in points)]
        for label, points in curves.items()
    ]
    title = f"Mean horizontal error after {last} epochs by share of samples [m]"
    return reports.text_table(title, rows)


def _run(
    name: str,
    shares: Sequence[float],
    budget: Budget,
    output: Path,
    small: bool,
    device: str,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Train what is to adapt, adapt it, and write the records of all points."""
    reports.prepare(output)
    use_device(device)
    runs = _pretrained(budget, output, small, device, quiet)
    records: list[dict[str, Any]] = []
    for label, seed, run_dir in runs:
        for share in shares:
            if not quiet:
                text = f"{label}, seed {seed}: adapting with {100 * share:g} %"
                print(text, flush=True)
            points = _adapted(run_dir, share, seed, budget.retraining, small)
            records += [
                {"label": label, "seed": seed, "share": share, **point}
                for point in points
            ]
            reports.write(output, name, records)
    reports.write_results(output, name, _results(name, records, budget, output))
    return records


def _results(
    name: str, records: Sequence[dict[str, Any]], budget: Budget, output: Path
) -> list[dict[str, Any]]:
    """Return what `results.json` holds: a row for each epoch, or each share."""
    words = ["python", "-m", "sionna_loc.reproduce", f"hyploc_{name}"]
    words += [*budget.words, "--output", str(output)]
    key = "epoch" if name == "fig7" else "share"
    last = max(record["epoch"] for record in records)
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for record in records:
        if name == "fig7" or record["epoch"] == last:
            groups.setdefault((record[key], record["label"]), []).append(record)
    found = []
    for (place, label), own in sorted(groups.items(), key=lambda item: item[0][0]):
        is_zero_shot = key == "epoch" and place == 0
        found.append(
            {
                "row": f"{name}:{place:g}",
                "label": label,
                "model": MODELS[INDIVIDUAL.get(label, label)][0],
                "trp_positions": True,
                "paper": {"mean": _PAPER_ZERO_SHOT[label]} if is_zero_shot else {},
                "ours": reports.mean_of(own),
                "seeds": [record["seed"] for record in own],
                "command": shlex.join(words),
            }
        )
    return found


def _pretrained(
    budget: Budget, output: Path, small: bool, device: str, quiet: bool
) -> list[tuple[str, int, Path]]:
    """Return label, seed and run folder of the models that adapt."""
    known = range(max(budget.counts))
    joint = {label: make_trial(label, known, budget, small) for label in MODELS}
    each = {
        label: [make_trial(single, [k], budget, small) for k in known]
        for label, single in INDIVIDUAL.items()
    }
    everything = [*joint.values(), *(trial for row in each.values() for trial in row)]
    run_trials(everything, output, device, quiet)
    runs = []
    for seed in budget.seeds:
        for label, trial in joint.items():
            runs.append((label, seed, trial.run_dir(output, seed)))
        for label, trials in each.items():
            runs.append((label, seed, _best(trials, output, seed)))
    return runs


def _best(trials: Iterable[Trial], output: Path, seed: int) -> Path:
    """Return the folder of the run with the least mean error."""
    folders = [trial.run_dir(output, seed) for trial in trials]
    return min(folders, key=lambda f: saving.read_run(f, saving.METRICS)["mae"])


def _adapted(
    run_dir: Path, share: float, seed: int, epochs: int, small: bool
) -> list[dict[str, Any]]:
    """Return the learning curve of a run's model, kept in the run's folder."""
    scenario = get_scenario("madrid", small=small, constellations=UNSEEN)
    num_samples = max(1, int(share * scenario.num_train))
    path = run_dir / _CURVES / f"{UNSEEN}-{num_samples}-{epochs}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    config = assembly.resolved_config(saving.read_run(run_dir))
    shots = Shots(scenario, num_samples, config.num_trps, scenario.num_test)
    points = adapt(
        saving.load_model(run_dir),
        shots,
        assembly.make_recipe(config, scenario),
        epochs=epochs,
        measure_at=None if share == 1 else (),
        seed=seed,
    )
    path.parent.mkdir(exist_ok=True)
    saving.write_json(path, points)
    return points


def _curves(
    records: Sequence[dict[str, Any]], name: str
) -> dict[str, list[tuple[float, float]]]:
    """Return label -> points (`name`, mean error over the seeds), by `name`."""
    curves = {}
    for label in _PAPER_ZERO_SHOT:
        own = [record for record in records if record["label"] == label]
        places = sorted({record[name] for record in own})
        curves[label] = [
            (x, float(np.mean([r["mae"] for r in own if r[name] == x]))) for x in places
        ]
    return curves
