"""Link-measurement models on real measurements: WiFi ranges and powers in three rooms.

Per room: models trained on its training points, beside least squares and nearest
neighbours on the ranges. Then the set model with fewer access points than it was
trained with. Then trained on two rooms and tested in the third, as it is and adapted
with a few of its scans.

No room has angles of arrival. Training is worsened at random, always in the same way,
against learning few points by heart (`scenarios.measured`, Changes).

References: "WiFi RSS & RTT dataset with different LOS conditions for indoor
positioning", doi 10.5281/zenodo.11558792.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc import assembly, saving
from sionna_loc.adaptation import Shots, adapt
from sionna_loc.checks import check
from sionna_loc.device import use_device
from sionna_loc.evaluation import evaluate_over_num_trps
from sionna_loc.experiments import reports, wifi_rooms
from sionna_loc.experiments.trials import Trial, run_trials, seeds_words
from sionna_loc.experiments.wifi_rooms import ROOMS
from sionna_loc.experiments.wifi_rtt_tables import (
    NAME,
    NUM_TRPS,
    SET_MODEL,
    SHOTS,
    draw_shots,
    fewer_table,
    flat,
    room_table,
    shots_table,
)
from sionna_loc.metrics import position_metrics
from sionna_loc.recipes import RunConfig
from sionna_loc.scenarios.measured import Measured

_MODELS = {
    SET_MODEL: ("hyploc_set", None),
    "VIn-Loc, links": ("vinloc_links", None),
    "HypLoc": ("hyploc", None),
    "MLP": ("mlp", "mlp"),
    "MLP+": ("mlp", "mlp_plus"),
}
"""Label -> model and preset."""
_CHANGES = {"mute": 0.15, "range_jitter": 0.4, "power_jitter": 3.0}
_ADAPTATION_EPOCHS = 60
_ADAPTATION_BATCH = 16
_ADAPTATION_RATE = 3e-4


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Args:
        epochs: of each training.
        seeds: of each model.
    """

    epochs: int
    seeds: tuple[int, ...]


BUDGETS = {"quick": Budget(15, (0,)), "full": Budget(15, (0, 1, 2))}


