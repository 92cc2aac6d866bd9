import dataclasses
import json

import pytest
import tiny_training

from sionna_loc import training
from sionna_loc.experiments import conditions
from sionna_loc.experiments.conditions import (
    Condition,
    conditions_table,
    run_conditions,
    sweep,
)
from sionna_loc.recipes import RunConfig

SURVEY = {"0": 0.0, "5": 5.0}
CONDITIONS = [
    *(Condition("TRPs", str(count), num_trps=count) for count in (8, 4)),
    *sweep("survey [m]", "trp_position_error", SURVEY, sleep=0.0),
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of multilateration in free space, exact but for what is changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with tiny_training.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda *arguments: [])
        config = RunConfig(
            scenario="free_space", model="multilateration", num_test=16, baseline=False
        )
        return training.fit(config, folder, quiet=True)


@pytest.fixture(autouse=True)
def known():
    with tiny_training.registered():
        yield


def run(run_dir, chosen=CONDITIONS, num_samples=24, known=()):
    runs = {"A": run_dir}
    return list(run_conditions(runs, chosen, num_samples, known, quiet=True))


def test_each_condition_has_its_line_and_only_what_changes_makes_it_worse(run_dir):
    *_, lines = run(run_dir)
    assert json.loads(json.dumps(lines)) == lines
    names = [(line["sweep"], line["setting"], line["label"]) for line in lines]
    assert names == [(c.sweep, c.setting, "A") for c in CONDITIONS]
    assert [line["num_trps"] for line in lines] == [8, 4, 4, 4]
    eight, four, right, wrong = (line["p50"] for line in lines)
    assert right == four
    assert max(eight, four) < 1 < 2 < wrong
    assert {line["num_samples"] for line in lines} == {24}


@pytest.mark.slow
def test_lines_that_are_known_are_not_made_again(run_dir, monkeypatch):
    first, second, *_ = run(run_dir)
    assert len(first) == 1
    made = []
    evaluate = conditions._evaluate
    monkeypatch.setattr(
        conditions,
        "_evaluate",
        lambda *arguments: made.append(arguments[2]) or evaluate(*arguments),
    )
    steps = run(run_dir, known=second)
    assert made == CONDITIONS[2:]
    assert [len(step) for step in steps] == [3, 4, 4]
    renamed = [dataclasses.replace(c, sweep="other") for c in CONDITIONS]
    (lines,) = run(run_dir, renamed, known=steps[-1])
    assert len(made) == 2 and {line["sweep"] for line in lines} == {"other"}
    run(run_dir, CONDITIONS[:1], num_samples=8, known=lines)
    assert len(made) == 3  # another number of samples is another set


def test_a_model_with_weights_adapts_to_some_samples_first(tmp_path, run_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda *arguments: [])
        config = RunConfig(
            scenario="free_space",
            model="tiny",
            steps=2,
            batch_size=8,
            learning_rate=0.1,
            num_val=8,
            num_test=16,
            baseline=False,
        )
        tiny = training.fit(config, tmp_path / "tiny", quiet=True)
    chosen = [
        Condition("place", "as it is"),
        Condition("place", "adapted", shots=400),
        Condition("place", "as it was", num_trps=4),
    ]
    *_, lines = run_conditions({"A": run_dir, "B": tiny}, chosen, 24, quiet=True)
    names = [(line["setting"], line["label"]) for line in lines]
    assert ("adapted", "A") not in names and len(names) == 5
    before, adapted, after = (line["mae"] for line in lines if line["label"] == "B")
    assert adapted < 0.95 * before
    assert after == before  # the weights of the run are as they were


def test_a_model_is_not_asked_what_it_cannot_answer(run_dir, monkeypatch):
    fixed = property(lambda self: 4)
    monkeypatch.setattr(conditions.Localizer, "fixed_num_trps", fixed)
    *_, lines = run(run_dir)
    assert [line["num_trps"] for line in lines] == [4, 4, 4]
    monkeypatch.setattr(conditions, "Fingerprint", conditions.Localizer)
    *_, lines = run(run_dir)
    assert [line["setting"] for line in lines] == ["4", "0"]


def test_table_has_a_line_for_each(run_dir):
    *_, lines = run(run_dir)
    heading, names, *rows = conditions_table(lines, "Heading").splitlines()
    assert heading == "Heading" and len(rows) == len(CONDITIONS)
    assert names.split() == ["sweep", "setting", "model", "RMSE", "mean", "90", "%"]
    assert rows[-1].split()[:4] == ["survey", "[m]", "5", "A"]
    assert rows[-1].split()[4] == f"{lines[-1]['rmse']:.2f}"
    assert len({len(row) for row in (names, *rows)}) == 1
