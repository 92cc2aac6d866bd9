import json
import math
import shutil
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_training
from run_folders import history_rows

import sionna_loc
from sionna_loc import (
    assembly,
    callbacks,
    cli,
    registry,
    resuming,
    saving,
    train,
    training,
)
from sionna_loc.checks import UserError
from sionna_loc.evaluation import evaluate
from sionna_loc.models.multilateration import Multilateration
from sionna_loc.recipes import RECIPES, RunConfig

NUMBERS = {"batch_size": 8, "num_val": 24, "num_test": 40}
# Of an evaluation that does not take place.
RESULT = types.SimpleNamespace(metrics={}, maps=None)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    with tiny_training.registered():
        yield


def config(**options):
    given = {"scenario": "free_space", "model": "tiny", "steps": 20, "baseline": False}
    given |= NUMBERS
    return RunConfig(**{**given, **options})


def fit(run_dir, resume=False, overwrite=False, **options):
    return training.fit(
        config(**options), run_dir, resume=resume, overwrite=overwrite, quiet=True
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with tiny_training.registered():
        return fit(tmp_path_factory.mktemp("runs") / "run")


def test_training_has_the_recipes_emphasis_and_scales_are_learned_without(
    tmp_path, monkeypatch
):
    asked = []
    plain = tiny_training.FreeSpace.batches

    def batches(self, *arguments, emphasis=0.0, **options):
        asked.append(emphasis)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(tiny_training.FreeSpace, "batches", batches)
    fit(tmp_path / "run", steps=2)
    assert RECIPES["default"].emphasis > 0 == RECIPES["paper"].emphasis
    # Validation and test sets of this scenario are batches, too.
    assert sorted(asked) == [0, 0, 0, RECIPES["default"].emphasis]


def test_the_emphasis_may_be_another_than_the_recipes(tmp_path, monkeypatch):
    asked = set()
    plain = tiny_training.FreeSpace.batches

    def batches(self, *arguments, emphasis=0.0, **options):
        asked.add(emphasis)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(tiny_training.FreeSpace, "batches", batches)
    fit(tmp_path / "run", steps=2, emphasis=3.0)
    assert asked == {0, 3.0}
    with pytest.raises(UserError, match="`emphasis` must be"):
        config(emphasis=-1.0)


def test_training_alone_turns_samples(tmp_path, monkeypatch):
    asked = []
    plain = tiny_training.FreeSpace.batches

    def batches(self, *arguments, augment=None, **options):
        asked.append(augment)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(tiny_training.FreeSpace, "batches", batches)
    folder = fit(tmp_path / "run", steps=2, augment="rotate")
    # Neither the samples for scales nor those of validation and test.
    assert sorted(map(str, asked)) == ["None", "None", "None", "rotate"]
    assert saving.read_run(folder)["config"]["augment"] == "rotate"
    with pytest.raises(UserError, match="Did you mean 'rotate'"):
        config(augment="rotat")


def test_training_may_begin_with_a_finished_runs_weights(run, tmp_path, monkeypatch):
    begun = tmp_path / "begun"
    old = sionna_loc.load_model(run).get_weights()
    fit(begun, steps=2, learning_rate=1e-9, seed=7, init_from=str(run))
    # Weights that did not move, and scales that were not learned anew.
    for new, expected in zip(
        sionna_loc.load_model(begun).get_weights(), old, strict=True
    ):
        np.testing.assert_allclose(new, expected, atol=1e-6)
    fit(tmp_path / "other", steps=2, learning_rate=1e-9, seed=7)
    other = sionna_loc.load_model(tmp_path / "other").get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(other, old, strict=True)) > 1e-3


