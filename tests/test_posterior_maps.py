import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path

from sionna_loc.checks import UserError
from sionna_loc.evaluation import Evaluation
from sionna_loc.metrics import position_metrics
from sionna_loc.posterior_maps import choose_samples, posterior_maps

TOP_VIEW = SimpleNamespace(
    height=np.where(np.eye(120) > 0, np.nan, 12.0), extent=(-10.0, 110.0, -10.0, 110.0)
)
TRPS = np.array([[5.0, 5, 20], [95, 10, 20], [50, 98, 25]])


def gaussian(place, deviation, weight=1.0):
    return [np.log(weight), *place, 1.5, deviation, deviation, 0.1, 0.0]


def make_evaluation():
    """20 samples with errors of 0.1 m to 2 m; the maps of 4, 7 and 11 are split."""
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.uniform(20, 80, (20, 2)), np.full((20, 1), 1.5)], 1)
    estimated = true + np.outer(0.1 * np.arange(1, 21), [1.0, 0, 0])
    maps = [np.array([gaussian(place[:2], 0.5)]) for place in estimated]
    for index, second in ((4, 0.3), (7, 0.02), (11, 0.45)):
        away = estimated[index, :2] + [12.0, -9.0]
        light = gaussian(away, 1.0, second)
        maps[index] = np.array([gaussian(estimated[index, :2], 1.0, 1 - second), light])
    return Evaluation(
        metrics=position_metrics(true, estimated, num_resamples=10),
        true_position=true,
        estimated_position=estimated,
        trp_position=[TRPS] * 20,
        num_trps_heard=np.full(20, 3),
        credible_level=rng.uniform(size=20),
        los_trp_position=[TRPS[:1]] * 20,
        maps=maps,
    )


def test_the_samples_are_the_median_the_split_ones_and_the_worst():
    evaluation = make_evaluation()
    expected = {9: "median", 11: "several modes", 4: "several modes", 19: "worst"}
    chosen = choose_samples(evaluation)
    assert chosen == expected and list(chosen) == list(expected)
    evaluation.maps[4], evaluation.maps[11] = evaluation.maps[0], evaluation.maps[1]
    assert choose_samples(evaluation) == {
        9: "median",
        17: "90th percentile",
        19: "worst",
    }
    evaluation.maps[19] = evaluation.maps[9] = np.array(
        [gaussian((30, 30), 1.0), gaussian((60, 60), 1.0)]
    )
    assert choose_samples(evaluation)[19] == "worst"


def test_one_sample_is_drawn_once():
    evaluation = make_evaluation()
    one = {
        field.name: getattr(evaluation, field.name)[:1]
        for field in dataclasses.fields(evaluation)
        if field.name != "metrics"
    }
    assert choose_samples(Evaluation(metrics={}, **one)) == {0: "worst"}


def polygons(axes):
    """Closed lines of the filled regions, the widest region first."""
    (filled,) = [c for c in axes.collections if hasattr(c, "levels")]
    return filled.get_paths()


def test_regions_hold_what_they_promise():
    """A circle of radius s sqrt(-2 ln(1 - p)) around the mean holds a share p."""
    evaluation = make_evaluation()
    index = 19
    mean = evaluation.estimated_position[index, :2]
    figure = posterior_maps(evaluation, TOP_VIEW, {index: "worst"})
    above, below = figure.axes
    outlines = polygons(below)
    for outline, p in zip(outlines, (0.95, 0.9, 0.5), strict=True):
        radius = np.linalg.norm(outline.vertices[:-1] - mean, axis=1).max()
        assert radius == pytest.approx(0.5 * np.sqrt(-2 * np.log(1 - p)), rel=0.05)
    # Above, a pixel is as wide as the density: drawn wider, so as not to be lost.
    assert np.ptp(polygons(above)[0].vertices[:, 0]) > 1.0


def test_both_modes_are_drawn_with_what_else_is_known():
    evaluation = make_evaluation()
    figure = posterior_maps(evaluation, TOP_VIEW)
    assert len(figure.axes) == 8
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles[0] == "median, 1 m off" and titles[3] == "worst, 2 m off"
    below = figure.axes[5]  # of sample 11
    away = evaluation.estimated_position[11, :2] + [12.0, -9.0]
    outline = Path(polygons(below)[0].vertices, polygons(below)[0].codes)
    for place in (evaluation.estimated_position[11, :2], away):
        assert outline.contains_point(place)
        assert below.get_xlim()[0] < place[0] < below.get_xlim()[1]
    above = figure.axes[1]
    heard, seen = above.lines
    np.testing.assert_array_equal(heard.get_xydata(), TRPS[:, :2])
    np.testing.assert_array_equal(seen.get_xydata(), TRPS[:1, :2])
    assert heard.get_markerfacecolor() == "white" != seen.get_markerfacecolor()
    true, estimated = (line.get_xydata()[0] for line in below.lines[2:])
    np.testing.assert_array_equal(true, evaluation.true_position[11, :2])
    np.testing.assert_array_equal(estimated, evaluation.estimated_position[11, :2])
    # All above show the same square, with all that is below.
    assert {tuple(axes.get_xlim()) for axes in figure.axes[:4]} == {above.get_xlim()}
    assert above.get_xlim()[0] < min(axes.get_xlim()[0] for axes in figure.axes[4:])
    frame = above.patches[-1].get_bbox()
    assert frame.x0 == pytest.approx(below.get_xlim()[0])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "TRP in line of sight" in labels and "95 % region" in labels
    unknown = dataclasses.replace(evaluation, los_trp_position=None)
    plain = posterior_maps(unknown, TOP_VIEW, {0: "best"})
    assert len(plain.axes[0].lines) == 1
    assert "TRP" in [text.get_text() for text in plain.legends[0].get_texts()]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_legend_has_room(number):
    figure = posterior_maps(
        make_evaluation(), TOP_VIEW, dict.fromkeys(range(number), "a")
    )
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 and legend.x1 <= figure.bbox.x1
    assert legend.height < 0.4 * figure.bbox.height


def test_mistakes():
    evaluation = make_evaluation()
    with pytest.raises(UserError, match="a sample to draw"):
        posterior_maps(evaluation, TOP_VIEW, {})
    with pytest.raises(UserError, match="maps to draw"):
        posterior_maps(dataclasses.replace(evaluation, maps=None), TOP_VIEW)
