import os

import keras
import numpy as np
import pytest

from sionna_loc import checkpoints
from sionna_loc.checkpoints import (
    HistoryRow,
    TrainingState,
    list_checkpoints,
    read_checkpoint,
    restore,
    state_variables,
    variables_to_arrays,
    write_checkpoint,
)
from sionna_loc.checks import UserError

ARRAYS = {"model/0000": np.arange(6.0).reshape(2, 3), "model/0001": np.int64(7)}
ROW = HistoryRow(*range(len(HistoryRow._fields)))._asdict()


def test_round_trip(tmp_path):
    path = write_checkpoint(tmp_path / "c", 12, ARRAYS, {"best_error": float("inf")})
    arrays, state = read_checkpoint(path)
    assert state == {"best_error": float("inf")}
    assert set(arrays) == set(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_the_newest_two_stay(tmp_path):
    for step in (90, 100, 1000, 99_999_999, 100_000_000):
        write_checkpoint(tmp_path, step, ARRAYS, {})
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-99999999", "step-100000000"]
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_the_same_step_again(tmp_path):
    write_checkpoint(tmp_path, 5, ARRAYS, {"a": 1})
    path = write_checkpoint(tmp_path, 5, ARRAYS, {"a": 2})
    assert read_checkpoint(path)[1] == {"a": 2}


@pytest.mark.parametrize("stop_at", ["savez", "write_atomically", "rename"])
def test_a_write_that_is_cut_off_leaves_the_old(tmp_path, monkeypatch, stop_at):
    write_checkpoint(tmp_path, 1, ARRAYS, {"a": 1})
    owner = {"savez": np, "rename": os}.get(stop_at, checkpoints)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, stop_at, stop)
        write_checkpoint(tmp_path, 2, ARRAYS, {"a": 2})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    assert read_checkpoint(list_checkpoints(tmp_path)[-1])[1] == {"a": 1}
    write_checkpoint(tmp_path, 2, ARRAYS, {"a": 2})
    assert read_checkpoint(list_checkpoints(tmp_path)[-1])[1] == {"a": 2}


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_truncated(tmp_path, name, keep):
    for step in (1, 2):
        path = write_checkpoint(tmp_path, step, ARRAYS, {"a": [1, 2, 3]})
    file = path / name
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    message = r"truncated.*older 'step-00000001'.*step-00000002"
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)
    assert len(list_checkpoints(tmp_path)) == 2


def test_truncated_and_alone(tmp_path):
    path = write_checkpoint(tmp_path, 1, ARRAYS, {})
    (path / "state.json").unlink()
    with pytest.raises(UserError, match="no older one"):
        read_checkpoint(path)


def make_model(value):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


@pytest.fixture
def stored():
    """Arrays and scalars of a checkpoint."""
    model = make_model(1.0)
    arrays = variables_to_arrays(state_variables(model))
    for index, weight in enumerate(model.get_weights()):
        arrays[f"best/{index:04d}"] = 2 * weight
    return arrays, TrainingState([], step=7, best_error=3.5, history=[ROW]).scalars()


def test_restore(tmp_path, stored):
    model = make_model(0.0)
    state = restore(model, write_checkpoint(tmp_path, 7, *stored))
    assert (state.step, state.best_error, state.history) == (7, 3.5, [ROW])
    for weight, best in zip(model.get_weights(), state.best_weights, strict=True):
        np.testing.assert_array_equal(weight, np.ones_like(weight))
        np.testing.assert_array_equal(best, 2 * weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, scalars: arrays.pop("best/0001"),
        lambda arrays, scalars: arrays.update({"best/0000": np.zeros(5)}),
        lambda arrays, scalars: arrays.pop("model/0000"),
        lambda arrays, scalars: scalars.pop("step"),
        lambda arrays, scalars: scalars.update(loss=1.0),
        lambda arrays, scalars: scalars.update(step="7"),
        lambda arrays, scalars: scalars.update(best_error=None),
        lambda arrays, scalars: scalars.update(history=[{**ROW, "val_p99": 1.0}]),
        lambda arrays, scalars: scalars.update(history=[{**ROW, "loss": "1.0"}]),
        lambda arrays, scalars: scalars.update(history=[ROW, {"step": 1}]),
        lambda arrays, scalars: scalars.update(history=[3]),
    ],
)
def test_a_checkpoint_of_another_version(tmp_path, stored, change):
    change(*stored)
    path = write_checkpoint(tmp_path, 7, *stored)
    model = make_model(0.0)
    with pytest.raises(UserError, match="of another version"):
        restore(model, path)
    assert not any(weight.any() for weight in model.get_weights())
