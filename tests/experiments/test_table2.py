import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sionna_loc import reproduce
from sionna_loc.checks import UserError
from sionna_loc.experiments import paper_table, table2, table2_beyond
from sionna_loc.experiments.trials import to_result
from sionna_loc.registry import MODELS
from sionna_loc.train import build_parser

NAMES = [m + kind for kind in ("", "_axis") for m in ("rmse", "mae", "p90")]


def make_results():
    """Results of all trials, told apart by their number."""
    results = []
    for number, trial in enumerate(table2.make_trials("quick"), start=1):
        metrics = {name: number + i / 10 for i, name in enumerate(NAMES)}
        bounds = {name: [0.9 * x, 1.2 * x] for name, x in metrics.items()}
        one = {**metrics, "num_samples": 5, "intervals": bounds}
        results.append(to_result(trial, [one], Path("out")))
    return results


def test_both_rows_have_the_papers_models_with_the_papers_numbers():
    trials = {(t.row, t.slug): t for t in table2.make_trials("full")}
    assert trials["fixed", "resnet"].paper == {"rmse": 0.81, "mae": 0.76, "p90": 1.99}
    variable = trials["variable", "vinloc-no-positions"]
    assert variable.paper == {"rmse": 1.45, "mae": 1.13, "p90": 2.11}
    assert not variable.trp_positions
    assert variable.config.model_options == {"use_trp_positions": False}
    for (row, _), trial in trials.items():
        assert trial.config.num_trps == {"fixed": 18, "variable": 15}[row]
        assert trial.config.model in MODELS
        is_trained = trial.config.max_minutes is not None
        assert len(trial.seeds) == (3 if is_trained else 1)


def test_the_quick_budget_leaves_room_in_twenty_minutes():
    minutes = [t.config.max_minutes or 0 for t in table2.make_trials("quick")]
    assert 5 < sum(minutes) < 12  # the rest is for data, set-up and evaluation


def test_commands_of_the_table_are_understood():
    for result in make_results():
        arguments = build_parser().parse_args(shlex.split(result["command"])[3:])
        assert arguments.scenario == "inf_dh"
        assert arguments.model == result["model"]


def test_table_shows_ours_beside_the_papers():
    results = make_results()
    title, heading, names, *lines = table2.table_text(results).splitlines()
    assert title == "Position errors [m]"
    assert len(lines) == len(results)
    assert len({len(line) for line in (names, *lines)}) == 1
    line = lines[0]
    assert (
        line.split()
        == (
            "fixed ResNet 0.81 0.76 1.99 1.00 [0.90, 1.20] 1.10 [0.99, 1.32] "
            "1.20 [1.08, 1.44] 1.30 1.40 1.50"
        ).split()
    )
    for text, value in (("paper", "0.81"), ("ours, in", "1.00"), ("ours, per", "1.30")):
        assert abs(heading.index(text) - line.index(value)) < 12
    assert lines[-1].split()[:5] == ["variable", "multilateration", "-", "-", "-"]


def test_files_are_written_after_each_trial(tmp_path, monkeypatch):
    results = make_results()
    steps = [results[:1], results]
    monkeypatch.setattr(paper_table, "run_trials", lambda *args, **options: iter(steps))
    monkeypatch.setattr(table2_beyond, "run", lambda *args, **options: "Beyond")
    text = table2.run("quick", tmp_path / "new", quiet=True)
    assert text == f"{table2.table_text(results)}\n\nBeyond"
    assert json.loads((tmp_path / "new/results.json").read_text()) == results
    with open(tmp_path / "new/table2.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results)
    assert float(rows[2]["p90_axis"]) == pytest.approx(3.5)
    assert float(rows[2]["p90_lower"]) == pytest.approx(0.9 * 3.2)
    assert (tmp_path / "new/table2.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new/table2.pdf").read_bytes().startswith(b"%PDF")


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="The results cannot be written"):
        table2.run("quick", tmp_path / "file", quiet=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel2"], "Unknown experiment 'tabel2'. Did you mean 'table2'?"),
        (["table2", "--budget", "huge"], r"Unknown budget 'huge'.*full, quick"),
    ],
)
def test_unknown_names_are_one_clear_line(arguments, message):
    with pytest.raises(UserError, match=message):
        reproduce.main(arguments)


@pytest.mark.slow
def test_the_whole_table_at_its_smallest(tmp_path, cache_folder):
    command = [sys.executable, "-m", "sionna_loc.reproduce", "table2", "--small"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path), "--device", "cpu"],
        env={**os.environ, "SIONNA_LOC_CACHE": str(cache_folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["row"] for result in results] == ["fixed"] * 6 + ["variable"] * 7
    for result in results:
        assert np.isfinite([result["ours"][name] for name in NAMES]).all()
        assert result["ours"]["num_samples"] == 64
    assert "multilateration" in done.stdout
    beyond = json.loads((tmp_path / "beyond.json").read_text())
    assert len(beyond) == len(table2_beyond.CONDITIONS) - 2  # adaptation in the full
    assert (tmp_path / "beyond.png").read_bytes().startswith(b"\x89PNG")
    assert "another" in done.stdout
