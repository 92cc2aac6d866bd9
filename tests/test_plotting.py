import dataclasses
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.evaluation import Evaluation
from sionna_loc.metrics import position_metrics
from sionna_loc.plotting import (
    calibration_curve,
    error_cdf,
    error_map,
    learning_curves,
    save_figures,
    training_curve,
)


def make_evaluation(num_samples=50, spread=3.0):
    generator = np.random.default_rng(0)
    true = generator.uniform(0, 100, (num_samples, 3))
    estimated = true + generator.normal(0, spread, true.shape)
    trps = [generator.uniform(0, 100, (1 + i % 4, 3)) for i in range(num_samples)]
    return Evaluation(
        metrics=position_metrics(true, estimated, num_resamples=10),
        true_position=true,
        estimated_position=estimated,
        trp_position=trps,
        num_trps_heard=np.array([len(t) for t in trps]),
    )


TOP_VIEW = SimpleNamespace(
    height=np.where(np.eye(130) > 0, np.nan, 12.0), extent=(-15.0, 115.0, -15.0, 115.0)
)
HISTORY = [
    {"samples": 64 * i, "seconds": 9.0 * i, "loss": 50 / i, "val_rmse": 60 / i}
    for i in (1, 2, 3)
]


def test_all_figures_are_saved_and_settings_stay(tmp_path):
    matplotlib.get_backend()  # looking at it is what sets it
    before = matplotlib.rcParams.copy()
    paths = save_figures(tmp_path, make_evaluation(), HISTORY, TOP_VIEW)
    names = {"error_cdf", "error_map", "training_curve"}
    assert {p.stem for p in paths} == names
    assert all(p.parent == tmp_path / "figures" for p in paths)
    for path in paths:
        start = b"%PDF" if path.suffix == ".pdf" else b"\x89PNG"
        assert path.read_bytes().startswith(start)
    assert matplotlib.rcParams == before
    without = save_figures(tmp_path / "b", make_evaluation(), [], TOP_VIEW)
    assert {p.stem for p in without} == names - {"training_curve"}


def test_cdf_shows_the_errors_sorted():
    first, second = make_evaluation(), make_evaluation(spread=30.0)
    axes = error_cdf({"a": first, "b": second}).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 50]
    for line, evaluation in zip(lines, (first, second), strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.sort(evaluation.errors))
        assert line.get_ydata()[-1] == 1.0
        assert f"{evaluation.metrics['rmse']:.2f} m" in line.get_label()
    assert axes.get_xscale() == "log"


def test_map_joins_true_and_estimated_positions():
    evaluation = make_evaluation()
    axes = error_map(evaluation, TOP_VIEW).axes[0]
    segments = np.array(axes.collections[0].get_segments())
    order = np.argsort(evaluation.errors)
    np.testing.assert_allclose(segments[:, 0], evaluation.true_position[order, :2])
    np.testing.assert_allclose(segments[:, 1], evaluation.estimated_position[order, :2])
    np.testing.assert_allclose(
        axes.collections[0].get_array(), evaluation.errors[order]
    )
    trps = np.concatenate(evaluation.trp_position)
    assert len(axes.lines[0].get_xdata()) == len(trps)
    few = error_map(evaluation, TOP_VIEW, most=20).axes[0]
    assert len(few.collections[0].get_segments()) == 17  # every third of 50


def test_a_map_shows_some_of_very_many_trps(monkeypatch):
    evaluation = make_evaluation()
    trps = np.unique(np.concatenate(evaluation.trp_position)[:, :2].round(2), axis=0)
    monkeypatch.setattr("sionna_loc.plotting._MOST_TRPS_SHOWN", len(trps) // 2)
    axes = error_map(evaluation, TOP_VIEW).axes[0]
    shown = np.array(axes.lines[0].get_data()).T
    np.testing.assert_array_equal(shown, trps[::3])


def with_levels(levels):
    """An evaluation of a localizer that gives a density."""
    evaluation = make_evaluation(num_samples=len(levels))
    coverage = {f"coverage_{p}": np.mean(levels <= p / 100) for p in (50, 90, 95)}
    metrics = {**evaluation.metrics, **coverage}
    return dataclasses.replace(evaluation, metrics=metrics, credible_level=levels)


def test_calibration_curve_is_the_distribution_of_the_levels(tmp_path):
    levels = np.random.default_rng(0).uniform(0, 1, 40) ** 2
    axes = calibration_curve({"": with_levels(levels)}).axes[0]
    diagonal, line = axes.lines
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(line.get_xdata()[1:-1], np.sort(levels))
    for p in (50, 90, 95):
        last = np.flatnonzero(line.get_xdata() <= p / 100)[-1]
        assert line.get_ydata()[last] == pytest.approx(np.mean(levels <= p / 100))
        assert f"{100 * np.mean(levels <= p / 100):.1f}" in line.get_label()
    with pytest.raises(UserError, match="evaluation"):
        calibration_curve({})
    paths = save_figures(tmp_path, with_levels(levels), HISTORY, TOP_VIEW)
    assert "calibration" in {path.stem for path in paths}


def test_a_likelihood_is_not_drawn_on_the_axis_of_metres():
    left, _ = training_curve(HISTORY, with_loss=False).axes
    assert [line.get_label() for line in left.lines] == ["Validation RMSE"]
    assert left.get_ylabel() == "Error [m]"


def test_perfect_estimates_can_be_drawn(tmp_path):
    evaluation = make_evaluation(spread=0.0)
    save_figures(tmp_path, evaluation, HISTORY[:1], TOP_VIEW)


def test_training_curve_over_samples_and_time():
    left, right = training_curve(HISTORY).axes
    np.testing.assert_allclose(left.lines[1].get_xdata(), [0.064, 0.128, 0.192])
    np.testing.assert_allclose(right.lines[1].get_xdata(), [0.15, 0.3, 0.45])
    np.testing.assert_allclose(right.lines[1].get_ydata(), [60, 30, 20])
    with pytest.raises(UserError, match="history"):
        training_curve([])
    with pytest.raises(UserError, match="evaluation"):
        error_cdf({})


def test_learning_curves_have_a_line_each():
    curves = {"A": [(1, 9.0), (10, 3.0)], "B": [(1, 8.0), (10, 4.0)]}
    (axes,) = learning_curves(curves, "Samples", log_x=True).axes
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["A"], curves["A"])
    np.testing.assert_array_equal(lines["B"], curves["B"])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "Samples" and axes.get_legend() is not None
    (single,) = learning_curves({"": [(0, 2.0), (1, 1.0)]}, "Epochs").axes
    assert single.get_legend() is None and single.get_xscale() == "linear"
    with pytest.raises(UserError, match="curve"):
        learning_curves({}, "Epochs")
