import json

import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.metrics import (
    HorizontalRMSE,
    axis_errors,
    bootstrap_intervals,
    error_metrics,
    horizontal_errors,
    position_metrics,
    spatial_errors,
)

TRUE = np.array([[0.0, 0.0, 1.5], [10.0, 0.0, 1.5], [0.0, 0.0, 0.0]])
ESTIMATED = np.array([[3.0, 4.0, 13.5], [10.0, 1.0, 1.5], [0.0, 0.0, 2.0]])


def test_errors_are_euclidean_distances():
    np.testing.assert_allclose(horizontal_errors(TRUE, ESTIMATED), [5.0, 1.0, 0.0])
    np.testing.assert_allclose(spatial_errors(TRUE, ESTIMATED), [13.0, 1.0, 2.0])


def test_metrics_of_known_errors():
    metrics = error_metrics(np.array([5.0, 1.0, 0.0]))
    assert metrics["rmse"] == pytest.approx(np.sqrt(26 / 3))
    assert metrics["mae"] == pytest.approx(2.0)
    assert metrics["p50"] == pytest.approx(1.0)
    assert metrics["p90"] == pytest.approx(1 + 0.8 * 4)
    assert metrics["p95"] == pytest.approx(1 + 0.9 * 4)


def test_position_metrics_names_and_json():
    metrics = position_metrics(TRUE, ESTIMATED, num_resamples=50)
    names = {"rmse", "mae", "p50", "p90", "p95"}
    names |= {name + suffix for name in names for suffix in ("_3d", "_axis")}
    assert set(metrics) == names | {"num_samples", "intervals"}
    assert set(metrics["intervals"]) == names
    assert metrics["num_samples"] == 3
    assert metrics["mae"] == pytest.approx(2.0)
    assert metrics["mae_3d"] == pytest.approx(16 / 3)
    assert json.loads(json.dumps(metrics)) == metrics


def test_errors_per_coordinate_are_those_along_x_and_along_y():
    np.testing.assert_allclose(axis_errors(TRUE, ESTIMATED), [[3, 4], [0, 1], [0, 0]])
    metrics = position_metrics(TRUE, ESTIMATED, num_resamples=50)
    assert metrics["rmse_axis"] == pytest.approx(np.sqrt(26 / 6))
    assert metrics["mae_axis"] == pytest.approx(8 / 6)
    # Sorted: 0, 0, 0, 1, 3, 4; the 90th percentile lies half way from 3 to 4.
    assert metrics["p90_axis"] == pytest.approx(3.5)


def test_bootstrap_draws_samples_and_keeps_their_coordinates_together():
    # Samples of (0, 2) or (2, 0): whatever is drawn, half of the errors are 2.
    errors = np.array([[0.0, 2.0], [2.0, 0.0]] * 20)
    assert bootstrap_intervals(errors)["mae"] == [1.0, 1.0]


def test_bootstrap_interval_of_the_mean_is_that_of_the_normal_limit():
    errors = np.random.default_rng(1).exponential(2.0, size=4000)
    lower, upper = bootstrap_intervals(errors, num_resamples=2000)["mae"]
    half_width = 1.96 * errors.std() / np.sqrt(errors.size)
    assert lower == pytest.approx(errors.mean() - half_width, abs=0.15 * half_width)
    assert upper == pytest.approx(errors.mean() + half_width, abs=0.15 * half_width)


def test_bootstrap_is_reproducible_and_seeded():
    errors = np.arange(1.0, 40.0)
    same = bootstrap_intervals(errors, seed=3)
    assert same == bootstrap_intervals(errors, seed=3)
    assert same != bootstrap_intervals(errors, seed=4)
    for name, value in error_metrics(errors).items():
        assert same[name][0] <= value <= same[name][1]


@pytest.mark.parametrize(
    ("true", "estimated", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), "num_samples=0"),
        (np.zeros((2, 3)), np.zeros((3, 3)), "same shape"),
        (np.zeros(3), np.zeros(3), "same shape"),
        (np.zeros((2, 3)), np.array([[0, 0, np.nan]] * 2), "estimated .* finite"),
        (np.full((2, 3), np.inf), np.zeros((2, 3)), "true .* finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(true, estimated, message):
    with pytest.raises(UserError, match=message):
        position_metrics(true, estimated)


def test_keras_metric_matches_numpy_over_batches():
    metric = HorizontalRMSE()
    assert float(metric.result()) == 0.0
    metric.update_state(TRUE[:1], ESTIMATED[:1])
    metric.update_state(TRUE[1:], ESTIMATED[1:])
    assert float(metric.result()) == pytest.approx(np.sqrt(26 / 3), rel=1e-6)
    metric.reset_state()
    metric.update_state(TRUE[:2], ESTIMATED[:2], sample_weight=[1.0, 3.0])
    assert float(metric.result()) == pytest.approx(np.sqrt((25 + 3) / 4), rel=1e-6)


def test_keras_metric_config_round_trip():
    metric = keras.metrics.deserialize(
        keras.metrics.serialize(HorizontalRMSE(name="r"))
    )
    assert isinstance(metric, HorizontalRMSE)
    assert metric.name == "r"
