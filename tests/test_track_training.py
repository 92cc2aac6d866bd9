"""Models that look at windows of tracks, on the one path of training."""

import json

import numpy as np
import pytest
import tracks_training

from sionna_loc import adapt, assembly, evaluate, predict, saving, train, training
from sionna_loc.checks import UserError
from sionna_loc.data import tracks
from sionna_loc.models.hyploc_set import HypLocSet
from sionna_loc.recipes import RunConfig

OPTIONS = {
    "window": 4,
    "units": 8,
    "sample_model": "hyploc_set",
    "sample_options": {"units": 8, "hyper_units": 8},
}
FLAGS = ["--scenario", "drives", "--steps", "30", "--batch-size", "16", "--quiet"]
FLAGS += ["--no-baseline", "--device", "cpu"]
MODEL = ["--model", "recurrent", "--preset", "hyploc_set"]
MODEL += [
    word
    for name, value in OPTIONS.items()
    for word in ("--model-option", f"{name}={json.dumps(value)}")
]


@pytest.fixture(autouse=True)
def known(tmp_path_factory):
    with tracks_training.registered(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of the recurrent model."""
    folder = tmp_path_factory.mktemp("runs") / "recurrent"
    with tracks_training.registered(tmp_path_factory.getbasetemp()):
        assert train.main([*FLAGS, *MODEL, "--run-dir", str(folder)]) == 0
    return folder


def estimates(run_dir):
    """Return the evaluation on the test set of the run, as `train` made it."""
    record = saving.read_run(run_dir)
    config = assembly.resolved_config(record)
    scenario = assembly.make_scenario(config)
    model = saving.load_model(run_dir)
    features = assembly.make_features(scenario, model)
    test = scenario.frozen(
        "test", config.num_test, config.num_trps, **assembly.reading_options(features)
    )
    return training.evaluate(model, test.map(features))


def test_a_run_says_what_it_looked_at(run_dir):
    record = saving.read_run(run_dir)
    assert record["features"]["window"] == 4
    assert record["resolved"]["recipe"] == "hyploc"
    model = saving.load_model(run_dir)
    assert (model.window, model.units) == (4, 8)
    found, metrics = estimates(run_dir), saving.read_run(run_dir, saving.METRICS)
    assert metrics["mae"] == pytest.approx(found.metrics["mae"], rel=1e-5)
    assert metrics["num_samples"] == 24  # the first of each track, too


def test_models_of_single_samples_are_tested_on_the_same(run_dir, tmp_path):
    small = ["--model-option", "units=8", "--model-option", "hyper_units=8"]
    command = [*FLAGS, "--model", "hyploc_set", *small, "--run-dir", str(tmp_path)]
    assert train.main(command) == 0
    alone, windows = estimates(tmp_path), estimates(run_dir)
    np.testing.assert_array_equal(alone.true_position, windows.true_position)
    np.testing.assert_array_equal(alone.num_trps_heard, windows.num_trps_heard)
    assert np.abs(alone.estimated_position - windows.estimated_position).max() > 0.1


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The samples of the test tracks by themselves, as dense inputs."""
    scenario = tracks_training.Drives()
    with tracks_training.registered(tmp_path_factory.getbasetemp()):
        features = assembly.make_features(scenario, HypLocSet)
        samples = scenario.frozen("test", 24, **assembly.reading_options(features))
    ((inputs, _),) = samples.map(features)
    return {name: values.to_tensor().numpy() for name, values in inputs.items()}


def test_a_track_of_ones_own_is_located_alike(run_dir, dense):
    model = saving.load_model(run_dir)
    found = [
        model.predict_on_batch(tracks.windows_of_track(track, model.window))["position"]
        for track in (
            {name: values[start : start + 8] for name, values in dense.items()}
            for start in (0, 8, 16)
        )
    ]
    expected = estimates(run_dir).estimated_position
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-3)


@pytest.mark.parametrize("has_groups", [True, False])
def test_predict_follows_the_tracks_of_a_file(run_dir, dense, has_groups, tmp_path):
    link, heard = dense["link"], dense["trp_heard"]
    zenith = np.arccos(np.clip(link[..., 4], -1, 1))
    fields = {
        "power": link[..., 0],
        "tof": link[..., 1],
        "aoa": np.stack([zenith, np.arctan2(link[..., 3], link[..., 2])], axis=-1),
        "trp_position": dense["trp_position"],
        "trp_mask": heard,
    }
    if has_groups:
        fields["group"] = np.repeat([4, 7, 4], 8)
    np.savez(tmp_path / "tracks.npz", **fields)
    command = ["--run", run_dir, "--input", tmp_path / "tracks.npz"]
    assert predict.main([*map(str, command), "--output", str(tmp_path / "p.npz")]) == 0
    found = np.load(tmp_path / "p.npz")["position"]
    away = np.abs(found - estimates(run_dir).estimated_position).max(axis=1)
    starts = np.arange(24) % 8 < 3  # with too few samples before them for a window
    assert away[~starts].max() < 1e-2
    if has_groups:
        assert away.max() < 1e-2
    else:  # of the second and third track, samples of the one before
        assert away[:8].max() < 1e-2 and away[[8, 16]].min() > 1e-2


def test_evaluate_and_adapt_take_windows(run_dir, capsys):
    assert evaluate.main(["--run", str(run_dir), "--num-trps", "3"]) == 0
    found = saving.read_run(run_dir, saving.EVALUATION)
    metrics = saving.read_run(run_dir, saving.METRICS)
    assert found["num_trps"]["3"]["mae"] == pytest.approx(metrics["mae"], rel=1e-5)
    command = ["--run", str(run_dir), "--num-samples", "20", "--epochs", "2"]
    assert adapt.main(command) == 0
    points = json.loads((run_dir / "adaptation-20" / "adaptation.json").read_text())
    before, *_, after = points["points"]
    assert before["mae"] == pytest.approx(metrics["mae"], rel=1e-5)
    assert after["mae"] != before["mae"] and after["epoch"] == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("scenario", "options", "message"),
    [
        ("drives", {"window": 9}, "tracks of drives have 8 samples.*window=9"),
        ("drives", {"window": 0}, "window=0"),
        ("paris_scn1", {}, "paris_scn1 has no tracks.*window=10"),
    ],
)
def test_windows_that_cannot_be_show_before_anything_is_written(
    scenario, options, message, tmp_path, command_line
):
    config = RunConfig(scenario=scenario, model="recurrent", model_options=options)
    with pytest.raises(UserError, match=message):
        training.fit(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    flags = [
        "--scenario",
        scenario,
        "--model",
        "recurrent",
        "--run-dir",
        tmp_path / "r",
    ]
    flags += [f"--model-option={name}={value}" for name, value in options.items()]
    code, lines = command_line(train, *flags)
    assert code == 2 and len(lines) == 1 and "window" in lines[0]
