"""Figures 4, 5 and 6 of the HypLoc paper: known constellations of gNBs.

Fig. 4 has one constellation; in Fig. 5 and 6 there are more and more of them. HypLoc,
Single and Single+ are one model for all constellations, Individual and Individual+ one
for each, of the networks of Single and Single+; with one constellation these are the
same. Errors are means over the test samples of all constellations.

The paper names means for Fig. 4 only; what its other figures show has no numbers.

References: Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
Networks", Sec. IV-B and IV-C.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc import assembly, saving
from sionna_loc.checks import check, check_known
from sionna_loc.evaluation import evaluate
from sionna_loc.experiments import reports
from sionna_loc.experiments.trials import Trial, run_trials, seeds_words
from sionna_loc.plotting import error_cdf, learning_curves, save_figure
from sionna_loc.recipes import RunConfig
from sionna_loc.scenarios.madrid import NUM_CONSTELLATIONS

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
        name: `"quick"` or `"full"`.
        epochs: of each training.
        retraining: epochs of each training on an unseen constellation.
        seeds: of each training.
        counts: numbers of constellations in Fig. 5; the largest is that of the models
            that are trained again.
    """

    name: str
    epochs: int
    retraining: int
    seeds: Sequence[int]
    counts: Sequence[int]

    @property
    def words(self) -> list[str]:
        """What asks for it on the command line, but for `counts`."""
        usual = BUDGETS[self.name].seeds
        return ["--budget", self.name, *seeds_words(self.seeds, usual)]


BUDGETS = {
    "quick": Budget("quick", epochs=2, retraining=3, seeds=(0,), counts=(1, 2, 5)),
    "full": Budget(
        "full", epochs=30, retraining=30, seeds=(0, 1, 2), counts=tuple(range(1, 11))
    ),
}
_PAPER_FIG4 = {"HypLoc": 2.81, "Single+": 3.26, "Single": 4.42}
"""Label -> mean error [m]."""


def get_budget(name: str, **others: Sequence[int] | None) -> Budget:
    """Return a budget of `BUDGETS`.

    Args:
        name: its key.
        **others: what it shall have instead, where that is not None.
    """
    check_known("budget", name, BUDGETS)
    given = {key: value for key, value in others.items() if value is not None}
    return dataclasses.replace(BUDGETS[name], **given)


