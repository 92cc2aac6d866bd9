"""`benchmarks/training_curves.py` on runs of a few rows."""

import benchmark_scripts
import numpy as np
import pytest

from sionna_loc import saving
from sionna_loc.checks import UserError
from sionna_loc.experiments.figures import training_comparison

FIRST = [
    {
        "step": 100 * k,
        "samples": 1600 * k,
        "seconds": 60.5 * k,
        "loss": -1.0,
        "val_rmse": 30 / k,
        "val_mae": 12 / k,
        "val_p50": 3 / k,
    }
    for k in (1, 2, 3)
]
SECOND = [{**row, "seconds": 2 * row["seconds"], "val_p50": 9.0} for row in FIRST]


@pytest.fixture(scope="module")
def training_curves():
    return benchmark_scripts.load("training_curves")


@pytest.fixture
def runs(tmp_path):
    for name, rows in (("first", FIRST), ("second", SECOND)):
        (tmp_path / name).mkdir()
        saving.write_history(tmp_path / name / saving.HISTORY, rows)
    return [tmp_path / "first", tmp_path / "second"]


def test_lines_are_the_validations_over_samples_and_minutes():
    figure = training_comparison({"A": FIRST, "B": SECOND})
    left, right = figure.axes
    for axes, x, factor in (
        (left, [1.6, 3.2, 4.8], 1),
        (right, [60.5 / 60, 121 / 60, 181.5 / 60], 2),
    ):
        lines = axes.lines
        assert len(lines) == 6  # RMSE, mean and median of A, then of B
        for index, (name, rows) in enumerate(
            (name, rows)
            for rows in (FIRST, SECOND)
            for name in ("val_rmse", "val_mae", "val_p50")
        ):
            scale = factor if rows is SECOND else 1
            np.testing.assert_allclose(lines[index].get_xdata(), np.array(x) * scale)
            expected = [row[name] for row in rows]
            np.testing.assert_allclose(lines[index].get_ydata(), expected)
        colors = [line.get_color() for line in lines]
        assert len(set(colors[:3])) == len(set(colors[3:])) == 1 < len(set(colors))
        assert len({line.get_linestyle() for line in lines[:3]}) == 3
    assert right.get_xlabel() == "Training time [min]"
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["A", "B", "RMSE", "mean", "median"]
    with pytest.raises(UserError, match="history"):
        training_comparison({})
    with pytest.raises(UserError, match="history"):
        training_comparison({"A": FIRST, "B": []})


def test_more_runs_than_colors_still_differ():
    figure = training_comparison({f"run {k}": FIRST for k in range(7)})
    assert len({line.get_color() for line in figure.axes[0].lines}) == 7


def test_a_legend_of_long_labels_stays_within_the_figure():
    for length in (2, 14, 26):
        figure = training_comparison({f"{k}".ljust(length, "x"): FIRST for k in "abc"})
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 > 0 and box.x1 < figure.bbox.x1


def test_files_are_written(training_curves, runs, tmp_path, capsys):
    output = tmp_path / "figures" / "curves.png"
    options = ["--output", str(output), "--labels", "VIn-Loc", "back-projection"]
    assert training_curves.main([*map(str, runs), *options]) == 0
    paths = [output, output.with_suffix(".pdf")]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]
    assert output.read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_mistakes_are_named(training_curves, runs, tmp_path):
    output = ["--output", str(tmp_path / "curves")]
    with pytest.raises(UserError, match="2 different labels"):
        training_curves.main([*map(str, runs), *output, "--labels", "one"])
    with pytest.raises(UserError, match="2 different labels"):
        training_curves.main([str(runs[0]), str(runs[0]), *output])
    with pytest.raises(UserError, match=r"no history\.csv"):
        training_curves.main([str(tmp_path), *output])


def test_a_history_is_read_as_it_was_written(runs):
    assert saving.read_history(runs[0]) == FIRST
    file = runs[1] / saving.HISTORY
    for damaged in ("step,loss\n1,x\n", "step,loss\n1\n", "step,loss\n1,2,3\n"):
        file.write_text(damaged)
        with pytest.raises(UserError, match="is damaged"):
            saving.read_history(runs[1])
    file.write_text("step,loss\n")
    with pytest.raises(UserError, match="holds no validation"):
        saving.read_history(runs[1])
