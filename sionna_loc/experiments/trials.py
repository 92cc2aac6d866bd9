"""Trials of an experiment: training runs with several seeds, finished ones kept."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sionna_loc import saving
from sionna_loc.checks import check
from sionna_loc.recipes import RunConfig
from sionna_loc.training import fit

RUNS = "runs"
_FLAGS = (
    *("scenario", "model", "preset", "recipe", "num_trps", "batch_size"),
    *("learning_rate", "emphasis", "augment", "steps", "epochs"),
    *("max_minutes", "seed"),
    *("num_val", "num_test", "data_dir", "init_from"),
)


@dataclass(frozen=True)
class Trial:
    """One model under the conditions of one row of a table.

    Args:
        row: name of the row.
        label: name of the model, for people.
        slug: the same for folders; with `row` it names the trial.
        config: what to train; its seed is replaced by each of `seeds`.
        trp_positions: bool. Whether the model looks at where the TRPs are.
        paper: metric -> what the paper reports [m]; empty if it does not.
        seeds: ints >= 0.
    """

    row: str
    label: str
    slug: str
    config: RunConfig
    trp_positions: bool
    paper: Mapping[str, float]
    seeds: Sequence[int] = (0,)

    def run_dir(self, output: Path, seed: int) -> Path:
        """Return the folder of the run with one seed."""
        name = f"{self.row}-{self.slug}-s{seed}"
        return output / RUNS / re.sub(r"[^\w.+-]+", "-", name)


def run_trials(
    trials: Sequence[Trial], output: Path, *, device: str = "auto", quiet: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """Run what is not finished yet; give all results so far after each trial.

    Args:
        trials: what to run, in this order.
        output: folder, which gets a run folder for each trial and seed. Runs in it
            that are finished are read, those that are not are continued.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: iterator over lists of results, see `to_result`.
    Raises: UserError if a folder holds a run with another configuration;
        TrainingInterrupted after a signal.
    """
    results = []
    for trial in trials:
        metrics = []
        for seed in trial.seeds:
            config = dataclasses.replace(trial.config, seed=seed)
            run_dir = trial.run_dir(output, seed)
            if not quiet:
                print(f"\n{trial.row}: {trial.label}, seed {seed}", flush=True)
            metrics.append(_run(config, run_dir, device, quiet))
        results.append(to_result(trial, metrics, output))
        yield list(results)


def to_result(
    trial: Trial, metrics: Sequence[dict[str, Any]], output: Path
) -> dict[str, Any]:
    """Return the result of a trial, JSON-able.

    Args:
        trial: what was run.
        metrics: `metrics.json` of the run of each seed.
        output: folder of the experiment.

    Returns: `row`, `label`, `model`, `model_options`, `trp_positions`, `paper`,
        `ours`, `seeds`, and the `command` that repeats the run of the first seed.
        `ours` holds the metrics, each the mean over the seeds, `mean` being the mean
        distance; `intervals`, the means of their bounds; and `per_seed`.
    """
    config = dataclasses.replace(trial.config, seed=trial.seeds[0])
    return {
        "row": trial.row,
        "label": trial.label,
        "model": config.model,
        "model_options": config.model_options,
        "num_trps": config.num_trps,
        "trp_positions": trial.trp_positions,
        "paper": dict(trial.paper),
        "ours": _mean_metrics(metrics),
        "seeds": list(trial.seeds),
        "command": train_command(config, trial.run_dir(output, trial.seeds[0])),
    }


def train_command(config: RunConfig, run_dir: Path) -> str:
    """Return the command line of a run."""
    words = ["python", "-m", "sionna_loc.train"]
    for name in _FLAGS:
        value = getattr(config, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for owner in ("model", "scenario"):
        for name, value in getattr(config, f"{owner}_options").items():
            words += [f"--{owner}-option", f"{name}={json.dumps(value)}"]
    words += ["--small"] * config.small + ["--no-baseline"] * (not config.baseline)
    return shlex.join([*words, "--run-dir", str(run_dir)])


def seeds_words(seeds: Sequence[int], usual: Sequence[int]) -> list[str]:
    """Return what asks for seeds on a command line; nothing if they are the usual."""
    if tuple(seeds) == tuple(usual):
        return []
    return ["--seeds", ",".join(map(str, seeds))]


def _run(config: RunConfig, run_dir: Path, device: str, quiet: bool) -> dict[str, Any]:
    """Return the metrics of a run, which is begun, continued or only read."""
    is_there = (run_dir / saving.CONFIG).exists()
    if is_there:
        saved = saving.read_run(run_dir)["config"]
        check(
            saved == config.to_dict(),
            f"The run in {run_dir} has another configuration, of another budget or "
            "version: choose another --output.",
            run_dir=str(run_dir),
        )
    if not (run_dir / saving.METRICS).exists():
        keras.backend.clear_session()
        command = train_command(config, run_dir)
        fit(
            config,
            run_dir,
            resume=is_there,
            device=device,
            quiet=quiet,
            command=command,
        )
    return saving.read_run(run_dir, saving.METRICS)


def _mean_metrics(metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, of metrics and of the bounds of their intervals."""
    names = list(metrics[0]["intervals"])
    per_seed = [{name: run[name] for name in names} for run in metrics]
    bounds = [[run["intervals"][name] for run in metrics] for name in names]
    means = {name: float(np.mean([run[name] for run in per_seed])) for name in names}
    return {
        **means,
        "mean": means["mae"],
        "num_samples": metrics[0]["num_samples"],
        "intervals": {
            name: np.mean(values, axis=0).tolist()
            for name, values in zip(names, bounds, strict=True)
        },
        "per_seed": per_seed,
        "training": [run.get("training") for run in metrics],
    }
