"""`combine`: what several trained models believe together."""

import json
import shlex
import shutil
from unittest import mock

import measured_files
import numpy as np
import pytest
from tiny_runs import BACKPROJECTION, VINLOC, trained

from sionna_loc import combine, evaluate, predict, saving
from sionna_loc.checks import UserError
from sionna_loc.layers.mixture import PositionMixture
from sionna_loc.models.product_of_experts import ProductOfExperts

PLACES = np.random.default_rng(0).uniform([0, 0, 1], [40, 40, 2], (40, 3)).astype("f")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return measured_files.write(tmp_path_factory.mktemp("site") / "site.npz")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, site):
    folder = tmp_path_factory.mktemp("runs")
    samples = f"--measurements {site}"
    return [
        trained(folder / "vinloc", "vinloc", VINLOC, samples),
        trained(folder / "map", "backprojection", BACKPROJECTION, samples),
    ]


def command_of(runs, folder, extra=""):
    folders = shlex.join(map(str, runs))
    return shlex.split(f"--runs {folders} --run-dir {folder} --device cpu {extra}")


@pytest.fixture(scope="module")
def both(tmp_path_factory, runs):
    """The combination of both, whose folders are gone."""
    folder = tmp_path_factory.mktemp("both")
    moved = [shutil.copytree(run, folder / run.name) for run in runs]
    assert combine.main(command_of(moved, folder / "both", "--quiet")) == 0
    for run in moved:
        shutil.rmtree(run)
    return folder / "both"


def inputs():
    return measured_files.inputs_of(measured_files.make_fields())


def log_density(outputs, place):
    """Of one place for all samples."""
    belief = (
        PositionMixture.from_map(outputs["map"])
        if "map" in outputs
        else PositionMixture.gaussian(outputs["position"], outputs["covariance"])
    )
    rows = len(outputs["position"])
    return np.asarray(belief.log_density(np.tile(place, (rows, 1))))


def test_the_density_is_the_product_of_the_experts(runs, both):
    """Up to a constant; the Gaussian one as far as it is to be trusted."""
    model = saving.load_model(both)
    assert isinstance(model, ProductOfExperts) and not model.is_trainable
    outputs = model(inputs())
    gaussian, map_like = (saving.load_model(run)(inputs()) for run in runs)
    scales = np.exp(model.pool.log_scale[0])[[0, 0, 1]]
    covariance = np.asarray(gaussian["covariance"]) * np.outer(scales, scales)
    weights = np.exp(model.pool.tail_logits[0])
    tails = [
        (weight, {**gaussian, "covariance": (covariance * x**2).astype("f")})
        for x, weight in zip((1, 3, 10, 100), weights, strict=True)
    ]
    map_like = {**map_like, "map": np.array(map_like["map"])}
    map_like["map"][..., 0] /= np.exp(model.pool.log_temperature[1])

    def expected(place):
        heavy = sum(weight * np.exp(log_density(x, place)) for weight, x in tails)
        return np.log(heavy) + log_density(map_like, place)

    differences = [log_density(outputs, place) - expected(place) for place in PLACES]
    np.testing.assert_allclose(
        differences - differences[0], np.zeros_like(differences), atol=0.02
    )


def test_how_far_to_trust_is_learned_from_samples(both):
    """An expert that says that it is far surer than it is."""
    model = saving.load_model(both)
    position = measured_files.make_fields()["ue_position"].astype("f")

    def log_likelihood():
        belief = PositionMixture.from_map(model.predict_on_batch(inputs())["map"])
        return np.mean(belief.log_density(position))

    learned = log_likelihood()
    model.pool.log_scale.assign([[-3, -3], [0, 0]])
    before = log_likelihood()
    assert before < learned
    model.calibrate([(inputs(), {"position": position})])
    assert log_likelihood() > before + 0.5 * (learned - before)


