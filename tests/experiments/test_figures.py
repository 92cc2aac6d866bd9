from types import SimpleNamespace

import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.experiments.figures import (
    condition_sweeps,
    metric_comparison,
    power_map,
)


def test_comparison_has_a_panel_for_each_row_and_the_papers_beside_ours():
    def result(row, label, ours, paper):
        intervals = {"rmse": [0.5 * ours, 3 * ours]}
        ours = {"rmse": ours, "intervals": intervals}
        return {"row": row, "label": label, "ours": ours, "paper": paper}

    results = [
        result("fixed", "A", 1.0, {"rmse": 0.8}),
        result("variable", "A", 2.0, {}),
        result("variable", "B", 4.0, {"rmse": 5.0}),
    ]
    fixed, variable = metric_comparison(results, ("rmse",)).axes
    assert (fixed.get_title(), variable.get_title()) == ("fixed", "variable")
    assert [text.get_text() for text in variable.get_yticklabels()] == ["A", "B"]
    dots, _, (bars,) = variable.containers[0]
    np.testing.assert_allclose(dots.get_xdata(), [2.0, 4.0])
    ends = [segment[:, 0] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[1.0, 6.0], [2.0, 12.0]])
    crosses = [line for line in variable.lines if line.get_marker() == "x"]
    np.testing.assert_allclose(crosses[0].get_xdata(), [np.nan, 5.0])
    with pytest.raises(UserError, match="result"):
        metric_comparison([], ("rmse",))


def test_sweeps_have_a_panel_each_and_a_line_for_each_model():
    def line(sweep, setting, label, rmse):
        intervals = {"rmse": [0.5 * rmse, 2 * rmse]}
        return {
            "sweep": sweep,
            "setting": setting,
            "label": label,
            "rmse": rmse,
            "intervals": intervals,
        }

    lines = [
        line("TRPs", "18", "A", 1.0),
        line("TRPs", "18", "B", 3.0),
        line("TRPs", "4", "A", 5.0),
        line("factory", "another", "A", 9.0),
    ]
    trps, factory = condition_sweeps(lines, "rmse").axes
    assert (trps.get_title(), factory.get_title()) == ("TRPs", "factory")
    assert [text.get_text() for text in trps.get_xticklabels()] == ["18", "4"]
    (a, _, (bars,)), (b, *_) = trps.containers
    np.testing.assert_allclose(a.get_xydata(), [[0, 1.0], [1, 5.0]])
    np.testing.assert_allclose(b.get_xydata(), [[0, 3.0]])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.5, 2.0], [2.5, 10.0]])
    (c, *_), _ = factory.containers
    np.testing.assert_allclose(c.get_xydata(), [[0, 9.0]])
    with pytest.raises(UserError, match="condition"):
        condition_sweeps([], "rmse")


def test_the_map_shows_power_trps_and_which_are_active():
    view = SimpleNamespace(height=np.zeros((20, 30)), extent=(0.0, 30.0, 0.0, 20.0))
    ue = np.array([[5, 5, 1], [9, 5, 1], [7, 6, 1]], float)
    trp = np.array([[2, 3, 5], [20, 4, 5], [25, 18, 5]], float)
    power = np.array([-80.0, -60.0, -70.0])
    figure = power_map(view, ue, power, trp, source=2, active=[1, 2])
    axes, bar = figure.axes
    (points,) = axes.collections
    # The strongest is drawn last.
    np.testing.assert_array_equal(points.get_array(), [-80, -70, -60])
    np.testing.assert_array_equal(points.get_offsets(), ue[[0, 2, 1], :2])
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["gNB"], trp[:, :2])
    np.testing.assert_array_equal(lines["active"], trp[[1, 2], :2])
    np.testing.assert_array_equal(lines["power shown"], trp[[2], :2])
    assert "dBm" in bar.get_ylabel()
    with pytest.raises(UserError, match="Nothing is heard"):
        power_map(view, ue[:0], power[:0], trp, source=2, active=[])
