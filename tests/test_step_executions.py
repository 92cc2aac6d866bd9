"""Several training steps in one call of Keras: the result of steps one by one."""

import csv
import dataclasses
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import tracks_training

from sionna_loc import adaptation, assembly, recipes, saving, training
from sionna_loc.callbacks import Pace
from sionna_loc.checkpoints import TrainingState, list_checkpoints
from sionna_loc.data.steps import batches_of_steps
from sionna_loc.models.hyploc import HypLoc
from sionna_loc.models.mlp import Mlp
from sionna_loc.models.recurrent import Recurrent
from sionna_loc.models.vinloc_links import VInLocLinks
from sionna_loc.recipes import RECIPES, RunConfig

NUM_STEPS = 230
"""No multiple of what one call does: 20."""
OPTIONS = {"main_units": 8, "hyper_units": [8], "head_units": [8]}


@pytest.fixture(autouse=True)
def known(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path_factory.getbasetemp() / "ways"))
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    with tracks_training.registered():
        yield


def config(**options):
    return RunConfig(
        scenario="drives",
        model="hyploc",
        model_options=OPTIONS,
        **{"steps": NUM_STEPS, "batch_size": 16, "baseline": False, **options},
    )


def fit(run_dir, **options):
    return training.fit(config(), run_dir, device="cpu", quiet=True, **options)


def one_by_one(monkeypatch):
    recipe = dataclasses.replace(RECIPES["hyploc"], steps_per_execution=1)
    monkeypatch.setitem(recipes.RECIPES, "hyploc", recipe)


@pytest.fixture
def calls(monkeypatch):
    """How many steps each call of Keras was for."""
    found = []
    count = Pace.on_train_batch_end

    def note(pace, batch, logs=None):
        before = pace._state.step
        count(pace, batch, logs)
        found.append(pace._state.step - before)

    monkeypatch.setattr(Pace, "on_train_batch_end", note)
    return found


def rows(run_dir):
    with open(run_dir / "history.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def final_arrays(run_dir):
    last = list_checkpoints(run_dir / saving.CHECKPOINTS)[-1]
    with np.load(last / "arrays.npz") as arrays:
        return dict(arrays)


def test_many_steps_in_a_call_do_what_they_do_alone(tmp_path, calls, monkeypatch):
    together = final_arrays(fit(tmp_path / "together"))
    # There are 20 validations, 11 steps from one to the next.
    assert calls == [11] * 20 + [10]
    steps = [row["step"] for row in rows(tmp_path / "together")]
    assert steps[-1] == NUM_STEPS and len(steps) == 20
    one_by_one(monkeypatch)
    calls.clear()
    alone = final_arrays(fit(tmp_path / "alone"))
    assert calls == [1] * NUM_STEPS
    assert together.keys() == alone.keys()
    for name in filter(lambda name: name.startswith("model/"), alone):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3, atol=1e-3)
    losses = [
        [row["loss"] for row in rows(tmp_path / name)] for name in ("together", "alone")
    ]
    assert losses[0][0] > 2 * losses[0][-1]  # it has learnt something


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, calls, monkeypatch):
    whole = fit(tmp_path / "whole")
    stopped = len(calls) // 2
    calls.clear()
    note = Pace.on_train_batch_end

    def interrupt(pace, batch, logs=None):
        note(pace, batch, logs)
        if len(calls) == stopped:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Pace, "on_train_batch_end", interrupt)
    with pytest.raises(training.TrainingInterrupted, match=f"step {11 * stopped}"):
        fit(tmp_path / "parts")
    parts = fit(tmp_path / "parts", resume=True)
    ours, theirs = final_arrays(parts), final_arrays(whole)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize(
    ("options", "compiles", "expected"),
    [
        ({"steps": 21360}, True, 20),
        ({"steps": 21360}, False, 1),
        ({"steps": 20}, True, 10),
        ({"steps": 1}, True, 1),
        ({"steps": None, "max_minutes": 1}, True, 20),
    ],
)
def test_a_call_ends_before_the_next_but_one_validation(options, compiles, expected):
    state = TrainingState([])
    pace = Pace(state, RECIPES["hyploc"], config(**options), compiles)
    assert pace.steps_per_execution == expected


def test_models_say_whether_their_steps_are_compiled():
    region = [[0, 0, 0], [10, 10, 3]]
    assert Mlp.from_preset("mlp", region=region).compiles_steps
    assert not VInLocLinks.from_preset(region=region).compiles_steps
    for preset, expected in (("hyploc", True), ("vinloc_links", False)):
        model = Recurrent.from_preset(preset, region=region)
        assert model.compiles_steps == expected
    assert RECIPES["default"].steps_per_execution == 1


def test_a_batch_for_many_steps_is_cut_in_its_order():
    samples = tf.data.Dataset.range(24).batch(12)

    def features(values):
        return {"value": values}, {"position": values}

    def pad(inputs):
        return {"pair": tf.stack([inputs["value"], -inputs["value"]], axis=1)}

    found = list(batches_of_steps(samples, features, pad, 3))
    assert [len(targets["position"]) for _, targets in found] == [4] * 6
    numbers = np.concatenate([targets["position"] for _, targets in found])
    np.testing.assert_array_equal(numbers, np.arange(24))
    pairs = np.concatenate([inputs["pair"] for inputs, _ in found])
    np.testing.assert_array_equal(pairs, np.stack([numbers, -numbers], axis=1))


def test_a_user_may_train_on_ragged_and_on_padded_batches():
    scenario = assembly.make_scenario(config())
    losses = []
    for padded in (False, True):
        keras.utils.set_random_seed(0)
        model = HypLoc(scenario.region, num_trps=3, **OPTIONS)
        features = assembly.make_features(scenario, model)
        options = assembly.reading_options(features)
        batches = scenario.frozen("train", 48, batch_size=16, **options).map(features)
        model.adapt(batches)
        if padded:
            batches = batches.map(lambda x, y, model=model: (model.pad(x), y))
        model.compile(keras.optimizers.Adam(), "mse", steps_per_execution=2)
        losses.append(model.fit(batches, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(batches, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)  # the other optimizer is forgotten
    model.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()


def test_adaptation_takes_many_steps_in_a_call_too():
    scenario = assembly.make_scenario(config())
    shots = adaptation.Shots(scenario, 44, 3, 24)  # five batches of 8 and one of 4
    curves = []
    for most in (1, 20):
        keras.utils.set_random_seed(0)
        model = HypLoc(scenario.region, num_trps=3, **OPTIONS)
        recipe = dataclasses.replace(
            RECIPES["hyploc"], batch_size=8, steps_per_execution=most
        )
        points = adaptation.adapt(model, shots, recipe, epochs=3, seed=1)
        assert model.steps_per_execution == most
        assert model.optimizer.iterations == 3 * 6
        curves.append([point["mae"] for point in points])
    np.testing.assert_allclose(*curves, rtol=1e-3)
    assert curves[0][0] != curves[0][-1]