def run(
    budget: str,
    output: Path,
    *,
    data: Path | None = None,
    seeds: Sequence[int] | None = None,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Run what is not finished; write `results.json`, tables as CSV, and a figure.

    Args:
        budget: `"quick"` or `"full"`.
        output: folder.
        data: folder of the measurements, see `wifi_rooms`.
        seeds: of each model, instead of the budget's.
        small: bool. Few samples and steps, for a smoke run.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Print nothing.

    Returns: the tables as text.
    Raises: UserError if the data are missing or damaged, or the folder cannot be
        written.
    """
    check(data is not None, "The data of wifi_rtt are needed: --data DIR.", data=data)
    reports.prepare(output)
    use_device(device)
    files = wifi_rooms.convert(Path(data), output / "data")
    chosen = BUDGETS[budget]
    words = ["python", "-m", "sionna_loc.reproduce", NAME, "--budget", budget]
    if seeds is not None:
        words += seeds_words(seeds, chosen.seeds)
        chosen = dataclasses.replace(chosen, seeds=tuple(seeds))
    words += ["--data", str(data), "--output", str(output)]
    command = shlex.join(words)
    own = [t for room in ROOMS for t in _room_trials(room, files, chosen, small)]
    others = [_trial_without(room, files, chosen, small) for room in ROOMS]
    results: list[dict[str, Any]] = []
    for results in run_trials([*own, *others], output, device=device, quiet=quiet):
        reports.write_results(output, NAME, results)
    classical = _classical(Path(data), command)
    fewer = _with_fewer(own, output, command)
    shots = _with_shots(others, files, output, command, small, quiet)
    everything = [*classical, *results, *fewer, *shots]
    reports.write_results(output, NAME, everything)
    reports.write(output, NAME, [flat(result) for result in everything])
    draw_shots(shots, output)
    return "\n\n".join(
        [
            room_table(classical, results[: len(own)]),
            fewer_table(fewer),
            shots_table(shots),
        ]
    )


def _config(
    model: str,
    preset: str | None,
    train: Sequence[Path],
    test: Path,
    budget: Budget,
    small: bool,
    **options: Any,
) -> RunConfig:
    """Return the configuration of a training."""
    return RunConfig(
        scenario="measured",
        model=model,
        preset=preset,
        batch_size=None if small else 64,
        epochs=None if small else budget.epochs,
        baseline=False,
        small=small,
        scenario_options={
            "files": [str(path.absolute()) for path in train],
            "test_files": [str(test.absolute())],
            **_CHANGES,
            **options,
        },
    )


def _room_trials(
    room: wifi_rooms.Room,
    files: dict[tuple[str, str], Path],
    budget: Budget,
    small: bool,
) -> list[Trial]:
    """Return the trainings on one room."""
    train, test = files[room.name, "train"], files[room.name, "test"]
    return [
        Trial(
            row=f"{NAME}:{room.name}",
            label=label,
            slug=preset or model,
            config=_config(model, preset, [train], test, budget, small),
            trp_positions=True,
            paper={},
            seeds=budget.seeds,
        )
        for label, (model, preset) in _MODELS.items()
    ]


def _trial_without(
    room: wifi_rooms.Room,
    files: dict[tuple[str, str], Path],
    budget: Budget,
    small: bool,
) -> Trial:
    """Return the training on the other rooms."""
    train = [files[other.name, "train"] for other in ROOMS if other is not room]
    test = files[room.name, "test"]
    model, preset = _MODELS[SET_MODEL]
    return Trial(
        row=f"{NAME}:without {room.name}",
        label=SET_MODEL,
        slug="without",
        config=_config(model, preset, train, test, budget, small, augment=True),
        trp_positions=True,
        paper={},
        seeds=budget.seeds,
    )


def _result(
    row: str,
    label: str,
    metrics: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    model: str,
    command: str,
) -> dict[str, Any]:
    """Return one line of `results.json`."""
    return {
        "row": f"{NAME}:{row}",
        "label": label,
        "model": model,
        "trp_positions": True,
        "paper": {},
        "ours": reports.mean_of(metrics),
        "seeds": list(seeds),
        "command": command,
    }


def _classical(data: Path, command: str) -> list[dict[str, Any]]:
    """Return what ranges give without a network."""
    results = []
    for room in ROOMS:
        train, test = (wifi_rooms.read_room(data, room, s) for s in ("train", "test"))
        for label, model, estimate in (
            ("least squares", "least_squares", wifi_rooms.least_squares(test)),
            ("15 nearest", "knn", wifi_rooms.nearest_neighbours(train, test)),
        ):
            place = np.concatenate([estimate, np.zeros((len(estimate), 1))], axis=1)
            metrics = position_metrics(test["ue_position"], place)
            results.append(_result(room.name, label, [metrics], [], model, command))
    return results


def _with_fewer(
    trials: Sequence[Trial], output: Path, command: str
) -> list[dict[str, Any]]:
    """Return the set model's errors with access points dropped at test time."""
    results = []
    for trial in trials:
        if trial.label != SET_MODEL:
            continue
        found: dict[int, list[dict[str, Any]]] = {}
        scenario = assembly.make_scenario(trial.config)
        counts = [n for n in NUM_TRPS if n <= scenario.num_sites]
        for seed in trial.seeds:
            model = saving.load_model(trial.run_dir(output, seed))
            features = assembly.make_features(scenario, model)
            evaluations = evaluate_over_num_trps(
                model, scenario, features, counts, scenario.num_test
            )
            for count, evaluation in evaluations.items():
                found.setdefault(count, []).append(evaluation.metrics)
        room = trial.row.partition(":")[2]
        results += [
            _result(
                f"{room}, {count} APs",
                SET_MODEL,
                metrics,
                trial.seeds,
                trial.config.model,
                command,
            )
            for count, metrics in found.items()
        ]
    return results


def _with_shots(
    trials: Sequence[Trial],
    files: dict[tuple[str, str], Path],
    output: Path,
    command: str,
    small: bool,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Return the errors in the room that was not trained on, by scans to adapt to."""
    results = []
    for room, trial in zip(ROOMS, trials, strict=True):
        scenario = Measured(
            [str(files[room.name, "train"])],
            test_files=[str(files[room.name, "test"])],
            small=small,
        )
        for num_shots in (0, *SHOTS):
            if small and num_shots > 5:
                continue
            if not quiet:
                print(f"{room.label}: adapting to {num_shots} scans", flush=True)
            metrics = [
                _adapted(trial.run_dir(output, seed), scenario, num_shots, seed)
                for seed in trial.seeds
            ]
            row = f"without {room.name}, {num_shots} scans"
            results.append(
                _result(
                    row, SET_MODEL, metrics, trial.seeds, trial.config.model, command
                )
            )
    return results


def _adapted(
    run_dir: Path, scenario: Measured, num_shots: int, seed: int
) -> dict[str, Any]:
    """Return the metrics of a run's model after so many scans of another room."""
    config = assembly.resolved_config(saving.read_run(run_dir))
    model = saving.load_model(run_dir)
    if num_shots == 0:
        features = assembly.make_features(scenario, model)
        count = scenario.num_trps
        evaluations = evaluate_over_num_trps(
            model, scenario, features, [count], scenario.num_test
        )
        return evaluations[count].metrics
    recipe = dataclasses.replace(
        assembly.make_recipe(config, scenario),
        batch_size=min(_ADAPTATION_BATCH, num_shots),
        learning_rate=_ADAPTATION_RATE,
    )
    shots = Shots(scenario, num_shots, scenario.num_trps, scenario.num_test)
    *_, last = adapt(
        model, shots, recipe, epochs=_ADAPTATION_EPOCHS, measure_at=(), seed=seed
    )
    return last
