import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sionna_loc.assembly import make_model, make_scenario
from sionna_loc.experiments import paper_table, table4
from sionna_loc.experiments.trials import train_command
from sionna_loc.train import build_parser


def test_rows_are_the_scenarios_with_the_papers_numbers():
    trials = {(t.row, t.slug): t for t in table4.make_trials("quick")}
    assert list(trials) == [
        (row, slug)
        for row in ("paris_scn1", "paris_scn2")
        for slug in ("vinloc", "multilateration")
    ]
    papers = {row: trials[row, "vinloc"].paper for row in table4.ROWS}
    assert papers["paris_scn1"] == {"rmse": 0.93, "mae": 0.9, "p90": 1.5}
    assert papers["paris_scn2"] == {"rmse": 7.3, "mae": 6.1, "p90": 11.0}
    assert all(trial.config.scenario == row for (row, _), trial in trials.items())
    minutes = {row: trials[row, "vinloc"].config.max_minutes for row in table4.ROWS}
    assert minutes["paris_scn1"] < minutes["paris_scn2"]  # which learns more slowly
    assert 10 < sum(minutes.values()) < 14  # of 20; the rest is tracing and evaluation


def test_the_full_budget_takes_away_one_thing_at_a_time_from_scenario_2():
    trials = table4.make_trials("full")
    assert [trial.row for trial in trials] == ["paris_scn1"] * 2 + ["paris_scn2"] * 6
    changed = {
        trial.slug: {**trial.config.model_options, **trial.config.scenario_options}
        for trial in trials
        if trial.row == "paris_scn2"
    }
    assert changed == {
        "vinloc": {},
        "multilateration": {},
        "not-synchronised": {"synchronised": False},
        "raw-antennas": {"aoa_tof": False},
        "one-antenna": {"ue_antennas": [1, 1]},
        "no-positions": {"use_trp_positions": False},
    }
    for trial in trials:
        assert len(trial.seeds) == (1 if trial.slug == "multilateration" else 3)
        command = train_command(trial.config, trial.run_dir(Path("out"), 0))
        arguments = build_parser().parse_args(shlex.split(command)[3:])
        assert arguments.scenario == trial.row


def test_what_is_taken_away_is_gone():
    trials = {t.slug: t for t in table4.make_trials("full", small=True)[2:]}
    found = {}
    for slug, trial in trials.items():
        scenario = make_scenario(trial.config)
        model = make_model(trial.config.resolved(None, 64), scenario)
        features = (scenario.synchronised, model.num_ant)
        if slug != "multilateration":
            features += (model.to_beams is not None, model.use_trp_positions)
        found[slug] = features
    assert found == {
        "vinloc": (True, 8, True, True),
        "not-synchronised": (False, 8, True, True),
        "raw-antennas": (True, 8, False, True),
        "one-antenna": (True, 1, False, True),
        "no-positions": (True, 8, True, False),
        "multilateration": (True, 8),
    }


def test_tables_are_put_together(tmp_path, monkeypatch):
    asked = {}

    def write_conditions(path, runs, conditions, count, **options):
        asked.update(path=path, runs=runs, count=count)
        return []

    def run_trials(trials, output, **options):
        yield []

    monkeypatch.setattr(paper_table, "metric_comparison", lambda *arguments: None)
    monkeypatch.setattr(paper_table, "save_figure", lambda *arguments: None)
    monkeypatch.setattr(paper_table, "run_trials", run_trials)
    monkeypatch.setattr(table4, "write_conditions", write_conditions)
    text = table4.run("quick", tmp_path / "new", quiet=True)
    assert text.startswith("Position errors [m]\n")
    assert "Scenario 2 with fewer TRPs, 250 test samples" in text
    assert json.loads((tmp_path / "new/results.json").read_text()) == []
    assert asked["path"] == tmp_path / "new/num_trps" and asked["count"] == 250
    assert asked["runs"] == {
        label: tmp_path / f"new/runs/paris_scn2-{slug}-s0"
        for label, slug in (
            ("VIn-Loc", "vinloc"),
            ("multilateration", "multilateration"),
        )
    }


@pytest.mark.slow
def test_the_whole_table_at_its_smallest(tmp_path, cache_folder):
    command = [sys.executable, "-m", "sionna_loc.reproduce", "table4", "--small"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path), "--device", "cpu"],
        env={**os.environ, "SIONNA_LOC_CACHE": str(cache_folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(r["row"], r["label"]) for r in results] == [
        (row, label) for row in table4.ROWS for label in ("VIn-Loc", "multilateration")
    ]
    assert all(np.isfinite(result["ours"]["rmse"]) for result in results)
    lines = json.loads((tmp_path / "num_trps.json").read_text())
    assert [line["num_trps"] for line in lines] == [64, 64, 32, 32, 16, 16, 8, 8]