def make_trial(
    label: str,
    constellations: Sequence[int] | str,
    budget: Budget,
    small: bool = False,
    models: Mapping[str, tuple[str, str]] = MODELS,
) -> Trial:
    """Return the training of one model on some constellations.

    Args:
        label: key of `models`.
        constellations: their numbers, or `"any"`.
        budget: gives epochs and seeds.
        small: bool. Everything small, for a smoke run.
        models: label -> model and preset.
    """
    model, preset = models[label]
    if not isinstance(constellations, str):
        constellations = list(constellations)
    config = RunConfig(
        scenario="madrid",
        model=model,
        preset=preset,
        epochs=None if small else budget.epochs,
        small=small,
        baseline=False,
        scenario_options={"constellations": constellations},
    )
    is_any = isinstance(constellations, str)
    return Trial(
        row=constellations if is_any else "-".join(map(str, constellations)),
        label=label,
        slug=label.lower().replace("+", "-plus").replace(" ", "-"),
        config=config,
        trp_positions=True,
        paper={},
        seeds=budget.seeds,
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
    seeds: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Train with one constellation; write `fig4.json`, `.csv`, `.png`, `.pdf`.

    Args:
        budget: key of `BUDGETS`.
        output: folder of results and runs.
        seeds: of each training, instead of the budget's.
        small: bool. Everything small, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the table as text.
    Raises: UserError if `output` cannot be written, or holds other runs.
    """
    reports.prepare(output)
    chosen = get_budget(budget, seeds=seeds)
    trials = [make_trial(label, [0], chosen, small) for label in MODELS]
    results = run_all(trials, output, device, quiet)
    records = [fig4_record(results[label, "0"]) for label in MODELS]
    reports.write(output, "fig4", records)
    found = [
        {**results[label, "0"], "row": "fig4", "paper": {"mean": _PAPER_FIG4[label]}}
        for label in MODELS
    ]
    reports.write_results(output, "fig4", found)
    evaluations = {
        trial.label: evaluate_run(trial.run_dir(output, trial.seeds[0]))
        for trial in trials
    }
    save_figure(error_cdf(evaluations), output / "fig4")
    heading = ["", "paper, mean", "ours, mean [95 %]", "by seed"]
    rows = [[*heading, "RMSE", "median", "90 %"], *map(_fig4_cells, records)]
    return reports.text_table("Horizontal error with one constellation [m]", rows)


def fig4_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Fig. 4 says of a model, from its result, see `trials.to_result`."""
    ours, label = result["ours"], result["label"]
    lower, upper = ours["intervals"]["mae"]
    return {
        "label": label,
        "paper_mean": _PAPER_FIG4[label],
        **{name: ours[name] for name in ("mean", "rmse", "p50", "p90")},
        "mean_lower": lower,
        "mean_upper": upper,
        "per_seed": [seed["mae"] for seed in ours["per_seed"]],
        "command": result["command"],
    }


def _fig4_cells(record: Mapping[str, Any]) -> list[str]:
    """Return a record as a line of the printed table."""
    interval = f"[{record['mean_lower']:.2f}, {record['mean_upper']:.2f}]"
    return [
        record["label"],
        f"{record['paper_mean']:.2f}",
        f"{record['mean']:.2f} {interval}",
        " ".join(f"{value:.2f}" for value in record["per_seed"]),
        *(f"{record[name]:.2f}" for name in ("rmse", "p50", "p90")),
    ]


def run_fig5(
    budget: str,
    output: Path,
    *,
    seeds: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Train with more and more constellations; write `fig5.json` and so on, `fig6.png`.

    Args and Raises: see `run_fig4`. Args besides:
        counts: numbers of constellations, instead of the budget's.

    Returns: the table as text.
    """
    reports.prepare(output)
    chosen = get_budget(budget, seeds=seeds, counts=counts)
    counts = sorted(chosen.counts)
    most = NUM_CONSTELLATIONS
    check(counts[-1] <= most, f"There are {most} constellations.", counts=counts)
    singles = sorted(INDIVIDUAL.values())
    each = [(label, [k]) for k in range(max(counts)) for label in singles]
    joint = [
        (label, range(count))
        for count in counts
        for label in MODELS
        if count > 1 or label not in singles
    ]
    trials = [make_trial(*pair, chosen, small) for pair in (*each, *joint)]
    results = run_all(trials, output, device, quiet)
    records = fig5_records(results, counts)
    reports.write(output, "fig5", records)
    reports.write_results(output, "fig5", _fig5_results(results, counts))
    _draw_fig5(records, output)
    by_place = {(r["constellations"], r["label"]): r for r in records}
    labels = [*MODELS, *INDIVIDUAL]
    rows = [["constellations", *labels]]
    for count in counts:
        found = [by_place[count, label] for label in labels]
        cells = [f"{r['mean']:.2f} ({r['normalised']:.2f})" for r in found]
        rows.append([str(count), *cells])
    title = "Mean horizontal error [m], and divided by that of Individual"
    return reports.text_table(title, rows)


def _draw_fig5(records: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Draw Fig. 5 and, with errors divided by those of Individual, Fig. 6."""
    for name, key, text in (
        ("fig5", "mean", "Mean horizontal error [m]"),
        ("fig6", "normalised", "Mean error / that of Individual"),
    ):
        curves: dict[str, list[tuple[float, float]]] = {}
        for record in records:
            point = (record["constellations"], record[key])
            curves.setdefault(record["label"], []).append(point)
        figure = learning_curves(curves, "Constellations", ylabel=text)
        save_figure(figure, output / name)


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


def _fig5_results(
    results: Mapping[tuple[str, str], Mapping[str, Any]], counts: Sequence[int]
) -> list[dict[str, Any]]:
    """Return what `results.json` holds of Fig. 5; see `fig5_records`."""
    found = []
    for count in counts:
        row = {"row": f"fig5:{count}"}
        joint = "-".join(map(str, range(count)))
        found += [{**results[label, joint], **row} for label in MODELS]
        for label, single in INDIVIDUAL.items():
            each = [results[single, str(k)] for k in range(count)]
            per_seed = zip(*(one["ours"]["per_seed"] for one in each), strict=True)
            # Means over the constellations for each seed, then over the seeds.
            ours = reports.mean_of([reports.mean_of(runs) for runs in per_seed])
            found.append({**each[0], **row, "label": label, "ours": ours})
    return found


def _seed_means(result: Mapping[str, Any]) -> np.ndarray:
    """Return the mean error of each seed, [num_seeds] [m]."""
    return np.array([seed["mae"] for seed in result["ours"]["per_seed"]])


def evaluate_run(run_dir: Path) -> Any:
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
