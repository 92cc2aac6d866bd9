"""Figures of a run: distribution and map of the errors, training curve.

Each function returns a `matplotlib.figure.Figure` of its own, made without pyplot, so
that nothing is left open and a caller's backend and settings stay as they are.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sionna_loc.checks import check
from sionna_loc.evaluation import Evaluation

FORMATS = ("png", "pdf")
STYLE = {
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 8.0,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,
    "savefig.dpi": 220,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
COLORS = ("#0b5394", "#c1440e", "#38761d", "#674ea7", "#7f6000")
_ERROR_COLORS = "plasma_r"
_MOST_SHOWN = 400  # samples on a map: more hide each other
_MOST_TRPS_SHOWN = 1500
_MARGIN = 15.0  # around the map's content [m]


def save_figures(
    run_dir: str | os.PathLike,
    evaluation: Evaluation,
    history: Sequence[Mapping[str, float]],
    top_view: Any,
    baselines: Mapping[str, Evaluation] | None = None,
) -> list[Path]:
    """Save all figures of a run in its folder `figures/`, as PNG and PDF.

    Args:
        run_dir: folder of the run.
        evaluation: of the test set.
        history: rows of the training's `history.csv`; empty for models without
            weights, which have no training curve.
        top_view: the place from above, see `error_map`.
        baselines: label -> evaluation on the same set, for the error CDF.

    Returns: the files.
    """
    label = "this run" if baselines else ""
    figures = {
        "error_cdf": error_cdf({label: evaluation, **(baselines or {})}),
        "error_map": error_map(evaluation, top_view),
    }
    gives_density = evaluation.credible_level is not None
    if gives_density:
        figures["calibration"] = calibration_curve({label: evaluation})
    if history:
        # A likelihood, which is trained on then, has no place on an axis of metres.
        figures["training_curve"] = training_curve(history, not gives_density)
    folder = Path(run_dir) / "figures"
    return [
        path
        for name, figure in figures.items()
        for path in save_figure(figure, folder / name)
    ]


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Save a figure as PNG and PDF under `path` with these suffixes; return both.

    The folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in FORMATS]
    with matplotlib.rc_context(STYLE):
        for path in paths:
            figure.savefig(path)
    return paths


def error_cdf(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw the distribution of the horizontal error, one line for each evaluation.

    Args:
        evaluations: label -> evaluation; an empty label for a single one.
    """
    check(len(evaluations) > 0, "There must be an evaluation to draw.", number=0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.6), layout="constrained")
        axes = figure.subplots()
        for index, (label, evaluation) in enumerate(evaluations.items()):
            color = COLORS[index % len(COLORS)]
            errors = np.sort(evaluation.errors)
            # From the smallest error up, each sample lifts the line by 1 / N.
            share = np.arange(1, errors.size + 1) / errors.size
            metrics = evaluation.metrics
            text = f"RMSE {metrics['rmse']:.2f} m, 90 % {metrics['p90']:.2f} m"
            text = f"{label}: {text}" if label else text
            errors = np.maximum(errors, 1e-3)  # 0 has no place on the axis
            axes.step(errors, share, where="post", color=color, label=text)
            for p in (50, 90):
                point = max(metrics[f"p{p}"], 1e-3)
                axes.plot(point, p / 100, "o", color=color, markersize=3)
        axes.set_xscale("log")
        lowest = min(np.percentile(e.errors, 1) for e in evaluations.values())
        axes.set_xlim(left=max(lowest / 2, 1e-3))
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_formatter(plain_number)
        axes.set_xlabel("Horizontal error [m]")
        axes.set_ylabel("Share of samples")
        figure.legend(loc="outside upper left")
    return figure


