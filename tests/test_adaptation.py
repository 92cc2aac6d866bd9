"""Few-shot adaptation, as a function and as a command line."""

import csv
import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tiny_training

from sionna_loc import adapt as adapt_cli
from sionna_loc import registry, saving, training
from sionna_loc.adaptation import Shots, adapt
from sionna_loc.checks import UserError
from sionna_loc.recipes import RECIPES, Recipe, RunConfig

RECIPE = Recipe(learning_rate=3e-3, batch_size=8, schedule="exponential")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: [])  # slow
    with mock.patch.dict(registry.SCENARIOS), mock.patch.dict(registry.MODELS):
        tiny_training.register()
        yield


def make_model():
    scenario = tiny_training.FreeSpace()
    return tiny_training.TinyLocalizer(scenario.region, scenario.num_taps)


def make_shots(**options):
    numbers = {"num_samples": 20, "num_trps": 4, "num_test": 30, **options}
    return Shots(tiny_training.FreeSpace(), **numbers)


def test_the_curve_begins_without_adaptation_and_goes_down():
    model = make_model()
    model.head.bias.assign([1.5, -1.5, 0.0])  # 75 m away from the middle each way
    before = [weight.copy() for weight in model.get_weights()]
    seen = []
    points = adapt(model, make_shots(), RECIPE, epochs=25, report=seen.append)
    assert [point["epoch"] for point in points] == list(range(26)) and seen == points
    assert points[-1]["mae"] < 0.8 * points[0]["mae"]
    assert {"rmse", "mae", "p90", "intervals"} <= set(points[3])
    after = model.get_weights()
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(before, after, strict=True))


def test_the_first_point_is_the_models_own_error():
    model = make_model()
    test = make_shots()
    from sionna_loc.assembly import make_features
    from sionna_loc.evaluation import evaluate

    features = make_features(test.scenario, model)
    own = evaluate(model, test.read("test", features, 10)).metrics
    points = adapt(model, test, RECIPE, epochs=1)
    assert points[0]["mae"] == pytest.approx(own["mae"], rel=1e-5)
    assert own["num_samples"] == points[1]["num_samples"] == 30


def test_only_the_points_asked_for_are_measured():
    points = adapt(make_model(), make_shots(), RECIPE, epochs=4, measure_at=[0, 2])
    assert [point["epoch"] for point in points] == [0, 2, 4]
    points = adapt(make_model(), make_shots(), RECIPE, epochs=2, measure_at=())
    assert [point["epoch"] for point in points] == [2]


def test_the_schedule_is_the_recipes():
    rates = []
    recipe = Recipe(
        learning_rate=0.5, batch_size=10, schedule="exponential", epoch_decay=0.5,
        decay_samples=20,
    )  # fmt: skip
    model = make_model()

    original = Recipe.learning_rate_at

    def note(self, *arguments):
        rates.append(original(self, *arguments))
        return rates[-1]

    with mock.patch.object(Recipe, "learning_rate_at", note):
        adapt(model, make_shots(), recipe, epochs=2)
    assert rates == pytest.approx([0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize("is_one_place", [True, False])
def test_the_samples_of_a_place_are_remembered_after_the_first_point(
    is_one_place, monkeypatch
):
    monkeypatch.setattr(tiny_training.FreeSpace, "is_one_place", is_one_place)
    model, events = make_model(), []

    def remember(dataset):
        events.append(sum(len(targets["position"]) for _, targets in dataset))

    with (
        mock.patch.object(model, "remember", remember),
        mock.patch.object(model, "forget", lambda: events.append("forgotten")),
    ):
        report = events.append
        adapt(model, make_shots(), RECIPE, epochs=1, report=report)
    wanted = [0, 20 if is_one_place else "forgotten", 1]
    assert [e["epoch"] if isinstance(e, dict) else e for e in events] == wanted


def test_samples_may_lose_other_trps_in_each_pass():
    class Watched(tiny_training.TinyLocalizer):
        def call(self, inputs, training=None):
            if training:
                lengths = inputs["cir"].row_lengths()
                tf.py_function(lambda n: seen.append(n.numpy()), [lengths], [])
            return super().call(inputs, training=training)

    seen: list = []
    scenario = tiny_training.FreeSpace()
    for drop_trps in (False, True):
        model = Watched(scenario.region, scenario.num_taps)
        shots = make_shots(num_trps=8, num_samples=8)  # one batch
        adapt(model, shots, RECIPE, epochs=12, measure_at=(), drop_trps=drop_trps)
    plain, fewer = np.stack(seen[:12]), np.stack(seen[12:])
    heard = {tuple(sorted(row)) for row in plain}
    assert len(heard) == 1 and plain.min() > 3
    assert fewer.min() == 3 and fewer.mean() < plain.mean() - 1
    assert len({tuple(sorted(row)) for row in fewer}) > 6


def test_links_do_not_lose_their_trps():
    model = make_model()
    model.fixed_num_trps = 4
    with pytest.raises(UserError, match="any number of TRPs only"):
        adapt(model, make_shots(), RECIPE, epochs=1, drop_trps=True)


@pytest.fixture
def run(tmp_path):
    config = RunConfig(
        scenario="free_space", model="tiny", steps=2, batch_size=4, num_val=8,
        num_test=16, num_trps=4, baseline=False,
    )  # fmt: skip
    return training.fit(config, tmp_path / "run", device="cpu", quiet=True)


def test_the_command_line_saves_model_and_curve(run, capsys):
    arguments = ["--run", str(run), "--num-samples", "12", "--epochs", "3"]
    assert adapt_cli.main([*arguments, "--device", "cpu"]) == 0
    folder = run / "adaptation-12"
    found = json.loads((folder / "adaptation.json").read_text())
    assert [point["epoch"] for point in found["points"]] == [0, 1, 2, 3]
    with open(folder / "adaptation.csv") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[3]["mae"]) == pytest.approx(found["points"][3]["mae"])
    assert (folder / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    adapted, trained = saving.load_model(folder), saving.load_model(run)
    pairs = zip(adapted.get_weights(), trained.get_weights(), strict=True)
    assert any(np.abs(a - b).max() > 0 for a, b in pairs)
    output = capsys.readouterr().out
    assert "epoch   3: mean error" in output and "after 3" in output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("run", "The results would replace a run. Received: output="),
        ("other", "The results would replace a run. Received: output="),
        ("begun", "The results would replace a run. Received: output="),
        ("file", "file"),
    ],
)
def test_results_replace_nothing(command_line, run, tmp_path, output, message):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / saving.METRICS).write_text("{}")
    (tmp_path / "begun").mkdir()
    shutil.copy(run / saving.CONFIG, tmp_path / "begun")
    (tmp_path / "file").touch()
    before = (run / saving.MODEL).read_bytes()
    words = ["--run", run, "--num-samples", 12, "--output", tmp_path / output]
    with mock.patch.object(saving, "load_model") as load:
        code, lines = command_line(adapt_cli, *words, "--device", "cpu")
    assert code == 2 and message in lines[-1] and not load.called
    assert (run / saving.MODEL).read_bytes() == before


