"""Figure of what a model believes of a few samples: its densities on the map."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from sionna_loc.calibration import HorizontalDensity
from sionna_loc.checks import check
from sionna_loc.evaluation import Evaluation
from sionna_loc.plotting import STYLE, draw_place

_REGIONS = (0.5, 0.9, 0.95)
_REGION_COLORS = ("#08519c", "#4292c6", "#9ecae1")
_TRUE_COLOR, _ESTIMATE_COLOR = "#d7301f", "#fdae1a"
_PIXELS = 240  # of a picture's side
_NARROWEST = 0.8  # deviations that are drawn, in pixels
_NUM_DRAWS = 4000
_LEAST_SIDE = 4.0  # of what is shown enlarged [m]
_MOST_EXAMINED = 500  # samples that are searched for several modes
_LEAST_SECOND = 0.05  # share of a second mode that is worth a look
_LEGEND_COLUMNS = (1, 3, 4, 7)  # that have room above so many samples
_MARGIN = 10.0  # around TRPs and densities [m]


def choose_samples(evaluation: Evaluation) -> dict[int, str]:
    """Return samples to look at, with what each of them is.

    The one of median error; the two of the greatest second modes, or, if fewer have one
    worth a look, the one at the 90th percentile; and the worst.

    Args:
        evaluation: with maps.

    Returns: index -> label, at most 4, without any twice.
    """
    order = np.argsort(evaluation.errors, kind="stable")
    median, worst = int(order[(len(order) - 1) // 2]), int(order[-1])
    tenth = int(order[int(0.9 * (len(order) - 1))])
    examined = range(0, len(order), -(-len(order) // _MOST_EXAMINED))
    second = {i: _second_share(evaluation.maps[i]) for i in examined}
    split = sorted(set(second) - {median, worst}, key=second.get, reverse=True)[:2]
    split = [index for index in split if second[index] >= _LEAST_SECOND]
    chosen = {median: "median"}
    chosen |= {index: "several modes" for index in split}
    if len(split) < 2 and tenth not in chosen:
        chosen[tenth] = "90th percentile"
    chosen.pop(worst, None)
    return {**chosen, worst: "worst"}


def posterior_maps(
    evaluation: Evaluation, top_view: Any, chosen: dict[int, str] | None = None
) -> Figure:
    """Draw densities with true positions, estimates and TRPs.

    Each column is a sample: above the place with the TRPs that the UE hears, below
    what the frame above holds; a frame too small to be seen is drawn larger. Regions
    are those of highest density.

    Args:
        evaluation: with maps.
        top_view: the place from above, see `plotting.error_map`.
        chosen: index of a sample -> label; `choose_samples` by default.

    Raises: UserError (a ValueError) if the evaluation holds no maps.
    """
    check(evaluation.maps is not None, "There must be maps to draw.", maps=None)
    chosen = choose_samples(evaluation) if chosen is None else chosen
    check(len(chosen) > 0, "There must be a sample to draw.", chosen=chosen)
    boxes = {index: _box(evaluation, index) for index in chosen}
    around = _around(evaluation, boxes)
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "font.size": 7.0}):
        figure = Figure(figsize=(0.5 + 1.7 * len(chosen), 4.1), layout="constrained")
        rows = figure.subplots(2, len(chosen), squeeze=False)
        for column, (index, label) in enumerate(chosen.items()):
            above, below = rows[:, column]
            box, error = boxes[index], evaluation.errors[index]
            above.set_title(f"{label}, {error:.3g} m off", fontsize=7.5)
            _draw_density(above, evaluation, index, top_view, around)
            _draw_frame(above, box)
            _draw_density(below, evaluation, index, top_view, box)
            _draw_signs(below, evaluation, index)
            below.set_xlabel("x [m]")
            if column:
                above.tick_params(labelleft=False)
            else:
                above.set_ylabel("y [m]")
                below.set_ylabel("y [m]")
        figure.legend(
            handles=_legend(evaluation),
            loc="outside upper center",
            ncols=_LEGEND_COLUMNS[min(len(chosen), len(_LEGEND_COLUMNS)) - 1],
            columnspacing=1.2,
            handletextpad=0.5,
            handlelength=1.3,
        )
    return figure


def _second_share(values: np.ndarray) -> float:
    """Return the share of the second mode of a map [num_components, 8]."""
    _, shares = HorizontalDensity(values).modes()
    return float(shares[1]) if len(shares) > 1 else 0.0


def _around(evaluation: Evaluation, boxes: dict[int, np.ndarray]) -> np.ndarray:
    """Return the corners [2, 2] [m] of a square with all TRPs and boxes."""
    trps = [evaluation.trp_position[index][:, :2] for index in boxes]
    points = np.concatenate([*trps, *boxes.values()])
    return _square(points, np.ptp(points, axis=0).max() + 2 * _MARGIN)


def _box(evaluation: Evaluation, index: int) -> np.ndarray:
    """Return the corners [2, 2] [m] of a square that holds all that matters."""
    draws = HorizontalDensity(evaluation.maps[index]).draw(
        np.random.default_rng(0), _NUM_DRAWS
    )
    ends = np.percentile(draws, [1, 99], axis=0)
    places = evaluation.true_position[index], evaluation.estimated_position[index]
    points = np.concatenate([ends, [place[:2] for place in places]])
    return _square(points, max(1.15 * np.ptp(points, axis=0).max(), _LEAST_SIDE))


def _square(points: np.ndarray, side: float) -> np.ndarray:
    """Return the corners [2, 2] [m] of a square around points [number, 2]."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return np.stack([centre - side / 2, centre + side / 2])