def test_the_order_of_the_experts_does_not_matter(runs):
    experts = [saving.load_model(run) for run in runs]
    numbers = {
        name: experts[0].get_config()[name]
        for name in ("region", "num_taps", "sampling_rate")
    }
    found = [
        ProductOfExperts(**numbers, experts=order)(inputs())["position"]
        for order in (experts, experts[::-1])
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_the_run_is_one_as_any_other(site, both, tmp_path):
    metrics = saving.read_run(both, saving.METRICS)
    assert {"rmse", "coverage_90", "radius_coverage_90"} <= set(metrics)
    assert (both / "figures").is_dir()
    record = saving.read_run(both)
    assert record["command"].startswith("python -m sionna_loc.combine --runs ")
    assert evaluate.main(["--run", str(both), "--device", "cpu"]) == 0
    output = tmp_path / "positions.npz"
    words = ["--run", both, "--input", site, "--output", output, "--device", "cpu"]
    assert predict.main([*map(str, words), "--estimate", "mode"]) == 0
    outputs = saving.load_model(both)(inputs())
    expected = PositionMixture.from_map(outputs["map"]).mode()
    found = np.load(output)
    np.testing.assert_allclose(found["position"], expected, atol=1e-2)
    assert found["covariance"].shape == (len(found["position"]), 3, 3)


def test_the_estimate_asked_for_is_the_one_saved(runs, tmp_path):
    folder = tmp_path / "both"
    combine.main(command_of(runs, folder, "--quiet --estimate median"))
    assert saving.load_model(folder).estimate == "median"


def test_of_an_adapted_model_it_is_said_where_it_is_judged(runs, tmp_path, capsys):
    adapted = tmp_path / "adapted"
    shutil.copytree(runs[0], adapted)
    record = {**saving.read_run(adapted), "adapted_from": "train"}
    saving.write_json(adapted / saving.CONFIG, record)
    with mock.patch("sionna_loc.training.fit", side_effect=UserError("stopped")):
        for first, says in ((runs[0], False), (adapted, True)):
            with pytest.raises(UserError, match="stopped"):
                combine.main(command_of([first, runs[1]], tmp_path / "both"))
            output = capsys.readouterr().out
            assert (f"{first} holds an adapted model" in output) == says


def test_without_weights_it_is_rebuilt_from_its_arguments(both):
    model = saving.load_model(both)
    config = json.loads(json.dumps(model.get_config()))
    again = ProductOfExperts.from_config(config)
    for weight, known in zip(again.weights, model.weights, strict=True):
        assert weight.shape == known.shape
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(
        again(inputs())["position"], model(inputs())["position"], rtol=1e-5
    )


def test_what_does_not_fit_is_one_line(runs, site, tmp_path, command_line):
    folder = tmp_path / "both"

    def refused(*folders, **options):
        code, (line,) = command_line(
            combine, *command_of(folders, options.get("to", folder))
        )
        assert code == 2 and not folder.exists()
        return line

    assert "two or more different folders" in refused(runs[0])
    assert "two or more different folders" in refused(runs[0], runs[0])
    assert "would replace one of the runs" in refused(*runs, to=runs[0])
    assert "holds no run" in refused(runs[0], tmp_path)
    samples = f"--measurements {site}"
    point = {**VINLOC, "gaussian_head": False}
    point = trained(tmp_path / "point", "vinloc", point, samples)
    line = refused(runs[1], point)
    assert "must give a density" in line and "'vinloc'" in line
    links = trained(tmp_path / "links", "mlp", {}, samples)
    assert "Samples must be alike" in refused(runs[0], links)
    unfinished = shutil.copytree(runs[0], tmp_path / "unfinished")
    (unfinished / saving.MODEL).unlink()
    assert "There is no model" in refused(runs[1], unfinished)


def test_experts_of_another_region_are_refused(runs):
    experts = [saving.load_model(run) for run in runs]
    config = experts[0].get_config()
    region = np.asarray(config["region"]) + 1
    with pytest.raises(UserError, match="for the same `region`"):
        ProductOfExperts(region, config["num_taps"], config["sampling_rate"],
                         experts=experts)  # fmt: skip
