"""Self-training: what a model learns from samples whose positions nobody knows."""

import csv
import json
import shutil
from unittest import mock

import measured_files
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import BACKPROJECTION, VINLOC, trained

from sionna_loc import adapt as adapt_cli
from sionna_loc import predict, saving
from sionna_loc.checks import UserError
from sionna_loc.data.array_files import write_fields
from sionna_loc.metrics import position_metrics
from sionna_loc.recipes import RECIPES, SelfTraining
from sionna_loc.registry import get_model_class
from sionna_loc.self_training import self_train

RECIPE = RECIPES["backprojection"]
PLACES = {"num_places": 100}  # three samples each
UNLABELLED = ("cir", "sampling_rate", "bandwidth", "trp_position")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "site.npz"
    return measured_files.write(path, **PLACES)


@pytest.fixture(scope="module")
def run(tmp_path_factory, site):
    """Locates to half a metre with four TRPs, all that it has been trained with."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    samples = f"--measurements {site}"
    return trained(folder, "backprojection", BACKPROJECTION, samples, steps=250)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory, site):
    """Knows next to nothing, and takes no time."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return trained(folder, "vinloc", VINLOC, f"--measurements {site}")


@pytest.fixture
def unlabelled(tmp_path):
    fields = measured_files.make_fields(**PLACES, seed=5)
    path = tmp_path / "unlabelled.npz"
    write_fields(path, {name: fields[name] for name in UNLABELLED})
    return path


def make_inputs(seed, num_trps=4):
    fields = measured_files.make_fields(**PLACES, seed=seed)
    inputs = {
        name: tf.RaggedTensor.from_tensor(array[:, :num_trps], ragged_rank=1)
        for name, array in measured_files.inputs_of(fields).items()
    }
    return inputs, {"position": fields["ue_position"]}


def mean_error(model, inputs, targets):
    found = model.predict_on_batch(inputs)["position"]
    return np.linalg.norm((found - targets["position"])[:, :2], axis=1).mean()


def test_with_fewer_trps_it_gets_better_without_any_position(run):
    model = saving.load_model(run)
    fewer, all_trps = make_inputs(7, num_trps=3), make_inputs(7)
    before = mean_error(model, *fewer), mean_error(model, *all_trps)
    plan = SelfTraining(rounds=1, epochs=8, max_expected_error=5.0)
    seen = []
    test = [all_trps]
    unlabelled, _ = make_inputs(5)
    points = self_train(
        model, [unlabelled], RECIPE, plan, test=test, report=seen.append
    )
    assert mean_error(model, *fewer) < 0.7 * before[0]
    assert mean_error(model, *all_trps) < 1.3 * before[1] < 2.0
    assert seen == points and [point["round"] for point in points] == [0, 1]
    assert points[0]["mae"] == pytest.approx(before[1], rel=1e-4)
    assert points[1]["mae"] == pytest.approx(mean_error(model, *all_trps), rel=1e-4)
    assert all(point["samples"] == 300 for point in points)
    assert all(0 < point["sure"] <= 300 for point in points)


class Scripted:
    """What `self_train` needs of a model that is sure of every other sample.

    Its density is a Gaussian, of 0.1 m here and 50 m there, around the first TRP.
    """

    def __init__(self, model):
        self.model, self.taught, self.remembered = model, [], []

    def predict_on_batch(self, inputs):
        position = inputs["trp_position"].to_tensor()[:, 0].numpy()
        deviation = np.where(position[:, 0] % 2 == 0, 0.1, 50.0)
        covariance = deviation[:, None, None] ** 2 * np.eye(3)
        return {"position": position, "covariance": covariance}

    def fit(self, dataset, **options):
        self.taught.append([(x, y["position"].numpy()) for x, y in dataset])

    def remember(self, dataset):
        self.remembered += [y["position"].numpy() for _, y in dataset]

    def __getattr__(self, name):
        return getattr(self.model, name)


