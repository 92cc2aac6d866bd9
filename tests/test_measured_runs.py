"""Training, evaluation, adaptation and prediction on files of measurements."""

import csv
import dataclasses
import json

import measured_files
import numpy as np
import pytest
import tiny_vinloc

from sionna_loc import adapt, evaluate, predict, recipes, train
from sionna_loc.checks import UserError
from sionna_loc.data.array_files import write_fields
from sionna_loc.recipes import RECIPES

TINY = [
    word
    for name, value in {**tiny_vinloc.SIZES, "refiner_spacings": []}.items()
    for word in ("--model-option", f"{name}={value}")
]


def arguments(*words):
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def site(folder):
    return measured_files.write(folder / "site.npz", num_places=40)


@pytest.fixture(scope="module")
def link_run(folder, site):
    run_dir = folder / "links"
    words = ["--measurements", site, "--model", "hyploc_set", "--epochs", 40]
    train.main(arguments(*words, "--run-dir", run_dir, "--quiet"))
    return run_dir


@pytest.fixture(scope="module")
def cir_run(folder, site):
    run_dir = folder / "cirs"
    words = ["--measurements", site, "--steps", 4, "--batch-size", 8, *TINY]
    train.main(arguments(*words, "--run-dir", run_dir, "--quiet"))
    return run_dir


def metrics(run_dir, name="metrics.json"):
    return json.loads((run_dir / name).read_text())


def test_a_model_on_links_learns(link_run):
    found = metrics(link_run)
    assert found["rmse"] < 4  # the UEs are spread over 30 m
    # The baseline takes the file's CIRs, of which line of sight is all there is.
    assert found["baselines"]["multilateration"]["rmse"] < 0.1
    config = json.loads((link_run / "config.json").read_text())
    assert config["config"]["scenario"] == "measured"
    assert config["features"] == {"measured": True, "power": True, "aoa": True}


def test_many_steps_in_a_call_take_samples_of_other_numbers_of_trps(
    folder, monkeypatch
):
    fields = measured_files.make_fields(with_cir=False)
    mask = np.random.default_rng(0).random(fields["range"].shape) < 0.6
    mask[:, :2] = True
    assert set(mask.sum(axis=1)) == {2, 3, 4}
    site = folder / "masked.npz"
    write_fields(site, fields | {"trp_mask": mask})
    words = ["--measurements", site, "--model", "hyploc_set", "--steps", 200]
    words += ["--batch-size", 4, "--quiet", "--run-dir"]
    losses = []
    for most in (20, 1):
        recipe = dataclasses.replace(RECIPES["hyploc"], steps_per_execution=most)
        monkeypatch.setitem(recipes.RECIPES, "hyploc", recipe)
        run_dir = folder / f"masked-{most}"
        train.main(arguments(*words, run_dir))
        with open(run_dir / "history.csv", newline="") as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0][-1] < losses[0][0] / 5


def test_cirs_are_trained_on_with_the_baseline(cir_run):
    found = metrics(cir_run)
    assert np.isfinite(found["rmse"])
    assert "multilateration" in found["baselines"]
    record = json.loads((cir_run / "config.json").read_text())
    assert record["features"]["num_taps"] == measured_files.NUM_TAPS
    assert (cir_run / "figures" / "error_map.png").exists()


@pytest.mark.parametrize("kind", ["link_run", "cir_run"])
def test_predictions_are_those_of_the_evaluation(kind, request, folder, site):
    run_dir = request.getfixturevalue(kind)
    output = folder / f"{kind}.npz"
    predict.main(arguments("--run", run_dir, "--input", site, "--output", output))
    position = np.load(output)["position"]
    truth = measured_files.make_fields(num_places=40)["ue_position"]
    assert position.shape == truth.shape
    evaluate.main(arguments("--run", run_dir, "--test-measurements", site))
    found = metrics(run_dir, "evaluation-measured.json")["num_trps"]["4"]
    errors = np.linalg.norm((position - truth)[:, :2], axis=1)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert found["num_samples"] == len(truth)


def test_evaluation_of_the_run_itself_is_its_test_set(link_run, capsys):
    evaluate.main(arguments("--run", link_run, "--num-trps", "4,2"))
    found = metrics(link_run, "evaluation.json")["num_trps"]
    assert found["4"]["rmse"] == pytest.approx(metrics(link_run)["rmse"], rel=1e-4)
    assert found["2"]["rmse"] > found["4"]["rmse"]


