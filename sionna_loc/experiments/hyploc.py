"""Figures 4, 5 and 6 of the HypLoc paper: known constellations of gNBs.

Fig. 4 has one constellation; in Fig. 5 and 6 there are more and more of them. HypLoc,
Single and Single+ are one model for all constellations, Individual and Individual+ one
for each, of the networks of Single and Single+; with one constellation these are the
same. Errors are means over the test samples of all constellations.

The paper names means for Fig. 4 only; what its other figures show has no numbers.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
Networks", Sec. IV-B and IV-C.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc import assembly, saving
from sionna_loc.checks import check_known
from sionna_loc.evaluation import evaluate
from sionna_loc.experiments import reports
from sionna_loc.experiments.trials import Trial, run_trials
from sionna_loc.plotting import error_cdf, learning_curves, save_figure
from sionna_loc.recipes import RunConfig

MODELS = {
    "HypLoc": ("hyploc", "paper"),
    "Single": ("mlp", "mlp"),
    "Single+": ("mlp", "mlp_plus"),
}
"""Label -> model and preset."""
INDIVIDUAL = {"Individual": "Single", "Individual+": "Single+"}
"""Label -> label of the model of which there is one for each constellation."""


@dataclass(frozen=True)
class Budget:
    """How much an experiment trains.

    Args:
        epochs: of each training.
        seeds: of each training.
        counts: numbers of constellations in Fig. 5.
    """

    epochs: int
    seeds: Sequence[int]
    counts: Sequence[int]


BUDGETS = {
    "quick": Budget(epochs=2, seeds=(0,), counts=(1, 2, 5)),
    "full": Budget(epochs=30, seeds=(0, 1, 2), counts=tuple(range(1, 11))),
}
_PAPER_FIG4 = {"HypLoc": 2.81, "Single+": 3.26, "Single": 4.42}
"""Label -> mean error [m]."""


def make_trial(
    label: str, constellations: Sequence[int], budget: str, small: bool = False
) -> Trial:
    """Return the training of one model on some constellations.

    Args:
        label: key of `MODELS`.
        constellations: their numbers.
        budget: key of `BUDGETS`.
        small: bool. Everything small, for a smoke run.
    """
    check_known("budget", budget, BUDGETS)
    model, preset = MODELS[label]
    config = RunConfig(
        scenario="madrid",
        model=model,
        preset=preset,
        epochs=None if small else BUDGETS[budget].epochs,
        small=small,
        baseline=False,
        scenario_options={"constellations": list(constellations)},
    )
    return Trial(
        row="-".join(map(str, constellations)),
        label=label,
        slug=label.lower().replace("+", "-plus"),
        config=config,
        trp_positions=True,
        paper={},
        seeds=BUDGETS[budget].seeds,
    )


def run_all(
    trials: Sequence[Trial], output: Path, device: str, quiet: bool
) -> dict[tuple[str, str], dict[str, Any]]:
    """Run trials; return (label, row) -> result, see `trials.to_result`."""
    *_, results = run_trials(trials, output, device=device, quiet=quiet)
    return {(result["label"], result["row"]): result for result in results}


def run_fig4(
    budget: str,
    output: Path,
    *,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Train with one constellation; write `fig4.json`, `.csv`, `.png`, `.pdf`.

    Args:
        budget: key of `BUDGETS`.
        output: folder of results and runs.
        small: bool. Everything small, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the table as text.
    Raises: UserError if `output` cannot be written, or holds other runs.
    """
    reports.prepare(output)
    trials = [make_trial(label, [0], budget, small) for label in MODELS]
    results = run_all(trials, output, device, quiet)
    records = []
    for label in MODELS:
        result = results[label, "0"]
        ours = result["ours"]
        records.append(
            {
                "label": label,
                "paper_mean": _PAPER_FIG4[label],
                **{name: ours[name] for name in ("mean", "rmse", "p50", "p90")},
                "mean_lower": ours["intervals"]["mae"][0],
                "mean_upper": ours["intervals"]["mae"][1],
                "per_seed": [seed["mae"] for seed in ours["per_seed"]],
                "command": result["command"],
            }
        )
    reports.write(output, "fig4", records)
    evaluations = {
        trial.label: _evaluate(trial.run_dir(output, trial.seeds[0]))
        for trial in trials
    }
    save_figure(error_cdf(evaluations), output / "fig4")
    heading = ["", "paper, mean", "ours, mean [95 %]", "by seed", "RMSE", "median"]
    rows = [
        [
            record["label"],
            f"{record['paper_mean']:.2f}",
            f"{record['mean']:.2f} "
            f"[{record['mean_lower']:.2f}, {record['mean_upper']:.2f}]",
            " ".join(f"{value:.2f}" for value in record["per_seed"]),
            f"{record['rmse']:.2f}",
            f"{record['p50']:.2f}",
        ]
        for record in records
    ]
    return reports.text_table(
        "Horizontal error with one constellation [m]",
        [
            [*heading, "90 %"],
            *[
                [*row, f"{record['p90']:.2f}"]
                for row, record in zip(rows, records, strict=True)
            ],
        ],
    )


