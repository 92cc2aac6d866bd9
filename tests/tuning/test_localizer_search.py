"""A tiny search with the library's training; a failed trial does not end it."""

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_training

from sionna_loc import saving, train, training
from sionna_loc.checks import UserError

keras_tuner = pytest.importorskip("keras_tuner")
ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tuning"))
localizer_search = pytest.importorskip("localizer_search")
trial_process = pytest.importorskip("trial_process")
NUMBERS = ("--num-val", "16", "--steps", "6", "--quiet", "--tuner")


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    monkeypatch.setattr(trial_process, "in_new_process", trial_process.fit)
    with tiny_training.registered():
        yield


def space(hp, scenario):
    return {
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        "batch_size": 8,
        "model_options": {"units": hp.Int("units", 4, 40)},
    }


def search(directory, *more, tuner="random", max_trials=3):
    parser = localizer_search.build_parser("tiny", "")
    arguments = parser.parse_args(
        [
            *("--scenario", "free_space", "--directory", str(directory)),
            *(*NUMBERS, tuner, "--max-trials", str(max_trials), *more),
        ]
    )
    return localizer_search.search("tiny", space, arguments)


def read_rows(directory):
    with open(directory / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def fail_at(monkeypatch, number, error):
    """Let one of the trainings fail; gives the list of those that began."""
    fit, begun = training.fit, []

    def failing(config, run_dir, **options):
        begun.append(config)
        if len(begun) == number:
            raise error
        return fit(config, run_dir, **options)

    monkeypatch.setattr(training, "fit", failing)
    return begun


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search of three trials, the second of which fails."""
    directory = tmp_path_factory.mktemp("search") / "tiny"
    with pytest.MonkeyPatch.context() as patch, tiny_training.registered():
        patch.setattr(training, "save_figures", lambda *arguments: None)
        patch.setattr(trial_process, "in_new_process", trial_process.fit)
        begun = fail_at(patch, 2, MemoryError("no memory left"))
        assert search(directory) == 0
    return directory, begun


def test_the_objective_is_minimized():
    objective = localizer_search.OBJECTIVE
    assert (objective.name, objective.direction) == ("val_mae", "min")


def test_a_failed_trial_is_written_down_and_the_search_goes_on(found):
    directory, begun = found
    rows = read_rows(directory)
    assert [row["status"] for row in rows] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "no memory left" in rows[1]["message"] and not rows[1]["val_mae"]
    assert len(begun) == 3
    assert len({config.learning_rate for config in begun}) == 3
    assert {config.seed for config in begun} == {0}
    assert (directory / "trials.png").stat().st_size > 1000


def test_the_first_trial_is_what_the_search_starts_from(found):
    _, (first, second, _) = found
    assert first.learning_rate == 1e-4 and first.model_options["units"] == 4
    assert second.learning_rate != 1e-4


def test_a_trial_can_be_given_time_instead_of_steps(tmp_path, monkeypatch):
    begun = fail_at(monkeypatch, 0, None)
    flags = ["--scenario", "free_space", "--directory", str(tmp_path / "search")]
    flags += ["--max-minutes", "0.02", "--num-val", "16", "--quiet"]
    parser = localizer_search.build_parser("tiny", "")
    arguments = parser.parse_args([*flags, "--tuner", "hyperband", "--max-trials", "1"])
    assert localizer_search.search("tiny", space, arguments) == 0
    (config,) = begun
    assert config.steps is None and 0 < config.max_minutes < 0.02
    preset = json.loads((tmp_path / "search" / "preset.json").read_text())
    assert preset["found"]["max_minutes"] == 0.02


def test_trials_are_runs_of_the_library(found):
    directory, begun = found
    for row, config in zip(read_rows(directory), begun, strict=True):
        if row["status"] != "COMPLETED":
            continue
        run = directory / f"trial_{row['trial']}" / "run"
        with open(run / "history.csv", newline="") as file:
            history = [float(line["val_mae"]) for line in csv.DictReader(file)]
        assert float(row["val_mae"]) == min(history)
        assert saving.read_run(run)["config"] == config.to_dict()
        assert config.steps == 6 and config.model_options["units"] == int(row["units"])


def test_the_best_values_are_a_preset_that_train_takes(found, tmp_path):
    directory, _ = found
    rows = [row for row in read_rows(directory) if row["val_mae"]]
    best = min(rows, key=lambda row: float(row["val_mae"]))
    preset = json.loads((directory / "preset.json").read_text())
    assert preset["found"]["trial"] == best["trial"]
    assert preset["found"]["val_mae"] == pytest.approx(float(best["val_mae"]))

    flags = ["--preset", str(directory / "preset.json"), "--scenario", "free_space"]
    flags += ["--steps", "2", "--num-val", "8", "--num-test", "8", "--quiet"]
    code = train.main(
        [*flags, "--no-baseline", "--batch-size", "4", "--run-dir", str(tmp_path / "r")]
    )
    assert code == 0
    config = saving.read_run(tmp_path / "r")["config"]
    assert config["model"] == "tiny" and config["preset"] is None
    assert config["model_options"] == {"units": int(best["units"])}
    assert config["learning_rate"] == pytest.approx(float(best["learning_rate"]))
    assert config["batch_size"] == 4  # what is given besides wins


def test_the_tuner_gives_the_trained_model(found):
    directory, begun = found
    hypermodel = localizer_search.LocalizerHyperModel(begun[0], space, quiet=True)
    tuner = localizer_search.make_tuner("random", hypermodel, 3, directory)
    (best,) = tuner.oracle.get_best_trials(1)
    (model,) = tuner.get_best_models(1)
    run = directory / f"trial_{best.trial_id}" / "run"
    for one, other in zip(
        model.get_weights(), saving.load_model(run).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_stopped_search_goes_on_in_the_middle_of_a_trial(tmp_path, monkeypatch):
    directory = tmp_path / "search"
    stop = training.TrainingInterrupted(2, 3)
    with monkeypatch.context() as patch:
        fail_at(patch, 2, stop)
        with pytest.raises(KeyboardInterrupt):
            search(directory)
    assert [row["status"] for row in read_rows(directory)] == ["COMPLETED", "RUNNING"]
    begun = fail_at(monkeypatch, 0, None)
    assert search(directory) == 0

    rows = read_rows(directory)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    assert [c.model_options["units"] for c in begun] == [
        int(row["units"]) for row in rows[1:]
    ]
    begun.clear()
    assert search(directory) == 0 and not begun
    assert search(directory, max_trials=4) == 0 and len(begun) == 1


def test_another_search_is_kept_out_of_the_directory(found):
    with pytest.raises(UserError, match=r"another search: its `steps` is 6.*steps=7"):
        search(found[0], "--steps", "7")


@pytest.mark.slow
def test_the_bayesian_tuner_searches_too(tmp_path):
    pytest.importorskip("sklearn")
    assert search(tmp_path / "search", tuner="bayesian", max_trials=4) == 0
    rows = read_rows(tmp_path / "search")
    assert [row["status"] for row in rows] == ["COMPLETED"] * 4


@pytest.mark.slow
def test_hyperband_trains_the_better_ones_for_longer(tmp_path, monkeypatch):
    begun = fail_at(monkeypatch, 0, None)
    assert search(tmp_path / "search", tuner="hyperband", max_trials=13) == 0
    steps = [config.steps for config in begun]
    assert len(steps) == 13 and max(steps) == 6 and min(steps) < 6
    assert {row["status"] for row in read_rows(tmp_path / "search")} == {"COMPLETED"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_chief_and_worker_share_a_search(tmp_path):
    pytest.importorskip("grpc")
    directory = tmp_path / "search"
    command = [sys.executable, str(Path(__file__).parent / "tiny_search.py")]
    command += ["--directory", str(directory), "--tuner", "random", "--quiet"]
    command += ["--max-trials", "3", "--steps", "6", "--num-val", "16"]
    shared = {
        **os.environ,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(free_port()),
    }
    processes = [
        subprocess.Popen(
            command,
            env={**shared, "KERASTUNER_TUNER_ID": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("chief", "worker0")
    ]
    try:
        (chief, _), (worker, errors) = (p.communicate(timeout=300) for p in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "val_mae" in chief and "Saved in" in chief and "Saved in" not in worker
    rows = read_rows(directory)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    for row in rows:
        run = saving.read_run(directory / f"trial_{row['trial']}" / "run")
        assert run["config"]["model_options"]["units"] == int(row["units"])
    preset = json.loads((directory / "preset.json").read_text())
    best = min(rows, key=lambda row: float(row["val_mae"]))
    assert preset["found"]["trial"] == best["trial"]


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_search_ends_its_trial_and_goes_on_with_it(tmp_path):
    directory = tmp_path / "search"
    command = [sys.executable, str(Path(__file__).parent / "tiny_search.py")]
    command += ["--directory", str(directory), "--tuner", "random", "--quiet"]
    command += ["--max-trials", "1", "--steps", "20000", "--num-val", "16"]
    run = directory / "trial_0" / "run"

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: any((run / saving.CHECKPOINTS).glob("*")))
    process.kill()
    process.wait()
    before = saving.read_run(run)

    def is_free():
        with contextlib.suppress(UserError), saving.locked(run):
            return True

    wait_until(is_free)  # The trial's own process has ended, too.
    assert not (run / saving.MODEL).exists()

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = read_rows(directory)
    assert row["status"] == "COMPLETED" and float(row["seconds"]) > 0
    assert saving.read_run(run) == before and (run / saving.MODEL).exists()


def test_half_a_shared_search_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(UserError, match=r"needs all of KERASTUNER_TUNER_ID.*Received"):
        search(tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_the_space_of_hyploc_begins_with_its_preset_and_recipe():
    hyploc_search = pytest.importorskip("hyploc_search")
    from sionna_loc.models.hyploc import HypLoc
    from sionna_loc.recipes import RECIPES

    values = hyploc_search.space(keras_tuner.HyperParameters(), None)
    model = HypLoc([[0, 0, 0], [1, 1, 1]], **HypLoc.PRESETS["paper"]).get_config()
    for name, value in values["model_options"].items():
        expected = model[name]
        assert value == (list(expected) if isinstance(value, list) else expected), name
    recipe = RECIPES["hyploc"]
    assert values["learning_rate"] == recipe.learning_rate
    assert values["batch_size"] == recipe.batch_size
    other = keras_tuner.HyperParameters()
    other.Fixed("head_layers", 3)
    other.Fixed("head_units", 128)
    options = hyploc_search.space(other, None)["model_options"]
    assert HypLoc([[0, 0, 0], [1, 1, 1]], **options).head_units == (128,) * 3


def test_hyploc_is_searched_on_the_madrid_grid(tmp_path, monkeypatch):
    hyploc_search = pytest.importorskip("hyploc_search")
    asked = []
    monkeypatch.setattr(
        localizer_search, "search", lambda *arguments: asked.append(arguments)
    )
    flags = ["--directory", str(tmp_path), "--scenario-option", 'constellations="any"']
    hyploc_search.main(flags)
    ((model, space, arguments),) = asked
    assert (model, space) == ("hyploc", hyploc_search.space)
    assert arguments.scenario == "madrid"
    assert dict(arguments.scenario_options) == {"constellations": "any"}


def test_options_of_the_scenario_reach_the_trials(tmp_path, monkeypatch):
    begun = fail_at(monkeypatch, 0, None)
    option = ("--scenario-option", "trp_position_error=0.5")
    assert search(tmp_path / "search", *option, max_trials=1) == 0
    assert [c.scenario_options for c in begun] == [{"trp_position_error": 0.5}]
    with pytest.raises(UserError, match="another search: its `scenario_options`"):
        search(tmp_path / "search", max_trials=1)


def test_the_space_of_vinloc_begins_with_its_preset():
    vinloc_search = pytest.importorskip("vinloc_search")
    from sionna_loc.models.vinloc import VInLoc
    from sionna_loc.recipes import RECIPES

    streaming, fixed = SimpleNamespace(num_train=0), SimpleNamespace(num_train=100)
    values = vinloc_search.space(keras_tuner.HyperParameters(), streaming)
    defaults = {"refiner_units": 128, **VInLoc.PRESETS[VInLoc.DEFAULT_PRESET]}
    for name, value in values["model_options"].items():
        expected = defaults[name]
        assert value == (list(expected) if name == "unet_filters" else expected), name
    recipe = RECIPES["default"]
    for name in ("learning_rate", "batch_size", "emphasis"):
        assert values[name] == getattr(recipe, name), name
    # A set of fixed size is trained on as it is.
    assert "emphasis" not in vinloc_search.space(keras_tuner.HyperParameters(), fixed)


def test_mistakes_show_before_the_first_trial(tmp_path):
    for flags, message in (
        (("--num-trps", "99"), "num_trps=99"),
        (("--preset", "tny"), "Unknown preset of tiny 'tny'"),
        (("--data-dir", str(tmp_path)), "no prepared set"),
    ):
        with pytest.raises(UserError, match=message):
            search(tmp_path / "search", *flags)
    assert not (tmp_path / "search").exists()