def test_what_a_run_was_tested_with_is_tested_with_again(folder, site):
    run_dir = folder / "shares"
    words = ["--measurements", site, "--model", "mlp", "--steps", 1, "--quiet"]
    words += ["--scenario-option", "test_share=0.3", "--run-dir", run_dir]
    train.main(arguments(*words))
    evaluate.main(arguments("--run", run_dir, "--measurements", site))
    found = metrics(run_dir, "evaluation-measured.json")["num_trps"]["4"]
    assert found["rmse"] == pytest.approx(metrics(run_dir)["rmse"], rel=1e-4)
    assert found["num_samples"] == metrics(run_dir)["num_samples"] > 30


def test_a_model_adapts_to_another_site(link_run, folder):
    moved = measured_files.make_fields(num_places=40, seed=5)
    moved["range"] = moved["range"] + 3.0  # every range is 3 m too long
    write_fields(folder / "moved.npz", moved)
    words = ["--run", link_run, "--measurements", folder / "moved.npz"]
    words += ["--num-samples", 60, "--epochs", 40, "--output", folder / "adapted"]
    adapt.main(arguments(*words))
    points = metrics(folder / "adapted", "adaptation.json")["points"]
    assert points[-1]["mae"] < 0.7 * points[0]["mae"]
    assert (folder / "adapted" / "model.keras").exists()


MISTAKES = {
    "another scenario": (
        train,
        "--measurements {site} --scenario madrid --model mlp --run-dir {new}",
        "Either --scenario or --measurements. Received: scenario='madrid'",
    ),
    "both sources": (
        train,
        "--measurements {site} --data-dir {new} --model mlp --run-dir {new}",
        "from measurements or from a prepared set, not from both",
    ),
    "absent": (
        train,
        "--measurements {new}.npz --model mlp --run-dir {new}",
        "The input file must exist",
    ),
    "option": (
        train,
        "--measurements {site} --scenario-option mutee=1 --model mlp --run-dir {new}",
        "Unknown option of measured 'mutee'. Did you mean 'mute'?",
    ),
    "option that cannot be": (
        train,
        "--measurements {site} --scenario-option mute=1 --model mlp --run-dir {new}",
        "`mute` must be below 1.",
    ),
    "only links": (
        train,
        "--measurements {links} --run-dir {new}",
        "the model takes CIRs (`cir`), the file holds link measurements",
    ),
    "no file": (
        train,
        "--scenario measured --model mlp --run-dir {new}",
        "There must be a file of measurements: --measurements FILE.",
    ),
    "no powers": (
        evaluate,
        "--run {link_run} --test-measurements {ranges}",
        "`power` must be there, as among the model's links",
    ),
    "emphasis": (
        train,
        "--measurements {site} --model mlp --emphasis 2 --run-dir {new}",
        "`emphasis` needs ever new samples; measured has a training set of fixed size",
    ),
    "augmentation": (
        train,
        "--measurements {site} --model mlp --augment rotate --run-dir {new}",
        "measured samples take --scenario-option augment=true. Received: augment='rot",
    ),
    "augmentation in vain": (
        train,
        "--measurements {site} --model pdp_transformer --scenario-option augment=true "
        "--run-dir {new}",
        "pdp_transformer, as asked for, learns one place, which turned samples contra",
    ),
    "constellation": (
        adapt,
        "--run {link_run} --measurements {site} --constellation 3 --num-samples 9",
        "Either --constellation or --measurements.",
    ),
    "only tests": (
        train,
        "--test-measurements {site} --model mlp --steps 1 --run-dir {new}",
        "No measured sample is for the train set",
    ),
    "other taps": (
        evaluate,
        "--run {cir_run} --test-measurements {short}",
        "must have the model's 1 antenna(s) x 32 taps. Received: num_ant=1, num_taps=9",
    ),
    "to adapt to": (
        adapt,
        "--run {link_run} --measurements {site} --num-samples 9999",
        "The train set has",
    ),
    "scenario to adapt to": (
        adapt,
        "--run {link_run} --measurements {site} --scenario madrid --num-samples 9",
        "Either --scenario or --measurements.",
    ),
    "links to predict": (
        predict,
        "--run {cir_run} --input {links} --output {new}.npz",
        "the model takes CIRs (`cir`), the file holds link measurements",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_is_one_line(name, folder, site, link_run, cir_run):
    links = measured_files.write(folder / "links.npz", with_cir=False)
    fields = measured_files.make_fields(with_links=False)
    ranges = {k: v for k, v in measured_files.make_fields().items() if k != "power"}
    write_fields(folder / "ranges.npz", ranges)
    write_fields(folder / "short.npz", {**fields, "cir": fields["cir"][..., :9]})
    module, text, message = MISTAKES[name]
    words = text.format(
        site=site,
        links=links,
        short=folder / "short.npz",
        ranges=folder / "ranges.npz",
        new=folder / "new",
        link_run=link_run,
        cir_run=cir_run,
    )
    with pytest.raises(UserError) as caught:
        module.main(words.split())
    assert message in str(caught.value)
    assert not (folder / "new").exists()
