"""`prepare` and `train --data-dir`: a stored set trains like the samples as drawn."""

import json

import numpy as np
import pytest
import stored_sets
import tiny_training

from sionna_loc import prepare, saving, train, training
from sionna_loc.checks import UserError
from sionna_loc.data import frozen
from sionna_loc.recipes import RunConfig

MOVING = ("--scenario-option", "num_train=0")
SIZES = ("--num-train", 40, "--num-val", 12, "--num-test", 8)
ARGUMENTS = ("--scenario", "inf_dh", "--small", *SIZES)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    with tiny_training.registered():
        yield


@pytest.fixture(scope="module", params=["moving", "fixed"])
def data_dir(request, tmp_path_factory):
    """A folder with a set, and the options of the scenario that it is of."""
    folder = tmp_path_factory.mktemp("data")
    if request.param == "moving":  # as many as the model adapts to
        options = {"num_train": 0}
        stored_sets.write_set(folder, "inf_dh", options, num_train=128)
    else:
        options = {}
        stored_sets.write_set(folder, "inf_dh")
    return folder, options


def config(**options):
    given = {"scenario": "inf_dh", "model": "tiny", "small": True, "steps": 4}
    given |= {"baseline": False, "num_trps": 9, "batch_size": 8}
    return RunConfig(**given | options)


def fit(run_dir, **options):
    return training.fit(config(**options), run_dir, quiet=True)


def weights(run_dir):
    return saving.load_model(run_dir).get_weights()


def test_training_on_it_gives_the_same_weights(data_dir, tmp_path, monkeypatch):
    """Also with steps beyond the first pass over a set of fixed size."""
    folder, options = data_dir
    # As many samples as the set has, from which passes are the same.
    drawn_options = options or {"num_train": 40}
    steps = 4 if options else 7
    drawn = fit(
        tmp_path / "drawn",
        scenario_options=drawn_options,
        num_val=12,
        num_test=8,
        steps=steps,
    )
    monkeypatch.setattr(frozen, "draw_rows", None)  # nothing is drawn any more
    stored = fit(
        tmp_path / "stored",
        data_dir=str(folder),
        scenario_options=options,
        steps=steps,
    )

    trained = weights(drawn)
    for one, other in zip(trained, weights(stored), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(trained[0]).max() > 0
    metrics = [saving.read_run(run, saving.METRICS) for run in (drawn, stored)]
    assert metrics[0]["rmse"] == metrics[1]["rmse"]
    record = saving.read_run(stored)
    assert (record["resolved"]["num_val"], record["resolved"]["num_test"]) == (12, 8)
    assert len(record["prepared"]) == 64


def test_a_run_goes_on_with_the_same_set_only(tmp_path):
    sets = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(sets):
        stored_sets.write_set(folder, "inf_dh", {}, seed=seed)
    run = fit(tmp_path / "run", data_dir=str(sets[0]))
    (run / saving.METRICS).unlink()
    sets[0].rename(tmp_path / "away")
    sets[1].rename(sets[0])
    with pytest.raises(UserError, match="prepared set is no longer the one"):
        training.fit(config(data_dir=str(sets[0])), run, resume=True, quiet=True)


def test_the_command_line_writes_a_set_and_finds_it_again(
    tmp_path, command_line, capsys, monkeypatch
):
    arguments = (*ARGUMENTS, *MOVING, "--data-dir", tmp_path, "--device", "cpu")
    assert prepare.main([*map(str, arguments)]) == 0
    out = capsys.readouterr().out
    (folder,) = tmp_path.glob("inf_dh/*/1.0.0")
    assert "test: 60 of 60 samples" in out and "ETA 00:00" in out
    assert out.splitlines()[-1] == f"Saved in {folder}"
    before = stored_sets.sums(folder)

    monkeypatch.setattr("sionna_loc.data.stored_drops.draw_samples", None)
    assert command_line(prepare, *arguments) == (0, [])
    assert stored_sets.sums(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-test", "-1"), "`num_test` must be a whole number of 0 or more"),
        (("--shard-size", "0"), "`shard_size` must be a whole number of 1 or more"),
        (("--num-train", "0", "--num-val", "0", "--num-test", "0"), "would be empty"),
        (("--scenario-option", "factry=3"), "Did you mean 'factory'"),
        (("--recipes", "nowhere"), "from a clone"),
        (("--data-dir", "{file}/data"), "data folder cannot be written"),
    ],
)
def test_mistakes_are_one_line(tmp_path, command_line, arguments, message):
    file = tmp_path / "file"
    file.touch()
    arguments = [text.replace("{file}", str(file)) for text in arguments]
    code, lines = command_line(
        prepare, *ARGUMENTS, "--data-dir", tmp_path / "data", *arguments
    )
    assert code == 2
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "data" / "inf_dh").exists()


def test_an_unknown_configuration_lists_the_known(tmp_path, command_line):
    arguments = ("--scenario", "inf_dh", "--config", "smal", "--data-dir", tmp_path)
    code, lines = command_line(prepare, *arguments)
    assert code == 2
    assert "Did you mean 'small'? Known: moving, small, standard." in lines[0]


def truncate(folder):
    (path,) = folder.glob("*-train.*-00000-*")
    path.write_bytes(path.read_bytes()[:-1])


def alter(folder):
    (path,) = folder.glob("*-test.*-00000-*")
    content = path.read_bytes()
    path.write_bytes(content[:-5] + b"\0" + content[-4:])


def older(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["version"] = "0.9.0"
    (folder / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (truncate, (), "truncated or altered"),
        (alter, (), "truncated or altered"),
        (older, (), "is of version 0.9.0, and inf_dh is of version 1.0.0 now"),
        (None, ("--scenario-option", "factory=3"), "`channel.seed` is 0 instead of 3"),
        (None, ("--scenario", "paris_scn1"), "holds no prepared set of paris_scn1"),
        (None, ("--num-val", "13"), "has 12 validation samples"),
    ],
)
def test_a_set_that_does_not_fit_is_one_line_of_train(
    tmp_path, command_line, damage, arguments, message
):
    folder = stored_sets.write_set(tmp_path / "data", "inf_dh")
    if damage is not None:
        damage(folder)
    code, lines = command_line(
        train,
        *("--scenario", "inf_dh", "--small", "--model", "tiny", "--no-baseline"),
        *("--data-dir", tmp_path / "data", "--run-dir", tmp_path / "run", "--quiet"),
        *arguments,
    )
    assert code == 2
    assert len(lines) == 1 and message in lines[0]


def test_runs_of_versions_without_prepared_sets_are_read():
    values = config().to_dict()
    del values["data_dir"]
    assert RunConfig.from_dict(values) == config()
    del values["steps"]
    with pytest.raises(UserError, match=r"another version.*missing=\['steps'\]"):
        RunConfig.from_dict(values)