def test_an_interrupted_run_goes_on_without_the_run_that_it_began_with(run, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(run, source)
    whole = fit(tmp_path / "whole", steps=4, init_from=str(source))
    stopped = fit(tmp_path / "stopped", steps=4, init_from=str(source))
    (stopped / "metrics.json").unlink()
    shutil.rmtree(source)
    fit(stopped, resume=True, steps=4, init_from=str(source))
    results = [saving.read_run(path, "metrics.json") for path in (whole, stopped)]
    assert results[0]["rmse"] == results[1]["rmse"]


def test_what_begins_with_weights_remembers_its_own_training_set(
    run, tmp_path, monkeypatch
):
    called = []

    def note(name):
        def method(self, dataset):
            called.append((name, sum(len(y["position"]) for _, y in dataset)))

        return method

    for name in ("adapt", "remember"):
        monkeypatch.setattr(tiny_training.TinyLocalizer, name, note(name))
    monkeypatch.setattr(
        tiny_training.TinyLocalizer, "forget", lambda self: called.append("forget")
    )
    fit(tmp_path / "many", steps=1, init_from=str(run))
    assert called == ["forget"]  # scales come with the weights
    called.clear()
    monkeypatch.setattr(tiny_training.FreeSpace, "is_one_place", True)
    fit(tmp_path / "plain", steps=1, init_from=str(run))
    assert called == []
    with monkeypatch.context() as patch:
        patch.setattr(tiny_training.FreeSpace, "has_walls", True)
        patch.setattr(tiny_training.TinyLocalizer, "wall_options", ("units",))
        fit(tmp_path / "walls", steps=1, init_from=str(run), batch_size=8)
    assert called == [("remember", 128)]
    called.clear()
    monkeypatch.setattr(tiny_training.TinyLocalizer, "num_adapt_samples", 20)
    fit(tmp_path / "begun", steps=1, init_from=str(run), batch_size=8)
    fit(tmp_path / "new", steps=1, batch_size=8)
    assert called == [("remember", 24), ("adapt", 24)]


def test_weights_to_begin_with_must_fit(run, tmp_path):
    with pytest.raises(UserError, match=r"do not fit; .* differ in units"):
        fit(tmp_path / "run", init_from=str(run), model_options={"units": 5})
    with pytest.raises(UserError, match="There is no model"):
        fit(tmp_path / "run", init_from=str(tmp_path))
    assert not (tmp_path / "run").exists()


def test_run_folder(run):
    record = json.loads((run / "config.json").read_text())
    assert record["config"]["steps"] == 20 and record["config"]["num_trps"] is None
    assert record["resolved"]["num_trps"] == 4
    assert record["resolved"]["preset"] == "tiny"
    assert record["scenario"]["name"] == "free_space"
    assert len(record["fingerprint"]) == 64
    packages = {"python", "tensorflow", "keras", "sionna", "numpy", "sionna_loc"}
    assert packages <= set(record["versions"])
    assert "Device" in record["device"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["num_samples"] == 40
    for name in ("rmse", "mae", "p50", "p90", "p95", "rmse_3d"):
        lower, upper = metrics["intervals"][name]
        assert 0 < lower <= metrics[name] <= upper
    assert metrics["training"]["steps"] == 20
    assert metrics["training"]["samples"] == 160
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"error_cdf.png", "error_map.png", "training_curve.png"} <= names


def test_history_has_a_row_per_validation(run):
    history = history_rows(run)
    assert [row["step"] for row in history] == [10, 20]
    assert [row["samples"] for row in history] == [80, 160]
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert history[0]["learning_rate"] > history[1]["learning_rate"]
    assert all(0 <= row["wait_share"] <= 1 for row in history)


def test_tensorboard_log_has_the_history(run):
    (file,) = (run / "logs").iterdir()
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
    ]
    logged = {
        (event.step, value.tag): value.simple_value
        for event in events
        for value in event.summary.value
    }
    for row in history_rows(run):
        assert logged[row["step"], "val_rmse"] == pytest.approx(row["val_rmse"])


def test_saved_model_gives_the_metrics_again(run):
    model = sionna_loc.load_model(run)
    scenario = tiny_training.FreeSpace()
    features = assembly.make_features(scenario)
    evaluation = evaluate(model, scenario.frozen("test", 40).map(features))
    metrics = json.loads((run / "metrics.json").read_text())
    assert evaluation.metrics["rmse"] == pytest.approx(metrics["rmse"], rel=1e-5)