def _draw_density(
    axes: Axes, evaluation: Evaluation, index: int, top_view: Any, box: np.ndarray
) -> None:
    """Draw place, density and TRPs inside of a box."""
    draw_place(axes, top_view)
    _draw_regions(axes, evaluation.maps[index], box)
    heard = evaluation.trp_position[index]
    dark = {"color": "0.2", "linestyle": "", "markeredgewidth": 0.6}
    hollow = evaluation.los_trp_position is not None
    face = {"markerfacecolor": "white"} if hollow else {}
    axes.plot(*heard[:, :2].T, "^", markersize=3.8, **dark, **face)
    if hollow:
        seen = evaluation.los_trp_position[index]
        axes.plot(*seen[:, :2].T, "^", markersize=3.8, **dark)
    axes.set_xlim(*box[:, 0])
    axes.set_ylim(*box[:, 1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3))


def _draw_signs(axes: Axes, evaluation: Evaluation, index: int) -> None:
    """Draw the true position and the estimate."""
    places = evaluation.true_position[index], evaluation.estimated_position[index]
    for (sign, style), place in zip(_signs(), places, strict=True):
        axes.plot(*place[:2], sign, **style)


def _draw_regions(axes: Axes, values: np.ndarray, box: np.ndarray) -> None:
    """Fill the credible regions of a map inside of a box [2, 2] [m]."""
    pixel = (box[1, 0] - box[0, 0]) / _PIXELS
    density = HorizontalDensity(values, _NARROWEST * pixel)
    draws = density.log(density.draw(np.random.default_rng(0), _NUM_DRAWS))
    x, y = (np.linspace(*box[:, k], _PIXELS) for k in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    height = density.log(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    # A region of probability p begins where a share p of the draws is higher.
    thresholds = np.quantile(draws, [1 - p for p in _REGIONS])[::-1]
    axes.contourf(
        x,
        y,
        height,
        levels=[*thresholds, max(height.max(), thresholds[-1]) + 1],
        colors=_REGION_COLORS[::-1],
        alpha=0.75,
    )


def _draw_frame(axes: Axes, box: np.ndarray) -> None:
    """Draw a frame where the lower picture is, large enough to be seen."""
    lower, upper = box
    least = 0.06 * np.ptp(axes.get_xlim())
    side = max(upper[0] - lower[0], least)
    corner = (lower + upper - side) / 2
    axes.add_patch(
        Rectangle(corner, side, side, fill=False, edgecolor=_TRUE_COLOR, linewidth=0.9)
    )


def _signs() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return how true position and estimate are drawn."""
    true = {"color": _TRUE_COLOR, "markersize": 8.0, "markeredgewidth": 0.8}
    estimate = {"color": _ESTIMATE_COLOR, "markersize": 4.5, "markeredgewidth": 1.4}
    return (
        ("*", {**true, "markeredgecolor": "white", "zorder": 5}),
        ("x", {**estimate, "zorder": 6}),
    )


def _legend(evaluation: Evaluation) -> list[Any]:
    """Return what signs and colours mean."""
    dark = {"color": "0.2", "linestyle": "", "markersize": 4, "markeredgewidth": 0.6}
    (true, true_style), (estimate, estimate_style) = _signs()
    none = {"linestyle": ""}
    signs = [
        Line2D([], [], marker=true, label="true", **true_style, **none),
        Line2D([], [], marker=estimate, label="estimated", **estimate_style, **none),
    ]
    if evaluation.los_trp_position is None:
        signs.append(Line2D([], [], marker="^", label="TRP", **dark))
    else:
        white = {**dark, "markerfacecolor": "white"}
        signs.append(Line2D([], [], marker="^", label="TRP in line of sight", **dark))
        signs.append(Line2D([], [], marker="^", label="TRP behind obstacles", **white))
    regions = [
        Patch(color=color, label=f"{100 * p:g} % region")
        for p, color in zip(_REGIONS, _REGION_COLORS, strict=True)
    ]
    return signs + regions
