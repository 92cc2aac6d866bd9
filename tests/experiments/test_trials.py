import dataclasses
import json
import shlex
from unittest import mock

import pytest
import tiny_training

from sionna_loc import registry, saving, train, training
from sionna_loc.checks import UserError
from sionna_loc.experiments import trials
from sionna_loc.experiments.trials import Trial, run_trials, to_result, train_command
from sionna_loc.recipes import RunConfig


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: [])  # slow
    with mock.patch.dict(registry.SCENARIOS), mock.patch.dict(registry.MODELS):
        tiny_training.register()
        yield


def make_trial(**options):
    config = RunConfig(
        scenario="free_space",
        model="tiny",
        steps=2,
        batch_size=4,
        num_val=8,
        num_test=16,
        num_trps=4,
        baseline=False,
    )
    trial = Trial("fixed", "Tiny", "tiny", config, True, {"rmse": 1.5})
    return dataclasses.replace(trial, **options)


def run(trials, output):
    return list(run_trials(trials, output, device="cpu", quiet=True))


def test_results_come_one_by_one_and_are_not_run_twice(tmp_path, monkeypatch):
    both = [make_trial(seeds=(0, 1)), make_trial(row="variable")]
    steps = run(both, tmp_path)
    assert [len(step) for step in steps] == [1, 2]
    first, second = steps[-1]
    assert (first["row"], second["row"]) == ("fixed", "variable")
    assert first["seeds"] == [0, 1] and second["seeds"] == [0]
    assert first["paper"] == {"rmse": 1.5} and first["trp_positions"] is True
    assert json.loads(json.dumps(steps[-1])) == steps[-1]
    monkeypatch.setattr(trials, "fit", None)  # nothing is left to run
    assert run(both, tmp_path)[-1] == steps[-1]


def test_a_run_that_stopped_is_continued(tmp_path, monkeypatch):
    trial = make_trial()
    finished = run([trial], tmp_path)[-1]
    (trial.run_dir(tmp_path, 0) / saving.METRICS).unlink()
    asked = []

    def note(config, run_dir, **options):
        asked.append(options["resume"])
        return fit(config, run_dir, **options)

    fit = trials.fit
    monkeypatch.setattr(trials, "fit", note)
    assert run([trial], tmp_path)[-1] == finished
    run([make_trial(slug="other")], tmp_path)
    assert asked == [True, False]


def test_a_run_of_another_configuration_is_refused(tmp_path):
    run([make_trial()], tmp_path)
    longer = dataclasses.replace(make_trial().config, steps=3)
    with pytest.raises(UserError, match="choose another --output"):
        run([make_trial(config=longer)], tmp_path)


def metrics(rmse, lower, upper):
    values = {"rmse": rmse, "mae": rmse / 2}
    intervals = {"rmse": [lower, upper], "mae": [lower / 2, upper / 2]}
    return {**values, "num_samples": 9, "intervals": intervals}


def test_metrics_and_bounds_are_means_over_the_seeds(tmp_path):
    both = [metrics(1.0, 0.8, 1.4), metrics(3.0, 2.6, 3.2)]
    ours = to_result(make_trial(seeds=(4, 7)), both, tmp_path)["ours"]
    assert ours["rmse"] == pytest.approx(2.0)
    assert ours["mae"] == ours["mean"] == pytest.approx(1.0)
    assert ours["intervals"]["rmse"] == pytest.approx([1.7, 2.3])
    assert [seed["rmse"] for seed in ours["per_seed"]] == [1.0, 3.0]
    assert ours["num_samples"] == 9


def test_the_command_of_a_run_is_its_configuration(tmp_path):
    config = RunConfig(
        scenario="inf_dh",
        model="vinloc",
        num_trps=15,
        preset="compact",
        batch_size=32,
        max_minutes=1.5,
        seed=3,
        num_val=250,
        small=True,
        baseline=False,
        model_options={"use_trp_positions": False, "unet_filters": [4, 4]},
        scenario_options={"factory": 1},
    )
    words = shlex.split(train_command(config, tmp_path / "a run"))
    assert words[:3] == ["python", "-m", "sionna_loc.train"]
    arguments = vars(train.build_parser().parse_args(words[3:]))
    assert arguments["run_dir"] == tmp_path / "a run"
    known = {field.name for field in dataclasses.fields(RunConfig)}
    fields = {name: value for name, value in arguments.items() if name in known}
    for name in ("model_options", "scenario_options"):
        fields[name] = dict(fields[name])
    assert RunConfig(**fields) == config
