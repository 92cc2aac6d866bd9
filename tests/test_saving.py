import json
import zipfile

import keras
import numpy as np
import pytest

from sionna_loc import load_model, saving
from sionna_loc.checks import UserError
from sionna_loc.models.vinloc import VInLoc

RECORD = {"config": {}, "resolved": {}, "fingerprint": "0" * 64}
BERT = {"architectures": ["BertModel"], "model_type": "bert"}


@pytest.fixture
def model():
    return VInLoc(
        region=[[0, 0, 0], [10, 10, 3]],
        num_taps=32,
        sampling_rate=1e8,
        unet_filters=(4, 4),
        cir_units=8,
        position_units=8,
        num_blocks=1,
        num_heads=2,
        mlp_units=8,
        head_units=8,
        refiner_spacings=(),
    )


def test_round_trip(tmp_path, model):
    saving.save_model(model, tmp_path / "model.keras")
    for path in (tmp_path, tmp_path / "model.keras", str(tmp_path)):
        loaded = load_model(path)
        assert isinstance(loaded, VInLoc)
        for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_no_model(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.keras"):
        with pytest.raises(UserError, match="no model"):
            load_model(path)


def test_a_model_of_another_library(tmp_path):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    other.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="not a localizer of this library"):
        load_model(tmp_path)


def test_no_keras_file_at_all(tmp_path):
    (tmp_path / "model.keras").write_text("weights")
    with pytest.raises(UserError, match="truncated or no Keras model"):
        load_model(tmp_path)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", json.dumps(["x"]))
    with pytest.raises(UserError, match="truncated or no Keras model"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_truncated(tmp_path, model, keep):
    path = tmp_path / "model.keras"
    saving.save_model(model, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match="truncated or no Keras model"):
        load_model(tmp_path)


def test_damaged_inside(tmp_path, model):
    path = tmp_path / "model.keras"
    saving.save_model(model, path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    weights = entries["model.weights.h5"]
    entries["model.weights.h5"] = weights[: len(weights) // 2]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path)


def test_a_save_that_fails_keeps_the_old(tmp_path, model, monkeypatch):
    path = tmp_path / "model.keras"
    saving.save_model(model, path)
    before = path.read_bytes()

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        saving.save_model(model, path)
    assert path.read_bytes() == before


def test_read_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        saving.read_run(tmp_path)
    saving.write_json(tmp_path / "config.json", RECORD)
    assert saving.read_run(tmp_path) == RECORD
    saving.write_json(tmp_path / "metrics.json", {"a": [1]})
    assert saving.read_run(tmp_path, "metrics.json") == {"a": [1]}
    (tmp_path / "config.json").write_text('{"a": [1')
    with pytest.raises(UserError, match="is damaged"):
        saving.read_run(tmp_path)


@pytest.mark.parametrize("other", [BERT, [RECORD], {**RECORD, "config": None}])
def test_a_config_of_something_else_is_no_run(tmp_path, other):
    saving.write_json(tmp_path / "config.json", other)
    with pytest.raises(UserError, match="no run of this version"):
        saving.read_run(tmp_path)


def test_a_folder_of_another_project_is_never_touched(tmp_path):
    saving.write_json(tmp_path / "config.json", BERT)
    (tmp_path / "logs").mkdir()
    for name in ("model.keras", "metrics.json", ".lock", ".new-model.keras"):
        (tmp_path / name).write_text("theirs")
    before = sorted(tmp_path.iterdir())
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds no run"):
            saving.prepare_run_dir(tmp_path, overwrite)
    assert sorted(tmp_path.iterdir()) == before
    with saving.locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == "theirs"


LEFTOVERS = [
    *(".new-model.keras", ".new-baseline.keras", ".config.json.new"),
    *(".metrics.json.new", ".history.csv.new", ".evaluation.json.new"),
]


def test_overwriting_removes_all_that_a_run_writes_and_nothing_else(tmp_path):
    saving.write_json(tmp_path / "config.json", RECORD)
    files = ("model.keras", "baseline.keras", "history.csv", "metrics.json")
    for name in (*files, "evaluation.json", "notes.txt", ".new-notes", *LEFTOVERS):
        (tmp_path / name).write_text("x")
    for name in ("checkpoints/.new-step-00000003", "figures", "logs"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="--overwrite"):
        saving.prepare_run_dir(tmp_path, overwrite=False)
    assert (tmp_path / "metrics.json").exists()
    saving.prepare_run_dir(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", ".new-notes"}


def test_what_a_killed_process_left_is_swept(tmp_path):
    for name in LEFTOVERS:
        (tmp_path / name).write_text("half")
    saving.prepare_run_dir(tmp_path, overwrite=False)
    assert not list(tmp_path.iterdir())
    for step in (1, 2):
        (tmp_path / f"checkpoints/.new-step-0000000{step}").mkdir(parents=True)
    (tmp_path / "checkpoints/step-00000001").mkdir()
    saving.sweep(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_history_file(tmp_path):
    saving.write_history(tmp_path / "history.csv", [])
    assert not list(tmp_path.iterdir())
    rows = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.0}]
    saving.write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_text() == "step,loss\n1,2.5\n2,1.0\n"