def error_map(evaluation: Evaluation, top_view: Any, most: int = _MOST_SHOWN) -> Figure:
    """Draw true and estimated positions and TRPs on the place seen from above.

    Args:
        evaluation: what to draw; of more than `most` samples, every n-th, and of their
            TRPs likewise, where more would hide the place.
        top_view: has `height` [rows, columns] [m], row 0 in the south, and `extent`
            (west, east, south, north) [m].
        most: int > 0. Samples shown.
    """
    shown = np.arange(0, len(evaluation.errors), -(-len(evaluation.errors) // most))
    true = evaluation.true_position[shown, :2]
    estimated = evaluation.estimated_position[shown, :2]
    errors = evaluation.errors[shown]
    trps = np.concatenate([evaluation.trp_position[i][:, :2] for i in shown])
    trps = np.unique(np.round(trps, 2), axis=0)
    trps = trps[:: -(-len(trps) // _MOST_TRPS_SHOWN)]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        draw_place(axes, top_view)
        axes.plot(*trps.T, "^", color="0.25", markersize=2.2, markeredgewidth=0)
        # Large errors last, so that none is hidden.
        order = np.argsort(errors)
        lines = np.stack([true[order], estimated[order]], axis=1)
        colors = {"cmap": _ERROR_COLORS, "norm": _error_norm(evaluation.errors)}
        axes.add_collection(
            LineCollection(lines, array=errors[order], linewidths=0.5, **colors)
        )
        axes.scatter(
            *estimated[order].T, 5, errors[order], marker="x", linewidths=0.6, **colors
        )
        points = axes.scatter(*true[order].T, 7, errors[order], lw=0, **colors)
        bar = figure.colorbar(points, ax=axes, shrink=0.85, extend="both", pad=0.02)
        bar.set_label("Horizontal error [m]")
        bar.ax.yaxis.set_major_formatter(plain_number)
        bar.ax.yaxis.set_minor_formatter("")
        bar.outline.set_linewidth(0.4)
        _zoom(axes, np.concatenate([true, estimated, trps]), top_view.extent)
        axes.set_xlabel("x [m]")
        axes.set_ylabel("y [m]")
        figure.legend(handles=_map_legend(), loc="outside upper center", ncols=4)
    return figure


def calibration_curve(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw which share of samples lies in the credible regions of each probability.

    Args:
        evaluations: label -> evaluation with credible levels; an empty label for a
            single one. The diagonal is where densities hold what they promise.
    """
    check(len(evaluations) > 0, "There must be an evaluation to draw.", number=0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.0, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.55", linewidth=0.8, linestyle="--")
        for index, (label, evaluation) in enumerate(evaluations.items()):
            level = np.sort(evaluation.credible_level)
            share = np.arange(1, level.size + 1) / level.size
            names = ("coverage_50", "coverage_90", "coverage_95")
            text = ", ".join(f"{100 * evaluation.metrics[n]:.1f}" for n in names)
            text = f"50, 90, 95 %: {text} %"
            axes.step(
                np.concatenate([[0], level, [1]]),
                np.concatenate([[0], share, [1]]),
                where="post",
                color=COLORS[index % len(COLORS)],
                label=f"{label}: {text}" if label else text,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("Probability of the credible region")
        axes.set_ylabel("Share of samples inside")
        figure.legend(loc="outside upper left")
    return figure


def training_curve(
    history: Sequence[Mapping[str, float]], with_loss: bool = True
) -> Figure:
    """Draw loss and validation errors against samples and against time.

    Args:
        history: rows with `samples`, `seconds`, `loss`, and `val_rmse`, `val_p50`,
            `val_p90` [m] as far as they were measured.
        with_loss: bool. Whether the loss, which must be in metres, is drawn.
    """
    curves = {"loss": ("Training loss", "0.55", "-")} if with_loss else {}
    curves |= {
        "val_rmse": ("Validation RMSE", COLORS[0], "-"),
        "val_p90": ("Validation 90th percentile", COLORS[1], "--"),
        "val_p50": ("Validation median", COLORS[2], ":"),
    }
    lines = [
        (history, name, {"label": label, "color": color, "linestyle": style})
        for name, (label, color, style) in curves.items()
    ]
    figure = history_panels(lines, "Error, loss [m]" if with_loss else "Error [m]")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    with matplotlib.rc_context(STYLE):
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def history_panels(
    lines: Sequence[tuple[Sequence[Mapping[str, float]], str, Mapping[str, Any]]],
    ylabel: str,
) -> Figure:
    """Draw columns of trainings' histories against samples and against time.

    Args:
        lines: history, name of its column, and arguments of `Axes.plot` for each line;
            a column that was not measured is left out.
        ylabel: of the columns, which share a logarithmic axis.

    Returns: a figure without a legend.
    """
    empty = not lines or not all(history for history, _, _ in lines)
    check(not empty, "There must be a history to draw.", number=0)
    longest = max(_column(history, "seconds").max() for history, _, _ in lines)
    unit, divisor = ("min", 60.0) if longest < 7200 else ("h", 3600.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name, scale in ((left, "samples", 1e3), (right, "seconds", divisor)):
            for history, column, style in lines:
                if column not in history[0]:
                    continue
                mark = "o" if len(history) < 3 else None
                x, y = _column(history, name) / scale, _column(history, column)
                axes.plot(x, y, marker=mark, markersize=3, **style)
            axes.set_yscale("log")
            axes.set_xlim(left=0)
            axes.yaxis.set_major_formatter(plain_number)
            axes.grid(which="minor", linewidth=0.25)
        left.set_xlabel("Samples seen [thousands]")
        right.set_xlabel(f"Training time [{unit}]")
        left.set_ylabel(ylabel)
        right.tick_params(labelleft=False)
    return figure


def learning_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    log_x: bool = False,
    ylabel: str = "Mean horizontal error [m]",
) -> Figure:
    """Draw how an error goes down, one line for each model.

    Args:
        curves: label -> points (x, error [m]); an empty label for a single one.
        xlabel: of what the error depends on.
        log_x: bool. Whether that is drawn on a logarithmic axis.
        ylabel: of the error.
    """
    check(len(curves) > 0, "There must be a curve to draw.", number=0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.6), layout="constrained")
        axes = figure.subplots()
        for index, (label, points) in enumerate(curves.items()):
            color = COLORS[index % len(COLORS)]
            x, y = np.array(points, dtype=float).T
            axes.plot(x, y, "o-", color=color, label=label, markersize=2.5)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(plain_number)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain_number)
        axes.yaxis.set_minor_formatter(plain_number)
        axes.tick_params(axis="y", which="minor", labelsize=6)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if any(curves):
            axes.legend()
    return figure


def draw_place(axes: Axes, top_view: Any) -> None:
    """Draw heights as light greys: the ground white, the tallest mid-grey."""
    height = np.asarray(top_view.height, dtype=float)
    axes.imshow(
        height,
        extent=top_view.extent,
        origin="lower",
        cmap="Greys",
        vmin=0.0,
        # A lone tower must not make all other buildings white.
        vmax=2.5 * max(float(np.nanpercentile(height, 95)), 1.0),
        interpolation="nearest",
    )
    axes.set_aspect("equal")


def _error_norm(errors: np.ndarray) -> LogNorm:
    """Return a colour scale over the range that most errors have."""
    lower, upper = np.percentile(errors, [5, 99])
    lower = max(lower, 1e-2)
    return LogNorm(lower, max(upper, 2 * lower), clip=True)


def _zoom(axes: Axes, points: np.ndarray, extent: Sequence[float]) -> None:
    """Show the part of the place where the points are."""
    west, south = points.min(axis=0) - _MARGIN
    east, north = points.max(axis=0) + _MARGIN
    axes.set_xlim(max(west, extent[0]), min(east, extent[1]))
    axes.set_ylim(max(south, extent[2]), min(north, extent[3]))


def _map_legend() -> list[Line2D]:
    """Return what the signs on the map mean."""
    dark = {"color": "0.25", "linestyle": ""}
    return [
        Line2D([], [], marker="o", markersize=3, label="true", **dark),
        Line2D([], [], marker="x", markersize=4, label="estimated", **dark),
        Line2D([], [], color="0.25", linewidth=0.7, label="error"),
        Line2D([], [], marker="^", markersize=3.5, label="TRP", **dark),
    ]


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """Return one column of the history."""
    return np.array([row[name] for row in history], dtype=float)


def plain_number(value: float, _: Any = None) -> str:
    """Return a tick's text without powers of ten."""
    return f"{value:g}"