def test_options_of_the_scenario_replace_the_runs():
    parser = adapt_cli.build_parser()
    words = ["--run", "x", "--num-samples", "5", "--constellation", "3"]
    run = RunConfig(
        scenario="madrid", model="hyploc", recipe="hyploc", learning_rate=1e-3,
        scenario_options={"constellations": [0, 1], "num_train": 9},
    )  # fmt: skip
    config = adapt_cli._config(run, parser.parse_args(words))
    assert config.scenario_options == {"constellations": 3, "num_train": 9}
    assert (config.recipe, config.learning_rate) == ("hyploc", 1e-3)
    other = parser.parse_args([*words[:4], "--scenario", "inf_dh"])
    config = adapt_cli._config(run, other)
    assert (config.scenario, config.scenario_options) == ("inf_dh", {})
    faster = parser.parse_args([*words, "--learning-rate", "0.1"])
    assert adapt_cli._config(run, faster).learning_rate == 0.1
    recipe = parser.parse_args([*words, "--recipe", "default"])
    rate = adapt_cli._config(run, recipe).learning_rate
    assert rate == RECIPES["default"].learning_rate


def test_a_model_without_weights_is_refused():
    from sionna_loc.models.multilateration import Multilateration

    scenario = tiny_training.FreeSpace()
    model = Multilateration(
        scenario.region,
        num_taps=scenario.num_taps,
        sampling_rate=scenario.sampling_rate,
        num_ant=1,
    )
    with pytest.raises(UserError, match="no weights to adapt"):
        adapt(model, make_shots(), RECIPE, epochs=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-samples", "0"], "num_samples=0"),
        (["--num-samples", "5", "--epochs", "0"], "epochs=0"),
        (["--num-samples", "5", "--scenario", "madrd"], "Did you mean 'madrid'?"),
        (["--num-samples", "5", "--recipe", "hiploc"], "Did you mean 'hyploc'?"),
        (["--num-samples", "5", "--learning-rate", "-1"], "learning_rate=-1.0"),
        (["--num-samples", "5", "--seed", "-1"], "Received: seed=-1"),
        (["--num-samples", "5"], "The folder holds no run"),
        ([], "--num-samples"),
    ],
)
def test_mistakes_are_one_clear_line(command_line, tmp_path, words, message):
    code, lines = command_line(adapt_cli, "--run", tmp_path, *words)
    assert code == 2 and len(lines) == 1 and message in lines[0]


def test_a_constellation_that_does_not_exist_is_one_clear_line(command_line, tmp_path):
    config = RunConfig(scenario="madrid", model="hyploc", small=True)
    from sionna_loc.assembly import make_record, make_scenario

    record = make_record(config, make_scenario(config))
    saving.write_json(tmp_path / saving.CONFIG, record)
    words = ["--run", tmp_path, "--num-samples", 5, "--constellation", 20]
    code, lines = command_line(adapt_cli, *words)
    assert code == 2 and "from 0 to 19. Received: constellations=20" in lines[-1]