def test_same_seed_same_result_other_seed_another(run, tmp_path):
    same = fit(tmp_path / "same")
    other = fit(tmp_path / "other", seed=1)
    losses = [
        [row["loss"] for row in history_rows(folder)] for folder in (run, same, other)
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_finished_run_is_left_alone(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.*")}
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        fit(run)
    fit(run, resume=True)
    before.pop(run / ".lock", None)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resume_names_what_differs(run):
    with pytest.raises(UserError, match=r"`batch_size` is 8.*batch_size=16"):
        fit(run, resume=True, batch_size=16)
    with pytest.raises(UserError, match="scenario is no longer"):
        record = json.loads((run / "config.json").read_text())
        old = {**record, "fingerprint": "0" * 64}
        resuming.check_same_run(old, record, run)


def test_a_preset_that_became_another_is_not_resumed(run, monkeypatch):
    begun = saving.read_run(run)
    assert begun["model"]["units"] == 16
    other = {"tiny": {"units": 17}}
    monkeypatch.setattr(tiny_training.TinyLocalizer, "PRESETS", other)
    with pytest.raises(UserError, match=r"no longer.*its `units` is 16\. .*units=17"):
        fit(run, resume=True)


def test_an_argument_of_later_had_its_default_before(run):
    begun = saving.read_run(run)
    known = {name: x for name, x in begun["model"].items() if name != "units"}
    old = {**begun, "model": known}
    resuming.check_same_run(old, begun, run)
    new = {**begun, "model": {**known, "units": 3}}
    with pytest.raises(UserError, match=r"its `units` is 16\. .*units=3"):
        resuming.check_same_run(old, new, run)


def test_a_run_of_before_arguments_were_kept_goes_on_and_says_so(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for is_kept in (True, False):
        record = saving.read_run(folder)
        if not is_kept:
            del record["model"]
        saving.write_json(folder / "config.json", record)
        training.fit(config(), folder, resume=True)
        said = "did not keep the arguments of its model" in capsys.readouterr().out
        assert said != is_kept


def test_a_truncated_checkpoint_is_named_and_kept(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "metrics.json").unlink()
    newest = folder / "checkpoints" / "step-00000020"
    content = (newest / "arrays.npz").read_bytes()
    (newest / "arrays.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"truncated.*'step-00000010'.*step-00000020"):
        fit(folder, resume=True)
    assert len(list((folder / "checkpoints").iterdir())) == 2
    shutil.rmtree(newest)  # as the message says
    fit(folder, resume=True)
    whole, resumed = (saving.read_run(f, saving.METRICS) for f in (run, folder))
    assert resumed["rmse"] == whole["rmse"]


def test_a_checkpoint_of_other_history_columns_is_one_line(run, tmp_path, command_line):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "metrics.json").unlink()
    path = folder / "checkpoints" / "step-00000020" / "state.json"
    state = json.loads(path.read_text())
    state["history"][0]["val_p99"] = state["history"][0].pop("val_p95")
    path.write_text(json.dumps(state))
    code, (line,) = command_line(train, "--resume", "--quiet", "--run-dir", folder)
    assert code == 2
    assert "another version of the library; --overwrite" in line
    assert "differing=['history.val_p95', 'history.val_p99']" in line


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        fit(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_overwrite_replaces_only_the_run(tmp_path):
    folder = fit(tmp_path / "run", steps=2)
    (folder / "notes.txt").write_text("mine")
    fit(folder, overwrite=True, steps=3)
    assert [row["step"] for row in history_rows(folder)] == [3]
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(list((folder / "checkpoints").iterdir())) == 1


def test_resume_sweeps_what_a_kill_left(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / ".new-model.keras").write_text("half")
    (folder / "checkpoints" / ".new-step-00000099").mkdir()
    fit(folder, resume=True)
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_a_folder_of_another_project_is_never_touched(tmp_path):
    saving.write_json(tmp_path / "config.json", {"model_type": "bert"})
    (tmp_path / "model.safetensors").write_text("theirs")
    for options in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(UserError, match="holds no run"):
            fit(tmp_path, **options)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.safetensors"}


def test_a_folder_of_something_else_is_never_taken(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        fit(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(UserError, match="cannot be written"):
        fit(tmp_path / "thesis.tex")


def test_one_process_per_run_folder(tmp_path):
    with saving.locked(tmp_path), pytest.raises(UserError, match="Another process"):
        fit(tmp_path)
    fit(tmp_path, steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "fre_space"}, "Did you mean 'free_space'"),
        ({"model": "tny"}, "Did you mean 'tiny'"),
        ({"preset": "tinny"}, "Did you mean 'tiny'"),
        ({"num_trps": 9}, "at most the 8 TRPs.*num_trps=9"),
        ({"model_options": {"unit": 3}}, "Did you mean 'units'"),
        ({"model_options": {"num_taps": 2}}, "is the scenario.s"),
        ({"scenario_options": {"slep": 3}}, "Did you mean 'sleep'"),
        (
            {"model": "resnet_fingerprint", "augment": "rotate"},
            "resnet_fingerprint, as asked for, learns one place.*augment='rotate'",
        ),
        ({"model": "nearest_neighbours", "augment": "rotate"}, "learns one place"),
        ({"model": "pdp_transformer", "augment": "symmetries"}, "learns one place"),
        (
            {
                "model": "vinloc",
                "augment": "rotate",
                "model_options": {"use_trp_positions": False},
            },
            "vinloc, as asked for, learns one place",
        ),
        (
            {
                "model": "vinloc",
                "augment": "rotate",
                "model_options": {"refiner_images": 2},
            },
            "one place whose walls reflect.*refiner_images",
        ),
        (
            {"model": "vinloc", "model_options": {"map_cells": [4]}},
            "samples of one place, and that are not turned.*map_cells",
        ),
    ],
)
def test_mistakes_leave_no_folder(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        fit(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("has_walls", "augment", "options", "expected"),
    [
        (True, None, {}, 6),
        (True, None, {"refiner_images": 2}, 2),
        (True, "rotate", {}, 0),
        (False, None, {}, 0),
        (False, None, {"refiner_images": 0}, 0),
    ],
)
def test_walls_are_sought_where_they_stay(
    monkeypatch, has_walls, augment, options, expected
):
    monkeypatch.setattr(tiny_training.FreeSpace, "has_walls", has_walls)
    monkeypatch.setattr(tiny_training.FreeSpace, "is_one_place", True)
    asked = config(model="vinloc", augment=augment, model_options=options)
    scenario = assembly.make_scenario(asked)
    assert assembly.shows_one_place(asked, scenario) == (augment is None)
    assert assembly.make_model(asked, scenario).refiner_images == expected


@pytest.mark.parametrize(
    ("preset", "has_walls", "expected"),
    [("compact", True, 0), ("agnostic", True, 12), ("agnostic", False, 0)],
)
def test_walls_that_may_be_found_later_have_room_where_places_change(
    monkeypatch, preset, has_walls, expected
):
    monkeypatch.setattr(tiny_training.FreeSpace, "has_walls", has_walls)
    asked = config(model="backprojection", preset=preset)
    scenario = assembly.make_scenario(asked)
    assert assembly.make_model(asked, scenario).num_images == expected


@pytest.mark.parametrize(
    ("is_one_place", "has_walls", "options", "expected"),
    [
        (True, False, {}, (12, 48, 96)),
        (True, False, {"preset": "paper"}, ()),
        (True, False, {"augment": "rotate"}, ()),
        (True, False, {"model_options": {"map_cells": ()}}, ()),
        (True, True, {}, ()),
        (True, True, {"model_options": {"map_cells": [4]}}, (4,)),
        (False, False, {}, ()),
        (False, True, {}, ()),
        (False, False, {"model_options": {"map_cells": ()}}, ()),
    ],
)
def test_a_place_that_stays_is_learned_where_there_are_no_walls_or_as_asked(
    monkeypatch, is_one_place, has_walls, options, expected
):
    monkeypatch.setattr(tiny_training.FreeSpace, "is_one_place", is_one_place)
    monkeypatch.setattr(tiny_training.FreeSpace, "has_walls", has_walls)
    asked = config(model="vinloc", **options)
    scenario = assembly.make_scenario(asked)
    model = assembly.make_model(asked, scenario)
    assert model.map_cells == expected
    is_default = is_one_place and not has_walls and set(options) <= {"model_options"}
    assert model.num_neighbours == (24 if is_default else 0)


def test_options_reach_scenario_and_model(tmp_path):
    folder = fit(
        tmp_path / "run",
        steps=1,
        num_trps=7,
        small=True,
        model_options={"units": 5},
        scenario_options={"sleep": 0.001},
    )
    assert saving.load_model(folder).units == 5
    record = saving.read_run(folder)
    assert record["scenario"]["sleep"] == 0.001 and record["scenario"]["small"]


def test_divergence_keeps_the_last_good_weights(tmp_path):
    options = {"steps": 30, "scenario_options": {"nan_from": 12 * 8}}
    with pytest.raises(training.TrainingDiverged, match=r"step 1[34]\..*step 10,"):
        fit(tmp_path / "run", **options)
    assert not (tmp_path / "run" / "metrics.json").exists()
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert checkpoint.name == "step-00000010"
    kept = saving.load_model(tmp_path / "run")
    with np.load(checkpoint / "arrays.npz") as arrays:
        for index, weight in enumerate(kept.get_weights()):
            np.testing.assert_array_equal(weight, arrays[f"best/{index:04d}"])
            assert np.isfinite(weight).all()


def test_divergence_before_any_validation(tmp_path):
    with pytest.raises(training.TrainingDiverged, match="of step 0,"):
        fit(tmp_path / "run", scenario_options={"nan_from": 0})
    assert np.isfinite(saving.load_model(tmp_path / "run").get_weights()[0]).all()


def validated(errors):
    """Stand in for validation: a usual error of 1,000 samples and that of one more."""

    def validate(self):
        usual, lost = next(errors)
        return np.array([*[usual] * 1000, lost])

    return validate


def test_one_lost_sample_does_not_decide_which_weights_are_best():
    errors = np.linspace(0, 1, 1000)
    lost = errors.copy()
    lost[-1] = 240.0
    assert callbacks.usual_error(lost) == callbacks.usual_error(errors)
    assert callbacks.usual_error(errors) == pytest.approx(errors[:990].mean())
    assert callbacks.usual_error(2 * errors) == 2 * callbacks.usual_error(errors)
    assert callbacks.usual_error(np.array([3.0])) == 3.0  # of few, all count


def test_the_best_weights_are_the_result(tmp_path, monkeypatch):
    errors = iter([(5.0, 5.0), (3.0, 9000.0), (4.0, 4.0)])
    validate = "sionna_loc.callbacks.Validation._validate"
    monkeypatch.setattr(validate, validated(errors))
    folder = fit(tmp_path / "run", steps=30)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["training"]["best_step"] == 20
    with np.load(folder / "checkpoints" / "step-00000030" / "arrays.npz") as arrays:
        weights = saving.load_model(folder).get_weights()
        for index, weight in enumerate(weights):
            np.testing.assert_array_equal(weight, arrays[f"best/{index:04d}"])
        assert not np.array_equal(weights[0], arrays["model/0000"])


def test_a_time_limit_completes_the_schedule(tmp_path):
    folder = fit(tmp_path / "run", steps=None, max_minutes=0.05)
    history = history_rows(folder)
    assert history[-1]["seconds"] >= 3
    assert history[-1]["learning_rate"] < 0.1 * RECIPES["default"].learning_rate


def test_training_off_the_main_thread(tmp_path):
    thread = threading.Thread(target=fit, args=(tmp_path / "run",))
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "metrics.json").exists()


def test_a_model_without_weights_is_only_evaluated(tmp_path, monkeypatch):
    class Center(tiny_training.Localizer):
        PRESETS = {"default": {}}  # noqa: RUF012
        DEFAULT_PRESET = "default"

        def __init__(self, region, num_taps, num_ant, sampling_rate, **kwargs):
            super().__init__(region, **kwargs)
            self.built = True

        def call(self, inputs):
            batch = tf.shape(inputs["cir"].row_lengths())[0]
            return {"position": tf.zeros([batch, 3]) + self._center}

    monkeypatch.setattr(tiny_training, "Center", Center, raising=False)
    registry.MODELS["center"] = "tiny_training:Center"
    folder = fit(tmp_path / "run", model="center")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 20 < metrics["rmse"] < 60 and "training" not in metrics
    assert not (folder / "history.csv").exists()
    assert (folder / "model.keras").exists()


@keras.saving.register_keras_serializable(package="sionna_loc")
class MapLocalizer(tiny_training.TinyLocalizer):
    """Believes in two places."""

    def call(self, inputs, training=None):
        position = super().call(inputs, training)["position"]
        one = tf.ones_like(position[:, :1])
        rows = [
            tf.concat([np.log(0.5) * one, position + away, *[one] * 3, 0 * one], -1)
            for away in (-20.0, 20.0)
        ]
        return {"position": position, "map": tf.stack(rows, axis=1)}


def test_maps_of_a_few_samples_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.MODELS, "two_places", f"{__name__}:MapLocalizer")
    drawn, plain = [], training.posterior_maps

    def draw(evaluation, top_view):
        drawn.append(evaluation)
        return plain(evaluation, top_view)

    monkeypatch.setattr(training, "posterior_maps", draw)
    figures = fit(tmp_path / "run", steps=2, model="two_places") / "figures"
    (evaluation,) = drawn
    assert evaluation.num_trps_los.tolist() == evaluation.num_trps_heard.tolist()
    assert len(evaluation.maps) == NUMBERS["num_test"]
    assert (figures / "posterior_maps.png").stat().st_size > 10_000
    assert (figures / "posterior_maps.pdf").read_bytes().startswith(b"%PDF")
    fit(tmp_path / "plain", steps=2)
    assert len(drawn) == 1  # a model without maps has none to draw


def test_default_run_dir():
    name = assembly.default_run_dir(config(seed=4)).as_posix()
    assert name == "runs/free_space-tiny-tiny-s4"
    small = assembly.default_run_dir(config(small=True)).name
    assert small == "free_space-tiny-tiny-s0-small"


def test_loss_is_the_recipes():
    from sionna_loc.losses import EuclideanDistance

    for name, recipe in RECIPES.items():
        squared = name == "hyploc"
        expected = keras.losses.MeanSquaredError if squared else EuclideanDistance
        assert isinstance(recipe.make_loss(), expected)
        assert isinstance(assembly.make_optimizer(recipe), keras.optimizers.AdamW)


def test_model_and_baseline_are_adapted_to_the_same_samples_drawn_once(
    tmp_path, monkeypatch
):
    asked, plain = [], tiny_training.FreeSpace.batches
    seen = {tiny_training.TinyLocalizer: [], Multilateration: []}

    def batches(self, batch_size, seed=0, *arguments, **options):
        if seed >= 0:  # not the frozen sets
            asked.append(options.get("emphasis", 0.0))
        return plain(self, batch_size, seed, *arguments, **options)

    def adapt(self, dataset):
        seen[type(self)].extend(dataset)

    monkeypatch.setattr(tiny_training.FreeSpace, "batches", batches)
    for model_class in seen:
        monkeypatch.setattr(model_class, "adapt", adapt)
    monkeypatch.setattr(training, "evaluate", lambda *arguments, **options: RESULT)
    fit(tmp_path / "run", steps=2, baseline=True)
    assert asked == [0.0, RECIPES["default"].emphasis]  # to adapt, and to train
    scenario = tiny_training.FreeSpace()
    features = assembly.make_features(scenario)
    stream = plain(scenario, 8, 0, 4, fields=features.fields).map(features)
    for found in seen.values():
        for here, there in zip(found, stream.take(16), strict=True):
            tf.nest.map_structure(
                np.testing.assert_array_equal,
                *(tf.nest.flatten(x, expand_composites=True) for x in (here, there)),
            )


@pytest.mark.slow
def test_the_classical_baseline_stands_beside_the_result(tmp_path):
    metrics = saving.read_run(fit(tmp_path / "run", baseline=True), saving.METRICS)
    baseline = metrics["baselines"]["multilateration"]
    assert baseline["num_samples"] == metrics["num_samples"]
    # Free space: ranging is exact there, and a network after 20 steps is not.
    assert baseline["p50"] < 1 < metrics["p50"]
    text = cli.metrics_text(metrics)
    assert "multilateration" in text
    assert f"{baseline['rmse']:.2f}" in text
