"""Several training steps in one call of Keras: the result of steps one by one."""

import dataclasses
import signal
import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tracks_training
from run_folders import final_arrays, history_rows

from sionna_loc import adaptation, assembly, recipes, saving, training
from sionna_loc.callbacks import Pace
from sionna_loc.checkpoints import TrainingState
from sionna_loc.data.steps import batches_of_steps
from sionna_loc.models.hyploc import HypLoc
from sionna_loc.models.hyploc_set import HypLocSet
from sionna_loc.models.mlp import Mlp
from sionna_loc.models.recurrent import Recurrent
from sionna_loc.models.vinloc_links import VInLocLinks
from sionna_loc.recipes import RECIPES, RunConfig

NUM_STEPS = 230
"""No multiple of what one call does: 20."""
REGION = [[0, 0, 0], [100, 100, 3]]
OPTIONS = {"main_units": 8, "hyper_units": [8], "head_units": [8]}


@pytest.fixture(autouse=True)
def known(tmp_path_factory):
    with tracks_training.registered(tmp_path_factory.getbasetemp()):
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


def test_many_steps_in_a_call_do_what_they_do_alone(tmp_path, calls, monkeypatch):
    together = final_arrays(fit(tmp_path / "together"))
    # There are 20 validations, 11 steps from one to the next.
    assert calls == [11] * 20 + [10]
    steps = [row["step"] for row in history_rows(tmp_path / "together")]
    assert steps[-1] == NUM_STEPS and len(steps) == 20
    one_by_one(monkeypatch)
    calls.clear()
    alone = final_arrays(fit(tmp_path / "alone"))
    assert calls == [1] * NUM_STEPS
    assert together.keys() == alone.keys()
    for name in filter(lambda name: name.startswith("model/"), alone):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3, atol=1e-3)
    losses = [row["loss"] for row in history_rows(tmp_path / "together")]
    assert losses[0] > 2 * losses[-1]  # it has learnt something


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


def test_a_run_limited_by_time_takes_many_steps_in_a_call(tmp_path, calls):
    run_dir = training.fit(
        config(steps=None, max_minutes=0.05), tmp_path / "run", device="cpu", quiet=True
    )
    assert set(calls) == {20}
    found = saving.read_run(run_dir, saving.METRICS)["training"]
    assert found["steps"] == sum(calls) and 3 <= found["seconds"] < 60


@pytest.mark.parametrize(
    ("options", "most", "expected"),
    [
        ({"steps": 21360}, 20, 20),
        ({"steps": 21360}, 1, 1),
        ({"steps": 230}, 20, 11),
        ({"steps": 1}, 20, 1),
        ({"steps": None, "max_minutes": 1}, 20, 20),
    ],
)
def test_a_call_ends_before_the_next_but_one_validation(options, most, expected):
    pace = Pace(TrainingState([]), RECIPES["hyploc"], config(**options), most)
    assert pace.steps_per_execution == expected


def test_few_steps_samples_to_be_traced_and_large_networks_come_one_by_one():
    recipe = RECIPES["hyploc"]
    model = Mlp.from_preset("mlp", region=REGION)
    assert recipe.steps_of_call(model, 200) == recipe.steps_of_call(model, None) == 20
    assert recipe.steps_of_call(model, 199) == 1
    large = VInLocLinks.from_preset(region=REGION)
    assert recipe.steps_of_call(large, 10_000) == 1
    for num_train, expected in ((48, 20), (0, 1)):
        scenario = types.SimpleNamespace(num_train=num_train)
        run = training._Run(config(steps=5000), scenario, model, None, True)
        assert run._steps_of_call(recipe) == expected


def test_models_say_whether_their_steps_are_compiled():
    assert Mlp.from_preset("mlp", region=REGION).compiles_steps
    assert not VInLocLinks.from_preset(region=REGION).compiles_steps
    for preset, expected in (("hyploc", True), ("vinloc_links", False)):
        model = Recurrent.from_preset(preset, region=REGION)
        assert model.compiles_steps == expected


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
    model.compile(keras.optimizers.SGD(0.0), "mse", steps_per_execution=2)
    model.fit(batches, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)  # the other optimizer is forgotten
    model.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()


def test_a_compiled_model_trains_on_after_loading(tmp_path):
    model = HypLoc(REGION, num_trps=3, **OPTIONS)
    model.compile(keras.optimizers.Adam(), "mse", steps_per_execution=2)
    shapes = {"link": (4, 3, 5), "trp_heard": (4, 3), "trp_position": (4, 3, 3)}
    inputs = {name: np.ones(shape, "f") for name, shape in shapes.items()}
    inputs["trp_heard"] = inputs["trp_heard"] > 0
    targets = {"position": np.ones((4, 3), "f")}
    model.fit(inputs, targets, batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.steps_per_execution == 2
    again.fit(inputs, targets, batch_size=1, verbose=0)
    moved = zip(again.get_weights(), model.get_weights(), strict=True)
    assert any(np.abs(now - before).max() > 1e-4 for now, before in moved)


def test_samples_to_adapt_to_are_padded_alike():
    numbers = [1, 3, 2, 5, 4, 2]
    link = np.ones((sum(numbers), 5), "f")
    inputs = {
        name: tf.RaggedTensor.from_row_lengths(values, numbers)
        for name, values in (
            ("link", link),
            ("trp_heard", link[:, 0] > 0),
            ("trp_position", link[:, :3]),
        )
    }
    targets = {"position": tf.zeros((6, 3))}
    batches = tf.data.Dataset.from_tensors((inputs, targets)).unbatch()
    batches = batches.ragged_batch(2)
    model = HypLocSet.from_preset(region=REGION)
    found, count = adaptation._shuffled(batches, model, 4, 0)
    assert count == 6
    shapes = [tuple(inputs["link"].shape) for inputs, _ in found]
    assert shapes == [(4, 5, 5), (2, 5, 5)]
    heard = np.concatenate([inputs["trp_mask"] for inputs, _ in found])
    assert sorted(heard.sum(axis=1)) == sorted(numbers)


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
        points = adaptation.adapt(
            model, shots, recipe, epochs=34, measure_at=(0,), seed=1
        )
        assert model.steps_per_execution == most
        assert model.optimizer.iterations == 34 * 6
        curves.append([point["mae"] for point in points])
    np.testing.assert_allclose(*curves, rtol=1e-3)
    assert curves[0][0] != curves[0][-1]