@pytest.mark.parametrize("is_one_place", [True, False])
def test_it_learns_from_draws_of_what_it_is_sure_of(run, is_one_place):
    model = Scripted(saving.load_model(run))
    unlabelled, _ = make_inputs(5)
    first = np.arange(300, dtype="f")[:, None, None] * np.ones([4, 3], "f")
    unlabelled["trp_position"] = tf.RaggedTensor.from_tensor(first, ragged_rank=1)
    plan = SelfTraining(rounds=2, epochs=3)
    points = self_train(model, [unlabelled], RECIPE, plan, is_one_place=is_one_place)
    assert [point["sure"] for point in points] == [150] * 3
    # Of a Gaussian around its mean: Rayleigh.
    expected = np.sqrt(np.pi / 2) * (0.1 + 50) / 2
    assert points[0]["expected_mae"] == pytest.approx(expected, rel=0.02)
    remembered = np.concatenate(model.remembered) if is_one_place else []
    assert len(remembered) == (300 if is_one_place else 0)
    assert len(model.taught) == 2
    for batches in model.taught:
        trps = [np.array(x["trp_position"].to_list()[0]) for x, _ in batches]
        taught = np.concatenate([place for _, place in batches])
        sample = np.concatenate(
            [x["trp_position"].to_tensor()[:, 0, 0].numpy() for x, _ in batches]
        )
        assert sorted(sample) == sorted([*range(0, 300, 2)] * 3)
        away = taught - sample[:, None]
        assert away.std() == pytest.approx(0.1, rel=0.1)
        assert len(np.unique(away, axis=0)) == len(away)  # another draw in each pass
        assert {len(values) for values in trps} == {3, 4}


def test_without_a_sure_fix_nothing_is_learned(run):
    model = saving.load_model(run)
    plan = SelfTraining(max_expected_error=1e-6)
    message = "sure of none of the 300 samples: its best fix has an expected error of"
    with (
        mock.patch.object(model, "fit") as fit,
        pytest.raises(UserError, match=message),
    ):
        self_train(model, [make_inputs(5)[0]], RECIPE, plan)
    assert not fit.called
    with pytest.raises(UserError, match="There must be a sample"):
        self_train(model, [], RECIPE, plan)


@pytest.mark.parametrize("number", [{"rounds": 0}, {"epochs": 0}])
def test_numbers_are_checked(number):
    with pytest.raises(UserError, match="0"):
        SelfTraining(**number)
    with pytest.raises(UserError, match="max_expected_error=-1"):
        SelfTraining(max_expected_error=-1)


def test_a_model_that_is_never_sure_is_refused(run):
    options = {**VINLOC, "gaussian_head": False}
    region = [[0, 0, 0], [40, 40, 3]]
    cirs = {"num_taps": measured_files.NUM_TAPS, "sampling_rate": measured_files.RATE}
    plain = get_model_class("vinloc").from_preset(region=region, **cirs, **options)
    with pytest.raises(UserError, match="gaussian_head=true"):
        self_train(plain, [make_inputs(5)[0]], RECIPE, SelfTraining())
    fixed = saving.load_model(run)
    fixed.fixed_num_trps = 4
    with pytest.raises(UserError, match="any number of TRPs only"):
        self_train(fixed, [make_inputs(5)[0]], RECIPE, SelfTraining())


def test_a_model_that_has_diverged_is_named(quick_run):
    model = saving.load_model(quick_run)
    model.set_weights([np.nan * w for w in model.get_weights()])
    with pytest.raises(UserError, match="must be finite; it has diverged"):
        self_train(model, [make_inputs(5)[0]], RECIPE, SelfTraining())


