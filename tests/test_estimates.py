"""`--estimate`: what of its density a model answers with after training."""

import json
import shlex

import measured_files
import numpy as np
import pytest
from tiny_runs import BACKPROJECTION, trained

from sionna_loc import evaluate, predict, saving, train
from sionna_loc.calibration import promise
from sionna_loc.checks import UserError
from sionna_loc.layers.mixture import PositionMixture

ESTIMATES = ("mean", "median", "mode")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return measured_files.write(tmp_path_factory.mktemp("site") / "site.npz")


@pytest.fixture(scope="module")
def run(tmp_path_factory, site):
    """A run that answers with the mean."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return trained(folder, "backprojection", BACKPROJECTION, f"--measurements {site}")


def errors_of(position):
    truth = measured_files.make_fields()["ue_position"]
    return np.linalg.norm((position - truth)[:, :2], axis=1)


def test_positions_are_that_estimate_of_the_density(run, site, tmp_path):
    positions = {}
    for estimate in (None, *ESTIMATES):
        output = tmp_path / f"{estimate}.npz"
        words = ["--run", run, "--input", site, "--output", output, "--device", "cpu"]
        words += [] if estimate is None else ["--estimate", estimate]
        assert predict.main([*map(str, words)]) == 0
        positions[estimate] = np.load(output)["position"]
    fields = measured_files.make_fields()
    cir = np.stack([fields["cir"].real, fields["cir"].imag], axis=-1)
    inputs = {"cir": cir, "trp_position": fields["trp_position"]}
    density = PositionMixture.from_map(saving.load_model(run)(inputs)["map"])
    expected = {
        "mean": density.center(), "median": density.median(), "mode": density.mode(),
    }  # fmt: skip
    for estimate in ESTIMATES:
        np.testing.assert_allclose(
            positions[estimate], expected[estimate], rtol=1e-3, atol=1e-2
        )
    np.testing.assert_array_equal(positions[None], positions["mean"])
    assert np.abs(positions["mode"] - positions["median"]).max() > 0.1


def test_how_sure_the_model_is_stands_beside(run, site, tmp_path, command_line):
    output = tmp_path / "positions.npz"
    words = ["--run", run, "--input", site, "--output", output, "--device", "cpu"]
    predict.main([*map(str, words), "--maps", "--estimate", "mode"])
    stored = dict(np.load(output))
    number = len(stored["position"])
    assert stored["map"].shape[::2] == (number, 8)
    outputs = {name: stored[name] for name in ("position", "map")}
    expected = promise(outputs, np.random.default_rng(0))
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(stored[name], values, rtol=0.1)
    assert np.all(np.diff(stored["credible_radius"], axis=1) > 0)
    covariance = PositionMixture.from_map(stored["map"]).covariance()
    np.testing.assert_allclose(stored["covariance"], covariance, rtol=1e-3, atol=1e-2)
    predict.main([*map(str, words)])
    assert "map" not in np.load(output)


def test_errors_are_of_that_estimate_and_beside_the_runs_own(run, site, tmp_path):
    before = (run / saving.METRICS).read_text()
    words = ["--run", run, "--test-measurements", site, "--device", "cpu"]
    found = {}
    for estimate, name in (
        (None, saving.MEASURED_EVALUATION),
        ("mode", "evaluations/given_measurements-estimate=mode.json"),
    ):
        option = [] if estimate is None else ["--estimate", estimate]
        assert evaluate.main([*map(str, [*words, *option])]) == 0
        found[estimate] = json.loads((run / name).read_text())["num_trps"]["4"]
        output = tmp_path / "positions.npz"
        command = ["--run", run, "--input", site, "--output", output, *option]
        predict.main([*map(str, command)])
        errors = errors_of(np.load(output)["position"])
        expected = np.sqrt(np.mean(errors**2))
        assert found[estimate]["rmse"] == pytest.approx(expected, rel=1e-4)
    assert found["mode"]["rmse"] != found[None]["rmse"]
    # The density is the same, and what it promises.
    assert found["mode"]["coverage_90"] == found[None]["coverage_90"]
    assert (run / saving.METRICS).read_text() == before


def test_a_test_set_of_the_runs_own_with_another_estimate(run):
    words = ["--run", str(run), "--device", "cpu", "--num-trps", "4"]
    assert evaluate.main([*words, "--estimate", "median"]) == 0
    assert (run / "evaluations" / "measured-estimate=median.json").exists()
    assert not (run / saving.EVALUATION).exists()


def test_a_model_keeps_what_it_is_told(run, tmp_path):
    model = saving.load_model(run)
    model.answer_with("mode")
    saving.save_model(model, tmp_path / "model.keras")
    assert saving.load_model(tmp_path / "model.keras").estimate == "mode"
    with pytest.raises(UserError, match="Unknown estimate 'best'"):
        model.answer_with("best")


def test_mistakes_are_one_line(run, site, tmp_path, command_line):
    words = ["--run", run, "--estimate", "avarage"]
    code, (line,) = command_line(evaluate, *words, "--device", "cpu")
    assert code == 2 and "Known: mean, median, mode" in line
    output = tmp_path / "positions.npz"
    code, (line,) = command_line(predict, *words, "--input", site, "--output", output)
    assert code == 2 and "Known: mean, median, mode" in line and not output.exists()
    folder = tmp_path / "run"
    command = f"--measurements {site} --run-dir {folder} --steps 1 --quiet "
    train.main(shlex.split(command + "--model mlp --device cpu"))
    words = ["--run", folder, "--estimate", "median", "--device", "cpu"]
    code, (line,) = command_line(evaluate, *words)
    assert code == 2 and "has one estimate only" in line
    words = ["--run", folder, "--input", site, "--output", output, "--maps"]
    code, (line,) = command_line(predict, *words)
    assert code == 2 and "--maps is for models" in line and not output.exists()
