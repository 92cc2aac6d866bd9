import csv
import json
import types

import numpy as np
from hyploc_results import make_result

from sionna_loc import reproduce
from sionna_loc.experiments import hyploc, hyploc_tracks
from sionna_loc.models.recurrent import Recurrent
from sionna_loc.registry import get_model_class

FULL, QUICK = hyploc.BUDGETS["full"], hyploc.BUDGETS["quick"]


def test_each_network_meets_itself_along_the_track():
    models = hyploc_tracks._models()
    assert len(models) == 8
    for label, (name, preset) in hyploc_tracks.NETWORKS.items():
        assert preset in get_model_class(name).PRESETS
        window, chosen = models[f"{label} GRU"]
        inside = Recurrent.PRESETS[chosen]
        assert window == "recurrent" and inside["sample_model"] == name
        default = get_model_class(name).DEFAULT_PRESET
        assert inside.get("sample_preset", default) == preset
    fixed = set(hyploc_tracks.NETWORKS) - set(hyploc_tracks.ANY_NUMBER)
    assert fixed == {"HypLoc", "Single+"}


def test_the_runs_of_fig4_are_shared():
    models = hyploc_tracks._models()
    for label in ("HypLoc", "Single+"):
        ours = hyploc.make_trial(label, [0], FULL, models=models)
        theirs = hyploc.make_trial(label, [0], FULL)
        assert ours == theirs
    window = hyploc.make_trial("Single+ GRU", "any", QUICK, models=models)
    assert (window.row, window.slug) == ("any", "single-plus-gru")
    assert window.config.scenario_options == {"constellations": "any"}


def test_single_samples_and_windows_stand_side_by_side(tmp_path, monkeypatch):
    asked = []

    def run_all(trials, *rest):
        asked.extend(trials)
        return {
            (trial.label, trial.row): make_result(
                trial, [2.0 + i - ("GRU" in trial.label)]
            )
            for i, trial in enumerate(trials)
        }

    evaluation = types.SimpleNamespace(
        errors=np.array([1.0, 2.0]), metrics={"rmse": 1.6, "p50": 1.5, "p90": 1.9}
    )
    monkeypatch.setattr(hyploc_tracks, "run_all", run_all)
    monkeypatch.setattr(hyploc_tracks, "evaluate_run", lambda run_dir: evaluation)
    text = hyploc_tracks.run("quick", tmp_path, quiet=True)
    assert len(asked) == 12
    lines = [line.split() for line in text.splitlines()[2:]]
    assert len(lines) == 6
    # HypLoc is trial 0, its GRU trial 4: 2.0 and 2.0 + 4 - 1.
    found = dict(zip(("alone", "along"), (lines[0][3], lines[0][6]), strict=True))
    assert found == {"alone": "2.00", "along": "5.00"} and lines[0][-1] == "2.50"
    assert [line[0] for line in lines] == ["one"] * 4 + ["ever"] * 2
    with open(tmp_path / "tracks.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["window"] == "True" for row in rows) == 6
    results = json.loads((tmp_path / "results.json").read_text())
    assert {r["row"] for r in results} == {"tracks:0", "tracks:any"}
    assert (tmp_path / "tracks.png").read_bytes().startswith(b"\x89PNG")


def test_it_lies_where_the_figures_of_hyploc_do(monkeypatch):
    folders = []
    monkeypatch.setattr(
        reproduce, "_reproduce", lambda arguments, output: folders.append(output)
    )
    for name in ("hyploc_tracks", "hyploc_fig4", "table2"):
        reproduce.main([name])
    assert [str(f) for f in folders] == [
        *["runs/hyploc-quick"] * 2,
        "runs/table2-quick",
    ]