def test_a_file_without_positions_is_enough(
    quick_run, site, unlabelled, tmp_path, capsys
):
    run = tmp_path / "run"  # what it was trained on is gone
    shutil.copytree(quick_run, run)
    config = (run / "config.json").read_text()
    assert str(site) in config
    (run / "config.json").write_text(config.replace(str(site), "/gone.npz"))
    (run / "self-training-270").mkdir()
    (run / "self-training-270" / "adaptation.png").touch()  # of results before
    words = f"--run {run} --unlabelled {unlabelled} --rounds 1 --epochs 1 --device cpu"
    words += " --num-samples 270 --max-expected-error 900"
    assert adapt_cli.main(words.split()) == 0
    folder = run / "self-training-270"
    output = capsys.readouterr().out
    assert "round  1: sure of" in output and "of 270 samples" in output
    assert ", mean error" not in output and f"Saved in {folder}" in output
    points = json.loads((folder / "adaptation.json").read_text())["points"]
    assert [point["round"] for point in points] == [0, 1] and "mae" not in points[1]
    with open(folder / "adaptation.csv") as file:
        assert [row["round"] for row in csv.DictReader(file)] == ["0", "1"]
    assert not (folder / "adaptation.png").exists()
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "python -m sionna_loc.adapt " + " ".join(words.split())
    assert config["adapted_from"].startswith("python -m sionna_loc.train ")
    # The folder is used as a run's, also from elsewhere.
    moved = shutil.move(folder, tmp_path / "adapted")
    found = {}
    for name, used in {"before": run, "after": moved}.items():
        output = tmp_path / f"{name}.npz"
        words = f"--run {used} --input {unlabelled} --output {output} --device cpu"
        assert predict.main(words.split()) == 0
        found[name] = np.load(output)["position"]
    assert np.abs(found["after"] - found["before"]).max() > 1e-3


def test_positions_are_for_testing_only(quick_run, site, tmp_path, capsys):
    truth, estimate = np.zeros((9, 3)), np.ones((9, 3))
    points = [
        {"round": number, "samples": 40, "sure": 7, "expected_mae": 1.0}
        | position_metrics(truth, estimate / (1 + number))
        for number in (0, 1)
    ]

    def learn(model, samples, recipe, plan, *, is_one_place, test, seed, report):
        assert is_one_place and seed == 3
        assert plan == SelfTraining(2, 5, 0.5)
        samples = list(samples)
        assert sum(len(inputs["cir"].to_list()) for inputs in samples) == 40
        assert all("position" not in inputs for inputs in samples)
        assert sum(len(targets["position"]) for _, targets in test) == 9
        for point in points:
            report(point)
        return points

    words = f"--run {quick_run} --measurements {site} --num-samples 40 --self-training "
    words += "--num-test 9 --rounds 2 --epochs 5 --max-expected-error 0.5 --seed 3 "
    words += f"--output {tmp_path} --device cpu"
    with mock.patch("sionna_loc.self_training.self_train", learn):
        assert adapt_cli.main(words.split()) == 0
    output = capsys.readouterr().out
    assert "round  1: sure of 7 of 40 samples" in output and "after 1" in output
    assert "expected mean error 1.00 m, mean error 0.71 m" in output
    assert (tmp_path / "adaptation.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--self-training"], "--num-samples N"),
        (["--num-samples", 5, "--rounds", 2], "--rounds is for --self-training"),
        (
            ["--num-samples", 5, "--max-expected-error", 1],
            "--max-expected-error is for --self-training",
        ),
        (["--unlabelled", "x.npz", "--rounds", 0], "rounds=0"),
        (
            ["--unlabelled", "x.npz", "--max-expected-error", 0],
            "max_expected_error=0.0",
        ),
    ],
)
def test_mistakes_are_one_clear_line(command_line, tmp_path, words, message):
    code, lines = command_line(adapt_cli, "--run", tmp_path, *words)
    assert code == 2 and len(lines) == 1 and message in lines[0]


def test_a_missing_file_is_one_clear_line(command_line, quick_run, tmp_path):
    words = [
        "--run",
        quick_run,
        "--unlabelled",
        tmp_path / "none.npz",
        "--device",
        "cpu",
    ]
    code, lines = command_line(adapt_cli, *words)
    assert code == 2 and "none.npz" in lines[-1]
    assert not list(quick_run.glob("self-training-*"))
