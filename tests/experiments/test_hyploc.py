import csv
import json
import os
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
from hyploc_results import make_result

from sionna_loc import reproduce, saving
from sionna_loc.checks import UserError
from sionna_loc.experiments import hyploc, hyploc_adaptation, hyploc_map, reports
from sionna_loc.registry import get_scenario
from sionna_loc.scenarios.madrid import NUM_CONSTELLATIONS
from sionna_loc.train import build_parser

FULL, QUICK = hyploc.BUDGETS["full"], hyploc.BUDGETS["quick"]


def test_trials_are_the_papers_models_with_its_training():
    trial = hyploc.make_trial("Single+", [3, 5], FULL)
    config = trial.config
    assert (config.model, config.preset) == ("mlp", "mlp_plus")
    assert config.scenario_options == {"constellations": [3, 5]}
    assert config.epochs == 30 and trial.seeds == (0, 1, 2)
    command = shlex.split(make_result(trial, [1, 2, 3])["command"])
    arguments = build_parser().parse_args(command[3:])
    assert arguments.epochs == 30 and arguments.preset == "mlp_plus"
    assert dict(arguments.scenario_options) == config.scenario_options
    with pytest.raises(UserError, match="Unknown budget 'huge'"):
        hyploc.get_budget("huge")


def test_seeds_and_counts_can_be_named(tmp_path, monkeypatch):
    asked = []

    def run_all(trials, *rest):
        asked.extend(trials)
        return {(t.label, t.row): make_result(t, [2.0] * len(t.seeds)) for t in trials}

    monkeypatch.setattr(hyploc, "run_all", run_all)
    words = ["hyploc_fig5", "--budget", "full", "--seeds", "4,1", "--counts"]
    assert reproduce.main([*words, "3", "--output", str(tmp_path)]) == 0
    assert {trial.row for trial in asked if trial.label == "HypLoc"} == {"0-1-2"}
    assert reproduce.main([*words, "3,1", "--output", str(tmp_path)]) == 0
    joint = {trial.row for trial in asked if trial.label == "HypLoc"}
    assert joint == {"0", "0-1-2"}
    assert all(list(trial.seeds) == [4, 1] for trial in asked)
    found = json.loads((tmp_path / "fig5.json").read_text())
    assert [r["constellations"] for r in found] == [1] * 5 + [3] * 5
    assert hyploc.get_budget("full", seeds=[4, 1]).words[2:] == ["--seeds", "4,1"]
    assert hyploc.get_budget("full", seeds=[0, 1, 2]).words == ["--budget", "full"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hyploc_fig5", "--seeds", "1,1"], "--seeds must be different whole numbers"),
        (["hyploc_fig4", "--seeds", "-1"], "from 0 on. Received: seeds=.-1."),
        (["hyploc_fig5", "--counts", "0,1"], "--counts must be different whole numb"),
        (["hyploc_fig5", "--counts", "21"], "There are 20 constellations"),
        (["hyploc_fig4", "--counts", "1"], "hyploc_fig4 has no --counts"),
        (["vinloc_fig7", "--seeds", "1"], "vinloc_fig7 has no --seeds"),
    ],
)
def test_impossible_seeds_and_counts_are_named(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        reproduce.main([*words, "--output", str(tmp_path)])


def test_fig5_takes_individual_models_together():
    means = {
        ("HypLoc", "0"): [2.0],
        ("HypLoc", "0-1"): [3.0],
        ("Single", "0"): [4.0],
        ("Single", "1"): [8.0],
        ("Single", "0-1"): [9.0],
        ("Single+", "0"): [3.0],
        ("Single+", "1"): [5.0],
        ("Single+", "0-1"): [5.0],
    }
    results = {
        (label, row): make_result(
            hyploc.make_trial(label, map(int, row.split("-")), QUICK), values
        )
        for (label, row), values in means.items()
    }
    records = hyploc.fig5_records(results, (1, 2))
    found = {(r["constellations"], r["label"]): r for r in records}
    assert found[2, "Individual"]["mean"] == 6.0
    assert found[2, "Individual+"]["mean"] == 4.0
    assert found[2, "Single"]["mean"] == 9.0
    assert found[2, "HypLoc"]["normalised"] == 0.5
    assert found[1, "Individual"]["mean"] == found[1, "Single"]["mean"] == 4.0
    assert found[1, "Individual"]["normalised"] == 1.0
    listed = {(r["row"], r["label"]): r for r in hyploc._fig5_results(results, (1, 2))}
    assert len(listed) == 2 * 5
    both = listed["fig5:2", "Individual"]
    assert both["ours"]["mean"] == 6.0 and both["ours"]["rmse"] == 12.0
    assert both["model"] == "mlp" and both["seeds"] == [0]
    assert listed["fig5:2", "HypLoc"]["ours"]["mean"] == 3.0


def test_fig4_shows_ours_beside_the_papers(tmp_path, monkeypatch):
    means = {"HypLoc": [2.5, 3.5], "Single": [4.0, 5.0], "Single+": [3.0, 3.2]}
    results = {
        (label, "0"): make_result(hyploc.make_trial(label, [0], FULL), values)
        for label, values in means.items()
    }
    evaluation = types.SimpleNamespace(
        errors=np.array([1.0, 2.0]), metrics={"rmse": 1.6, "p50": 1.5, "p90": 1.9}
    )
    monkeypatch.setattr(hyploc, "run_all", lambda *arguments: results)
    monkeypatch.setattr(hyploc, "evaluate_run", lambda run_dir: evaluation)
    text = hyploc.run_fig4("full", tmp_path, quiet=True)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    expected = "2.81 3.00 [2.70, 3.60] 2.50 3.50 6.00 1.50 9.00"
    assert lines["HypLoc"] == expected.split()
    assert lines["Single"][:2] == ["4.42", "4.50"]
    with open(tmp_path / "fig4.csv") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert float(rows["Single+"]["paper_mean"]) == 3.26
    assert float(rows["Single+"]["mean"]) == pytest.approx(3.1)
    assert json.loads((tmp_path / "fig4.json").read_text())[0]["per_seed"] == [2.5, 3.5]
    assert (tmp_path / "fig4.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(r["row"], r["label"]) for r in found] == [("fig4", m) for m in means]
    assert found[0]["paper"] == {"mean": 2.81} and found[0]["model"] == "hyploc"
    assert found[0]["ours"]["mean"] == pytest.approx(3.0)


def points(*errors):
    return [
        {"epoch": epoch, "mae": mae, "rmse": 2 * mae, "intervals": {}}
        for epoch, mae in enumerate(errors)
    ]


def test_fig7_and_fig8_read_the_curves(tmp_path, monkeypatch):
    labels = ["HypLoc", "Single", "Single+", "Individual", "Individual+"]
    runs = [(label, 0, tmp_path / label) for label in labels]
    monkeypatch.setattr(hyploc_adaptation, "_pretrained", lambda *arguments: runs)

    def adapted(run_dir, share, seed, epochs, small):
        number = 1 + labels.index(run_dir.name)
        if share < 1 and epochs:
            return points(100.0, number / share)[1:]
        return points(100.0 * number, 8.0, 4.0 * number)

    monkeypatch.setattr(hyploc_adaptation, "_adapted", adapted)
    options, results = {"device": "cpu", "quiet": True}, tmp_path / "results.json"
    text = hyploc_adaptation.run_fig7("quick", tmp_path, **options)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    assert lines["HypLoc"] == ["140.4", "100.00", "8.00", "4.00"]
    assert lines["Individual+"] == ["218.5", "500.00", "8.00", "20.00"]
    monkeypatch.setattr(
        hyploc_adaptation,
        "_adapted",
        lambda run_dir, share, *rest: points(0.0, 2 / share)[1:],
    )
    text = hyploc_adaptation.run_fig8("quick", tmp_path, **options)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    errors = ["200.00", "100.00", "40.00", "20.00", "8.00", "4.00", "2.00"]
    assert lines["Single+"] == errors
    assert text.splitlines()[1].split()[:4] == ["1", "%", "2", "%"]
    found = {(r["row"], r["label"]): r for r in reports.saving.read_list(results)}
    assert len(found) == 5 * 3 + 5 * 7  # the first figure's are still there
    zero = found["fig7:0", "Individual"]
    assert zero["paper"] == {"mean": 167.4} and zero["model"] == "mlp"
    assert zero["ours"]["mean"] == 400.0 and zero["ours"]["rmse"] == 800.0
    assert found["fig7:2", "HypLoc"]["paper"] == {}
    assert found["fig8:0.05", "HypLoc"]["ours"]["mean"] == 40.0
    words = shlex.split(zero["command"])[3:]
    assert reproduce.build_parser().parse_args(words).experiment == "hyploc_fig7"


def test_the_best_individual_model_is_the_one_that_adapts(tmp_path):
    trials = [hyploc.make_trial("Single", [k], QUICK) for k in range(3)]
    for trial, mae in zip(trials, (3.0, 1.0, 2.0), strict=True):
        folder = trial.run_dir(tmp_path, 0)
        folder.mkdir(parents=True)
        saving.write_json(folder / saving.METRICS, {"mae": mae})
    best = hyploc_adaptation._best(trials, tmp_path, 0)
    assert best == trials[1].run_dir(tmp_path, 0)


def test_the_unseen_constellation_is_unseen():
    known = max(max(budget.counts) for budget in hyploc.BUDGETS.values())
    assert known <= hyploc_adaptation.UNSEEN < NUM_CONSTELLATIONS
    scenario = get_scenario("madrid", small=True, constellations=list(range(known)))
    unseen = get_scenario(
        "madrid", small=True, constellations=hyploc_adaptation.UNSEEN
    ).site_sets(7)[0]
    assert not (scenario.site_sets(7) == unseen).all(axis=1).any()


def test_tables_are_aligned_and_folders_checked(tmp_path):
    text = reports.text_table("Title", [["", "a"], ["long name", "1.5"]])
    assert text.splitlines() == ["Title", "             a", "long name  1.5"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="The results cannot be written"):
        reports.prepare(tmp_path / "file")


def test_coverage_counts_what_the_active_gnbs_hear():
    links = {
        "num_paths": np.array([[2, 0, 1], [0, 0, 8], [0, 0, 0], [1, 1, 1]]),
        "los": np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]], bool),
    }
    first, second = hyploc_map.coverage(links, np.array([[0, 1], [1, 2]]))
    assert first["heard"] == 0.75 and second["heard"] == 1.0
    assert first["none_heard"] == 50.0 and second["none_heard"] == 25.0
    assert first["one_heard"] == 25.0 and second["one_heard"] == 50.0
    assert first["no_line_of_sight"] == second["no_line_of_sight"] == 75.0
    assert second["gnbs"] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["hyploc_fig3", "hyploc_fig4", "hyploc_fig5", "hyploc_fig7", "hyploc_tracks"],
)
def test_whole_figures_at_their_smallest(tmp_path_factory, cache_folder, name):
    folder = tmp_path_factory.getbasetemp() / "hyploc-figures"
    command = [sys.executable, "-m", "sionna_loc.reproduce", name, "--small"]
    done = subprocess.run(
        [*command, "--output", str(folder), "--device", "cpu"],
        env={**os.environ, "SIONNA_LOC_CACHE": str(cache_folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figure = name.removeprefix("hyploc_")
    records = json.loads((folder / f"{figure}.json").read_text())
    names = {"fig3": "heard", "fig7": "mae"}
    values = [record[names.get(figure, "mean")] for record in records]
    assert np.isfinite(values).all() and len(records) >= 3
    assert figure == "fig3" or "HypLoc" in done.stdout
    assert (folder / f"{figure}.png").exists()