def run_fig5(
    budget: str,
    output: Path,
    *,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Train with more and more constellations; write `fig5.json` and so on, `fig6.png`.

    Args and Raises: see `run_fig4`.

    Returns: the table as text.
    """
    reports.prepare(output)
    counts = BUDGETS[budget].counts
    trials = [
        *(
            make_trial(m, [k], budget, small)
            for k in range(max(counts))
            for m in MODELS
            if m != "HypLoc" or k == 0
        ),
        *(
            make_trial(m, range(c), budget, small)
            for c in counts
            if c > 1
            for m in MODELS
        ),
    ]
    results = run_all(trials, output, device, quiet)
    records = fig5_records(results, counts)
    reports.write(output, "fig5", records)
    labels = [*MODELS, *INDIVIDUAL]
    for name, key, text in (
        ("fig5", "mean", "Mean horizontal error [m]"),
        ("fig6", "normalised", "Mean error / that of Individual"),
    ):
        curves = {
            label: [
                (r["constellations"], r[key]) for r in records if r["label"] == label
            ]
            for label in labels
        }
        figure = learning_curves(curves, "Constellations", ylabel=text)
        save_figure(figure, output / name)
    by_place = {(r["constellations"], r["label"]): r for r in records}
    rows = [["constellations", *labels]]
    for count in counts:
        found = [by_place[count, label] for label in labels]
        cells = [f"{r['mean']:.2f} ({r['normalised']:.2f})" for r in found]
        rows.append([str(count), *cells])
    title = "Mean horizontal error [m], and divided by that of Individual"
    return reports.text_table(title, rows)


def fig5_records(
    results: Mapping[tuple[str, str], Mapping[str, Any]], counts: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a record for each number of constellations and model.

    Args:
        results: (label, row) -> result.
        counts: numbers of constellations.
    """
    records = []
    for count in counts:
        row = "-".join(map(str, range(count)))
        seeds = {label: _seed_means(results[label, row]) for label in MODELS}
        for label, single in INDIVIDUAL.items():
            each = [_seed_means(results[single, str(k)]) for k in range(count)]
            seeds[label] = np.mean(each, axis=0)
        reference = seeds["Individual"].mean()
        records += [
            {
                "constellations": count,
                "label": label,
                "mean": float(means.mean()),
                "normalised": float(means.mean() / reference),
                "per_seed": means.tolist(),
            }
            for label, means in seeds.items()
        ]
    return records


def _seed_means(result: Mapping[str, Any]) -> np.ndarray:
    """Return the mean error of each seed, [num_seeds] [m]."""
    return np.array([seed["mae"] for seed in result["ours"]["per_seed"]])


def _evaluate(run_dir: Path) -> Any:
    """Return the evaluation of a finished run on its test set."""
    config = assembly.resolved_config(saving.read_run(run_dir))
    scenario = assembly.make_scenario(config)
    model = saving.load_model(run_dir)
    features = assembly.make_features(scenario, model)
    test = scenario.frozen(
        "test",
        config.num_test,
        num_trps=config.num_trps,
        **assembly.reading_options(features),
    )
    return evaluate(model, test.map(features))
